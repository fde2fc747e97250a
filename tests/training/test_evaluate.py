"""AP is 1 for an engine that knows everything, 0 for one that finds nothing, and unmoved by what does not count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamseg.datasets.coco import Coco
from streamseg.training.evaluate import (
    average_precision,
    best_min_score,
    coco_results,
    detect_all,
    evaluate,
    read_frame,
)
from streamseg.training.loader import mini_mask
from streamseg.types import Frame, InputError, Instances, Sample, UsageError
from tests.tiny_model import make_balls

NAMES = ("background", "ball")


def perfect(dataset: Coco, index: int) -> Instances:
    """What is true of a picture, with masks of 200×200 cells."""
    sample = dataset[index]
    size = {"width": sample.width, "height": sample.height, "side": 200}
    masks = [mini_mask(m, box, **size) for m, box in zip(sample.masks, sample.boxes, strict=True)]
    return Instances(
        boxes=sample.boxes,
        masks=np.array(masks, np.float32) / 255,
        scores=np.full(len(masks), 0.9, np.float32),
        class_ids=sample.class_ids,
        track_ids=np.full(len(masks), -1),
        class_names=NAMES,
    )


class Oracle:
    """An engine that answers by the frame's index."""

    class_names, min_score, batch_size = NAMES, 0.5, 2

    def __init__(self, answer: Callable[[int], Instances]) -> None:
        self.answer = answer
        self.batches: list[int] = []

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.batches.append(len(frames))
        return [self.answer(frame.index) for frame in frames]


@pytest.fixture
def balls(tmp_path: Path) -> Coco:
    return Coco(path=make_balls(tmp_path / "balls", 5))


def scores_of(dataset: Coco, answer: Callable[[int], Instances]) -> dict[str, dict[str, float]]:
    found = detect_all(Oracle(answer), dataset)
    results = coco_results(found, {"ball": 1})
    ids = [sample.image_id for sample, _ in found]
    return {kind: average_precision(dataset, ids, results, kind) for kind in ("bbox", "segm")}


def test_an_engine_that_knows_everything_has_ap_1(balls: Coco) -> None:
    scores = scores_of(balls, lambda i: perfect(balls, i))
    for kind in ("bbox", "segm"):
        assert scores[kind]["AP"] == scores[kind]["AP50"] == scores[kind]["AR100"] == 1
        assert scores[kind]["APl"] == -1  # there is no ball of 96×96 pixels


def test_an_engine_that_finds_nothing_has_ap_0(balls: Coco) -> None:
    scores = scores_of(balls, lambda i: Instances.empty(NAMES))
    assert set(scores["bbox"].values()) == set(scores["segm"].values()) == {0.0}


def test_half_of_the_objects_found_is_half_the_recall(balls: Coco) -> None:
    scores = scores_of(balls, lambda i: perfect(balls, i)[:1])
    assert scores["bbox"]["AR100"] == scores["segm"]["AR100"] == pytest.approx(0.5)
    assert scores["bbox"]["AP50"] == pytest.approx(51 / 101)  # precision 1 at the recalls 0, 0.01 … 0.5


def test_right_boxes_with_wrong_masks_have_box_ap_alone(balls: Coco) -> None:
    def empty_masks(index: int) -> Instances:
        found = perfect(balls, index)
        return Instances(**{**found.__dict__, "masks": np.zeros_like(found.masks)})

    scores = scores_of(balls, empty_masks)
    assert scores["bbox"]["AP"] == 1 and scores["segm"]["AP"] == 0


def test_a_box_over_the_edge_is_cut_to_the_picture(balls: Coco) -> None:
    sample = balls[0]
    over = Instances(
        boxes=np.float32([[100, 60, 140, 120]]),
        masks=np.ones((1, 28, 28), np.float32),
        scores=np.float32([0.5]),
        class_ids=np.int32([1]),
        track_ids=np.int32([-1]),
        class_names=NAMES,
    )
    result = coco_results([(sample, over)], {"ball": 7})[0]
    assert result["bbox"] == [100, 60, 28, 36] and result["category_id"] == 7 and result["image_id"] == 1
    assert result["segmentation"]["size"] == [96, 128]


def test_classes_that_the_data_do_not_have_are_left_out(balls: Coco) -> None:
    assert coco_results([(balls[0], perfect(balls, 0))], {"person": 1}) == []


