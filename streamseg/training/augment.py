"""Random views of a picture: scaled, turned, cropped, mirrored and coloured, with its boxes and masks moved along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from streamseg.config import AugmentConfig
from streamseg.letterbox import PADDING

MIN_VISIBLE = 0.25
"""An object with less of its box inside the crop is no object of the crop."""


@dataclass(frozen=True)
class View:
    """What an augmentation does: pixel p of the picture lands at turn(p · scale) + shift; then the view is mirrored.

    scale and shift are (x, y); the view is `size` × `size` pixels. `angle` in degrees, anticlockwise, turns about the
    picture's top left corner. `flip` mirrors left and right, `flip_up_down` up and down, and after them the view makes
    that many `quarter_turns` anticlockwise.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]
    flip: bool
    size: int
    flip_up_down: bool = False
    quarter_turns: int = 0
    angle: float = 0.0

    @property
    def turn(self) -> np.ndarray:
        """The rotation by `angle` (2, 2), y downwards."""
        cosine, sine = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        return np.array([[cosine, sine], [-sine, cosine]])

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) of the picture in pixels of the view."""
        moved = points * np.array(self.scale, points.dtype)
        if self.angle:
            moved = moved @ self.turn.T.astype(points.dtype)
        moved = moved + np.array(self.shift, points.dtype)
        x, y = moved[..., 0], moved[..., 1]
        if self.flip:
            x = self.size - x
        if self.flip_up_down:
            y = self.size - y
        for _ in range(self.quarter_turns % 4):
            x, y = y, self.size - x
        return np.stack([x, y], -1)

    def boxes(self, boxes: np.ndarray, outlines: Sequence[np.ndarray | None] = ()) -> np.ndarray:
        """Boxes (N, 4) of the picture in pixels of the view, not clipped.

        outlines: points (P, 2) around each object, None where unknown. A box that is turned by an angle is drawn anew
        around them; without them it is the box around the turned box.
        """
        corners = self.points(boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        moved = np.concatenate([corners.min(1), corners.max(1)], 1)
        if self.angle:
            for i, outline in enumerate(outlines):
                if outline is not None:
                    points = self.points(outline)
                    moved[i] = *points.min(0), *points.max(0)
        return moved

    def masks(self, masks: np.ndarray, boxes: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Masks (N, m, m) uint8 that span boxes (N, 4) of the picture, as they span the boxes `moved` (N, 4)."""
        if not self.angle:
            masks = masks[:, :, ::-1] if self.flip else masks
            masks = masks[:, ::-1] if self.flip_up_down else masks
            return np.rot90(masks, self.quarter_turns, axes=(1, 2))
        side = masks.shape[1]
        origin = self.points(np.zeros(2))
        forth = np.stack([self.points(np.array(axis)) - origin for axis in ((1.0, 0.0), (0.0, 1.0))], 1)  # (2, 2)
        back = np.linalg.inv(forth)
        # cell of the moved mask -> pixel of the view -> pixel of the picture -> cell of the mask
        cells_a_pixel = side / np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3).astype(float)  # (N, 2)
        pixels_a_cell = (moved[:, 2:] - moved[:, :2]).astype(float) / side
        linear = cells_a_pixel[:, :, None] * back * pixels_a_cell[:, None, :]  # (N, 2, 2)
        start = (moved[:, :2] + 0.5 * pixels_a_cell - origin) @ back.T  # (N, 2): its first cell's middle
        constant = (start - boxes[:, :2]) * cells_a_pixel - 0.5
        matrices = np.concatenate([linear, constant[:, :, None]], 2)
        turned = np.empty_like(masks)
        for mask, matrix, out in zip(masks, matrices, turned, strict=True):
            cv2.warpAffine(mask, matrix, (side, side), dst=out, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        return turned

    def picture(self, rgb: np.ndarray, *, padding: int | tuple[int, ...] = PADDING) -> np.ndarray:
        """The view of a picture (H, W, 3) uint8: (size, size, 3), beside it this padding."""
        # averaging first keeps a shrunk picture free of aliasing, as the decoder's scaler does
        if max(self.scale) < 0.75:
            small = (max(1, round(rgb.shape[1] * self.scale[0])), max(1, round(rgb.shape[0] * self.scale[1])))
            scale = (small[0] / rgb.shape[1], small[1] / rgb.shape[0])
            rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
            step = (self.scale[0] / scale[0], self.scale[1] / scale[1])
        else:
            step = self.scale
        linear = self.turn * step if self.angle else np.diag(step)
        constant = np.array(self.shift) + linear @ (0.5, 0.5) - 0.5
        view = cv2.warpAffine(
            rgb,
            np.concatenate([linear, constant[:, None]], 1).astype(np.float32),
            (self.size, self.size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(padding,) * 3 if isinstance(padding, int) else padding,
        )
        view = view[:, ::-1] if self.flip else view
        view = view[::-1] if self.flip_up_down else view
        return np.rot90(view, self.quarter_turns)


PLAIN = AugmentConfig()


def random_view(
    width: int,
    height: int,
    *,
    size: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
    augment: AugmentConfig = PLAIN,
) -> View:
    """A view of a width × height picture: its scale log-uniform, its place random, the rest as `augment` allows.

    Scale 1 makes the longer side of the picture `size` pixels.
    """
    zoom = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1])))) * size / max(width, height)
    aspect = float(np.exp(rng.uniform(-augment.aspect, augment.aspect)))
    angle = float(rng.uniform(-augment.angle, augment.angle)) if augment.angle else 0.0
    plain = View((zoom * aspect, zoom / aspect), (0.0, 0.0), False, size, angle=angle)
    x0, y0, x1, y1 = plain.boxes(np.array([[0.0, 0.0, width, height]]))[0]
    room_x, room_y = size - (x1 - x0), size - (y1 - y0)
    shift = (rng.uniform(min(room_x, 0), max(room_x, 0)), rng.uniform(min(room_y, 0), max(room_y, 0)))
    return View(
        plain.scale,
        (float(shift[0] - x0), float(shift[1] - y0)),
        flip=augment.flip_left_right and bool(rng.integers(2)),
        size=size,
        flip_up_down=augment.flip_up_down and bool(rng.integers(2)),
        quarter_turns=int(rng.integers(4)) if augment.quarter_turns else 0,
        angle=angle,
    )


