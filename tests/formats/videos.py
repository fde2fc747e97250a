"""Small labelled videos for the tests of formats: a few rectangles that walk, one of them in two parts with a hole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from streamseg import outlines
from streamseg.labels import Format, Label, LabelledFrame, LabelledVideo

CLASS_NAMES = ("person", "dog")
WIDTH, HEIGHT = 64, 48


def video(name: str = "street", *, num_frames: int | None = 8, constant_rate: bool = True) -> LabelledVideo:
    """A video of 64 × 48 pixels and ten frames a second."""
    path = Path(f"{name}.mp4")
    return LabelledVideo(name, path, WIDTH, HEIGHT, num_frames, Fraction(10), constant_rate, (WIDTH, HEIGHT))


def label(inside: np.ndarray, *, track: int = 1, class_name: str = "person", score: float = 0.9) -> Label:
    """The mask (H, W) as a label with its bounding box."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Label(track, class_name, score, box, outlines.encoded(inside))


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """A mask (48, 64) bool, inside from (x1, y1) to before (x2, y2)."""
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[y1:y2, x1:x2] = True
    return inside


def ring_and_dot() -> np.ndarray:
    """A mask (48, 64) bool of two parts, one of which has a hole."""
    inside = rectangle(30, 20, 50, 40)
    inside[26:34, 36:44] = False
    inside[22:26, 54:58] = True
    return inside


def frames(num_frames: int = 8, *, pictures: str | None = None) -> Iterator[LabelledFrame]:
    """Track 1 walks to the right from the left border; track 2 has two parts and a hole, and a gap in frames 3 and 4.

    A dog without a track is in every third frame; the last frame is empty. pictures: the stem of their saved pictures
    """
    for index in range(num_frames):
        labels = [label(rectangle(index % 30, 4, index % 30 + 12, 24))]
        if index not in (3, 4):
            labels.append(label(ring_and_dot(), track=2, score=0.8))
        if index % 3 == 0:
            labels.append(label(rectangle(40, 2, 60, 12), track=-1, class_name="dog", score=0.6))
        picture = None if pictures is None else f"{pictures}/frame_{index:06d}.jpg"
        yield LabelledFrame(index, index / 10, () if index == num_frames - 1 else tuple(labels), picture)


def save_pictures(folder: Path, of: Iterable[LabelledFrame]) -> None:
    """A grey picture for every frame that names one."""
    for frame in of:
        if frame.picture is not None:
            (folder / frame.picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(folder / frame.picture)


def write(format: Format, folder: Path, *names: str, num_frames: int = 8, constant_rate: bool = True) -> dict[str, int]:
    """Videos of these names written into the folder, their pictures with them; what was left out."""
    format.open(folder, CLASS_NAMES)
    for name in names or ("street",):
        made = list(frames(num_frames, pictures=name))
        save_pictures(folder, made)
        format.begin(replace(video(name, constant_rate=constant_rate), num_frames=num_frames))
        for frame in made:
            format.write(frame)
        format.end()
    return dict(format.close())
