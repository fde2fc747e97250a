"""What is computed in: chosen by what the CPU and the model have, refused by name where it cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import pytest

from streamseg import zoo
from streamseg.engines._precision import QUICK_INT8, Cpu, Precision, chosen, flags_of
from streamseg.engines.openvino import MADE, Openvino, cached_export, compiled_folder, is_whole, network_mark
from streamseg.masks import box_iou
from streamseg.model_folder import ModelFolder
from streamseg.types import ModelError, UsageError
from tests.engines.conftest import assert_equal, frames_of, noise

OLD, NEW, SERVER = Cpu(bf16=False, int8=False), Cpu(bf16=False, int8=True), Cpu(bf16=True, int8=True)


@pytest.mark.parametrize(
    ("wanted", "cpu", "made_for", "expected"),
    [
        ("auto", OLD, ["int8"], "f32"),
        ("auto", NEW, ["int8"], "int8"),
        ("auto", NEW, [], "f32"),
        ("auto", SERVER, ["int8"], "int8"),
        ("auto", SERVER, [], "bf16"),
        ("auto", Cpu(bf16=True, int8=False), ["int8"], "bf16"),
        ("int8", OLD, ["int8"], "int8"),  # slow, and right
        ("f32", SERVER, ["int8"], "f32"),
        ("bf16", SERVER, ["int8"], "bf16"),
    ],
)
def test_the_quickest_that_cpu_and_model_have_is_taken(
    wanted: Precision, cpu: Cpu, made_for: list[str], expected: str
) -> None:
    assert chosen(wanted, cpu, made_for=made_for) == expected


def test_bf16_is_refused_by_name_where_the_cpu_would_imitate_it() -> None:
    with pytest.raises(UsageError, match=r"precision: this CPU has no bfloat16 .* \(int8, f32\), got 'bf16'"):
        chosen("bf16", NEW, made_for=[])


def test_a_cpus_flags_are_those_of_its_first_core(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert flags_of(file) == {"fpu", "avx2", "avx_vnni"} and flags_of(file) & QUICK_INT8
    assert flags_of(tmp_path / "none") == frozenset()
    file.write_text("processor\t: 0\nFeatures\t: asimd\n")
    assert flags_of(file) == frozenset()


def test_an_engine_computes_in_what_this_machine_has(people: str, cache: Path) -> None:
    cpu = Cpu.here()
    assert Openvino(model=people).precision == ("int8" if cpu.int8 else "bf16" if cpu.bf16 else "f32")
    assert cpu.words.endswith("f32")
    if cpu.bf16:
        assert Openvino(model=people, precision="bf16").precision == "bf16"
    else:
        with pytest.raises(UsageError, match="this CPU has no bfloat16"):
            Openvino(model=people, precision="bf16")


IN_INT8 = sorted(path.parent.parent.name for path in zoo.EMBEDDED.glob(f"*/{zoo.INT8}/{MADE}"))


@pytest.mark.parametrize("name", IN_INT8)
def test_an_embedded_model_in_int8_lost_nearly_nothing_when_it_was_made(name: str) -> None:
    folder = ModelFolder.open(name)
    made = json.loads((folder.int8 / MADE).read_text())
    assert made["networks"] == network_mark(folder)
    assert made["pictures"] > 50
    assert all(made["f32"][kind] - made["int8"][kind] <= 0.005 for kind in ("box", "mask"))


def test_the_embedded_model_finds_people_in_int8_as_in_f32(people: str, street: Path, cache: Path) -> None:
    if people not in IN_INT8:
        pytest.skip("the model people has no networks in int8 in this checkout")
    frames = frames_of(street)[:3]
    exact = Openvino(model=people, precision="f32").predict(frames)
    assert sum((found.scores > 0.3).sum() for found in exact) > 6
    hits, total = 0, 0
    for found, expected in zip(Openvino(model=people, precision="int8").predict(frames), exact, strict=True):
        sure = expected[expected.scores > 0.3]
        same = (box_iou(sure.boxes, found.boxes) > 0.7) & (abs(sure.scores[:, None] - found.scores) < 0.15)
        hits, total = hits + same.any(1).sum(), total + len(sure)
    assert hits >= 0.9 * total


def said_to_be_in_int8(folder: ModelFolder, tiny: Path) -> Path:
    """Put the float32 networks of the model `tiny` where its copy would have int8 ones; the file that says so."""
    prepared = cached_export(ModelFolder.open(tiny))
    shutil.copytree(prepared, folder.int8, ignore=shutil.ignore_patterns("compiled*"))
    made = folder.int8 / MADE
    made.write_text(json.dumps({"networks": network_mark(folder)}))
    return made


def test_a_run_in_int8_goes_on_while_another_one_prepares_the_model_in_f32(
    tiny: Path, cache: Path, tmp_path: Path
) -> None:
    folder = ModelFolder.open(shutil.copytree(tiny, tmp_path / "both"))
    said_to_be_in_int8(folder, tiny)
    engine = Openvino(model=str(folder.path), precision="int8")
    expected = engine.predict([noise(128, 96, 1)])[0]
    compiled = compiled_folder(folder, "int8")
    assert compiled is not None
    kept = sorted(compiled.iterdir())
    exported = cached_export(folder)
    assert kept and is_whole(exported) and compiled.parent == exported
    assert len(engine.predict([noise(96, 128, 1)])[0])
    assert set(kept) < set(compiled.iterdir())
    assert_equal(Openvino(model=str(folder.path), precision="f32").predict([noise(128, 96, 1)])[0], expected)


def test_of_damaged_networks_in_int8_it_is_said_what_helps(tiny: Path, cache: Path, tmp_path: Path) -> None:
    """To delete their folder would not: nothing makes it anew."""
    folder = ModelFolder.open(shutil.copytree(tiny, tmp_path / "damaged"))
    said_to_be_in_int8(folder, tiny)
    engine = Openvino(model=str(folder.path), precision="int8")
    masks = folder.int8 / "masks.xml"
    masks.write_bytes(masks.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cannot be read .*openvino:precision=f32 .*streamseg export") as caught:
        engine.predict([noise(128, 96, 1)])
    assert "delete" not in str(caught.value)


def test_networks_in_int8_never_run_with_other_weights(
    tiny: Path, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here they are those in float32, said to be in int8: what they hold is not looked at."""
    mine = Path(shutil.copytree(tiny, tmp_path / "mine"))
    folder = ModelFolder.open(mine)
    with pytest.raises(UsageError, match="the model mine has no networks in int8; make them: streamseg export"):
        Openvino(model=str(mine), precision="int8")
    made = said_to_be_in_int8(folder, tiny)
    engine = Openvino(model=str(mine), precision="int8")
    assert engine.precision == "int8" and len(engine.predict([noise(128, 96, 1)])[0])

    masks = (folder.int8 / "masks.bin").read_bytes()
    (folder.int8 / "masks.bin").unlink()
    with pytest.raises(ModelError, match="not whole or were made of other weights; make them anew: streamseg export"):
        Openvino(model=str(mine), precision="int8")
    (folder.int8 / "masks.bin").write_bytes(masks)
    with h5py.File(folder.weights, "r+", locking=False) as weights:
        weights["rpn/deltas/bias"][0] += 1
    with pytest.raises(ModelError, match="were made of other weights"):
        Openvino(model=str(mine), precision="int8")
    assert "were made of other weights" not in caplog.text
    assert Openvino(model=str(mine)).precision != "int8"
    assert "were made of other weights" in caplog.text
    for damaged in "{", "[" * 200_000:
        made.write_text(damaged)
        with pytest.raises(ModelError, match="made.json cannot be read"):
            Openvino(model=str(mine))
