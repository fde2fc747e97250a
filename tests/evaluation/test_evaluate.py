"""AP is 1 for an engine that knows everything, 0 for one that finds nothing, and unmoved by what does not count."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from streamseg import plugins
from streamseg.config import Component
from streamseg.datasets.coco import Coco
from streamseg.datasets.shapes import Shapes
from streamseg.engines._voting import Look
from streamseg.evaluation.coco import coco_average_precision, coco_results
from streamseg.evaluation.evaluate import Method, best_min_score, evaluate, look_at, read_frame
from streamseg.evaluation.objects import Comparison, found_objects, true_objects
from streamseg.evaluation.submission import read_submission
from streamseg.outlines import mini_mask
from streamseg.types import Dataset, Frame, InputError, Instances, OutputError, Sample, UsageError
from tests.tiny_model import make_balls

NAMES = ("background", "ball")


def perfect(dataset: Dataset, index: int) -> Instances:
    """What is true of a picture, with masks of 200×200 cells."""
    sample = dataset[index]
    size = {"width": sample.width, "height": sample.height, "side": 200}
    masks = [mini_mask(m, box, **size) for m, box in zip(sample.masks, sample.boxes, strict=True)]
    return Instances(
        boxes=sample.boxes,
        masks=np.array(masks, np.float32).reshape(-1, 200, 200) / 255,
        scores=np.full(len(masks), 0.9, np.float32),
        class_ids=sample.class_ids,
        track_ids=np.full(len(masks), -1),
        class_names=dataset.class_names,
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


def scores_of(dataset: Dataset, answer: Callable[[int], Instances]) -> dict[str, dict[str, float]]:
    pictures = look_at(dataset, Oracle(answer))
    return {kind: coco_average_precision(pictures, kind, class_names=["ball"]) for kind in ("bbox", "segm")}


def test_an_engine_that_knows_everything_has_ap_1(balls: Coco) -> None:
    scores = scores_of(balls, lambda i: perfect(balls, i))
    for kind in ("bbox", "segm"):
        assert scores[kind]["AP"] == scores[kind]["AP50"] == scores[kind]["AR100"] == 1
        assert scores[kind]["APl"] == -1  # there is no ball of 96×96 pixels


def test_an_engine_that_finds_nothing_has_ap_0(balls: Coco) -> None:
    scores = scores_of(balls, lambda i: Instances.empty(NAMES))
    for kind in ("bbox", "segm"):
        there = scores_of(balls, lambda i: perfect(balls, i))[kind]
        assert scores[kind] == {name: min(number, 0.0) for name, number in there.items()}, "-1 where there is nothing"


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
    found = found_objects(over, width=128, height=96)
    picture = Comparison("1", 128, 96, true_objects(sample, NAMES), found)
    box, mask = (coco_results([picture], kind, {"ball": 7})[0] for kind in ("bbox", "segm"))
    assert box["bbox"] == [100, 60, 28, 36] and box["category_id"] == 7 and box["image_id"] == 1
    assert mask["segmentation"]["size"] == [96, 128] and found.areas.tolist() == [28 * 36]


def test_classes_that_only_one_of_both_has_are_left_out(balls: Coco) -> None:
    class Cats(Oracle):
        class_names = ("background", "cat")

    assert [
        len(picture.found) + len(picture.truth) for picture in look_at(balls, Cats(lambda i: perfect(balls, i)))
    ] == [0] * 5


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
    pictures = look_at(balls, Oracle(lambda i: perfect(balls, i)))
    assert coco_average_precision(pictures, "bbox", class_names=["ball"])["AP"] == 1
    with_cats = Coco(path=tmp_path / "cats.json", images=balls.images)
    pictures = look_at(with_cats, Knowing(lambda i: perfect(balls, i)))
    assert coco_average_precision(pictures, "bbox", class_names=["ball", "cat"])["AP"] == pytest.approx(0.5)
    assert coco_average_precision(pictures, "bbox", class_names=["ball"])["AP"] == 1


def test_objects_of_category_0_are_measured_as_all_others(balls: Coco, tmp_path: Path) -> None:
    content = json.loads(balls.path.read_text())
    content["categories"] = [{"id": 9, "name": "ball"}, {"id": 0, "name": "cat"}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 9 * (annotation["id"] % 2)  # of two balls of a picture one is a cat now
    path = tmp_path / "zero.json"
    path.write_text(json.dumps(content))
    zero = Coco(path=path, images=balls.images)
    pictures = look_at(zero, Knowing(lambda i: perfect(zero, i)))
    assert [sorted(picture.truth.names) for picture in pictures] == [["ball", "cat"]] * 5
    for names in (["ball", "cat"], ["cat"]):
        assert coco_average_precision(pictures, "segm", class_names=names)["AP"] == 1


class Knowing(Oracle):
    """An oracle that also knows cats."""

    class_names = ("background", "ball", "cat")


def by_pycocotools(path: Path, results: list[dict[str, Any]], kind: str) -> list[float]:
    """What pycocotools says of the file itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(evaluation.stats[i]) for i in (0, 1, 2, 3, 4, 5, 8)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_a_coco_file_gives_the_numbers_that_pycocotools_gives_for_it(kind: str, balls: Coco, tmp_path: Path) -> None:
    """With crowds, areas of all three size bands that are not the masks' own, misses and false alarms."""

    def change(annotation: dict[str, Any]) -> None:
        number = annotation["id"]
        annotation.update(iscrowd=int(number == 4), area=[500, 5000, 20000][number % 3])
        if number == 4:
            counts = [96 * 64, 96 * 32, 96 * 32]
            annotation.update(bbox=[64, 0, 32, 96], segmentation={"size": [96, 128], "counts": counts})

    truth = changed(balls, tmp_path, change)

    def shaken(index: int) -> Instances:
        found, rng = perfect(truth, index), np.random.default_rng(index)
        boxes = found.boxes + rng.normal(0, 3, found.boxes.shape)
        spare = Instances(boxes + 5, found.masks, found.scores, found.class_ids, found.track_ids, NAMES)
        both = {n: np.concatenate([getattr(found, n), getattr(spare, n)]) for n in ("masks", "class_ids", "track_ids")}
        return Instances(np.concatenate([boxes, spare.boxes]), scores=rng.uniform(0.1, 1, 4), class_names=NAMES, **both)

    pictures = look_at(truth, Oracle(shaken))
    ours = coco_average_precision(pictures, kind, class_names=["ball"])
    theirs = by_pycocotools(truth.path, coco_results(pictures, kind, {"ball": 1}), kind)
    assert list(ours.values()) == theirs and 0.1 < ours["AP"] < 0.9
    assert min(ours["APs"], ours["APm"], ours["APl"]) > 0


