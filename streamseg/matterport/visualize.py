"""The original's `visualize`: pictures with boxes, masks and captions, and the plots of its notebooks, in matplotlib.

Boxes are y1, x1, y2, x2 in pixels, masks (H, W, n) with the objects last. Each function draws on the Axes it is given,
or on a new figure, which a notebook shows by itself and a desktop in a window; it returns the Axes.
"""

from __future__ import annotations

import colorsys
import html
import random
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np

from streamseg.evaluation import average_precision as voc
from streamseg.matterport import utils
from streamseg.types import UsageError

try:
    import matplotlib.pyplot as plt
    from matplotlib import patches
except ImportError as error:
    raise UsageError('visualize needs matplotlib; pip install "streamseg[notebook]" brings it') from error

Color = Sequence[float]

GREEN, RED, GREY = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.5, 0.5, 0.5)


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """N colours (r, g, b) in 0…1 as far apart in hue as can be, in random order; not bright: darker ones."""
    colors = [colorsys.hsv_to_rgb(i / N, 1, 1.0 if bright else 0.7) for i in range(N)]
    random.shuffle(colors)
    return colors


def apply_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.5) -> np.ndarray:
    """The picture (H, W, 3) itself, tinted where the mask (H, W) is 1; a fourth channel is left as it is."""
    if image.ndim != 3 or image.shape[2] < 3:
        raise UsageError(f"apply_mask: expected a picture (H, W, 3), got {image.shape}")
    inside = np.asarray(mask) == 1
    tint = np.asarray(color[:3], float) * 255
    rgb = image[..., :3]
    rgb[inside] = rgb[inside] * (1 - alpha) + tint * alpha
    return image


