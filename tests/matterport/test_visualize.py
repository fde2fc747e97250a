"""What the figures show, looked up in their pixels and in what was put on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import Polygon, Rectangle  # noqa: E402

from streamseg.matterport import visualize  # noqa: E402
from streamseg.types import UsageError  # noqa: E402

NAMES = ["BG", "cat", "dog"]
BOXES = np.array([[10, 20, 30, 60], [40, 5, 50, 15]])


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def masks_in(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((60, 80, len(boxes)), bool)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, i] = True
    return masks


def grey() -> np.ndarray:
    return np.full((60, 80, 3), 100, np.uint8)


def shown(ax: Any) -> np.ndarray:
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


def texts(ax: Any) -> list[str]:
    return [text.get_text() for text in ax.texts]


def rectangles(ax: Any) -> list[tuple[float, ...]]:
    return [(p.get_y(), p.get_x(), p.get_y() + p.get_height(), p.get_x() + p.get_width())
            for p in ax.patches if isinstance(p, Rectangle)]  # fmt: skip


def test_a_mask_is_tinted_and_the_rest_is_left() -> None:
    image = grey()
    same = visualize.apply_mask(image, masks_in(BOXES)[..., 0], (1.0, 0.0, 0.0), alpha=0.5)
    assert same is image
    assert image[20, 40].tolist() == [177, 50, 50] and image[5, 5].tolist() == [100, 100, 100]


def test_a_mask_tints_a_picture_with_alpha_and_leaves_that_alone() -> None:
    image = np.full((60, 80, 4), 100, np.uint8)
    visualize.apply_mask(image, masks_in(BOXES)[..., 0], (1.0, 0.0, 0.0), alpha=0.5)
    assert image[20, 40].tolist() == [177, 50, 50, 100]


def test_instances_are_boxes_masks_and_captions() -> None:
    ax = visualize.display_instances(
        grey(), BOXES, masks_in(BOXES), np.array([1, 2]), NAMES, scores=np.array([0.9, 0.25]), title="found",
        colors=[(1.0, 0, 0), (0, 1.0, 0)],
    )  # fmt: skip
    picture = shown(ax)
    assert picture[20, 40].tolist() == [177, 50, 50] and picture[45, 10].tolist() == [50, 177, 50]
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert rectangles(ax) == [tuple(box) for box in BOXES]
    assert texts(ax) == ["cat 0.900", "dog 0.250"] and ax.get_title() == "found"
    outline = next(p for p in ax.patches if isinstance(p, Polygon))
    assert outline.get_xy().min(axis=0).tolist() == [20, 10] and outline.get_xy().max(axis=0).tolist() == [59, 29]


def test_instances_are_drawn_on_the_axes_that_are_given_and_the_picture_stays_as_it_was() -> None:
    _, ax = plt.subplots()
    image = grey()
    drawn = visualize.display_instances(image, BOXES, masks_in(BOXES), np.array([1, 2]), NAMES, ax=ax)
    assert drawn is ax and len(plt.get_fignums()) == 1 and (image == 100).all()


def test_masks_boxes_and_captions_can_be_chosen() -> None:
    ax = visualize.display_instances(
        grey(), BOXES, masks_in(BOXES), np.array([1, 2]), NAMES, show_mask=False, show_bbox=False, captions=["a", "b"]
    )
    assert (shown(ax) == 100).all() and texts(ax) == ["a", "b"]
    assert all(isinstance(each, Polygon) for each in ax.patches), "outlines alone, as the original draws them"


def test_captions_and_colours_may_be_arrays_and_a_score_none() -> None:
    draw = partial(visualize.display_instances, grey(), BOXES, masks_in(BOXES), np.array([1, 2]), NAMES)
    ax = draw(captions=np.array(["a", "b"]), colors=np.eye(3)[:2])
    assert texts(ax) == ["a", "b"] and shown(ax)[20, 40].tolist() == [177, 50, 50]
    assert texts(draw(scores=[None, 0.5])) == ["cat", "dog 0.500"]


def test_zero_boxes_are_left_out_and_nothing_at_all_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    boxes = np.array([[0, 0, 0, 0], [1, 2, 3, 4]])
    ax = visualize.display_instances(grey(), boxes, masks_in(boxes), np.array([1, 2]), NAMES)
    assert texts(ax) == ["dog"] and not capsys.readouterr().out
    nothing = np.zeros((0, 4), int)
    ax = visualize.display_instances(grey(), nothing, masks_in(nothing), np.zeros(0, int), NAMES)
    assert (shown(ax) == 100).all() and not texts(ax)
    assert capsys.readouterr().out == "No objects to show\n"


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(UsageError, match="class ids and masks of 2 boxes, got 2 and 1"):
        visualize.display_instances(grey(), BOXES, masks_in(BOXES[:1]), np.array([1, 2]), NAMES)


def test_differences_are_green_and_red_with_score_and_iou() -> None:
    found = np.array([[10, 20, 30, 40], [40, 5, 50, 15]])  # half of the first, all of the second
    ax = visualize.display_differences(
        grey(), BOXES, np.array([1, 2]), masks_in(BOXES),
        found, np.array([1, 2]), np.array([0.6, 0.8]), masks_in(found), NAMES,
    )  # fmt: skip
    assert texts(ax) == ["", "", "0.80 / 1.00", "0.60 / 0.50"]  # best first
    edges = [patch.get_edgecolor()[:3] for patch in ax.patches if isinstance(patch, Rectangle)]
    assert edges == [visualize.GREEN] * 2 + [visualize.RED] * 2


def test_images_stand_in_rows_with_their_titles() -> None:
    axes = visualize.display_images([grey()] * 5, titles=list("abcde"), cols=2, cmap="gray")
    assert [ax.get_title() for ax in axes] == list("abcde")
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (3, 2)


def test_images_may_have_fewer_titles_and_colours_of_any_type() -> None:
    pictures = [grey(), grey().astype(float), grey() / 255, grey().astype(np.int64)]
    axes = visualize.display_images(pictures, titles=np.array(["a", "b"]))
    assert [ax.get_title() for ax in axes] == ["a", "b", "", ""]
    assert [shown(ax).max() for ax in axes] == [100, 100, pytest.approx(100 / 255), 100]


def test_top_masks_begin_with_the_class_that_covers_most() -> None:
    boxes = np.array([[0, 0, 5, 5], [10, 10, 50, 50], [0, 60, 10, 70]])
    axes = visualize.display_top_masks(grey(), masks_in(boxes), np.array([1, 2, 1]), NAMES, limit=2)
    assert [ax.get_title() for ax in axes] == ["H x W=60x80", "dog", "cat"]
    cats = shown(axes[2])
    assert cats[2, 2] == 1 and cats[5, 65] == 2 and cats[20, 20] == 0
    assert len(visualize.display_top_masks(grey(), masks_in(boxes), [1, 2, 1], NAMES, limit=1)) == 2  # a list too


def test_a_box_is_drawn_into_the_picture() -> None:
    image = visualize.draw_box(grey(), BOXES[0], (255, 0, 0))
    for y, x in ((10, 20), (11, 40), (30, 40), (20, 21), (20, 61)):
        assert image[y, x].tolist() == [255, 0, 0]
    assert image[20, 40].tolist() == image[9, 40].tolist() == [100, 100, 100]


def test_boxes_lead_to_what_they_were_refined_to() -> None:
    refined = BOXES + 3
    ax = visualize.draw_boxes(grey(), BOXES, refined, captions=["one", ""], visibilities=[2, 0], title="boxes")
    assert rectangles(ax) == [tuple(BOXES[0]), tuple(refined[0]), tuple(BOXES[1])]  # the faint one has no refined box
    styles = [patch.get_linestyle() for patch in ax.patches]
    assert styles == ["dashed", "solid", "dashed"] and ax.patches[2].get_alpha() == 0.5
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[20, 10], [23, 13]]
    assert texts(ax) == ["one"] and ax.get_title() == "boxes"


def test_boxes_carry_their_masks() -> None:
    ax = visualize.draw_boxes(grey(), refined_boxes=BOXES, masks=masks_in(BOXES))
    assert (shown(ax)[20, 40] != 100).any() and (shown(ax)[0, 0] == 100).all()
    with pytest.raises(UsageError, match="expected boxes or refined_boxes"):
        visualize.draw_boxes(grey())


def test_some_regions_are_drawn_and_those_of_objects_in_colour() -> None:
    rois = np.tile(BOXES, (10, 1))
    class_ids = np.array([1, 0] * 10)
    inside = np.ones((20, 28, 28), np.float32)  # as `build_detection_targets` has them
    ax = visualize.draw_rois(grey(), rois, rois + 1, inside, class_ids, NAMES, limit=20)
    assert ax.get_title() == "10 of 20 regions of an object" and texts(ax) == ["cat"] * 10
    assert (shown(ax)[20, 40] != 100).any() and (shown(ax)[45, 10] == 100).all()
    assert len(rectangles(ax)) == 30  # ten of objects twice, ten of the background once
    few = visualize.draw_rois(grey(), rois, rois + 1, inside, class_ids, NAMES, limit=3)
    assert 3 <= len(rectangles(few)) <= 6


def test_precision_is_plotted_over_recall() -> None:
    ax = visualize.plot_precision_recall(0.75, np.array([1, 1, 0.5, 0]), np.array([0, 0.5, 1, 1]))
    assert ax.lines[0].get_xydata().tolist() == [[0, 1], [0.5, 1], [1, 0.5], [1, 0]]
    assert ax.get_title() == "Precision-Recall Curve. AP@50 = 0.750"


def test_overlaps_say_match_or_wrong() -> None:
    overlaps = np.array([[0.9, 0.1], [0.0, 0.8]])
    ax = visualize.plot_overlaps(np.array([1, 2, 0]), np.array([1, 1]), np.array([0.99, 0.7]), overlaps, NAMES)
    assert texts(ax) == ["0.900\nmatch", "0.100\n", "0.000\n", "0.800\nwrong"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat (0.99)", "cat (0.70)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog"]


def test_overlaps_of_nothing_are_an_empty_plot() -> None:
    """A warning would be an error here; matplotlib warns of pictures without a row or column."""
    nothing = np.zeros(0, np.int32)
    assert texts(visualize.plot_overlaps(np.array([1, 2]), nothing, nothing, np.zeros((0, 2)), NAMES)) == []
    assert texts(visualize.plot_overlaps(nothing, np.array([1]), np.array([0.9]), np.zeros((1, 0)), NAMES)) == []


def test_colours_are_all_different() -> None:
    assert len(set(visualize.random_colors(12))) == 12 and visualize.random_colors(0) == []
    assert max(max(color) for color in visualize.random_colors(5, bright=False)) == pytest.approx(0.7)


def test_a_table_is_printed_outside_of_a_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    visualize.display_table([["name", "count"], ["a", 12]])
    assert capsys.readouterr().out.splitlines() == ["name  count", "a     12"]


def test_dead_and_large_weights_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    weights = {
        "conv1": {"kernel": np.array([-2.0, 2.0]), "bias": np.zeros(2)},
        "res2a": {"kernel": np.zeros((1, 1, 2))},
        "fc": {"kernel": np.array([[-5000.0, 0.0]])},
    }
    visualize.display_weight_stats(SimpleNamespace(named_weights=lambda: weights))
    header, first, bias, dead, large = capsys.readouterr().out.splitlines()
    assert header.split() == ["WEIGHT", "NAME", "SHAPE", "MIN", "MAX", "STD"]
    assert first.split() == ["conv1/kernel", "(2,)", "-2.0000", "+2.0000", "2.0000"]
    assert "***" not in first + bias and "res2a/kernel *** dead?" in dead and "fc/kernel *** large?" in large


def test_only_visualize_needs_matplotlib() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from streamseg.matterport import Config, Dataset, utils\n"
        "try: from streamseg.matterport import visualize\n"
        "except Exception as error: print(error)\n"
        "print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "streamseg[notebook]" in ran.stdout and ran.stdout.splitlines()[-1] == "False False"


def test_a_box_partly_outside_is_drawn_where_it_is() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    visualize.draw_box(image, [-5, 10, 20, 30], (255, 0, 0))
    assert not image[30:].any() and image[20:22, 10:30, 0].all() and image[0:20, 10:12, 0].all()
    whole = visualize.draw_box(np.zeros((60, 80, 3), np.uint8), [0, 0, 60, 80], (255, 0, 0))
    assert whole[58:, :, 0].all() and whole[:, 78:, 0].all() and not whole[2:58, 2:78].any()


def test_empty_lists_are_as_none_and_too_few_are_refused() -> None:
    ax = visualize.display_instances(
        grey(), BOXES, masks_in(BOXES), np.array([1, 2]), NAMES, colors=[], captions=[], show_mask=False
    )
    assert texts(ax) == ["cat", "dog"] and sum(isinstance(each, Polygon) for each in ax.patches) == 2
    with pytest.raises(UsageError, match="display_instances: expected colors of 2 boxes, got 1"):
        visualize.display_instances(grey(), BOXES, None, np.array([1, 2]), NAMES, colors=[(1, 0, 0)])


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 1)])
def test_a_grey_picture_is_shown_in_grey(shape: tuple[int, ...]) -> None:
    ax = visualize.display_instances(np.full(shape, 90, np.uint8), BOXES, None, np.array([1, 2]), NAMES)
    assert (shown(ax) == 90).all() and shown(ax).shape == (60, 80, 3)
    with pytest.raises(UsageError, match=r"apply_mask: expected a picture \(H, W, 3\)"):
        visualize.apply_mask(np.zeros(shape, np.uint8), np.zeros((60, 80)), (1, 0, 0))


def test_differences_of_padded_equally_sure_predictions_keep_their_captions() -> None:
    found = np.array([BOXES[0], [0, 60, 9, 70], [0, 0, 0, 0]])
    ax = visualize.display_differences(
        grey(), BOXES[:1], np.array([1]), masks_in(BOXES[:1]), found, np.array([1, 1, 0]), np.array([0.9, 0.9, 0]),
        masks_in(found), NAMES,
    )  # fmt: skip
    by_place = {text.get_position(): text.get_text() for text in ax.texts}
    assert by_place[(60, 8)] == "0.90 / 0.00" and "0.90 / 1.00" in by_place.values()
    nothing = np.zeros((0, 4), int), np.zeros(0, int), np.zeros((0, 0, 0), bool)
    visualize.display_differences(
        grey(), *nothing, found[:1], np.array([1]), np.array([0.9]), masks_in(found[:1]), NAMES
    )


def test_rows_of_a_table_may_have_different_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    visualize.display_table([["a", "b"], ["long"]])
    assert capsys.readouterr().out == "a     b\nlong\n"
