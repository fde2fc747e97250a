"""The package is whole when installed, imports only what it needs, and keeps its floors."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import av
import pytest

from streamseg import rooms
from streamseg.plan import Request, plan, ready_pipelines
from streamseg.spelling import sample_path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("keras", "tensorflow", "jax", "torch", "openvino", "scipy", "cv2", "imageio")
PAGES = sorted((ROOT / "docs").glob("*.md"))
MAPPED = ("configs", "pipelines", "samples")
NOT_SOURCE = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", ".*_cache", "__pycache__", "runs")


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after the code."""
    code += "\nimport sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    ran = subprocess.run([sys.executable, "-c", build], cwd=folder / "tree", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_every_module_and_all_data(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "streamseg").rglob("*.py")}
    weights = {str(path.relative_to(ROOT)) for path in (ROOT / "streamseg" / "weights").rglob("*/*") if path.is_file()}
    shipped = {f"streamseg/{name}/{path.name}" for name in MAPPED for path in (ROOT / name).glob("*.yaml")}
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "streamseg" / "server" / "page").iterdir()}
    assert modules | weights | shipped | page <= inside
    assert {"streamseg/samples/__init__.py", "streamseg/pipelines/splash.yaml", "streamseg/py.typed"} <= inside
    # What the README's command writes beside the sample does not travel.
    assert [name for name in inside if name.endswith(".mp4")] == ["streamseg/samples/pedestrians.mp4"]
    assert {name.split("/")[0].partition("-")[0] for name in inside} == {"streamseg"}
    assert {Path(name).name for name in inside if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}


def test_an_installed_package_finds_its_pipelines_and_its_sample(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import streamseg, streamseg.plan, streamseg.spelling as spelling; "
        "print(streamseg.__file__, spelling.sample_path(), spelling.sample_path().is_file(), "
        "'splash' in streamseg.plan.ready_pipelines())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    site = tmp_path / "site" / "streamseg"
    assert ran.stdout.split() == [str(site / "__init__.py"), str(site / "samples/pedestrians.mp4"), "True", "True"]


def test_setup_cfg_names_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {line for line in setup["options"]["packages"].splitlines() if line and line[0] != "#"}
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "streamseg").rglob("__init__.py")} | {
        f"streamseg.{name}" for name in MAPPED
    }
    assert named == packages


def test_importing_streamseg_loads_nothing_heavy() -> None:
    assert not imported_by("import streamseg") & {*HEAVY, "numpy", "av", "pydantic", "yaml", "typer"}


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['streamseg', 'run', '--help']\nimport streamseg.cli\n"
    code += "try: streamseg.cli.main()\nexcept SystemExit as done: assert not done.code"
    assert not imported_by(code) & {*HEAVY, "numpy", "av", "tqdm"}  # pydantic comes with typer


@pytest.mark.real_time
def test_help_answers_in_less_than_half_a_second() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "streamseg", "--help"], cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(4)) < 0.5


@pytest.mark.parametrize("room", ["effects", "sinks", "sources", "trackers", "counters"])
def test_no_component_but_an_engine_loads_keras(room: str) -> None:
    code = "\n".join(f"import streamseg.{room}.{name}" for name in rooms.names(room))
    assert not imported_by(code) & {"keras", "tensorflow", "jax", "torch", "openvino"}


def test_what_takes_half_a_second_to_import_is_not_imported_before_a_run() -> None:
    code = "import streamseg.trackers.mask_iou, streamseg.engines.openvino"
    assert "scipy" not in imported_by(code)
    code = "import streamseg.trackers.mask_iou as tracker; tracker.MaskIou().load()"
    assert "scipy" in imported_by(code)


def test_measuring_an_exported_model_loads_no_keras() -> None:
    code = "import streamseg.evaluation.evaluate, streamseg.engines.openvino"
    assert not imported_by(code) & {"keras", "tensorflow", "jax", "torch"}


def floors_of_the_contract() -> list[list[str]]:
    """The parts of streamseg on each floor, the highest floor first, as the import contract has them."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    layers = setup["importlinter:contract:floors"]["layers"].split("\n")
    return [re.findall(r"\w+", layer) for layer in layers if layer]


def blocks_of_the_architecture() -> list[list[str]]:
    """The lines of the two lists in docs/architecture.md: the floors, and where each kind of thing lives."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return [block.splitlines() for block in re.findall(r"```text\n(.*?)\n```", text, re.S)]


def test_the_page_on_the_architecture_shows_the_floors_of_the_contract() -> None:
    shown, _ = blocks_of_the_architecture()
    assert [re.split(r" {2,}", line)[0].split(" | ") for line in shown] == floors_of_the_contract()


def test_the_page_on_the_architecture_says_what_every_part_is_for() -> None:
    _, listed = blocks_of_the_architecture()
    said = {re.sub(r"(\.py|/)$", "", name): what for name, what in (line.split(maxsplit=1) for line in listed)}
    assert {name for floor in floors_of_the_contract() for name in floor} == said.keys()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in PAGES)])
def test_what_a_page_links_to_exists(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()] == []


def test_the_import_floors_hold() -> None:
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    ran = subprocess.run([sys.executable, "-c", check, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", ready_pipelines())
def test_every_ready_pipeline_opens_with_its_command_and_can_be_planned(name: str) -> None:
    first = ready_pipelines()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and re.search(rf"streamseg run --pipeline {name}( |\.yaml$)", first)
    inputs = [] if first.endswith(".yaml") else ["sample:"]
    planned = plan(Request(inputs=inputs, pipeline=name))
    assert all(stream.effects and (stream.sinks or planned.config.web) for stream in planned.streams.values())


def test_the_sample_is_ten_small_seconds() -> None:
    path = sample_path()
    assert path.stat().st_size < 1.5e6
    with av.open(str(path)) as clip:
        video = clip.streams.video[0]
        assert (video.codec.name, video.width, video.height, video.frames) == ("h264", 768, 576, 100)
        assert clip.duration == 10_000_000


def test_ci_runs_the_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert '.venv/bin/pip install -e ".[test]" && .venv/bin/pytest' in lines
