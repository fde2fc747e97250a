"""Random views of a picture: scaled, cropped, flipped and coloured, with its boxes and masks moved along."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streamseg.letterbox import PADDING

MIN_VISIBLE = 0.25
"""An object with less of its box inside the crop is no object of the crop."""


@dataclass(frozen=True)
class View:
    """What an augmentation does: pixel p of the picture lands at p · scale + shift, mirrored when `flip`.

    scale and shift are (x, y); the view is `size` × `size` pixels.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]
    flip: bool
    size: int

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) of the picture in pixels of the view, not clipped."""
        moved = boxes * np.tile(self.scale, 2).astype(np.float32) + np.tile(self.shift, 2).astype(np.float32)
        if self.flip:
            moved = np.stack([self.size - moved[:, 2], moved[:, 1], self.size - moved[:, 0], moved[:, 3]], 1)
        return moved

    def picture(self, rgb: np.ndarray) -> np.ndarray:
        """The view of a picture (H, W, 3) uint8: (size, size, 3), padded with the model's zero."""
        # averaging first keeps a shrunk picture free of aliasing, as the decoder's scaler does
        if max(self.scale) < 0.75:
            small = (max(1, round(rgb.shape[1] * self.scale[0])), max(1, round(rgb.shape[0] * self.scale[1])))
            scale = (small[0] / rgb.shape[1], small[1] / rgb.shape[0])
            rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
            step = (self.scale[0] / scale[0], self.scale[1] / scale[1])
        else:
            step = self.scale
        matrix = np.array(
            [[step[0], 0, self.shift[0] + 0.5 * step[0] - 0.5], [0, step[1], self.shift[1] + 0.5 * step[1] - 0.5]],
            np.float32,
        )
        view = cv2.warpAffine(
            rgb,
            matrix,
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(PADDING,) * 3,
        )
        return view[:, ::-1] if self.flip else view


def random_view(width: int, height: int, *, size: int, scale: tuple[float, float], rng: np.random.Generator) -> View:
    """A view of a width × height picture: its scale log-uniform, its aspect changed a little, its place random.

    Scale 1 makes the longer side of the picture `size` pixels.
    """
    zoom = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))) * size / max(width, height)
    aspect = float(np.exp(rng.uniform(-0.1, 0.1)))
    scale_x, scale_y = zoom * aspect, zoom / aspect
    room_x, room_y = size - width * scale_x, size - height * scale_y
    shift = (rng.uniform(min(room_x, 0), max(room_x, 0)), rng.uniform(min(room_y, 0), max(room_y, 0)))
    return View((scale_x, scale_y), (float(shift[0]), float(shift[1])), bool(rng.integers(2)), size)


def change_colour(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture (H, W, 3) uint8 with brightness, contrast, saturation and white balance changed a little."""
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.93, 1.07, 3)
    matrix = np.diag(gain)
    saturation = rng.uniform(0.5, 1.4) if rng.random() > 0.08 else 0.0
    grey = np.full((3, 1), 1.0) @ np.array([[0.299, 0.587, 0.114]])
    matrix = matrix @ (saturation * np.eye(3) + (1 - saturation) * grey)
    offset = rng.uniform(-20, 20) + 127 * (1 - gain.mean())
    full = np.concatenate([matrix, np.full((3, 1), offset)], axis=1).astype(np.float32)
    return cv2.transform(rgb, full)


def visible(boxes: np.ndarray, size: int, *, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) cut to the view, and which (N,) still show enough of their object; of a crowd (N,) any part is."""
    cut = np.clip(boxes, 0, size)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)
    side = np.min(cut[:, 2:] - cut[:, :2], axis=1) if len(cut) else np.zeros(0)
    share = np.prod(np.maximum(cut[:, 2:] - cut[:, :2], 0), axis=1) / area
    return cut, ((share >= MIN_VISIBLE) | crowd) & (side >= 2)
