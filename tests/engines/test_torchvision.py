"""A file of detectron2 runs as it is, and both engines find the same by its weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg import plugins
from streamseg.types import Instances
from tests.engines.conftest import assert_same, frame_of
from tests.model import torchvision_cases as cases
from tests.torch_files import write


@pytest.fixture(scope="module")
def model_final(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "model_final.yaml").write_text(
        f"model: {{input_sizes: [[{cases.WIDTH}, {cases.HEIGHT}]], proposals_before_nms: 200, num_proposals: 100}}"
    )
    path = write(folder / "model_final.pkl", cases.weights("detectron2"))
    yield path
    path.unlink()


@pytest.mark.thorough
def test_both_engines_find_the_same_by_a_file_of_detectron2(model_final: Path, cache: Path) -> None:
    frame = frame_of(cases.picture())
    found: list[Instances] = []
    for name in ("keras", "openvino"):
        engine = plugins.build("engines", name, {"model": str(model_final), "precision": "f32"})
        found += engine.predict([frame])
    assert_same(*found)
    width, height = cases.PICTURE
    assert len(found[0]) >= 50 and found[0].class_names == ("background", *(f"class {i}" for i in range(1, 6)))
    assert found[0].boxes[:, 2].max() <= width + 0.01 and found[0].boxes[:, 3].max() <= height + 0.01
