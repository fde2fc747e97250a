"""Look at a picture in several ways, mirrored, turned, stretched or brighter, and let what is found there vote.

N objects, V views, M cells along a side of a mask
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import av
import cv2
import numpy as np

from streamseg.masks import overlaps
from streamseg.types import Engine, Frame, Instances, UsageError
from streamseg.words import nearest

PRESET = "fifteen"
WEAKEST = 0.05
"""Engines return detections from this score up; so does the vote."""

MOST = 100
"""Engines return so many detections of a picture; so does the vote, or as many as the fullest view has."""


@dataclass(frozen=True)
class Look:
    """One way to look at a picture, its parts done in this order.

    up_down, left_right: mirrored · quarter_turns: anticlockwise · channel_shift: grey levels added to every channel ·
    width_scale, height_scale: of the picture as it then lies
    """

    up_down: bool = False
    left_right: bool = False
    quarter_turns: int = 0
    channel_shift: int = 0
    width_scale: float = 1.0
    height_scale: float = 1.0

    def __post_init__(self) -> None:
        if not -255 <= self.channel_shift <= 255:
            raise UsageError(f"channel_shift: expected -255 to 255 grey levels, got {self.channel_shift}")
        for name in ("width_scale", "height_scale"):
            if not 0.1 <= getattr(self, name) <= 10:
                raise UsageError(f"{name}: expected 0.1 to 10, got {getattr(self, name)}")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the view of a picture."""
        if self.quarter_turns % 2:
            width, height = height, width
        return max(1, round(width * self.width_scale)), max(1, round(height * self.height_scale))

    def picture(self, rgb: np.ndarray) -> np.ndarray:
        """The view of a picture (H, W, 3) uint8."""
        width, height = self.size(rgb.shape[1], rgb.shape[0])
        rgb = rgb[::-1] if self.up_down else rgb
        rgb = rgb[:, ::-1] if self.left_right else rgb
        rgb = np.rot90(rgb, self.quarter_turns)
        if self.channel_shift:
            rgb = np.clip(rgb.astype(np.int16) + self.channel_shift, 0, 255).astype(np.uint8)
        return _scaled(np.ascontiguousarray(rgb), width=width, height=height)

    def frame(self, frame: Frame) -> Frame:
        """The view of a frame."""
        if self == Look():
            return frame
        rgb = self.picture(frame.rgb(frame.width, frame.height))
        return replace(frame, picture=av.VideoFrame.from_ndarray(rgb, format="rgb24"))

    def back(self, instances: Instances, *, width: int, height: int) -> Instances:
        """What was found in the view, in the width × height picture itself."""
        turned = (height, width) if self.quarter_turns % 2 else (width, height)
        scale = np.array(turned, np.float32) / np.array(self.size(width, height), np.float32)
        boxes, masks = instances.boxes * np.tile(scale, 2), instances.masks
        for turn in range(self.quarter_turns % 4):
            # one quarter clockwise: what lay at (x, y) comes to (side - y, x), side the height before
            side = turned[1] if turn % 2 == 0 else turned[0]
            x1, y1, x2, y2 = boxes.T
            boxes = np.stack([side - y2, x1, side - y1, x2], axis=1)
        masks = np.rot90(masks, -self.quarter_turns, axes=(1, 2))
        if self.left_right:
            boxes = np.array([width, 0, width, 0]) + boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1])
            masks = masks[:, :, ::-1]
        if self.up_down:
            boxes = np.array([0, height, 0, height]) + boxes[:, [0, 3, 2, 1]] * np.array([1, -1, 1, -1])
            masks = masks[:, ::-1]
        return replace(instances, boxes=boxes.astype(np.float32), masks=np.ascontiguousarray(masks))


def _scaled(rgb: np.ndarray, *, width: int, height: int) -> np.ndarray:
    """The picture scaled one side after the other, as one may shrink, which averages, and the other grow."""
    for size in ((width, rgb.shape[0]), (width, height)):
        if size != (rgb.shape[1], rgb.shape[0]):
            shrinks = size[0] < rgb.shape[1] or size[1] < rgb.shape[0]
            rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return rgb


FIFTEEN = (
    Look(),
    Look(left_right=True),
    Look(up_down=True),
    Look(quarter_turns=1),
    Look(quarter_turns=2),
    Look(quarter_turns=3),
    Look(left_right=True, quarter_turns=1),
    Look(left_right=True, quarter_turns=3),
    Look(channel_shift=20),
    Look(channel_shift=-20),
    Look(width_scale=0.8),
    Look(height_scale=0.8),
    Look(left_right=True, width_scale=1.25),
    Look(up_down=True, height_scale=1.25),
    Look(quarter_turns=2, channel_shift=10, width_scale=1.25, height_scale=1.25),
)
"""The preset: all eight mirrorings and turns, two brightnesses, five sizes and proportions."""


def looks(text: str) -> tuple[Look, ...]:
    """`fifteen`, or ways to look by their parts: `plain,left_right,up_down+quarter_turns=1,width_scale=0.8`.

    Raises UsageError for a part that there is not, or a wrong value.
    """
    if text == PRESET:
        return FIFTEEN
    return tuple(_look(each.strip()) for each in text.split(","))


def _look(text: str) -> Look:
    known = {each.name: type(getattr(Look(), each.name)) for each in fields(Look)}
    parts: dict[str, Any] = {}
    for part in text.split("+") if text != "plain" else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise UsageError(f"--augment {text}: no way to look is called {name!r}{nearest(name, [*known, 'plain'])}")
        if name in parts:
            raise UsageError(f"--augment {text}: {name} stands twice")
        if known[name] is bool:
            if equals:
                raise UsageError(f"--augment {text}: {name} takes no value, got {value!r}")
            parts[name] = True
            continue
        try:
            parts[name] = known[name](value)
        except ValueError:
            kind = "a whole number" if known[name] is int else "a number"
            raise UsageError(f"--augment {text}: expected {name}={kind}, got {part.strip()!r}") from None
    try:
        return Look(**parts)
    except UsageError as error:
        raise UsageError(f"--augment {text}: {error}") from None


