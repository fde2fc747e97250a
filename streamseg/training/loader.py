"""Batches for training: pictures read as they come, kept in memory as far as they fit, seen through random views."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import keras
import numpy as np

from streamseg.config import AugmentConfig, StageConfig, TrainingConfig
from streamseg.letterbox import PADDING
from streamseg.outlines import hull, mini_mask
from streamseg.training.augment import change_colour, random_view, visible
from streamseg.training.data import damage_named, read_rgb
from streamseg.training.paste import CROWD, Objects, paste
from streamseg.training.sampling import Facts, draw, repeats
from streamseg.types import Dataset, InputError, Sample

Found = TypeVar("Found")

log = logging.getLogger(__name__)

MOST_DAMAGED = 5
"""So many pictures of a training may turn out to be damaged; they are named, and others taken."""


@dataclass(frozen=True)
class Picture:
    """One picture in memory with its truth.

    rgb (H, W, 3) uint8 · mini_masks (N, m, m) uint8 · mask_weights (N,) · outlines: points (P, 2) around each object,
    None where its mask is unknown
    """

    sample: Sample
    rgb: np.ndarray
    mini_masks: np.ndarray
    mask_weights: np.ndarray
    outlines: tuple[np.ndarray | None, ...] = ()

    @property
    def num_bytes(self) -> int:
        return self.rgb.nbytes + self.mini_masks.nbytes


def read_picture(sample: Sample, *, side: int) -> Picture:
    """Read a sample's picture and draw its masks. Raises InputError when the picture cannot be read."""
    rgb = read_rgb(sample)
    size = {"width": sample.width, "height": sample.height}
    known = np.array([mask is not None for mask in sample.masks], bool) & ~sample.crowd
    masks = np.zeros((len(known), side, side), np.uint8)
    for i in np.flatnonzero(known):
        masks[i] = mini_mask(sample.masks[i], sample.boxes[i], side=side, **size)
    outlines = tuple(
        hull(mask, **size) if has_mask else None for mask, has_mask in zip(sample.masks, known, strict=True)
    )
    return Picture(sample, rgb, masks, known.astype(np.float32), outlines)


