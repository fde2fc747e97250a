"""Pictures of videos with their objects as corrected in CVAT: its XML for video 1.1 or for images 1.1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamseg.datasets._classes import BACKGROUND, chosen
from streamseg.datasets._picture_files import picture_size, pictures_in
from streamseg.formats import cvat
from streamseg.types import InputError, Sample

NO_PICTURE = "frames with objects of which no picture is saved left out"
NO_AREA = "objects without area left out"


@dataclass(frozen=True)
class _Picture:
    path: Path
    width: int
    height: int
    shapes: tuple[cvat.Shape, ...]


class Cvat:
    """The pictures of one CVAT file, or of all `.xml` files in a folder (`path`), with their polygons and masks.

    images: the folder of the pictures; by default the folder beside the file that is called like it (as `annotate
    --format cvat` saves them) or `images` (as CVAT exports them). A picture belongs to a frame by its number,
    `frame_000041.jpg`, or by the name that the file tells · classes: take these only · keep_empty: take pictures
    without objects as background. A box is an object of which the mask is unknown. What is left out is counted in
    `warnings`. Raises InputError for what is missing or broken.
    """

    warnings: Mapping[str, int]

    def __init__(
        self, *, path: Path, images: Path | None = None, classes: tuple[str, ...] = (), keep_empty: bool = False
    ) -> None:
        self.path = Path(path)
        self._found: Counter[str] = Counter()
        files = sorted(self.path.glob("*.xml")) if self.path.is_dir() else [self.path]
        if not files:
            raise InputError(f"{path}: no CVAT file (.xml) is in this folder")
        loaded = [(file, cvat.load(file)) for file in files]
        names = dict.fromkeys(name for _, each in loaded for name in each.class_names if name != BACKGROUND)
        self.class_names: tuple[str, ...] = (BACKGROUND, *chosen(classes, list(names)))
        self._pictures: list[_Picture] = []
        for file, content in loaded:
            self._found.update(content.left_out)
            self._add(file, content, _folder_of(file) if images is None else Path(images))
        if not keep_empty:
            self._pictures = [picture for picture in self._pictures if picture.shapes]
        if not self._pictures:
            raise InputError(f"{path}: no picture shows {' or '.join(classes) or 'an object'}")
        self.warnings = {warning: times for warning, times in self._found.items() if times}

    def _add(self, file: Path, content: cvat.Annotations, folder: Path) -> None:
        """The pictures of one file, in the order of their frames."""
        shapes: dict[int, list[cvat.Shape]] = {}
        for shape in content.shapes:
            shapes.setdefault(shape.frame, []).append(shape)
        by_name = {path.stem: path for path in pictures_in(folder)}
        found = _numbered(by_name)
        for frame in {**shapes, **content.frames}:
            path = by_name.get(_stem(content, frame))
            if path is not None:
                found[frame] = path
            elif any(shape.keyframe for shape in shapes.get(frame, [])):
                self._found[NO_PICTURE] += 1
        for frame, path in sorted(found.items()):
            self._pictures.append(self._picture(file, path, content, shapes.get(frame, [])))

    def _picture(self, file: Path, path: Path, content: cvat.Annotations, shapes: list[cvat.Shape]) -> _Picture:
        width, height = picture_size(path)
        if content.size is not None and content.size != (width, height):
            told = "{}x{}".format(*content.size)
            raise InputError(f"{file}: its shapes are of pictures of {told} pixels, {path} has {width}x{height}")
        kept = [shape for shape in shapes if shape.class_name in self.class_names[1:]]
        with_area = [shape for shape in kept if min(_sides(shape.box)) > 0.5]
        self._found[NO_AREA] += len(kept) - len(with_area)
        return _Picture(path, width, height, tuple(with_area))

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        picture = self._pictures[index]
        shapes = picture.shapes
        return Sample(
            image_id=index,
            path=picture.path,
            width=picture.width,
            height=picture.height,
            boxes=np.array([shape.box for shape in shapes], np.float32).reshape(-1, 4),
            class_ids=np.array([self.class_names.index(shape.class_name) for shape in shapes], np.int32),
            masks=tuple(shape.segmentation for shape in shapes),
            crowd=np.zeros(len(shapes), bool),
        )


def _folder_of(file: Path) -> Path:
    candidates = [file.parent / file.stem, file.parent / "images"]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise InputError(f"{file}: no folder of pictures found; looked for {' and '.join(map(str, candidates))}")


def _stem(content: cvat.Annotations, frame: int) -> str:
    """What the picture of a frame is called, without its ending."""
    return Path(content.frames.get(frame) or f"frame_{frame:06d}").stem


def _numbered(by_name: Mapping[str, Path]) -> dict[int, Path]:
    """The pictures that are called as frames are, by their numbers."""
    numbers = {name: name.removeprefix("frame_") for name in by_name if name.startswith("frame_")}
    return {int(number): by_name[name] for name, number in numbers.items() if number.isascii() and number.isdigit()}


def _sides(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]
