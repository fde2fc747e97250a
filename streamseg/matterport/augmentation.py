"""The `augmentation` of the original's `train`: fields of streamseg's own, or an augmenter as imgaug has them.

n objects; a picture is (H, W, 3) uint8 RGB, masks are (H, W, n) bool.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import ValidationError

from streamseg.config import AugmentConfig
from streamseg.matterport.config import UNCHANGED
from streamseg.matterport.dataset import Dataset
from streamseg.types import UsageError
from streamseg.words import nearest

GEOMETRIC = {
    *("Sequential", "SomeOf", "OneOf", "Sometimes"),  # those that hold others
    *("Fliplr", "Flipud", "Rot90", "Affine", "AffineCv2", "PiecewiseAffine"),
    *("PerspectiveTransform", "ElasticTransformation", "Jigsaw"),
    *("CropAndPad", "CropToFixedSize", "PadToFixedSize", "Resize", "KeepSizeByResize"),
}
"""The classes of imgaug that move pixels; masks follow these and their subclasses, no change of colour."""


@runtime_checkable
class Augmenter(Protocol):
    """What imgaug's augmenters can do, and what any other must.

    to_deterministic: an augmenter that does to every picture of one size the same, another one at each call.
    """

    def to_deterministic(self) -> Any: ...
    def augment_image(self, image: np.ndarray) -> np.ndarray: ...


_DRAWS = threading.Lock()


class MasksFollow:
    """imgaug's hooks for masks: of the augmenters only those that move pixels act on them."""

    def is_activated(self, images: Any, augmenter: Any, parents: Any, default: bool) -> bool:
        return default and any(kind.__name__ in GEOMETRIC for kind in type(augmenter).__mro__)

    def is_propagating(self, images: Any, augmenter: Any, parents: Any, default: bool) -> bool:
        return default

    def preprocess(self, images: Any, augmenter: Any, parents: Any) -> Any:
        return images

    def postprocess(self, images: Any, augmenter: Any, parents: Any) -> Any:
        return images


def augmentation_of(given: Any) -> AugmentConfig | Augmenter | None:
    """What a script gave `train` as its `augmentation`; False is None. Raises UsageError for anything else."""
    if given is None or given is False:
        return None
    if isinstance(given, Mapping):
        try:
            return AugmentConfig.model_validate({**UNCHANGED.model_dump(), **given})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise UsageError(f"augmentation: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    if isinstance(given, AugmentConfig) or (isinstance(given, Augmenter) and not isinstance(given, type)):
        return given
    raise UsageError(
        "augmentation: expected fields of AugmentConfig, such as flip_left_right, or an augmenter with "
        f"to_deterministic and augment_image, as imgaug's have them, got {given!r:.60}"
    )


def pictures_of(dataset: Dataset, sources: Sequence[str] | None) -> frozenset[int]:
    """The pictures, by their number, that are of these sources. Warns of a source that no picture is of."""
    if isinstance(sources, str):
        raise UsageError(f"no_augmentation_sources: expected a list of sources, got {sources!r}; write [{sources!r}]")
    given = {info["source"] for info in dataset.image_info}
    for source in sources or ():
        if source not in given:
            hint = nearest(source, given)
            warnings.warn(f"no_augmentation_sources: no picture is of {source!r}{hint}", stacklevel=3)
    return frozenset(int(i) for i in dataset.image_ids if dataset.image_info[i]["source"] in (sources or ()))


def augmented(augmenter: Augmenter, rgb: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its masks as an augmenter changes them, at random but all of them alike.

    Raises UsageError, with the augmenter's name, when it returns another size or dtype, or changes more of the masks
    than where they are.
    """
    with _DRAWS:  # batches are made in several threads, and an augmenter draws from one state
        alike = augmenter.to_deterministic()
    picture = _changed(augmenter, alike, rgb.copy(), {})
    if not masks.shape[2]:
        return picture, masks
    hooks = {"hooks": MasksFollow()} if _takes_hooks(alike) else {}
    # a plane without a mask tells what the augmenter fills in beside the picture, which is no object
    planes = np.concatenate([masks, np.zeros((*masks.shape[:2], 1), bool)], axis=2)
    moved = np.empty_like(planes)
    for places in _as_pictures(planes.shape[2], apart=not hooks):
        plane = np.where(planes[..., places], np.uint8(255), np.uint8(0))
        moved[..., places] = _changed(augmenter, alike, plane, hooks) >= 128
    blank = moved[..., -1:]
    if blank.all():
        raise UsageError(
            f"augmentation: {_name(augmenter)} changes the values of masks too; expected an augmenter whose "
            "augment_image takes `hooks`, as imgaug's do, or one that only moves pixels"
        )
    return picture, moved[..., :-1] & ~blank


def _as_pictures(count: int, *, apart: bool) -> list[list[int]]:
    """Which three planes of `count` an augmenter sees as one picture; apart: one plane, three times."""
    if apart:  # what mixes colours leaves three equal ones as they are
        return [[place] * 3 for place in range(count)]
    return [[min(first + i, count - 1) for i in range(3)] for first in range(0, count, 3)]


def _changed(augmenter: Any, alike: Any, picture: np.ndarray, hooks: Mapping[str, Any]) -> np.ndarray:
    changed = np.asarray(alike.augment_image(picture, **hooks))
    if changed.shape != picture.shape or changed.dtype != picture.dtype:
        raise UsageError(
            f"augmentation: {_name(augmenter)}: expected a picture of {picture.shape} uint8 as it was given, "
            f"got {changed.shape} {changed.dtype}; an augmenter must keep the size (imgaug: keep_size=True)"
        )
    return changed


def _takes_hooks(augmenter: Any) -> bool:
    try:
        return "hooks" in inspect.signature(augmenter.augment_image).parameters
    except (TypeError, ValueError):
        return False


def _name(augmenter: Any) -> str:
    """An augmenter's class, and of one that holds others theirs: `Sequential of Fliplr, Affine`."""
    held = [type(each).__name__ for each in augmenter] if isinstance(augmenter, Sequence) else []
    name = type(augmenter).__name__
    return f"{name} of {', '.join(held)}" if held else name