def changed(dataset: Coco, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Coco:
    content = json.loads(dataset.path.read_text())
    for annotation in content["annotations"]:
        change(annotation)
    path = folder / "changed.json"
    path.write_text(json.dumps(content))
    return Coco(path=path, images=dataset.images)


def test_an_unknown_mask_counts_neither_way(balls: Coco, tmp_path: Path) -> None:
    truth = changed(balls, tmp_path, lambda a: a["id"] % 2 and a.update(segmentation=[]))
    scores = scores_of(truth, lambda i: perfect(balls, i))
    assert scores["bbox"]["AP"] == 1 and scores["segm"]["AP"] == 1


def test_a_file_without_areas_and_crowds_is_measured_too(balls: Coco, tmp_path: Path) -> None:
    truth = changed(balls, tmp_path, lambda a: [a.pop(key) for key in ("area", "iscrowd", "id")])
    assert scores_of(truth, lambda i: perfect(balls, i))["bbox"]["AP"] == 1


def test_categories_that_do_not_count_do_not_lower_the_mean(balls: Coco, tmp_path: Path) -> None:
    content = json.loads(balls.path.read_text())
    content["categories"].append({"id": 2, "name": "cat"})
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 2, "bbox": [0, 0, 30, 30]})
    (tmp_path / "cats.json").write_text(json.dumps(content))
    truth = Coco(path=tmp_path / "cats.json", images=balls.images)
    results = coco_results([(balls[i], perfect(balls, i)) for i in range(5)], {"ball": 1})
    ids = [1, 2, 3, 4, 5]
    assert average_precision(truth, ids, results, "bbox")["AP"] == pytest.approx(0.5)
    assert average_precision(truth, ids, results, "bbox", category_ids=[1])["AP"] == 1


def test_pictures_go_through_the_engine_in_its_batches(balls: Coco) -> None:
    engine, seen = Oracle(lambda i: Instances.empty(NAMES)), []
    found = detect_all(engine, balls, limit=3, progress=lambda done, total: seen.append((done, total)))
    assert engine.batches == [2, 1] and seen == [(2, 3), (3, 3)]
    assert [sample.image_id for sample, _ in found] == [1, 2, 3]


def test_a_frame_has_the_pictures_colours(balls: Coco) -> None:
    frame = read_frame(balls[0], 4)
    assert (frame.index, frame.stream, frame.width, frame.height) == (4, "1", 128, 96)
    assert frame.rgb(128, 96)[48, 32].tolist() == [20, 20, 250]


def test_a_picture_that_is_gone_is_named(balls: Coco) -> None:
    (balls.images / "2.png").unlink()
    with pytest.raises(InputError, match="2.png: the picture is missing or damaged"):
        detect_all(Oracle(lambda i: Instances.empty(NAMES)), balls)


# --- the score of a firm detection ----------------------------------------------------------------------------------


def detections(*rows: tuple[float, float, int]) -> Instances:
    """10×10 boxes as (left edge, score, class)."""
    n = len(rows)
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], np.float32).reshape(-1, 4)
    names = ("background", "ball", "cat")
    scores = np.array([score for _, score, _ in rows])
    return Instances(boxes, np.ones((n, 28, 28)), scores, np.array([c for *_, c in rows]), np.full(n, -1), names)


def truth(*left: float, crowd: Sequence[bool] | None = None) -> Sample:
    boxes = np.array([[x, 0, x + 10, 10] for x in left], np.float32).reshape(-1, 4)
    ids, crowds = np.ones(len(left), np.int32), np.array(crowd or [False] * len(left), bool)
    return Sample(1, Path("a.png"), 200, 100, boxes, ids, (None,) * len(left), crowds)


def test_the_best_score_lets_hits_in_and_false_alarms_out() -> None:
    """Hits at 0.9 and 0.6, a false alarm at 0.4: everything between lets the right ones in; the lowest is taken."""
    found = [(truth(0, 50), detections((0, 0.9, 1), (50, 0.605, 1), (150, 0.405, 1)))]
    assert best_min_score(found) == 0.41


def test_a_second_detection_of_one_object_is_a_false_alarm() -> None:
    found = [(truth(0), detections((0, 0.9, 1), (1, 0.705, 1)))]
    assert best_min_score(found) == 0.71


def test_a_detection_of_another_class_is_a_false_alarm() -> None:
    found = [(truth(0), detections((0, 0.9, 1), (0, 0.805, 2)))] + [(truth(0), detections((0, 0.705, 2)))]
    assert best_min_score(found) == 0.81
    assert best_min_score(found, class_names=("background", "cat")) == 0.05


def test_a_detection_inside_a_crowd_is_no_false_alarm() -> None:
    found = [(truth(0, 100, crowd=[False, True]), detections((0, 0.9, 1), (101, 0.8, 1), (104, 0.7, 1)))]
    assert best_min_score(found) == 0.05


def test_without_any_object_or_detection_there_is_still_an_answer() -> None:
    assert 0.05 <= best_min_score([(truth(), detections())]) <= 0.95


def test_evaluating_a_model_on_other_classes_is_refused(tmp_path: Path) -> None:
    path = make_balls(tmp_path / "balls")
    (tmp_path / "cats.jsonl").write_text("")
    with pytest.raises(UsageError):
        evaluate("no-such-model", path, engine="openvino")
