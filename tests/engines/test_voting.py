"""Whatever way a picture is looked at, its objects come back to where they are; and what most views see is kept."""

from __future__ import annotations

from collections.abc import Sequence

import av
import cv2
import numpy as np
import pytest

from streamseg import masks
from streamseg.engines._voting import FIFTEEN, Look, Voting, looks, merged
from streamseg.types import Engine, Frame, Instances, UsageError

NAMES = ("background", "ball", "cat")
WIDTH, HEIGHT = 120, 80


def frame(rgb: np.ndarray) -> Frame:
    return Frame(av.VideoFrame.from_ndarray(rgb, format="rgb24"), 0, 0.0, 0.0, "a")


def l_shape() -> np.ndarray:
    """A black picture with a white L, which no mirror or turn maps on itself, and a short bar."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[10:50, 20:30] = rgb[40:50, 20:60] = 255
    rgb[60:70, 80:110] = 255
    return rgb


class Bright:
    """An engine that finds the bright regions of a picture, each with its mask in 40×40 cells, and their order."""

    class_names, min_score, batch_size = NAMES, 0.5, 4

    def __init__(self) -> None:
        self.calls: list[list[tuple[int, int]]] = []

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return frame.width, frame.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        self.calls.append([(each.width, each.height) for each in frames])
        return [self._found(each.rgb(each.width, each.height)) for each in frames]

    def _found(self, rgb: np.ndarray) -> Instances:
        bright = (rgb[..., 0] > 127).astype(np.uint8)
        count, labels = cv2.connectedComponents(bright)
        boxes, cells = [], []
        for label in range(1, count):
            rows, columns = np.nonzero(labels == label)
            y1, y2, x1, x2 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            boxes.append([x1, y1, x2, y2])
            region = (labels[y1:y2, x1:x2] == label).astype(np.float32)
            cells.append(cv2.resize(region, (40, 40), interpolation=cv2.INTER_NEAREST))
        return instances(boxes, np.array(cells), np.linspace(0.9, 0.8, count - 1), [1] * (count - 1))


def instances(
    boxes: Sequence[Sequence[float]], cells: np.ndarray, scores: Sequence[float], ids: list[int]
) -> Instances:
    n = len(boxes)
    return Instances(
        np.array(boxes, np.float32).reshape(n, 4), cells, np.array(scores), np.array(ids, int), np.full(n, -1), NAMES
    )


def squares(*rows: tuple[float, float, int]) -> Instances:
    """Full 10×10 masks as (left edge, score, class)."""
    boxes = [[x, 0, x + 10, 10] for x, _, _ in rows]
    return instances(boxes, np.ones((len(rows), 28, 28)), [s for _, s, _ in rows], [c for *_, c in rows])


def painted(found: Instances) -> np.ndarray:
    return masks.union(found, width=WIDTH, height=HEIGHT) >= 128


@pytest.mark.parametrize("look", [*FIFTEEN, Look(True, True, 3, 7, 1.5, 0.75), Look(quarter_turns=-1)], ids=str)
def test_objects_come_back_to_where_they_are(look: Look) -> None:
    rgb = l_shape()
    (found,) = Bright().predict([look.frame(frame(rgb))])
    back = look.back(found, width=WIDTH, height=HEIGHT)
    truth = rgb[..., 0] > 0
    drawn = painted(back)
    assert len(back) == 2
    scaled = (look.width_scale, look.height_scale) != (1, 1)
    assert (drawn & truth).sum() / (drawn | truth).sum() > (0.9 if scaled else 0.999)


def test_a_view_is_what_its_parts_say() -> None:
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(Look(up_down=True).picture(rgb), rgb[::-1])
    np.testing.assert_array_equal(Look(left_right=True).picture(rgb), rgb[:, ::-1])
    np.testing.assert_array_equal(Look(quarter_turns=1).picture(rgb), np.rot90(rgb))
    np.testing.assert_array_equal(Look(channel_shift=-10).picture(rgb), np.maximum(rgb.astype(int) - 10, 0))
    np.testing.assert_array_equal(Look(channel_shift=250).picture(rgb), np.minimum(rgb.astype(int) + 250, 255))
    assert Look(width_scale=0.5, height_scale=2).picture(rgb).shape == (4, 2, 3)
    assert Look(quarter_turns=3, width_scale=3).picture(rgb).shape == (4, 6, 3)
    np.testing.assert_array_equal(Look().picture(rgb), rgb)


def test_a_frame_keeps_its_pixels_on_the_way_to_a_view() -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    seen = Look(quarter_turns=1).frame(frame(rgb))
    np.testing.assert_array_equal(seen.rgb(HEIGHT, WIDTH), np.rot90(rgb))


def test_the_preset_has_fifteen_different_ways() -> None:
    assert len(set(FIFTEEN)) == 15 and FIFTEEN[0] == Look() and looks("fifteen") == FIFTEEN


def test_ways_to_look_are_written_with_plus_and_comma() -> None:
    assert looks("plain, up_down+quarter_turns=2 ,channel_shift=-20+width_scale=0.8") == (
        Look(),
        Look(up_down=True, quarter_turns=2),
        Look(channel_shift=-20, width_scale=0.8),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("left_rihgt", "--augment left_rihgt: no way to look is called 'left_rihgt'; did you mean 'left_right'?"),
        ("quarter_turns=half", "expected quarter_turns=a whole number, got 'quarter_turns=half'"),
        ("width_scale", "expected width_scale=a number, got 'width_scale'"),
        ("up_down=no", "up_down takes no value, got 'no'"),
        ("up_down+up_down", "up_down stands twice"),
        ("height_scale=0", "height_scale: expected 0.1 to 10, got 0.0"),
        ("channel_shift=300", "channel_shift: expected -255 to 255 grey levels, got 300"),
    ],
)
def test_a_wrong_way_to_look_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        looks(text)
    assert said in str(error.value)


def test_an_engine_shown_fifteen_views_finds_what_it_finds_in_one() -> None:
    engine = Bright()
    voting = Voting(engine)
    assert isinstance(voting, Engine) and voting.input_size(frame(l_shape())) == (WIDTH, HEIGHT)
    once, twice = voting.predict([frame(l_shape())] * 2)
    (plain,) = Bright().predict([frame(l_shape())])
    assert len(once) == len(plain) == 2
    both = painted(once) & painted(plain)
    assert both.sum() / (painted(once) | painted(plain)).sum() > 0.97
    np.testing.assert_array_equal(once.boxes, twice.boxes)
    assert all(len(set(sizes)) == 1 and len(sizes) <= engine.batch_size for sizes in engine.calls)
    assert sum(len(sizes) for sizes in engine.calls) == 30


def test_one_plain_view_changes_nothing() -> None:
    found = squares((0, 0.9, 1), (40, 0.8, 2))
    same = merged([found])
    for name in ("boxes", "masks", "scores", "class_ids"):
        np.testing.assert_allclose(getattr(same, name), getattr(found, name), atol=1e-6)


def test_the_score_is_the_mean_over_all_views() -> None:
    """Seen with 0.9 and 0.6 by two of three views: 0.5."""
    found = merged([squares((0, 0.9, 1)), squares(), squares((0, 0.6, 1))])
    assert len(found) == 1 and found.scores[0] == pytest.approx(0.5)


def test_what_too_few_views_see_is_left_out() -> None:
    views = [squares((0, 0.9, 1)), squares((0, 0.9, 1), (40, 0.9, 1)), squares((0, 0.9, 1)), squares()]
    assert merged(views, min_votes=0.5).boxes[:, 0].tolist() == [0]
    assert merged(views, min_votes=0.25).boxes[:, 0].tolist() == [0, 40]
    assert merged(views, min_votes=0.75).boxes[:, 0].tolist() == [0]
    assert len(merged(views, min_votes=0.8)) == 0


def test_box_and_mask_are_means_weighted_by_score() -> None:
    """Scores 0.6 and 0.2: three quarters of the one, a quarter of the other."""
    found = merged([squares((0, 0.6, 1)), squares((2, 0.2, 1))])
    assert found.boxes.tolist() == [[0.5, 0, 10.5, 10]]
    assert found.masks[0, 14, [0, 14, 27]] == pytest.approx([0.75, 1, 0.25])  # the first has 0 to 10, the other 2 to 12


def test_classes_do_not_vote_for_each_other_and_a_view_has_one_vote() -> None:
    found = merged([squares((0, 0.9, 1), (1, 0.8, 1)), squares((0, 0.7, 2))], min_votes=0)
    assert sorted(zip(found.class_ids.tolist(), found.scores.round(3).tolist(), strict=True)) == [
        (1, pytest.approx(0.4)),
        (1, pytest.approx(0.45)),
        (2, pytest.approx(0.35)),
    ]


def test_objects_that_overlap_less_than_half_are_two() -> None:
    """10×10 squares moved by 4 share 6 of 14 columns, 0.43; moved by 3, 7 of 13, 0.54."""
    assert len(merged([squares((0, 0.9, 1)), squares((4, 0.9, 1))])) == 2
    assert len(merged([squares((0, 0.9, 1)), squares((3, 0.9, 1))])) == 1


def test_weak_detections_are_left_out_and_none_is_none() -> None:
    assert len(merged([squares((0, 0.09, 1)), squares()], min_votes=0)) == 0
    assert len(merged([squares(), squares()])) == 0


def test_masks_of_several_sizes_are_merged() -> None:
    fine = squares((0, 0.9, 1))
    coarse = instances([[0, 0, 10, 10]], np.ones((1, 14, 14)), [0.9], [1])
    assert merged([coarse, fine]).masks.shape == (1, 28, 28) and merged([coarse, fine]).masks.min() == 1


def test_a_wrong_share_of_votes_is_refused() -> None:
    with pytest.raises(UsageError, match="min_votes: expected a share of 0 to 1"):
        Voting(Bright(), min_votes=8)
