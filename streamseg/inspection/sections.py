"""What the page shows of each step: a sentence or two, the numbers, the pictures. The steps stand in their order here.

N proposals, A anchors, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamseg import masks as box_masks
from streamseg.config import FITTED_SCORE
from streamseg.inspection.pictures import (
    AFTER,
    BEFORE,
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    TRUE,
    Colour,
    Drawing,
    class_colour,
    crop,
    heat,
)
from streamseg.inspection.steps import Steps, WeightStats
from streamseg.inspection.targets import Rules, Targets

MOST_ANCHORS, MOST_PROPOSALS, MOST_LABELS, MOST_CROPS = 50, 40, 12, 24
"""At most so many of each are drawn: more would hide the picture. Every one is in the numbers."""


@dataclass(frozen=True)
class Figure:
    """A picture, or several small ones that belong together, with its caption; `name` is that of its PNG."""

    name: str
    caption: str
    picture: np.ndarray


@dataclass(frozen=True)
class Table:
    """Rows of cells under their heads; a WeightStats in a cell is shown as its histogram."""

    caption: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Crops:
    """Small pictures side by side: each a tuple of them and what stands below."""

    name: str
    caption: str
    items: Sequence[tuple[tuple[np.ndarray, ...], str]]


@dataclass(frozen=True)
class Section:
    """One step of the page. notes: what has to be known to read it right."""

    title: str
    text: str
    numbers: dict[str, object]
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    crops: Sequence[Crops] = ()
    notes: Sequence[str] = field(default=())


def sections(steps: Steps, targets: Targets, rules: Rules, weights: Sequence[WeightStats]) -> Iterator[Section]:
    """Every step in the order of the network."""
    yield rpn_targets(steps, targets, rules)
    yield rpn_predictions(steps)
    yield classification(steps)
    yield box_refinement(steps, targets)
    yield low_confidence(steps)
    yield suppression(steps)
    yield mask_targets(steps, targets)
    yield predicted_masks(steps)
    yield activations(steps)
    yield weight_histograms(weights)


# --- proposal network -------------------------------------------------------------------------------------------------


def rpn_targets(steps: Steps, targets: Targets, rules: Rules) -> Section:
    truth, image = targets.truth, steps.image
    positive, negative, neutral = targets.positive, targets.negative, targets.neutral
    few_negative, few_neutral = (_few(steps.anchors[which], MOST_ANCHORS) for which in (negative, neutral))
    true = truth.boxes[~truth.crowd]
    names = [steps.class_names[i] for i in truth.class_ids[~truth.crowd]]
    objects = Drawing.on(image).masks(truth.mini_masks, truth.boxes, [TRUE] * len(truth)).boxes(true, TRUE)
    asked = Drawing.on(image).boxes(steps.anchors[positive], BEFORE, dashed=True).boxes(targets.refined, POSITIVE)
    levels = _anchor_levels(steps)
    rows = [
        (f"P{level}", f"{columns} × {lines}", end - start, *(int(w[start:end].sum()) for w in (positive, negative)))
        for level, (lines, columns, _), start, end in levels
    ]
    return Section(
        "RPN targets",
        f"An anchor is positive where it overlaps a true object by an IoU of {rules.rpn_positive_iou:g} or is the best "
        f"one for it, negative below {rules.rpn_negative_iou:g} with all of them, and neutral between: neutral anchors "
        f"teach nothing. A training draws {rules.rpn_samples} of them and asks the positive ones to move onto their "
        "object.",
        {
            "true objects": len(true),
            "anchors": len(steps.anchors),
            "positive, drawn of all": f"{int(positive.sum()):,} of {targets.num_positive:,}",
            "negative, drawn of all": f"{int(negative.sum()):,} of {targets.num_negative:,}",
            "neutral or not drawn": int(neutral.sum()),
            "largest delta asked for": _largest(targets.anchor_deltas),
        },
        [
            Figure("truth", f"Taken as true: {truth.origin}", _labelled(objects, true, names, [TRUE] * len(true))),
            Figure(
                "positive_anchors",
                "Positive anchors (green) and the true boxes (blue)",
                Drawing.on(image).boxes(true, TRUE).boxes(steps.anchors[positive], POSITIVE).canvas,
            ),
            Figure(
                "negative_neutral_anchors",
                f"Negative (red) and neutral anchors (grey), at most {MOST_ANCHORS} of each",
                Drawing.on(image).boxes(few_neutral, NEUTRAL).boxes(few_negative, NEGATIVE).canvas,
            ),
            Figure(
                "positive_anchors_refined",
                "Positive anchors (dashed) and where their deltas move them (green): onto the objects",
                asked.canvas,
            ),
        ],
        [Table("Anchors by level", ("level", "cells", "anchors", "positive", "negative"), rows)],
        notes=_without_truth(targets),
    )


def rpn_predictions(steps: Steps) -> Section:
    image, best = steps.image, min(MOST_ANCHORS, len(steps.pre_nms_anchors))
    survivors = steps.post_nms_anchor_ix[:best]
    clipped, refined = steps.refined_anchors_clipped, steps.refined_anchors
    cut = np.abs(clipped - refined).max(axis=1) > 1e-3
    scores, object_scores = steps.pre_nms_scores, steps.rpn_class[:, 1]
    rows = [
        (f"P{level}", end - start, *(f"{v:.4f}" for v in np.quantile(object_scores[start:end], (0.5, 0.99, 1.0))))
        for level, _, start, end in _anchor_levels(steps)
    ]
    top = Drawing.on(image).boxes(steps.pre_nms_anchors[:best], AFTER)
    moved = Drawing.on(image).boxes(steps.pre_nms_anchors[:best], BEFORE, dashed=True).boxes(refined[:best], AFTER)
    return Section(
        "RPN predictions",
        "The proposal network scores every anchor and says how to move it. The best ones are moved, clipped to the "
        "input and thinned out: a box goes when it overlaps a better one by an IoU of more than "
        f"{steps.config.rpn_nms_threshold:g}. What is left are the proposals.",
        {
            "anchors": len(steps.anchors),
            "best, before NMS": len(scores),
            "their scores": f"{scores[0]:.4f} to {scores[-1]:.4f}",
            "clipped by the input's edge": int(cut.sum()),
            "after NMS": len(steps.post_nms_anchor_ix),
            "proposals": f"{int(steps.real.sum())}, at most {steps.config.num_proposals}",
        },
        [
            Figure("top_anchors", f"The {best} best anchors as they stand", top.canvas),
            Figure("top_anchors_refined", "The same (dashed) and moved by their deltas (solid)", moved.canvas),
            Figure(
                "top_anchors_clipped",
                "The same, clipped to the input",
                Drawing.on(image).boxes(clipped[:best], AFTER).canvas,
            ),
            Figure(
                "after_nms",
                f"The {len(survivors)} best after NMS",
                Drawing.on(image).boxes(clipped[survivors], POSITIVE).canvas,
            ),
            Figure(
                "proposals",
                f"All {int(steps.real.sum())} proposals",
                Drawing.on(image).boxes(steps.proposals[steps.real][::-1], POSITIVE).canvas,
            ),
        ],
        [Table("Scores by level", ("level", "anchors", "median", "99 %", "best"), rows)],
        [Crops("rpn_scores", "Score of the best anchor of each cell, dark 0 to bright 1", list(_score_maps(steps)))],
    )


# --- heads ------------------------------------------------------------------------------------------------------------


def classification(steps: Steps) -> Section:
    rows = np.flatnonzero(steps.real)
    said = steps.probs[rows].argmax(axis=1)
    table = [
        (name, int((said == i).sum()), f"{steps.probs[rows, i].max():.3f}" if len(rows) else "-")
        for i, name in enumerate(steps.class_names)
    ]
    table = table[:1] + sorted(table[1:], key=lambda row: (-row[1], row[2] == "-", row[0]))
    objects = _best_first(steps, rows[said > 0])[:MOST_PROPOSALS]
    drawing = Drawing.on(steps.image).boxes(_few(steps.proposals[rows[said == 0]], MOST_ANCHORS), NEUTRAL)
    return Section(
        "Proposal classification",
        "The box head gives every proposal a probability for each class and for the background. Most proposals are "
        "background; the others are objects, or parts of objects, of their most probable class.",
        {
            "proposals": len(rows),
            "background": int((said == 0).sum()),
            "objects": int((said > 0).sum()),
            "classes that occur": len({int(i) for i in said if i}),
        },
        [
            Figure(
                "classified_proposals",
                f"The {len(objects)} proposals most sure of being an object, with class and score; background grey",
                _classed(drawing, steps, steps.proposals, objects),
            )
        ],
        [Table("Most probable class of the proposals", ("class", "proposals", "best score"), table[:20])],
    )


def box_refinement(steps: Steps, targets: Targets) -> Section:
    rows = _best_first(steps, np.flatnonzero(steps.real & (steps.class_ids > 0)))
    few, shown = rows[:MOST_PROPOSALS], rows[:MOST_LABELS]
    drawing = Drawing.on(steps.image).boxes(steps.proposals[few], BEFORE, dashed=True)
    for row in few[::-1]:
        drawing.boxes(steps.refined[row : row + 1], class_colour(int(steps.class_ids[row])))
    deltas = steps.deltas[shown, steps.class_ids[shown]]
    table = [
        (int(row), steps.class_names[steps.class_ids[row]], f"{steps.scores[row]:.3f}", *(f"{v:+.2f}" for v in delta))
        for row, delta in zip(shown, deltas, strict=True)
    ]
    moved = np.abs(steps.refined[few] - steps.proposals[few])
    numbers: dict[str, object] = {
        "proposals of a class": len(rows),
        "an edge moves by, mean": f"{moved.mean():.1f} px" if len(few) else "-",
        "at most": f"{moved.max():.1f} px" if len(few) else "-",
    }
    if targets.truth.annotated and len(few) and (~targets.truth.crowd).any():
        true = targets.truth.boxes[~targets.truth.crowd]
        for name, boxes in (("before", steps.proposals[few]), ("after", steps.refined[few])):
            iou = box_masks.box_iou(boxes, true).max(axis=1).mean()
            numbers[f"IoU with the truth {name}, mean"] = f"{iou:.3f}"
    return Section(
        "Box refinement",
        "For each class the box head also says how to move a proposal: its centre in shares of its size, its size in "
        f"logarithms, in units of {', '.join(f'{v:g}' for v in steps.config.delta_std)}. The deltas of the class that "
        "counts are taken.",
        numbers,
        [
            Figure(
                "box_refinement",
                f"The {len(few)} best: proposals (dashed) and refined boxes, clipped (solid)",
                _labelled(drawing, steps.refined[shown], [str(row) for row in shown], _colours(steps.class_ids[shown])),
            )
        ],
        [Table("Deltas of the best", ("proposal", "class", "score", "dx", "dy", "log dw", "log dh"), table)],
    )


def low_confidence(steps: Steps) -> Section:
    lite = steps.config.family != "matterport"
    rows = np.flatnonzero(steps.real) if lite else np.arange(len(steps.scores))
    objects = rows[steps.class_ids[rows] > 0]
    firm, weak = _best_first(steps, np.flatnonzero(steps.firm)), _best_first(steps, objects[~steps.firm[objects]])
    drawing = Drawing.on(steps.image).boxes(_few(steps.refined[weak], MOST_ANCHORS), NEGATIVE, dashed=True)
    rule = (
        "In this family the background is no rival: the best of the other classes counts. "
        if lite
        else "What is most probably background goes first. "
    )
    if steps.config.all_classes:
        rule += "Every class of a proposal may become an object; here each stands in its best one. "
    steps_down: dict[str, object] = {"proposals": int(steps.real.sum())}
    if not lite:  # the original judges its rows of padding too
        steps_down["and rows of padding"] = len(rows) - int(steps.real.sum())
        steps_down["not background"] = len(objects)
    limits = sorted({steps.config.detection_min_score, 0.05, 0.3, 0.5, 0.7, 0.9})
    table = [(f"{limit:g}", int((steps.scores[objects] >= limit).sum())) for limit in limits]
    return Section(
        "Low-confidence filter",
        rule + f"Then every proposal below a score of {steps.config.detection_min_score:g} goes.",
        steps_down | {f"score at least {steps.config.detection_min_score:g}": len(firm), "dropped": len(weak)},
        [
            Figure(
                "low_confidence",
                f"Kept boxes in the colour of their class, at most {MOST_PROPOSALS}; dropped ones dashed red",
                _classed(drawing, steps, steps.refined, firm[:MOST_PROPOSALS], labels=False),
            )
        ],
        [Table("Left at other lowest scores", ("lowest score", "proposals"), table)],
    )


def suppression(steps: Steps) -> Section:
    config = steps.config
    kept, gone = np.flatnonzero(steps.firm & steps.kept), np.flatnonzero(steps.firm & ~steps.kept)
    found = steps.found
    drawing = Drawing.on(steps.image).boxes(_few(steps.refined[gone], MOST_ANCHORS), NEGATIVE, dashed=True)
    by_class = [
        (name, int((steps.class_ids[np.r_[kept, gone]] == i).sum()), int((steps.class_ids[kept] == i).sum()))
        for i, name in enumerate(steps.class_names)
        if (steps.class_ids[np.r_[kept, gone]] == i).any()
    ]
    instances = steps.instances
    table = [
        (i + 1, name, f"{instances.scores[i]:.3f}", *(f"{v:.0f}" for v in instances.boxes[i]))
        for i, name in enumerate(instances.names)
    ]
    colours, firm = _colours(instances.class_ids), _firm(steps)
    final = Drawing.on(steps.rgb)
    for i in range(len(instances) - 1, -1, -1):
        final.boxes(instances.boxes[i : i + 1], colours[i], thick=bool(firm[i]))
    texts = [f"{row[0]} {row[1]} {row[2]}" for row in table]
    return Section(
        "Per-class NMS and final detections",
        "Within each class a box goes when it overlaps a better one by an IoU of more than "
        f"{config.detection_nms_threshold:g}. The best {config.max_detections} of what is left, over all classes, are "
        "the detections.",
        {
            "before": len(kept) + len(gone),
            "suppressed": len(gone),
            "kept": len(kept),
            "detections": f"{len(found)}, at most {config.max_detections}",
            "in the picture": len(instances),
            f"firm, from {config.min_score:g} on": int((instances.scores >= config.min_score).sum()),
        },
        [
            Figure(
                "per_class_nms",
                "Kept boxes in the colour of their class; suppressed ones dashed red",
                _classed(drawing, steps, steps.refined, _best_first(steps, kept)[:MOST_PROPOSALS], labels=False),
            ),
            Figure(
                "detections",
                "The detections in the picture itself, firm ones in thick lines",
                _labelled(final, instances.boxes, texts, colours),
            ),
        ],
        [
            Table("By class", ("class", "before", "after"), by_class),
            Table("Detections, in pixels of the picture", ("", "class", "score", "x1", "y1", "x2", "y2"), table),
        ],
    )


# --- masks ------------------------------------------------------------------------------------------------------------


def mask_targets(steps: Steps, targets: Targets) -> Section:
    rois = targets.rois[targets.mask_rois]
    positive, side = targets.roi_class_ids > 0, targets.masks.shape[1]
    items = []
    for i, (roi, mask) in enumerate(list(zip(rois, targets.masks, strict=True))[:MOST_CROPS]):
        name = steps.class_names[targets.roi_class_ids[targets.mask_rois[i]]]
        items.append(((crop(steps.image, roi), heat(mask, low=0, high=1)), f"{name}, {mask.mean():.0%} covered"))
    return Section(
        "Mask targets",
        "Proposals that overlap a true object by an IoU of 0.5 or more are its positive ones. The part of its true "
        f"mask that such a proposal sees, at {side} × {side} cells, is what the mask head should draw there.",
        {
            "proposals drawn": int((targets.roi_class_ids >= 0).sum()),
            "positive": int(positive.sum()),
            "negative": int((targets.roi_class_ids == 0).sum()),
            "with a known mask": len(rois),
            "covered, mean": f"{targets.masks.mean():.0%}" if len(rois) else "-",
        },
        [
            Figure(
                "positive_proposals",
                "Positive proposals (green) and negative ones (red)",
                Drawing.on(steps.image)
                .boxes(_few(targets.rois[targets.roi_class_ids == 0], MOST_ANCHORS), NEGATIVE)
                .boxes(targets.rois[positive], POSITIVE)
                .canvas,
            )
        ],
        crops=[Crops("mask_targets", "What a positive proposal sees, and the mask asked for there", items)],
        notes=_without_truth(targets),
    )


def _said_of_masks(steps: Steps) -> str:
    """What masks change about boxes and scores, where the model lets them."""
    config, said = steps.config, ""
    if config.box_fitting > 0:
        said += f" Boxes of a class score from {FITTED_SCORE} up have first moved {config.box_fitting:.0%} of the way"
        said += " to where their masks end (box_fitting)."
    if config.mask_scoring > 0:
        said += " Scores are those of the class times how certain the mask is (mask_scoring)."
    return said


def predicted_masks(steps: Steps) -> Section:
    instances = steps.instances
    side = instances.masks.shape[1]
    firm = _firm(steps)
    items = [
        (
            (crop(steps.rgb, instances.boxes[i]), heat(instances.masks[i], low=0, high=1)),
            f"{i + 1} {name} {instances.scores[i]:.2f}",
        )
        for i, name in enumerate(instances.names[:MOST_CROPS])
    ]
    by_bins = np.histogram(instances.masks, np.linspace(0, 1, 6))[0] / max(1, instances.masks.size)
    table = [(f"{low / 5:.1f} to {(low + 1) / 5:.1f}", f"{share:.1%}") for low, share in enumerate(by_bins)]
    undecided = ((instances.masks > 0.25) & (instances.masks < 0.75)).mean() if len(instances) else 0.0
    shown, kind = instances[firm], "firm" if (instances.scores >= steps.config.min_score).any() else "weak"
    pasted = Drawing.on(steps.rgb, light=0.8).masks(shown.masks, shown.boxes, _colours(shown.class_ids))
    return Section(
        "Predicted masks",
        f"The mask head draws a mask of {side} × {side} cells inside each detection's box, one for every class; that "
        "of its own class is taken. Scaled to the box and cut at 0.5 it is the object's shape." + _said_of_masks(steps),
        {
            "masks": len(instances),
            "covered, mean": f"{(instances.masks >= 0.5).mean():.0%}" if len(instances) else "-",
            "undecided cells, 0.25 to 0.75": f"{undecided:.0%}",
        },
        [Figure("pasted_masks", f"{len(shown)} {kind} masks pasted into the picture", pasted.canvas)],
        [Table("Cells by value", ("value", "share"), table)],
        [Crops("predicted_masks", f"What the box holds, and the {side} × {side} mask, dark 0 to bright 1", items)],
    )


# --- inside the network -----------------------------------------------------------------------------------------------


def activations(steps: Steps) -> Section:
    rows: list[tuple[object, ...]] = []
    crops, marked, num_silent = [], [], 0
    for name, values in steps.activations.items():
        channels = values.reshape(-1, values.shape[-1])
        silent = int((channels == 0).all(axis=0).sum())
        num_silent += silent
        flat = not np.ptp(channels) or not np.isfinite(channels).all()
        if flat:
            marked.append(len(rows))
        shape = " × ".join(map(str, values.shape))
        numbers = (f"{v:.3g}" for v in (values.min(), values.max(), values.mean(), values.std()))
        rows.append((name, shape, *numbers, f"{(values == 0).mean():.0%}", silent))
        crops.append(Crops(f"activation_{_file(name)}", f"{name}: {_shown(values)}", _channels(values)))
    return Section(
        "Activations",
        "What chosen layers put out for this picture. A channel that is 0 everywhere is silent here; many of them in "
        "one layer are a sign of a dead one.",
        {"layers": len(rows), "silent channels": num_silent},
        tables=[
            Table(
                "Activations by layer",
                ("layer", "shape", "least", "largest", "mean", "std", "zeros", "silent channels"),
                rows,
                frozenset(marked),
            )
        ],
        crops=crops,
    )


def weight_histograms(weights: Sequence[WeightStats]) -> Section:
    def row(stats: WeightStats) -> tuple[object, ...]:
        shape = " × ".join(map(str, stats.shape))
        numbers = (f"{stats.least:+.4f}", f"{stats.largest:+.4f}", f"{stats.std:.4f}")
        return f"{stats.layer}/{stats.name}", shape, *numbers, stats, verdict(stats)

    suspects = [stats for stats in weights if verdict(stats)]
    heads = ("weights", "shape", "least", "largest", "std", "histogram", "")
    tables = [
        Table(
            "All weights", heads, [row(s) for s in weights], frozenset(i for i, s in enumerate(weights) if verdict(s))
        )
    ]
    if suspects:
        tables.insert(0, Table("Marked", heads, [row(s) for s in suspects], frozenset(range(len(suspects)))))
    return Section(
        "Weight histograms",
        "Every tensor of weights with its range, its spread and its histogram. All values the same means that nothing "
        "was learnt (dead); a value beyond ±1000 means that a training ran away (exploding).",
        {
            "tensors": len(weights),
            "weights": f"{sum(int(np.prod(s.shape)) for s in weights):,}",
            "dead": sum(s.dead for s in weights),
            "exploding": sum(s.exploding for s in weights),
            "tensors with dead channels": sum(s.dead_channels > 0 for s in weights),
        },
        tables=tables,
    )


def verdict(stats: WeightStats) -> str:
    """What is wrong with a tensor of weights, in words; empty where nothing is."""
    words = ["dead?"] * stats.dead + ["exploding?"] * stats.exploding
    if stats.dead_channels and not stats.dead:
        words.append(f"{stats.dead_channels} dead channels" if stats.dead_channels > 1 else "1 dead channel")
    return ", ".join(words)


# --- parts of the above -----------------------------------------------------------------------------------------------


def _few(boxes: np.ndarray, most: int) -> np.ndarray:
    """Some of the boxes (N, 4), spread evenly over them."""
    return boxes if len(boxes) <= most else boxes[np.linspace(0, len(boxes) - 1, most).astype(int)]


def _firm(steps: Steps) -> np.ndarray:
    """Which detections (N,) bool a stream would start from; all of them where none is firm."""
    firm = steps.instances.scores >= steps.config.min_score
    return firm if firm.any() else np.ones_like(firm)


def _best_first(steps: Steps, rows: np.ndarray) -> np.ndarray:
    """Proposals (N,) by falling score."""
    return rows[np.argsort(-steps.scores[rows], kind="stable")]


def _largest(values: np.ndarray) -> str:
    return f"{np.abs(values).max():.2f} units" if values.size else "-"


def _colours(class_ids: np.ndarray) -> list[Colour]:
    return [class_colour(int(i)) for i in class_ids]


def _labelled(drawing: Drawing, boxes: np.ndarray, texts: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    return drawing.labels(boxes[:MOST_LABELS], texts[:MOST_LABELS], colours[:MOST_LABELS]).canvas


def _classed(drawing: Drawing, steps: Steps, boxes: np.ndarray, rows: np.ndarray, *, labels: bool = True) -> np.ndarray:
    """The boxes of proposals (N,), best first, in the colours of their classes, the best ones with class and score."""
    for row in rows[::-1]:
        drawing.boxes(boxes[row : row + 1], class_colour(int(steps.class_ids[row])))
    if not labels:
        return drawing.canvas
    texts = [f"{steps.class_names[steps.class_ids[row]]} {steps.scores[row]:.2f}" for row in rows]
    return _labelled(drawing, boxes[rows], texts, _colours(steps.class_ids[rows]))


def _without_truth(targets: Targets) -> tuple[str, ...]:
    if targets.truth.annotated:
        return ()
    return (
        "No ground truth was given (--data): these targets are made from the model's own detections, as if they were "
        "true.",
    )


def _anchor_levels(steps: Steps) -> Iterator[tuple[int, tuple[int, int, int], int, int]]:
    """Of each level: its number, (rows, columns, anchors a cell), and the anchors from … to that are its own."""
    config, start = steps.config, 0
    height, width = steps.image.shape[:2]
    for level, sizes in zip(config.rpn_levels, config.anchor_sizes, strict=True):
        cells = (np.ceil(side / 2**level) for side in (height, width))
        rows, columns = (int(np.ceil(count / config.rpn_stride)) for count in cells)
        each = len(sizes) * len(config.anchor_ratios)
        end = start + rows * columns * each
        yield level, (rows, columns, each), start, end
        start = end


def _score_maps(steps: Steps) -> Iterator[tuple[tuple[np.ndarray], str]]:
    for level, shape, start, end in _anchor_levels(steps):
        scores = steps.rpn_class[start:end, 1].reshape(shape).max(axis=-1)
        yield (heat(scores, low=0, high=1, side=160),), f"P{level}, {shape[1]} × {shape[0]}, best {scores.max():.2f}"


def _is_vector(values: np.ndarray) -> bool:
    return values.ndim < 3 or min(values.shape[:2]) < 2


def _shown(values: np.ndarray) -> str:
    return f"all {values.size} values" if _is_vector(values) else "the channels that vary most"


def _channels(values: np.ndarray, *, most: int = 8) -> list[tuple[tuple[np.ndarray], str]]:
    """The channels of an activation (h, w, C) that vary most, as pictures; one of a vector (…, C) as a block."""
    if _is_vector(values):
        vector = values.reshape(-1)
        side = int(np.ceil(np.sqrt(vector.size)))
        block = np.pad(vector, (0, side * side - vector.size)).reshape(side, side)
        return [((heat(block),), f"{vector.min():.2g} to {vector.max():.2g}")]
    spread = values.reshape(-1, values.shape[-1]).std(axis=0)
    best = np.argsort(-spread, kind="stable")[:most]
    return [
        ((heat(values[..., i]),), f"channel {i}, {values[..., i].min():.2g} to {values[..., i].max():.2g}")
        for i in best
    ]


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