def test_pictures_go_through_the_engine_in_its_batches(balls: Coco) -> None:
    engine, seen = Oracle(lambda i: Instances.empty(NAMES)), []
    pictures = look_at(balls, engine, limit=3, progress=lambda done, total: seen.append((done, total)))
    assert engine.batches == [2, 1] and seen == [(2, 3), (3, 3)]
    assert [picture.name for picture in pictures] == ["1", "2", "3"]


def test_a_frame_has_the_pictures_colours(balls: Coco) -> None:
    frame = read_frame(balls[0], 4)
    assert (frame.index, frame.stream, frame.width, frame.height) == (4, "1", 128, 96)
    assert frame.rgb(128, 96)[48, 32].tolist() == [20, 20, 250]


def test_a_picture_that_is_gone_is_named(balls: Coco) -> None:
    (balls.images / "2.png").unlink()
    with pytest.raises(InputError, match="2.png: the picture is missing or damaged"):
        look_at(balls, Oracle(lambda i: Instances.empty(NAMES)))


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


def seen(sample: Sample, found: Instances, names: tuple[str, ...] = ("background", "ball", "cat")) -> Comparison:
    size = {"width": sample.width, "height": sample.height}
    return Comparison("a", truth=true_objects(sample, names), found=found_objects(found, **size), **size)


