"""What a training through the original's API sees of a picture: cut out at random, or augmented, or as it is."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import numpy as np

from streamseg import outlines
from streamseg.config import AugmentConfig
from streamseg.matterport.augmentation import Augmenter, augmented
from streamseg.matterport.config import UNCHANGED
from streamseg.matterport.losses import OUTPUTS
from streamseg.matterport.utils import extract_bboxes
from streamseg.training.loader import Batches, Picture, read_picture
from streamseg.types import Sample


class Views(Batches):
    """Batches of molded pictures.

    cuts: each is first cut out of its picture, at another random place each time · augmenter: changes it then, at
    random and not by the seed · unchanged: the pictures, by their image_id, that are not augmented.
    """

    least_side = 1  # whatever has a pixel is trained on, as by the original

    def __init__(
        self,
        *args: Any,
        cuts: bool = False,
        augmenter: Augmenter | None = None,
        unchanged: Set[int] = frozenset(),
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.cuts, self.augmenter, self.unchanged = cuts, augmenter, unchanged

    def _batch(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        batch, _ = super()._batch(index)
        return batch, dict.fromkeys(OUTPUTS, np.zeros(self.stage.batch_size, np.float32))

    def augment_of(self, sample: Sample) -> AugmentConfig:
        return UNCHANGED if sample.image_id in self.unchanged else self.stage.augment

    def view(self, picture: Picture, rng: np.random.Generator) -> dict[str, np.ndarray]:
        shown = picture
        for _ in range(4):  # as in any view: look again before taking one without an object
            shown = self._augmented(self._cut(picture, rng))
            if shown is picture or picture.sample.crowd.all() or not shown.sample.crowd.all():
                break
        return super().view(shown, rng)

    def _cut(self, picture: Picture, rng: np.random.Generator) -> Picture:
        if not self.cuts:
            return picture
        return random_cut(picture, rng, size=self.stage.crop, side=self.training.mini_mask)

    def _augmented(self, picture: Picture) -> Picture:
        if self.augmenter is None or picture.sample.image_id in self.unchanged:
            return picture
        sample = picture.sample
        masks = np.zeros((sample.height, sample.width, len(sample.masks)), bool)
        for place, mask in enumerate(sample.masks):
            masks[..., place] = outlines.decoded(mask, width=sample.width, height=sample.height)
        rgb, masks = augmented(self.augmenter, picture.rgb, masks)
        return with_masks(sample, rgb, masks, np.arange(len(sample.masks)), side=self.training.mini_mask)


def random_cut(picture: Picture, rng: np.random.Generator, *, size: int, side: int) -> Picture:
    """A random square of `size` pixels of a picture, with what its objects show in it; side: cells of a mini mask."""
    sample = picture.sample
    y, x = int(rng.integers(sample.height - size + 1)), int(rng.integers(sample.width - size + 1))
    boxes = sample.boxes - np.array([x, y, x, y], np.float32)
    near = np.flatnonzero((boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < size).all(axis=1))
    whole = {"width": sample.width, "height": sample.height}
    masks = np.zeros((size, size, len(near)), bool)
    for i, place in enumerate(near):
        masks[..., i] = outlines.decoded(sample.masks[place], **whole)[y : y + size, x : x + size]
    return with_masks(sample, picture.rgb[y : y + size, x : x + size], masks, near, side=side)


def with_masks(sample: Sample, rgb: np.ndarray, masks: np.ndarray, places: np.ndarray, *, side: int) -> Picture:
    """The picture (h, w, 3) made from a sample's, with those of its objects of which something is seen.

    masks (h, w, n) bool of the objects at `places` (n,) of the sample · side: cells of a mini mask.
    """
    seen = masks.any(axis=(0, 1))
    masks, places = masks[..., seen], places[seen]
    changed = replace(
        sample,
        width=rgb.shape[1],
        height=rgb.shape[0],
        boxes=extract_bboxes(masks)[:, [1, 0, 3, 2]].astype(np.float32),
        class_ids=sample.class_ids[places],
        masks=tuple(outlines.encoded_all(masks)),
        crowd=sample.crowd[places],
        rgb=rgb,
    )
    return read_picture(changed, side=side)
