"""What was kept comes back exactly, and whatever is not this stream's is refused by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamseg import kept
from streamseg.types import InputError, OutputError, UsageError


class Number:
    """A component that holds one number."""

    def __init__(self, of: str, value: int = 0, *, version: int = 1) -> None:
        self.of, self.value, self.version = of, value, version

    def state(self) -> Mapping[str, Any]:
        return kept.labelled(self.of, version=self.version, value=self.value)

    def restore(self, state: Mapping[str, Any]) -> None:
        with kept.reading(state, of=self.of, version=self.version) as fields:
            value = fields["value"] + 0
        self.value = value


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]).flatmap(
        lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    )
)
def test_an_array_comes_back_to_the_bit_and_can_be_written_to(array: np.ndarray) -> None:
    back = kept.unpacked(json.loads(json.dumps(kept.packed(array))))
    assert back.dtype == array.dtype and back.shape == array.shape and back.tobytes() == array.tobytes()
    assert back.flags.writeable


def states(value: int) -> dict[str, Any]:
    return {"door": {"a": Number("counter a", value).state()}}


def test_a_run_goes_on_from_the_file(tmp_path: Path) -> None:
    path, part = tmp_path / "new" / "shop.json", Number("counter a")
    kept.save(path, states(5))
    part.restore(kept.load(path)["door"]["a"])
    assert part.value == 5
    assert [each.name for each in path.parent.iterdir()] == ["shop.json"]


def test_a_newer_state_replaces_the_older_and_one_that_cannot_be_written_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "street.json"
    for value in (1, 2):
        kept.save(path, states(value))
    with pytest.raises(UsageError, match=f"{path} cannot be written: the state is not plain data"):
        kept.save(path, {"door": {"a": {"value": {1, 2}}}})
    assert kept.load(path)["door"]["a"]["value"] == 2


def test_a_full_disk_is_told_by_the_files_name_and_leaves_what_was_there(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "street.json"
    kept.save(path, {})
    (tmp_path / "street.part.json").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"{path} cannot be written: no space left"):
        kept.save(path, states(3))
    assert kept.load(path) == {}
    assert [each.name for each in tmp_path.iterdir()] == ["street.json"]


def test_every_truncated_file_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "street.json"
    kept.save(path, states(3))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"{path}: expected the kept state of a run"):
            kept.load(path)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "5",
        "null",
        "{}",
        '{"streams": {}}',
        '{"version": 1, "streams": []}',
        '{"version": 1, "streams": {"a": 1}}',
    ],
)
def test_a_foreign_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: expected the kept state of a run"):
        kept.load(tmp_path / "a.json")


def test_binary_and_missing_files_are_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"a\.json: expected the kept state"):
        kept.load(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"b\.json cannot be read: no such file"):
        kept.load(tmp_path / "b.json")


def test_a_document_of_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"version": 2, "streams": {}}')
    with pytest.raises(UsageError, match=r"a\.json: expected kept state of version 1, got version 2"):
        kept.load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Number("counter b"), "expected a state of counter b, version 1, got one of counter a, version 1"),
        (Number("counter a", version=2), "expected a state of counter a, version 2, got one of counter a, version 1"),
    ],
)
def test_a_state_of_another_component_or_version_is_refused_naming_both(other: Number, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        other.restore(Number("counter a", 3).state())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"of": "counter a", "version": 1}, "the state of counter a is damaged: 'value' is missing"),
        ({"of": "counter a", "version": 1, "value": "x"}, "the state of counter a is damaged: "),
        ({}, "expected a state of counter a, version 1, got no state at all"),
        (None, "got no state at all"),
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(state: Any, message: str) -> None:
    part = Number("counter a", 7)
    with pytest.raises(UsageError, match=message):
        part.restore(state)
    assert part.value == 7