def test_the_best_score_lets_hits_in_and_false_alarms_out() -> None:
    """Hits at 0.9 and 0.6, a false alarm at 0.4: everything between lets the right ones in; the lowest is taken."""
    picture = seen(truth(0, 50), detections((0, 0.9, 1), (50, 0.605, 1), (150, 0.405, 1)))
    assert best_min_score([picture]) == 0.41


def test_a_second_detection_of_one_object_is_a_false_alarm() -> None:
    assert best_min_score([seen(truth(0), detections((0, 0.9, 1), (1, 0.705, 1)))]) == 0.71


def test_a_detection_of_another_class_is_a_false_alarm() -> None:
    samples = [(truth(0), detections((0, 0.9, 1), (0, 0.805, 2))), (truth(0), detections((0, 0.705, 2)))]
    assert best_min_score([seen(*each) for each in samples]) == 0.81
    assert best_min_score([seen(*each, ("background", "cat")) for each in samples]) == 0.05


def test_a_detection_inside_a_crowd_is_no_false_alarm() -> None:
    found = detections((0, 0.9, 1), (101, 0.8, 1), (104, 0.7, 1))
    assert best_min_score([seen(truth(0, 100, crowd=[False, True]), found)]) == 0.05


def test_without_any_object_or_detection_there_is_still_an_answer() -> None:
    assert 0.05 <= best_min_score([seen(truth(), detections())]) <= 0.95


# --- all of it ------------------------------------------------------------------------------------------------------


class Seer:
    """An engine that plugins find by name and that knows the truth of the shapes it is given the options of."""

    min_score, batch_size = 0.5, 4

    def __init__(self, *, model: str, count: int = 6, seed: int = 0, knows: tuple[str, ...] = ()) -> None:
        self.shapes = Shapes(count=count, seed=seed)
        self.class_names = ("background", *knows) if knows else self.shapes.class_names

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        found = []
        for frame in frames:
            index = int(frame.stream.split("-")[2])
            found.append(perfect(self.shapes, index))
        return found


SEER = "tests.evaluation.test_evaluate:Seer"


def shapes(**options: Any) -> Component:
    return Component(name="shapes", options=options)


def test_every_metric_is_1_for_the_truth_of_made_up_pictures() -> None:
    seen: list[tuple[int, int]] = []
    method = Method(metrics=("coco", "voc", "bowl"), min_score=0.3, iou=0.75)
    figures = evaluate(
        "any", [shapes(count=6)], method=method, engine=SEER, progress=lambda done, total: seen.append((done, total))
    )
    assert (figures["model"], figures["images"]) == ("any", 6) and seen == [(4, 6), (6, 6)]
    assert figures["box"]["AP"] == 1 and figures["mask"]["AP50"] == 1
    assert figures["voc"] == {
        "AP": 1,
        "iou": 0.75,
        "AP_range": figures["voc"]["AP_range"],
        "images": 6,
        "min_score": 0.3,
    }
    assert figures["voc"]["AP_range"] > 0.95 and figures["bowl"]["AP"] > 0.95
    assert figures["bowl"]["min_score"] == 0.3 and figures["bowl"]["best_min_score"] == 0.05
    json.dumps(figures)


def test_the_scores_that_count_are_the_models_own_unless_told() -> None:
    """The seer says 0.9 of everything: from 0.95 up, nothing is found."""
    data = [shapes(count=2)]
    assert evaluate("any", data, method=Method(metrics=("voc",)), engine=SEER)["voc"]["min_score"] == 0.5
    strict = Method(metrics=("voc", "bowl", "coco"), min_score=0.95)
    figures = evaluate("any", data, method=strict, engine=SEER)
    assert figures["voc"]["AP"] == figures["bowl"]["AP"] == 0
    assert figures["bowl"]["best_AP"] > 0.95 and figures["box"]["AP"] == 1