def display_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: str | None = None,
) -> list[Any]:
    """Pictures side by side with their titles, `cols` a row; returns the Axes of each.

    A picture in colour may have any type, from 0 to 255, or floats from 0 to 1 · where there are fewer titles than
    pictures, the first ones get them.
    """
    rows = max(1, -(-len(images) // cols))
    figure = plt.figure(figsize=(14, 14 * rows / cols))
    axes = []
    for i, (image, title) in enumerate(zip_longest(images, () if titles is None else titles[: len(images)])):
        ax = figure.add_subplot(rows, cols, i + 1)
        ax.set_title("" if title is None else title, fontsize=9)
        ax.axis("off")
        ax.imshow(_colours_as_bytes(image), cmap=cmap, norm=norm, interpolation=interpolation)
        axes.append(ax)
    _show(figure)
    return axes


def display_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray | None,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: Any = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Sequence[Color] | None = None,
    captions: Sequence[str] | None = None,
) -> Any:
    """The picture with boxes (n, 4), masks (H, W, n) and captions of its objects.

    captions: instead of class name and score · colors: one an object, else random; an empty list is as none. A zero
    box is padding. A score that is None is left out. not show_mask: only the outlines. Says so in print where there is
    no object.
    """
    n, num_masks = len(boxes), len(boxes) if masks is None else masks.shape[-1]
    if n and (len(class_ids) != n or num_masks != n):
        raise UsageError(
            f"display_instances: expected class ids and masks of {n} boxes, got {len(class_ids)} and {num_masks}"
        )
    for name, given in (("colors", colors), ("captions", captions)):
        if given is not None and 0 < len(given) < n:
            raise UsageError(f"display_instances: expected {name} of {n} boxes, got {len(given)}")
    if not n:
        print("No objects to show")
    canvas = _in_colour(image)
    figure, ax = _axes(ax, figsize)
    _frame(ax, canvas.shape, title)
    colors = random_colors(n) if colors is None or not len(colors) else colors
    for i, (box, color) in enumerate(zip(boxes, colors, strict=False)):
        if not np.any(box):
            continue
        if show_bbox:
            ax.add_patch(_rectangle(box, color))
        score = "" if scores is None or scores[i] is None else f" {scores[i]:.3f}"
        caption = captions[i] if captions is not None and len(captions) else f"{class_names[class_ids[i]]}{score}"
        ax.text(box[1], box[0] + 8, caption, color="w", size=11, backgroundcolor="none", parse_math=False)
        if masks is not None:
            if show_mask:
                canvas = apply_mask(canvas, masks[..., i], color)
            _add_outlines(ax, masks[..., i], color)
    ax.imshow(canvas)
    _show(figure)
    return ax


def display_differences(
    image: np.ndarray,
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    ax: Any = None,
    show_mask: bool = True,
    show_box: bool = True,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> Any:
    """True objects in green and predictions in red, each prediction with its score and its IoU.

    The IoU is that with the object it matches (`utils.compute_matches`), else the greatest.
    """
    found = np.flatnonzero(np.any(pred_box, axis=1))  # zero rows are padding, as in the matching
    pred_box, pred_class_id, pred_score = pred_box[found], pred_class_id[found], pred_score[found]
    size = image.shape[:2]
    gt_mask, pred_mask = _masks_of(gt_mask, size), _masks_of(pred_mask, size)[..., found]
    _, pred_match, overlaps = utils.compute_matches(
        gt_box,
        gt_class_id,
        gt_mask,
        pred_box,
        pred_class_id,
        pred_score,
        pred_mask,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
    )
    order = voc.best_first(pred_score)  # that of the matches
    pred_box, pred_class_id, pred_score = pred_box[order], pred_class_id[order], pred_score[order]
    pred_mask = pred_mask[..., order]
    captions = [""] * len(gt_box)
    for score, match, row in zip(pred_score, pred_match, overlaps, strict=True):
        overlap = row[int(match)] if match > -1 else row.max(initial=0)
        captions.append(f"{score:.2f} / {overlap:.2f}")
    return display_instances(
        image,
        np.concatenate([gt_box, pred_box]),
        np.concatenate([gt_mask, pred_mask], axis=-1),
        np.concatenate([gt_class_id, pred_class_id]),
        class_names,
        title=title or "Ground truth and detections\ngreen: true, red: found, captions: score / IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        colors=[GREEN] * len(gt_box) + [RED] * len(pred_box),
        captions=captions,
    )


def display_top_masks(
    image: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray | Sequence[int],
    class_names: Sequence[str],
    limit: int = 4,
) -> list[Any]:
    """The picture, and beside it the masks (H, W, n) of the `limit` classes that cover most of it."""
    class_ids = np.asarray(class_ids)
    areas = {int(c): int(mask[..., class_ids == c].any(axis=-1).sum()) for c in np.unique(class_ids) if c > 0}
    areas = {c: area for c, area in areas.items() if area}
    most = sorted(areas, key=lambda c: -areas[c])[:limit]
    shown = [image, *(_numbered(mask[..., class_ids == c]) for c in most)]
    titles = [f"H x W={image.shape[0]}x{image.shape[1]}", *(class_names[c] for c in most)]
    return display_images(shown, titles=titles, cols=limit + 1, cmap="Blues_r")


def draw_box(image: np.ndarray, box: Sequence[int] | np.ndarray, color: Color) -> np.ndarray:
    """The picture (H, W, 3) itself with a frame two pixels wide around a box (4,), in the picture's own values.

    A side beyond the picture is not drawn; one that ends with it is drawn inside.
    """
    y1, x1, y2, x2 = (int(v) for v in box)
    height, width = image.shape[:2]
    rows, columns = slice(max(y1, 0), max(y2, 0)), slice(max(x1, 0), max(x2, 0))
    for y in (y1, min(y2, height - 2) if y2 <= height else y2):
        image[max(y, 0) : max(y + 2, 0), columns] = color
    for x in (x1, min(x2, width - 2) if x2 <= width else x2):
        image[rows, max(x, 0) : max(x + 2, 0)] = color
    return image


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | None = None,
    refined_boxes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    visibilities: Sequence[int] | None = None,
    title: str = "",
    ax: Any = None,
) -> Any:
    """The picture with boxes (n, 4) dashed, what they were refined to (n, 4) solid, and a line from one to the other.

    visibilities: 0 grey and faint, 1 in colour, 2 in colour and wider, one a box. A zero box is padding.
    """
    given = [each for each in (boxes, refined_boxes) if each is not None]
    if not given:
        raise UsageError("draw_boxes: expected boxes or refined_boxes, got neither")
    n = len(given[0])
    canvas = _in_colour(image)
    figure, ax = _axes(ax, (12, 12))
    _frame(ax, canvas.shape, title)
    colors = random_colors(n)
    for i in range(n):
        if not np.any(given[0][i]):
            continue
        visibility = 1 if visibilities is None else int(visibilities[i])
        color, alpha, width = [(GREY, 0.5, 1), (colors[i], 1, 1), (colors[i], 1, 2)][visibility]
        if boxes is not None:
            style = "solid" if refined_boxes is None else "dashed"
            ax.add_patch(_rectangle(boxes[i], color, alpha=alpha, linewidth=width, linestyle=style))
        if refined_boxes is not None and visibility > 0:
            ax.add_patch(_rectangle(refined_boxes[i], color, linewidth=width, linestyle="solid"))
            if boxes is not None:
                (y, x), (to_y, to_x) = boxes[i][:2], refined_boxes[i][:2]
                ax.plot([x, to_x], [y, to_y], color=color)
        if captions is not None and captions[i]:
            y, x = given[-1][i][:2]
            behind = {"facecolor": color, "alpha": 0.5, "pad": 2}
            ax.text(x, y, captions[i], size=11, color="w", bbox=behind, parse_math=False)
        if masks is not None:
            canvas = apply_mask(canvas, masks[..., i], color)
            _add_outlines(ax, masks[..., i], color)
    ax.imshow(canvas)
    _show(figure)
    return ax


def draw_rois(
    image: np.ndarray,
    rois: np.ndarray,
    refined_rois: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 10,
) -> Any:
    """Some regions (n, 4), at most `limit` chosen at random: those of an object with what they were refined to.

    mask (n, m, m): what a training asks of each region, drawn inside it; regions of the background are grey. The title
    says how many of all are of an object.
    """
    chosen = np.sort(np.random.choice(len(rois), min(limit, len(rois)), replace=False))
    of_object = class_ids[chosen] > 0
    positives = int((class_ids > 0).sum())
    masks = np.zeros((*image.shape[:2], len(chosen)), bool)
    for place in np.flatnonzero(of_object):
        masks[..., place] = utils.unmold_mask(mask[chosen[place]], rois[chosen[place]].astype(int), image.shape)
    return draw_boxes(
        image,
        boxes=rois[chosen],
        refined_boxes=refined_rois[chosen],
        masks=masks,
        captions=[class_names[c] if c > 0 else "" for c in class_ids[chosen]],
        visibilities=of_object.astype(int).tolist(),
        title=f"{positives} of {len(rois)} regions of an object",
    )


def plot_precision_recall(AP: float, precisions: np.ndarray, recalls: np.ndarray) -> Any:
    """Precision over recall, as `utils.compute_ap` returns them."""
    figure, ax = _axes(None, (6.4, 4.8))
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set(xlim=(0, 1.1), ylim=(0, 1.1), xlabel="recall", ylabel="precision")
    ax.plot(recalls, precisions)
    _show(figure)
    return ax


def plot_overlaps(
    gt_class_ids: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    overlaps: np.ndarray,
    class_names: Sequence[str],
    threshold: float = 0.5,
) -> Any:
    """The IoU (p, g) of every prediction with every true object; above `threshold`: match, or wrong by its class."""
    gt_class_ids = np.asarray(gt_class_ids, int)
    gt_class_ids = gt_class_ids[gt_class_ids != 0][: overlaps.shape[1]]
    pred_class_ids = np.asarray(pred_class_ids, int)[: overlaps.shape[0]]
    figure, ax = _axes(None, (12, 10))
    if overlaps.size:  # of a picture in which nothing was found there is nothing to show
        ax.imshow(overlaps, interpolation="nearest", cmap="Blues")
    labels = [f"{class_names[c]} ({score:.2f})" for c, score in zip(pred_class_ids, pred_scores, strict=False)]
    ax.set_yticks(np.arange(len(pred_class_ids)), labels)
    ax.set_xticks(np.arange(len(gt_class_ids)), [class_names[c] for c in gt_class_ids], rotation=90)
    for (i, j), overlap in np.ndenumerate(overlaps):
        verdict = ""
        if overlap > threshold:
            verdict = "match" if gt_class_ids[j] == pred_class_ids[i] else "wrong"
        color = "white" if overlap > overlaps.max() / 2 else "black"
        ax.text(j, i, f"{overlap:.3f}\n{verdict}", ha="center", va="center", fontsize=9, color=color)
    ax.set(xlabel="Ground Truth", ylabel="Predictions")
    figure.tight_layout()
    _show(figure)
    return ax


def display_table(table: Sequence[Sequence[Any]]) -> None:
    """Rows of cells as a table: in a notebook as HTML, elsewhere printed."""
    rows = [[str(cell) for cell in row] for row in table]
    notebook = sys.modules.get("IPython")
    if notebook is not None and notebook.get_ipython() is not None:
        cells = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
        notebook.display.display(notebook.display.HTML(f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"))
        return
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def display_weight_stats(model: Any) -> None:
    """Name, shape and range of every weight of a `MaskRCNN`, with a mark where it may be dead or is over 1000."""
    table: list[list[str]] = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer, tensors in model.named_weights().items():
        for name, weight in tensors.items():
            least, most = weight.min(), weight.max()
            # biases, and what a new batch norm holds, are all alike from the start
            dead = name == "kernel" and least == most
            alert = " *** dead?" if dead else " *** large?" if max(-least, most) > 1000 else ""
            shape = str(tuple(weight.shape))
            table.append([f"{layer}/{name}{alert}", shape, f"{least:+.4f}", f"{most:+.4f}", f"{weight.std():.4f}"])
    display_table(table)


def _colours_as_bytes(image: np.ndarray) -> np.ndarray:
    """A picture in colour whose values go to 255 as uint8, which matplotlib would show white in other types."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] < 3 or (image.dtype.kind in "bf" and image.max(initial=0) <= 1):
        return image
    return image.astype(np.uint8)


def _in_colour(image: np.ndarray) -> np.ndarray:
    """A picture (H, W), (H, W, 1) or (H, W, 3) of its own to draw on, (H, W, 3) uint8; a fourth channel stays."""
    canvas = np.array(image, np.uint8)
    canvas = canvas[..., None] if canvas.ndim == 2 else canvas
    return canvas.repeat(3, axis=2) if canvas.shape[2] == 1 else canvas


def _masks_of(masks: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Masks (H, W, n); what a dataset gives for none, (0, 0, 0), in the size of the picture."""
    return masks if masks.shape[-1] else np.zeros((*size, 0), masks.dtype)


def _numbered(masks: np.ndarray) -> np.ndarray:
    """Masks (H, W, n) in one picture (H, W): 1 where the first is, 2 where the second is, … and 0 elsewhere."""
    numbers: np.ndarray = (masks * np.arange(1, masks.shape[-1] + 1)).max(axis=-1)
    return numbers


def _axes(ax: Any, figsize: tuple[float, float]) -> tuple[Any, Any]:
    """The figure to show, None if the Axes were given, and the Axes."""
    if ax is not None:
        return None, ax
    return plt.subplots(figsize=figsize)


def _frame(ax: Any, shape: Sequence[int], title: str) -> None:
    ax.set(xlim=(-10, shape[1] + 10), ylim=(shape[0] + 10, -10))
    ax.axis("off")
    ax.set_title(title)


def _rectangle(
    box: Sequence[float] | np.ndarray,
    color: Color,
    *,
    alpha: float = 0.7,
    linewidth: float = 2,
    linestyle: str = "dashed",
) -> Any:
    y1, x1, y2, x2 = box
    return patches.Rectangle(
        (x1, y1),
        x2 - x1,
        y2 - y1,
        linewidth=linewidth,
        alpha=alpha,
        linestyle=linestyle,
        edgecolor=tuple(color),
        facecolor="none",
    )


def _add_outlines(ax: Any, mask: np.ndarray, color: Color) -> None:
    """Draw the borders of a mask (H, W), holes too."""
    contours, _ = cv2.findContours(np.asarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        ax.add_patch(patches.Polygon(contour[:, 0], closed=True, facecolor="none", edgecolor=tuple(color)))


def _show(figure: Any) -> None:
    """Open a window where there is a screen; a notebook shows the figure by itself."""
    if figure is not None and type(figure.canvas).required_interactive_framework:
        plt.show()
