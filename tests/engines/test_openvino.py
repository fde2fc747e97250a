"""OpenVINO finds the same whatever the batch, prepares a model once, and needs neither TensorFlow nor a cache."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg import zoo
from streamseg.engines.openvino import Openvino, cached_export, compile_network, export_name, is_whole
from streamseg.masks import box_iou
from streamseg.model.openvino_core import openvino_core
from streamseg.model_folder import ModelFolder
from streamseg.types import Engine, ModelError, UsageError
from tests.engines.conftest import FIND, assert_equal, assert_same, frames_of, noise
from tests.full_disk import files_of_at_most
from tests.tiny_model import TINY, write_tiny_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def engine(tiny: Path, cache: Path) -> Openvino:
    return Openvino(model=str(tiny), precision="f32", batch_size=2)


def test_it_is_an_engine_that_finds_things_best_first(engine: Openvino) -> None:
    assert isinstance(engine, Engine)
    found = engine.predict([noise(128, 96, 1)])[0]
    assert 2 <= len(found) <= 24
    assert (found.scores >= 0.05).all() and (np.diff(found.scores) <= 0).all()
    assert found.masks.shape[1:] == (10, 10) and found.masks.min() >= 0 and found.masks.max() <= 1
    assert found.masks.std() > 0.05
    assert set(found.names) == {"ball"} and (found.track_ids == -1).all()


def test_a_batch_of_any_number_and_of_mixed_sizes_equals_singles(engine: Openvino) -> None:
    sizes = [(128, 96), (64, 96), (256, 192), (128, 96), (96, 128), (640, 480), (128, 96)]
    frames = [noise(*size, seed) for seed, size in enumerate(sizes)]
    singles = [engine.predict([frame])[0] for frame in frames]
    assert len({len(found) for found in singles}) > 1
    for found, expected in zip(engine.predict(frames), singles, strict=True):
        assert_equal(found, expected)
    assert engine.predict([]) == []


def test_boxes_are_in_pixels_of_the_frame(engine: Openvino) -> None:
    small, large = noise(128, 96, 3), noise(128, 96, 3)
    large = type(small)(**{**small.__dict__, "picture": small.picture.reformat(1280, 960)})
    one, ten = engine.predict([small, large])
    assert one.boxes.max() <= 128 < ten.boxes.max() <= 1280


def test_a_large_input_is_that_of_a_model_with_larger_inputs(engine: Openvino, tiny: Path, tmp_path: Path) -> None:
    sizes = ((160, 128), (128, 160))  # 128×96 and 96×128, 1.2 times as wide and as high, in whole cells of 32
    larger = write_tiny_model(tmp_path / "tiny", TINY.model_copy(update={"input_sizes": sizes}))
    large = Openvino(model=str(tiny), precision="f32", input="large")
    for frame in noise(128, 96, 1), noise(96, 128, 2):
        expected = Openvino(model=str(larger), precision="f32").predict([frame])[0]
        assert_equal(large.predict([frame])[0], expected)
        assert large.input_size(frame) in sizes != engine.folder.config.input_sizes
    assert len(expected) and len(expected) != len(engine.predict([frame])[0])


def test_a_large_input_is_half_as_many_pixels_again() -> None:
    normal, large = (ModelFolder.open("people", input=size).config.input_sizes for size in ("normal", "large"))
    assert large == ((704, 384), (832, 608), (736, 736), (608, 832), (384, 704))
    more = [w * h / (width * height) for (w, h), (width, height) in zip(large, normal, strict=True)]
    assert min(more) > 1.39 and max(more) < 1.48


def test_a_model_is_prepared_once_for_pictures_of_any_shape(
    engine: Openvino, tiny: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="streamseg")
    engine.predict([noise(128, 96, 0), noise(96, 128, 0)])
    (prepared,) = (cache / "streamseg" / "openvino").glob("tiny-*")
    again = cached_export(ModelFolder.open(tiny))
    assert again == prepared and is_whole(again)
    assert caplog.messages[-1] == f"prepared model: from the cache, {again}"


def test_the_name_of_a_prepared_model_changes_with_weights_and_configuration(tiny: Path, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "weights" / "tiny", seed=1)
    config = TINY.model_copy(update={"mask_layers": 2})
    smaller = write_tiny_model(tmp_path / "config" / "tiny", config)
    copied = Path(shutil.copytree(tiny, tmp_path / "copy" / "tiny"))
    names = [export_name(ModelFolder.open(model)) for model in (tiny, other, smaller, copied)]
    assert len(set(names[:3])) == 3 and names[3] == names[0]


PRINT_HEAVY = """
import sys
print(sorted({"tensorflow", "keras", "jax", "torch"} & set(sys.modules)))
"""


def start(engine: str, model: Path | str, pictures: Path, answer: Path, *, then: str = "", **options: str) -> list[str]:
    """The command that lets an engine find things, `then` done before, and says which heavy packages it has loaded."""
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    call = f"main({engine!r}, {str(model)!r}, {str(pictures)!r}, {str(answer)!r}, {given})"
    return [sys.executable, "-c", FIND + then + call + "\n" + PRINT_HEAVY]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    path = tmp_path / "pictures.npy"
    np.save(path, [noise(128, 96, seed).rgb(128, 96) for seed in range(3)])
    return path


LET_GO_OF_ELSEWHERE = """
import gc, signal, sys, threading
from streamseg.engines.openvino import Openvino
from tests.engines.conftest import noise