def test_only_what_is_asked_for_is_told_and_the_limit_is_over_all_datasets() -> None:
    figures = evaluate("any", [shapes(count=2), shapes(count=6)], method=Method(("bowl",), limit=3), engine=SEER)
    assert set(figures) == {"model", "images", "seconds", "bowl"} and figures["images"] == 3


def test_pictures_looked_at_in_several_ways_are_asked_for_as_often() -> None:
    """The seer answers the same for a plain picture and a brighter one."""
    method = Method(("bowl",), limit=2, views=(Look(), Look(channel_shift=5)))
    assert evaluate("any", [shapes(count=2)], method=method, engine=SEER)["bowl"]["AP"] > 0.95
    mirrored = Method(("bowl",), limit=2, views=(Look(left_right=True),))  # which the seer does not notice
    assert evaluate("any", [shapes(count=2)], method=mirrored, engine=SEER)["bowl"]["AP"] < 0.5


def test_grown_masks_overlap_less() -> None:
    data = [shapes(count=4)]
    plain, grown = (
        evaluate("any", data, method=Method(("bowl",), dilation=pixels), engine=SEER)["bowl"]["AP"] for pixels in (0, 4)
    )
    assert grown < plain - 0.1


def test_a_submission_of_a_folder_of_pictures_needs_no_truth(tmp_path: Path) -> None:
    """Laid out as the bowl lays out what is to be found, masks beside left out."""
    data = Shapes(count=2)
    for i in range(2):
        for kind in ("images", "masks"):
            folder = tmp_path / "test" / str(i) / kind
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / f"shapes-0-{i}.png"), data[i].rgb[..., ::-1])
    path = tmp_path / "out" / "found.csv"
    figures = evaluate("any", tmp_path / "test", method=Method((), submission=path), engine=SEER)
    count = sum(len(data[i].masks) for i in range(2))
    assert figures["images"] == 2 and figures["submission"] == {"path": str(path), "objects": count, "min_score": 0.5}
    assert len(read_submission(path, {f"shapes-0-{i}": (128, 128) for i in range(2)})["shapes-0-1"]) == len(
        data[1].masks
    )


def test_a_folder_of_pictures_cannot_be_measured_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected pictures .* in it or below, found none"):
        evaluate("any", tmp_path, method=Method((), submission=tmp_path / "a.csv"), engine=SEER)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for method in (Method(), Method((), submission=None)):
        with pytest.raises(UsageError, match="a folder of pictures has no truth to measure on"):
            evaluate("any", tmp_path, method=method, engine=SEER)


def test_a_metric_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no metric is called 'bowle'; did you mean 'bowl'?"):
        Method(metrics=("bowle",))


def test_evaluating_a_model_on_other_classes_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"shapes: expected at least one class of the model \(cat\), got square, circle"
    ):
        evaluate("any", [shapes()], engine=SEER, options={"knows": ["cat"]})


def test_the_data_of_a_configuration_are_built_by_their_names(tmp_path: Path) -> None:
    path = make_balls(tmp_path / "balls", 2)
    with pytest.raises(UsageError, match="did you mean 'coco'"):
        evaluate("any", [Component(name="cocoa", options={"path": str(path)})], engine=SEER)
    assert plugins.find("engines", SEER).__name__ == "Seer"


def test_what_nothing_says_anything_about_has_no_number() -> None:
    nothing = coco_average_precision([], "bbox", class_names=["person"])
    assert set(nothing.values()) == {-1.0}


@pytest.mark.parametrize("place", ["doubled", "no folder"])
def test_what_is_wrong_with_a_submission_is_said_before_anything_is_looked_at(place: str, tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png" if place == "doubled" else "b/2.png"):
        (tmp_path / "test" / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "test" / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "file").touch()
    path = tmp_path / ("found.csv" if place == "doubled" else "file/found.csv")
    looked: list[int] = []
    with pytest.raises(UsageError if place == "doubled" else OutputError):
        method = Method((), submission=path)
        evaluate("any", tmp_path / "test", method=method, engine=SEER, progress=lambda *done: looked.append(1))
    assert looked == []