@dataclass
class Voting:
    """An engine that shows each frame to another one in several ways and merges what it finds.

    min_votes: share of the views in which an object must be found
    """

    engine: Engine
    views: Sequence[Look] = FIFTEEN
    min_votes: float = 0.5
    class_names: tuple[str, ...] = field(init=False)
    min_score: float = field(init=False)
    batch_size: int = field(init=False)

    def __post_init__(self) -> None:
        if not self.views or not 0 <= self.min_votes <= 1:
            raise UsageError(f"min_votes: expected a share of 0 to 1 of at least one view, got {self.min_votes}")
        self.class_names, self.min_score = self.engine.class_names, self.engine.min_score
        self.batch_size = self.engine.batch_size

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self.engine.input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The merged objects of each frame."""
        return [self._predict(frame) for frame in frames]

    def _predict(self, frame: Frame) -> Instances:
        shown = [look.frame(frame) for look in self.views]
        sizes = [self.engine.input_size(each) for each in shown]
        found: list[Instances] = [Instances.empty(self.class_names)] * len(shown)
        for size in dict.fromkeys(sizes):  # one call takes frames of one size
            places = [i for i, each in enumerate(sizes) if each == size]
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                for i, instances in zip(batch, self.engine.predict([shown[i] for i in batch]), strict=True):
                    found[i] = self.views[i].back(instances, width=frame.width, height=frame.height)
        return merged(found, min_votes=self.min_votes)


def merged(found: Sequence[Instances], *, min_votes: float = 0.5, iou: float = 0.5) -> Instances:
    """What several views say of one picture, as one: its objects best first.

    The best object leads; from every other view the one of its class that overlaps its mask most, by `iou` or more,
    votes for it. The score is the sum of theirs over the number of views, box and mask are the means weighted by score.
    An object with votes of less than `min_votes` of the views is left out, and one that scores less than 0.05.
    """
    views = np.repeat(np.arange(len(found)), [len(each) for each in found])
    side = max((each.masks.shape[1] for each in found), default=28)
    everything = [_resampled(each, side) for each in found]
    if not len(views):
        return Instances.empty(found[0].class_names, mask_size=side)
    boxes, masks, scores, class_ids = (
        np.concatenate([getattr(each, name) for each in everything])
        for name in ("boxes", "masks", "scores", "class_ids")
    )
    free = np.ones(len(views), bool)
    objects = []
    for lead in np.argsort(-scores, kind="stable"):
        if not free[lead]:
            continue
        others = np.flatnonzero(free & (class_ids == class_ids[lead]) & (views != views[lead]))
        overlap = overlaps(masks[lead : lead + 1], boxes[lead : lead + 1], masks[others], boxes[others])[0]
        members = [int(lead)]
        for i in np.argsort(-overlap, kind="stable"):
            if overlap[i] < iou:
                break
            if views[others[i]] not in views[members]:
                members.append(int(others[i]))
        free[members] = False
        score = float(scores[members].sum()) / len(found)
        if len(members) >= min_votes * len(found) - 1e-9 and score >= WEAKEST:
            weights = scores[members] / scores[members].sum()
            box = weights @ boxes[members]
            moved = [_in_box(masks[i], boxes[i], box) for i in members]
            objects.append((score, box, np.tensordot(weights, np.stack(moved), 1), class_ids[lead]))
    objects.sort(key=lambda each: -each[0])
    objects = objects[: max(MOST, *(len(each) for each in found))]
    if not objects:
        return Instances.empty(found[0].class_names, mask_size=side)
    return Instances(
        boxes=np.array([box for _, box, _, _ in objects]),
        masks=np.array([mask for *_, mask, _ in objects]),
        scores=np.array([score for score, *_ in objects]),
        class_ids=np.array([class_id for *_, class_id in objects]),
        track_ids=np.full(len(objects), -1),
        class_names=found[0].class_names,
    )


def _resampled(instances: Instances, side: int) -> Instances:
    """The objects with masks of (side, side) cells, as they are where they have that many."""
    if instances.masks.shape[1:] == (side, side):
        return instances
    masks = [_in_box(mask, box, box, side) for mask, box in zip(instances.masks, instances.boxes, strict=True)]
    return replace(instances, masks=np.array(masks, np.float32).reshape(-1, side, side))


def _in_box(mask: np.ndarray, box: np.ndarray, new_box: np.ndarray, side: int | None = None) -> np.ndarray:
    """A mask (M, M) of `box` as the cells (side, side) of `new_box` see it; 0 outside `box`."""
    side = side or mask.shape[0]
    if (box == new_box).all() and mask.shape == (side, side):
        return mask
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (x2 > x1 and y2 > y1):
        return np.zeros((side, side), np.float32)
    cells = (np.arange(side) + 0.5) / side
    x = new_box[0] + cells * (new_box[2] - new_box[0])
    y = new_box[1] + cells * (new_box[3] - new_box[1])
    at_x, at_y = (x - x1) * mask.shape[1] / (x2 - x1) - 0.5, (y - y1) * mask.shape[0] / (y2 - y1) - 0.5
    columns, rows = np.meshgrid(at_x.astype(np.float32), at_y.astype(np.float32))
    seen = cv2.remap(mask, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((y >= y1) & (y <= y2))[:, None] & ((x >= x1) & (x <= x2))
    return np.asarray(seen * inside, np.float32)
