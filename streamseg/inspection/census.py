"""What is in a dataset and what may be wrong with it, found out before a training trips over it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamseg import outlines
from streamseg.masks import box_iou
from streamseg.training.data import Joined, damage_named, read_rgb
from streamseg.types import InputError, Sample

UNREADABLE = "pictures that cannot be read"
NO_OBJECTS = "pictures without objects"
MANY_OBJECTS = "pictures with more objects than training.max_objects: each view takes a random choice of them"
TWICE = "pictures that occur twice"
EMPTY_MASK = "masks without a single pixel"
DOUBLED_MASK = "masks that cover what another mask of the picture covers"
OUTSIDE = "boxes that reach out of their picture"
NO_AREA = "boxes without area"
MISFIT = "boxes that do not fit around their mask"

DOUBLED_IOU = 0.9
"""From this IoU on, two masks are taken for one object marked twice."""

SLACK = 2.0
"""Pixels that a box may stand off its mask, beside a twentieth of its side: outlines are drawn by hand."""

MOST_EXAMPLES = 8


@dataclass
class Problem:
    """How often something was found, and where first: (index of the picture, what exactly)."""

    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Census:
    """What a dataset holds, and its problems by their kind.

    sizes: pictures by (width, height) · objects, pictures: by class id · per_picture: objects of each picture · sides:
    square root of the boxes' areas by class id, in pixels · warnings: what the dataset itself left out
    """

    class_names: tuple[str, ...]
    num_pictures: int = 0
    num_crowds: int = 0
    num_unknown_masks: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    objects: Counter[int] = field(default_factory=Counter)
    pictures: Counter[int] = field(default_factory=Counter)
    per_picture: list[int] = field(default_factory=list)
    sides: dict[int, list[float]] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    contents: dict[str, int] = field(default_factory=dict)
    """Checksum of every picture's pixels -> index of the picture, the first where several are the same."""
    readable: set[int] = field(default_factory=set)
    """Indices of the pictures that could be read."""

    @property
    def num_objects(self) -> int:
        return sum(self.objects.values())

    def note(self, kind: str, index: int, text: str = "") -> None:
        """Count a problem; the first few are kept as examples."""
        problem = self.problems.setdefault(kind, Problem())
        problem.count += 1
        if len(problem.examples) < MOST_EXAMPLES:
            problem.examples.append((index, text))


def take_census(
    dataset: Joined,
    indices: Sequence[int],
    *,
    max_objects: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Census:
    """Read the pictures at `indices` with all their objects, and count.

    max_objects: the training's; pictures with more are noted.
    """
    census = Census(class_names=dataset.class_names)
    for done, index in enumerate(indices, start=1):
        census.num_pictures += 1
        try:
            with damage_named(index):
                sample = dataset[index]
            _look_at_picture(census, index, sample, read_rgb(sample))
        except InputError as error:
            census.note(UNREADABLE, index, str(error))
        else:
            _count_objects(census, index, sample, max_objects)
            _look_at_boxes(census, index, sample)
            _look_at_masks(census, index, sample)
        progress(done, len(indices))
    census.warnings = dict(dataset.warnings)
    return census


def shared_pictures(train: Census, val: Census) -> Problem:
    """The pictures of `val` with the same pixels as one of `train`."""
    both = sorted((val.contents[key], train.contents[key]) for key in train.contents.keys() & val.contents.keys())
    return Problem(len(both), [(index, f"is picture {other} of train") for index, other in both[:MOST_EXAMPLES]])


def _look_at_picture(census: Census, index: int, sample: Sample, rgb: np.ndarray) -> None:
    census.sizes[sample.width, sample.height] += 1
    key = hashlib.blake2b(np.ascontiguousarray(rgb).tobytes() + str(rgb.shape).encode(), digest_size=16).hexdigest()
    census.readable.add(index)
    if key in census.contents:
        census.note(TWICE, index, f"the same pixels as picture {census.contents[key]}")
    census.contents.setdefault(key, index)


def _count_objects(census: Census, index: int, sample: Sample, max_objects: int | None) -> None:
    real = ~sample.crowd
    census.num_crowds += int(sample.crowd.sum())
    census.num_unknown_masks += sum(mask is None for mask, is_real in zip(sample.masks, real, strict=True) if is_real)
    class_ids = [int(i) for i in sample.class_ids[real]]
    census.objects.update(class_ids)
    census.pictures.update(set(class_ids))
    census.per_picture.append(len(class_ids))
    sides = np.sqrt(np.prod(np.maximum(sample.boxes[real, 2:] - sample.boxes[real, :2], 0), axis=1))
    for class_id, side in zip(class_ids, sides, strict=True):
        census.sides.setdefault(class_id, []).append(float(side))
    if not class_ids:
        census.note(NO_OBJECTS, index)
    if max_objects is not None and len(class_ids) > max_objects:
        census.note(MANY_OBJECTS, index, f"{len(class_ids)} objects")


def _look_at_boxes(census: Census, index: int, sample: Sample) -> None:
    limit = np.array([sample.width, sample.height] * 2, np.float32)
    for number, box in enumerate(sample.boxes):
        if (box[2:] <= box[:2]).any():
            census.note(NO_AREA, index, f"object {number}: {_in_words(box)}")
        elif (box < -1).any() or (box > limit + 1).any():
            census.note(OUTSIDE, index, f"object {number}: {_in_words(box)}")


def _look_at_masks(census: Census, index: int, sample: Sample) -> None:
    """Empty masks, doubled masks, and masks that their boxes do not fit; nothing is decoded for it."""
    known = [i for i, mask in enumerate(sample.masks) if mask is not None and not sample.crowd[i]]
    runs = [outlines.compressed(sample.masks[i], width=sample.width, height=sample.height) for i in known]
    areas = outlines.areas(runs)
    for place in np.flatnonzero(areas == 0):
        census.note(EMPTY_MASK, index, f"object {known[place]}")
    drawn = [(i, each) for i, each, area in zip(known, runs, areas, strict=True) if area]
    if not drawn:
        return
    tight = outlines.boxes([each for _, each in drawn])
    for (i, _), own in zip(drawn, tight, strict=True):
        box = sample.boxes[i]
        slack = SLACK + 0.05 * np.tile(own[2:] - own[:2], 2)
        if (abs(np.clip(box, 0, (sample.width, sample.height) * 2) - own) > slack).any():
            census.note(MISFIT, index, f"object {i}: box {_in_words(box)}, its mask fills {_in_words(own)}")
    # masks as alike as this have boxes that overlap too: only those are compared
    near = np.triu(box_iou(tight.astype(np.float32), tight.astype(np.float32)) > 0.5, k=1)
    for a, b in zip(*np.nonzero(near), strict=True):
        overlap = float(outlines.overlaps([drawn[a][1]], [drawn[b][1]])[0, 0])
        if overlap >= DOUBLED_IOU:
            census.note(DOUBLED_MASK, index, f"objects {drawn[a][0]} and {drawn[b][0]}: IoU {overlap:.2f}")


def _in_words(box: Sequence[float] | np.ndarray) -> str:
    return "({:.0f}, {:.0f}) to ({:.0f}, {:.0f})".format(*box)
