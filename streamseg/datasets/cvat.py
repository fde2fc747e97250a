"""Pictures of videos with their objects as corrected in CVAT: its XML for video 1.1 or for images 1.1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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
    --format cvat` saves them) or `images` (as CVAT exports them). A picture belongs to a frame by the name that the
    file tells, else by its number, `frame_000041.jpg`, or, where the task was one of saved pictures, by its place among
    them · classes: take these only · keep_empty: take pictures
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
        """The pictures of one file: those that it lists, in its order, or else those of its frames, in theirs."""
        shapes: dict[str | int, list[cvat.Shape]] = {}
        for shape in content.shapes:
            shapes.setdefault(shape.name or shape.frame, []).append(shape)
        frames = _frames(content, pictures_in(folder))
        found: dict[str | int, Path] = {}
        if content.images:
            listed = _Listed(folder, content.images)
            found = {name: path for name in content.images if (path := listed.path(name)) is not None}
        else:
            found = dict(frames.items())
        for place, there in shapes.items():
            if isinstance(place, int) and place in frames:
                found[place] = frames[place]
            if place not in found and any(shape.keyframe for shape in there):
                self._found[NO_PICTURE] += 1
        for place, path in found.items():
            size = (content.images[place] if isinstance(place, str) else None) or content.size
            self._pictures.append(self._picture(file, path, size, shapes.get(place, [])))

    def _picture(self, file: Path, path: Path, size: tuple[int, int] | None, shapes: list[cvat.Shape]) -> _Picture:
        width, height = picture_size(path)
        if size is not None and size != (width, height):
            told = "{}x{}".format(*size)
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


class _Listed:
    """Finds the pictures that a file lists, `a/frame_000041.jpg`, in a folder; the ending may be another one."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._stems: dict[Path, dict[str, Path]] = {}
        self._alike = Counter(PurePosixPath(name).stem for name in names)

    def path(self, name: str) -> Path | None:
        """The picture of this name; by the last part of it alone where no other one is called so."""
        relative = PurePosixPath(name)
        folders = [self._folder / relative.parent]
        if relative.parts[:1] == (self._folder.name,):  # the folder of one video among those of a task
            folders.append(self._folder.parent / relative.parent)
        if self._alike[relative.stem] == 1:
            folders.append(self._folder)
        return next((path for each in folders if (path := self._in(each).get(relative.stem)) is not None), None)

    def _in(self, folder: Path) -> Mapping[str, Path]:
        if folder not in self._stems:
            self._stems[folder] = {path.stem: path for path in pictures_in(folder)} if folder.is_dir() else {}
        return self._stems[folder]


def _frames(content: cvat.Annotations, pictures: Sequence[Path]) -> dict[int, Path]:
    """The pictures by the numbers of their frames, in this order.

    They are called by those of the video. A task that was made of the pictures themselves counts them from 0; it has as
    many frames as there are pictures.
    """
    numbers = {path: path.stem.removeprefix("frame_") for path in pictures if path.stem.startswith("frame_")}
    of_video = {int(text): path for path, text in numbers.items() if text.isascii() and text.isdigit()}
    if content.of_pictures or content.num_frames == len(pictures):
        return dict(enumerate(pictures))
    return dict(sorted(of_video.items()))


def _sides(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]