def change_colour(rgb: np.ndarray, rng: np.random.Generator, *, augment: AugmentConfig = PLAIN) -> np.ndarray:
    """The picture (H, W, 3) uint8 with its colours changed as `augment` allows.

    `colour` changes brightness, contrast, saturation and white balance, `channel_shift` each channel by itself.
    """
    matrix, offset = np.eye(3), np.zeros(3)
    if augment.colour:
        most = augment.colour
        gain = rng.uniform(1 - 0.25 * most, 1 + 0.3 * most) * (1 + rng.uniform(-0.07 * most, 0.07 * most, 3))
        saturation = rng.uniform(1 - 0.5 * most, 1 + 0.4 * most) if rng.random() > 0.08 * most else 0.0
        grey = np.full((3, 1), 1.0) @ np.array([[0.299, 0.587, 0.114]])
        matrix = np.diag(gain) @ (saturation * np.eye(3) + (1 - saturation) * grey)
        offset = offset + rng.uniform(-20 * most, 20 * most) + 127 * (1 - gain.mean())
    if augment.channel_shift:
        offset = offset + rng.uniform(-augment.channel_shift, augment.channel_shift, 3)
    elif not augment.colour:
        return rgb
    recoloured: np.ndarray = cv2.transform(rgb, np.concatenate([matrix, offset[:, None]], axis=1).astype(np.float32))
    return recoloured


def visible(boxes: np.ndarray, size: int, *, crowd: np.ndarray, least: float = 2) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) cut to the view, and which (N,) still show enough of their object; of a crowd (N,) any part is.

    least: pixels that a side has at least
    """
    cut = np.clip(boxes, 0, size)
    area = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6), axis=1)
    side = np.min(cut[:, 2:] - cut[:, :2], axis=1) if len(cut) else np.zeros(0)
    share = np.prod(np.maximum(cut[:, 2:] - cut[:, :2], 0), axis=1) / area
    return cut, ((share >= MIN_VISIBLE) | crowd) & (side >= least)