engines = [Openvino(model=sys.argv[1])]
engines[0].predict([noise(128, 96, 1)])
letting_go = threading.Thread(target=lambda: (engines.clear(), gc.collect()))
letting_go.start()
letting_go.join()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_a_model_was_let_go_of_in_another_thread_is_an_interruption(
    tiny: Path, environment: Callable[..., dict[str, str]]
) -> None:
    """On CPUs with AMX, OpenVINO takes the stack away on which signals are handled; it was a segmentation fault."""
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler){LET_GO_OF_ELSEWHERE}"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (0, "interrupted\n"), ran.stderr[-2000:]


def test_the_second_start_loads_no_keras(
    engine: Openvino, tiny: Path, pictures: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> None:
    expected = engine.predict(frames_of(pictures))
    command = start("openvino", tiny, pictures, tmp_path / "answer.npz", precision="f32")
    ran = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "[]", ran.stderr
    answer = np.load(tmp_path / "answer.npz")
    for i, found in enumerate(expected):
        np.testing.assert_allclose(answer[f"{i}-boxes"], found.boxes, atol=1e-3)


def test_the_first_run_of_the_embedded_model_loads_no_keras_either(
    people: str, pictures: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> None:
    """It fills the graphs that come along with its weights, in a cache that is empty before."""
    command = start("openvino", people, pictures, tmp_path / "answer.npz", precision="f32")
    cache = tmp_path / "cache"
    variables = environment(XDG_CACHE_HOME=str(cache), KERAS_BACKEND="none")  # what would fail in a child, too
    ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and ran.stdout.strip() == "[]", ran.stderr
    assert "0-boxes" in np.load(tmp_path / "answer.npz").files
    (prepared,) = (cache / "streamseg" / "openvino").iterdir()
    assert is_whole(prepared) and any((prepared / "compiled-f32").iterdir())


@pytest.mark.thorough
def test_two_processes_may_prepare_the_same_model_at_once(
    tiny: Path, pictures: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> None:
    cache = tmp_path / "cache"
    commands = [start("openvino", tiny, pictures, tmp_path / f"{i}.npz") for i in range(2)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment(XDG_CACHE_HOME=str(cache)), stderr=subprocess.PIPE)
        for command in commands
    ]
    errors = [child.communicate(timeout=300)[1] for child in running]
    assert [child.returncode for child in running] == [0, 0], errors
    one, other = (np.load(tmp_path / f"{i}.npz") for i in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one.files) and one.files
    (left,) = (cache / "streamseg" / "openvino").iterdir()
    assert is_whole(left)


class OtherProcess:
    """OpenVINO's core while another process takes what is half written for broken, and removes it."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept

    def compile_model(self, *given: Any) -> Any:
        made = openvino_core().compile_model(*given)
        for compiled in self.kept.iterdir():
            compiled.unlink()
        return made


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "models" / "tiny" / "compiled"
    path.mkdir(parents=True)
    return path


def test_what_is_being_compiled_is_out_of_the_reach_of_other_processes(
    engine: Openvino, tiny: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = openvino_core().read_model(cached_export(ModelFolder.open(tiny)) / "masks.xml")
    monkeypatch.setattr("streamseg.engines.openvino.openvino_core", lambda: OtherProcess(kept))
    compile_network(network, {}, kept=kept)
    monkeypatch.undo()
    assert compile_network(network, {}, kept=kept).get_property("LOADED_FROM_CACHE")
    assert list(kept.parents[1].iterdir()) == [kept.parent]


def test_what_was_compiled_and_is_no_longer_whole_is_compiled_anew(engine: Openvino, tiny: Path, kept: Path) -> None:
    network = openvino_core().read_model(cached_export(ModelFolder.open(tiny)) / "masks.xml")
    compile_network(network, {}, kept=kept)
    (compiled,) = kept.iterdir()
    whole = compiled.read_bytes()
    for length in (0, 100, len(whole) - 10):
        compiled.unlink()
        compiled.write_bytes(whole[:length])
        made = compile_network(network, {}, kept=kept)
        assert made.input("crops") and list(kept.iterdir()) == [compiled]
        assert len(compiled.read_bytes()) == len(whole)
    assert compile_network(network, {}, kept=kept).get_property("LOADED_FROM_CACHE")


@pytest.mark.parametrize("missing", ["tiny/compiled", "."])
def test_a_network_whose_compiled_form_cannot_be_kept_is_compiled_all_the_same(
    engine: Openvino, tiny: Path, tmp_path: Path, missing: str
) -> None:
    """Another process has removed the folder, or more than that."""
    network = openvino_core().read_model(cached_export(ModelFolder.open(tiny)) / "masks.xml")
    kept = tmp_path / "models" / "tiny" / "compiled"
    kept.mkdir(parents=True)
    shutil.rmtree(tmp_path / "models" / missing)
    assert compile_network(network, {}, kept=kept).input("crops")
    assert not kept.exists() and not list(tmp_path.glob("models/.*"))


AS_NOBODY = """
import os
import av, h5py, pooch, yaml  # what an ordinary user may not be able to read here
import numpy.lib.format, scipy.sparse
import streamseg.engines.openvino, streamseg.plugins
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
"""


def test_a_prepared_model_that_cannot_be_written_is_used(
    engine: Openvino, tiny: Path, pictures: Path, cache: Path, environment: Callable[..., dict[str, str]]
) -> None:
    """By a user who can read it and nothing else: no compiled form is kept in it."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    expected = engine.predict(frames_of(pictures))
    with tempfile.TemporaryDirectory(prefix="nobodys-") as name:
        folder = Path(name)
        shutil.copytree(tiny, folder / "tiny")
        shutil.copy(pictures, folder / "pictures.npy")
        ignored = shutil.ignore_patterns("compiled*")
        shutil.copytree(cache / "streamseg", folder / "cache" / "streamseg", ignore=ignored)
        before = sorted(folder.rglob("*"))
        for path in (folder, *before):
            path.chmod(0o755 if path.is_dir() else 0o644)
        own = folder / "own"
        own.mkdir()
        os.chown(own, 65534, 65534)
        command = start(
            "openvino", folder / "tiny", folder / "pictures.npy", own / "answer.npz", precision="f32", then=AS_NOBODY
        )
        variables = environment(HOME="/nonexistent", XDG_CACHE_HOME=str(folder / "cache"), TMPDIR=str(own))
        ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        answer = np.load(own / "answer.npz")
        for i, found in enumerate(expected):
            np.testing.assert_allclose(answer[f"{i}-boxes"], found.boxes, atol=1e-3)
        assert sorted(folder.rglob("*")) == sorted([*before, own, own / "answer.npz"])


def test_without_any_cache_a_model_is_prepared_for_one_run(
    engine: Openvino, tiny: Path, pictures: Path, tmp_path: Path, environment: Callable[..., dict[str, str]]
) -> None:
    """The cache's place is taken by a file; what is made for the run goes with it."""
    (tmp_path / "cache").write_text("no folder")
    (tmp_path / "own").mkdir()
    command = start("openvino", tiny, pictures, tmp_path / "answer.npz", precision="f32")
    variables = environment(XDG_CACHE_HOME=str(tmp_path / "cache"), TMPDIR=str(tmp_path / "own"))
    ran = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    answer = np.load(tmp_path / "answer.npz")
    for i, found in enumerate(engine.predict(frames_of(pictures))):
        np.testing.assert_allclose(answer[f"{i}-boxes"], found.boxes, atol=1e-3)
    assert list((tmp_path / "own").iterdir()) == []


def test_a_half_removed_export_is_made_anew_and_a_damaged_one_is_named(
    engine: Openvino, tiny: Path, cache: Path
) -> None:
    folder = ModelFolder.open(tiny)
    exported = cached_export(folder)
    kept = (exported / "box_head.xml").read_bytes()
    shutil.rmtree(exported / "compiled-f32", ignore_errors=True)  # there if another test has used the engine
    (exported / "box_head.xml").write_bytes(kept[:2000])
    with pytest.raises(ModelError, match="the prepared model cannot be read .* delete this folder"):
        engine.predict([noise(128, 96, 0)])
    (exported / "box_head.xml").unlink()
    assert is_whole(cached_export(folder))
    assert engine.predict([noise(128, 96, 0)])


def test_a_disk_that_is_full_while_a_model_is_prepared_is_named(tiny: Path, cache: Path, tmp_path: Path) -> None:
    """Once filled from its graphs, in this process, and once traced, in another one."""
    for model, most in (zoo.EMBEDDED / "people_lite0", 2_000_000), (tiny, 100_000):
        folder = ModelFolder.open(shutil.copytree(model, tmp_path / f"full-{model.name}"))
        said = f"{cache}/streamseg/openvino/.*: cannot be written; is the disk full"
        with files_of_at_most(most), pytest.raises(ModelError, match=said):
            cached_export(folder)


def test_foreign_and_damaged_weights_are_named(tiny: Path, tmp_path: Path, cache: Path) -> None:
    model = tmp_path / "foreign"
    shutil.copytree(tiny, model)
    card = (model / "model.yaml").read_text()
    (model / "model.yaml").write_text(card.replace("fpn_channels: 16", "fpn_channels: 24"))
    with pytest.raises(ModelError, match="these are not weights of this model"):
        Openvino(model=str(model)).predict([noise(128, 96, 0)])
    (model / "model.yaml").write_text(card)
    weights = (tiny / "model.weights.h5").read_bytes()
    (model / "model.weights.h5").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="model.weights.h5: not a readable weights file"):
        Openvino(model=str(model)).predict([noise(128, 96, 0)])
    left = [path.name for path in (cache / "streamseg" / "openvino").iterdir()]
    assert not any(name.startswith((".", "foreign")) for name in left)


def test_wrong_options_are_refused_at_once(tiny: Path) -> None:
    with pytest.raises(UsageError, match="batch_size: expected 1 or more, got 0"):
        Openvino(model=str(tiny), batch_size=0)
    with pytest.raises(UsageError, match="threads: expected 1 or more, got -1"):
        Openvino(model=str(tiny), threads=-1)


def test_the_embedded_model_finds_people_in_the_quickest_precision_as_in_f32(people: str, street: Path) -> None:
    frames = frames_of(street)[:3]
    exact = Openvino(model=people, precision="f32").predict(frames)
    assert sum((found.scores > 0.3).sum() for found in exact) > 6
    hits, total = 0, 0
    for found, expected in zip(Openvino(model=people).predict(frames), exact, strict=True):
        sure = expected[expected.scores > 0.3]
        same = box_iou(sure.boxes, found.boxes) > 0.7
        same &= abs(sure.scores[:, None] - found.scores) < 0.15
        hits, total = hits + same.any(1).sum(), total + len(sure)
        assert abs(len(found) - len(expected)) <= 0.2 * len(expected) + 2
    assert hits >= 0.9 * total
    assert_same(exact[0], Openvino(model=people, precision="f32", threads=1, batch_size=1).predict(frames[:1])[0])


def test_openvinos_converter_tells_nobody_that_it_was_used() -> None:
    """It would without asking, from a forked process that hangs where there are threads."""
    code = "import streamseg, openvino.tools.ovc.telemetry_utils as used; print(used.tm.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