class Pictures(Sequence[Picture]):
    """The pictures of a dataset: each read when it is first seen, and kept in memory while it fits into `cache_gb`.

    In place of a damaged one comes the next, with a warning; InputError when more than MOST_DAMAGED are. Several
    threads may take pictures, and the dataset's samples, at once. `progress`: told as `facts` are gathered.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        side: int,
        cache_gb: float = 4.0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if not len(dataset):
            raise InputError("expected at least one picture to train on, the dataset has none")
        self.dataset, self.side, self.progress = dataset, side, progress
        self.kept: dict[int, Picture] = {}
        self.damaged: dict[int, InputError] = {}
        self._room = cache_gb * 1e9
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._at(range(len(self))[index], self._picture)

    @cached_property
    def facts(self) -> list[Facts]:
        """What the choice of pictures needs to know of each: every sample is taken for it, but no picture read."""
        facts = []
        for i in range(len(self)):
            facts.append(self._at(i, lambda place: Facts.of(self.dataset[place])))
            self.progress(i + 1, len(self))
        return facts

    @cached_property
    def num_bytes(self) -> int:
        """What all pictures would fill in memory: every sample is taken for it, but no picture read."""
        samples = (self._at(i, self.dataset.__getitem__) for i in range(len(self)))
        return sum(each.width * each.height * 3 + len(each.boxes) * self.side**2 for each in samples)

    def _picture(self, place: int) -> Picture:
        if place in self.kept:
            return self.kept[place]
        picture = read_picture(self.dataset[place], side=self.side)
        with self._lock:
            if place not in self.kept and picture.num_bytes <= self._room:
                self.kept[place] = picture
                self._room -= picture.num_bytes
            return self.kept.get(place, picture)

    def _at(self, place: int, read: Callable[[int], Found]) -> Found:
        """What `read` makes of the picture at a place, or of the next one that is not damaged."""
        while True:
            if place not in self.damaged:
                try:
                    with damage_named(place):
                        return read(place)
                except InputError as error:
                    self._leave_out(place, error)
            most = min(MOST_DAMAGED, len(self) - 1)
            if len(self.damaged) > most:
                cause = self.damaged[place]
                raise InputError(
                    f"{cause} (expected at most {most} damaged pictures of {len(self)}, got {len(self.damaged)})"
                ) from cause
            place = (place + 1) % len(self)

    def _leave_out(self, place: int, error: InputError) -> None:
        with self._lock:
            if place not in self.damaged:
                log.warning("left out: %s", error)
            self.damaged[place] = error


def facts_of(pictures: Sequence[Picture]) -> list[Facts]:
    """What the choice of pictures needs to know of each."""
    if isinstance(pictures, Pictures):
        return pictures.facts
    return [replace(Facts.of(each.sample), masked=bool(each.mask_weights.any())) for each in pictures]


def times_of(pictures: Sequence[Picture], stage: StageConfig) -> np.ndarray:
    """How often an epoch of a stage takes each picture (N,); nothing is looked at where it takes each once."""
    return np.ones(len(pictures), int) if stage.balance == "none" else repeats(facts_of(pictures), stage.balance)


def chances_of(pictures: Sequence[Picture], training: TrainingConfig) -> np.ndarray:
    """How much more often each picture (N,) is drawn; nothing is looked at where none is drawn more often."""
    if training.masked_share == 1:
        return np.ones(len(pictures))
    return np.array([training.masked_share if each.masked else 1.0 for each in facts_of(pictures)])


def steps_of_epoch(times: np.ndarray, stage: StageConfig) -> int:
    """Batches of one epoch of a stage that takes each picture so many times (N,); at least one."""
    return max(1, int(times.sum()) // stage.batch_size)


class Batches(keras.utils.PyDataset):
    """Random views of pictures in batches, as `TrainedMaskRCNN` takes them. The same seed gives the same batches.

    `epoch` counts on from where a resumed training stopped, so that it sees the views it would have seen. `padding`:
    the grey level beside a picture. `steps`: batches of an epoch; by default as many as the pictures make. `match`:
    from a view's true boxes and their classes to what its anchors are, as `targets.match_anchors` says it; None where
    the network matches anchors itself. `failure`: what went wrong in a batch. `least_side`: pixels of an object's
    shorter side in a view, below which it is not learnt.
    """

    least_side: float = 2

    def __init__(
        self,
        pictures: Sequence[Picture],
        training: TrainingConfig,
        stage: StageConfig,
        *,
        epoch: int = 0,
        padding: int | tuple[int, ...] = PADDING,
        steps: int | None = None,
        match: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        super().__init__(workers=training.workers, use_multiprocessing=False, max_queue_size=4)
        self.pictures, self.training, self.stage, self.epoch = pictures, training, stage, epoch
        self.padding, self.match = padding, match
        self.failure: Exception | None = None
        self.times, self.weights = times_of(pictures, stage), chances_of(pictures, training)
        self.size = steps or steps_of_epoch(self.times, stage)
        self._order()

    def _order(self) -> None:
        rng = np.random.default_rng((self.training.seed, self.epoch))
        self.order = draw(self.times, self.weights, self.size * self.stage.batch_size, rng)

    def __len__(self) -> int:
        return self.size

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order()

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        try:
            return self._batch(index)
        except Exception as error:
            self.failure = error
            raise

    def _batch(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        rng = np.random.default_rng((self.training.seed, self.epoch, index))
        batch_size = self.stage.batch_size
        rows = [self.view(self.pictures[i], rng) for i in self.order[index * batch_size : (index + 1) * batch_size]]
        batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return batch, {name: np.zeros((batch_size,), np.float32) for name in self.training.loss_weights}

    @contextlib.contextmanager
    def failing_as_themselves(self) -> Iterator[None]:
        """Around a `fit`: the error of a batch is raised as it was; TensorFlow wraps it into one of its own."""
        try:
            yield
        except Exception as error:
            if self.failure is None or self.failure is error:
                raise
            raise self.failure from None

    def augment_of(self, sample: Sample) -> AugmentConfig:
        """How the views of a picture differ from it."""
        return self.stage.augment

    def view(self, picture: Picture, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One random view with its truth, padded to max_objects."""
        rgb, objects = self._seen(picture, rng)
        share = self.augment_of(picture.sample).paste
        if share and rng.random() < share:
            other = self.pictures[int(rng.integers(len(self.pictures)))]
            if _same_classes(picture.sample, other.sample):
                rgb, objects = paste(rgb, objects, *self._seen(other, rng), rng)
        most, side = self.training.max_objects, self.training.mini_mask
        index = np.arange(len(objects))
        if len(index) > most:
            index = np.sort(rng.choice(index, most, replace=False))
        count, chosen = len(index), objects[index]
        row = {
            "images": rgb,
            "boxes": np.zeros((most, 4), np.float32),
            "class_ids": np.zeros((most,), np.int32),
            "mask_boxes": np.zeros((most, 4), np.float32),
            "mini_masks": np.zeros((most, side, side), np.uint8),
            "mask_weights": np.zeros((most,), np.float32),
        }
        for name, values in vars(chosen).items():
            row[name][:count] = values
        if picture.sample.known_classes is not None:
            row["active"] = picture.sample.known_classes.astype(np.float32)
        if self.match:
            # of all objects: an anchor of one that found no place is neither positive nor negative
            match, truth = self.match(objects.boxes, objects.class_ids)
            place = np.full(max(1, len(objects)), -1, np.int32)
            place[index] = np.arange(count)
            lost = (place[truth] < 0) & (match == 1)
            row["anchor_match"] = np.where(lost, 0, match).astype(np.int8)
            row["anchor_truth"] = np.maximum(place[truth], 0)
        return row

    def _seen(self, picture: Picture, rng: np.random.Generator) -> tuple[np.ndarray, Objects]:
        """One random view (crop, crop, 3) of a picture and what is in it."""
        sample, size, augment = picture.sample, self.stage.crop, self.augment_of(picture.sample)
        for _ in range(4):  # a view without any object teaches less; look again before taking one
            view = random_view(sample.width, sample.height, size=size, scale=self.stage.scale, rng=rng, augment=augment)
            moved = view.boxes(sample.boxes, picture.outlines)
            cut, seen = visible(moved, size, crowd=sample.crowd, least=self.least_side)
            if seen[~sample.crowd].any():
                break
        rgb = change_colour(view.picture(picture.rgb, padding=self.padding), rng, augment=augment)
        return rgb, Objects(
            boxes=cut[seen],
            class_ids=np.where(sample.crowd, CROWD, sample.class_ids)[seen],
            mask_boxes=moved[seen],
            mini_masks=view.masks(picture.mini_masks[seen], sample.boxes[seen], moved[seen]),
            mask_weights=picture.mask_weights[seen],
        )


def _same_classes(sample: Sample, other: Sample) -> bool:
    """Whether the datasets of both know the same classes."""
    return np.array_equal(np.asarray(sample.known_classes), np.asarray(other.known_classes))
