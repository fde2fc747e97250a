"""Pictures and masks as files: their sizes without decoding them, and masks of pixels as a sample holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from streamseg import outlines
from streamseg.pictures import is_picture, too_many_pixels
from streamseg.types import InputError, Sample

_ORIENTATION = 0x0112  # the Exif tag; from 5 on, the picture lies on its side


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names; hidden files are left out.

    Raises InputError when there is no such folder.
    """
    try:
        return sorted(filter(is_picture, folder.iterdir()))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a folder of pictures ({error.strerror})") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of an upright picture, from its header. Raises InputError when it cannot be read."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # other formats would be decoded for their tags, and are hardly ever tagged
            turned = picture.format in ("JPEG", "MPO") and picture.getexif().get(_ORIENTATION, 1) >= 5
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: the picture has {too_many_pixels()}, the most that one may have") from error
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{path}: the picture is missing or damaged") from error
    return (height, width) if turned else (width, height)


def decoded(path: Path, flags: int) -> np.ndarray | None:
    """A picture as OpenCV reads it with `flags` (IMREAD_…): (H, W, 3) or (H, W) uint8; None for one that it cannot.

    Python opens the file, because `cv2.imread` crashes at a name that is no UTF-8.
    """
    try:
        content = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return cv2.imdecode(content, flags) if content.size else None


def read_mask(path: Path) -> np.ndarray:
    """A picture of a mask as (H, W) bool: what is brighter than half of the brightest. Raises InputError."""
    grey = decoded(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if grey is None:
        raise InputError(f"{path}: the mask is missing or damaged")
    bright: np.ndarray = grey > grey.max() / 2
    return bright


def sample_of(
    path: Path,
    *,
    image_id: int,
    size: tuple[int, int],
    masks: Sequence[np.ndarray],
    class_ids: Sequence[int],
    rgb: np.ndarray | None = None,
) -> Sample:
    """A sample of masks (H, W) bool, each with a pixel at least; the boxes are the smallest around them.

    size: (width, height) of the picture · rgb: the picture where it is no file.
    """
    run_lengths = tuple(outlines.encoded(mask) for mask in masks)
    return Sample(
        image_id=image_id,
        path=path,
        width=size[0],
        height=size[1],
        boxes=outlines.boxes(run_lengths).astype(np.float32),
        class_ids=np.array(class_ids, np.int32),
        masks=run_lengths,
        crowd=np.zeros(len(masks), bool),
        rgb=rgb,
    )
