"""What `streamseg export` refuses before it reads a model; how the files are made is tested with their answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.model import portable
from streamseg.model.boxes import nms_exact
from streamseg.model.portable import FORMATS, check, standard_nms
from streamseg.types import UsageError


@pytest.mark.parametrize(
    ("format", "name", "words"),
    [
        ("onx", "a.onnx", "expected onnx, openvino, savedmodel, got 'onx'; did you mean 'onnx'?"),
        ("onnx", "a.xml", r"expected a name that ends in \.onnx, got a\.xml"),
        ("openvino", "a", r"expected a name that ends in \.xml, got a"),
        ("savedmodel", "a.pb", r"expected the name of a folder, got a\.pb"),
    ],
)
def test_a_wrong_format_or_ending_is_named(format: str, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        check(Path(name), format=format)


@pytest.mark.parametrize(("size", "near"), [((100, 64), "96x64"), ((64, 17), "64x32"), ((0, 32), "32x32")])
def test_a_size_that_does_not_fit_is_answered_with_the_nearest(size: tuple[int, int], near: str) -> None:
    with pytest.raises(UsageError, match=f"multiples of 32, got {size[0]}x{size[1]}; {near} is near"):
        check(Path("a.xml"), format="openvino", size=size)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = replace(FORMATS["onnx"], packages=("json", "no_such_converter"))
    monkeypatch.setattr(portable, "FORMATS", {"onnx": lacking})
    with pytest.raises(UsageError, match=r"no_such_converter not installed; pip install \"streamseg\[export\]\""):
        check(Path("a.onnx"), format="onnx")


def test_what_is_there_is_replaced_only_if_asked_and_only_if_it_was_an_export(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"mine")  # half of what --format openvino writes
    with pytest.raises(UsageError, match="a.bin exists already; --overwrite replaces it"):
        check(tmp_path / "a.xml", format="openvino")
    check(tmp_path / "a.xml", format="openvino", overwrite=True)

    holiday = tmp_path / "holiday"
    holiday.mkdir()
    (holiday / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holiday is a folder, and no export of savedmodel"):
        check(holiday, format="savedmodel", overwrite=True)
    (holiday / "saved_model.pb").write_bytes(b"an export")
    with pytest.raises(UsageError, match="holiday exists already"):
        check(holiday, format="savedmodel")
    check(holiday, format="savedmodel", overwrite=True)
    with pytest.raises(UsageError, match=r"photo.jpg is a file"):
        check(holiday / "photo.jpg", format="savedmodel", overwrite=True)


def test_pictures_are_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pictures: expected a folder of pictures, got .*none"):
        check(tmp_path / "a.xml", format="openvino", pictures=tmp_path / "none")


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 300), spread=st.sampled_from([0.1, 0.5, 1.0]), seed=st.integers(0, 1000))
def test_the_suppression_that_is_exported_is_the_exact_one(count: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start, size = rng.uniform(0, spread, (count, 2)), rng.uniform(0, 0.3, (count, 2))
    boxes = np.concatenate([start, start + size], axis=1).astype(np.float32)
    boxes[: count // 9, 2:] = boxes[: count // 9, :2]  # without an area
    found, expected = (nms(boxes[None], threshold=0.7) for nms in (standard_nms, nms_exact))
    assert np.array_equal(found, expected)
