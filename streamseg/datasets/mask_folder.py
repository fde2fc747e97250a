"""Pictures in one folder and their masks as pictures in another, such as moles and their outlines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamseg.datasets._classes import chosen
from streamseg.datasets._picture_files import picture_size, pictures_in, read_mask, sample_of
from streamseg.datasets._split import Part, part_of
from streamseg.types import InputError, Sample

NO_PICTURE = "masks without a picture left out"
NO_MASK = "pictures without masks left out"
EMPTY = "empty masks left out"


class MaskFolder:
    """The pictures `images/NAME.jpg` of a folder with their masks `masks/NAME*.png` or `masks/CLASS/NAME*.png`.

    Each mask file is one object. It belongs to the picture with the longest NAME that its own begins with, the rest
    beginning with no letter or digit: `mole1.png`, `mole1_segmentation.png` and `mole1-2.png` are of `mole1.jpg`,
    `mole12.png` is not. class_name: of all objects where there are no folders of classes · classes: take these only ·
    keep_empty: take pictures without masks as background · part, split, seed: as in nuclei.

    Raises InputError for what is missing and for a mask of another size than its picture.
    """

    def __init__(
        self,
        *,
        folder: Path,
        class_name: str = "object",
        classes: tuple[str, ...] = (),
        keep_empty: bool = False,
        part: Part = "all",
        split: float = 0.8,
        seed: int = 0,
    ) -> None:
        self.folder = Path(folder)
        pictures: dict[str, Path] = {}
        for path in pictures_in(self.folder / "images"):
            if (other := pictures.setdefault(path.stem, path)) != path:
                raise InputError(f"{path}: expected pictures with names of their own, there is {other.name} too")
        if not pictures:
            raise InputError(f"{self.folder / 'images'}: there is no picture in it")
        masks = _masks_by_class(self.folder / "masks", class_name)
        kept = chosen(classes, sorted(masks))
        self.class_names: tuple[str, ...] = ("background", *kept)
        objects: dict[str, list[tuple[int, Path]]] = {name: [] for name in pictures}
        num_lost = 0
        for class_id, name in enumerate(kept, start=1):
            for path in masks[name]:
                owner = _owner(path.stem, pictures)
                num_lost += owner is None
                if owner is not None:
                    objects[owner].append((class_id, path))
        shown = [name for name in pictures if objects[name]]
        if not shown:
            raise InputError(f"{self.folder / 'masks'}: no mask is named after a picture, such as {min(pictures)}.png")
        self._found = {NO_PICTURE: num_lost, NO_MASK: 0 if keep_empty else len(pictures) - len(shown)}
        self._empty: set[Path] = set()
        names = part_of(list(pictures) if keep_empty else shown, part, split=split, seed=seed)
        self._pictures = [pictures[name] for name in names]
        self._objects = [objects[name] for name in names]
        self._sizes = [picture_size(path) for path in self._pictures]
        for picture, size, found in zip(self._pictures, self._sizes, self._objects, strict=True):
            for _, path in found:
                if (got := picture_size(path)) != size:
                    raise InputError(
                        f"{path}: expected {size[0]}x{size[1]} pixels as {picture.name} has, got {got[0]}x{got[1]}"
                    )

    @property
    def warnings(self) -> Mapping[str, int]:
        counts = {**self._found, EMPTY: len(self._empty)}
        return {warning: times for warning, times in counts.items() if times}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        read = [(class_id, path, read_mask(path)) for class_id, path in self._objects[index]]
        self._empty.update(path for _, path, mask in read if not mask.any())
        return sample_of(
            self._pictures[index],
            image_id=index,
            size=self._sizes[index],
            masks=[mask for _, _, mask in read if mask.any()],
            class_ids=[class_id for class_id, _, mask in read if mask.any()],
        )


def _masks_by_class(folder: Path, class_name: str) -> dict[str, list[Path]]:
    """The mask files of every class. Raises InputError for files beside folders: which class would they be?"""
    files = pictures_in(folder)
    folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    if files and folders:
        raise InputError(
            f"{folder}: expected masks or a folder for each class, found both: {files[0].name} and {folders[0].name}/"
        )
    return {each.name: pictures_in(each) for each in folders} if folders else {class_name: files}


def _owner(stem: str, pictures: Mapping[str, Path]) -> str | None:
    """The picture whose name the mask's begins with; the longest of them."""
    for end in range(len(stem), 0, -1):
        if stem[:end] in pictures and not stem[end : end + 1].isalnum():
            return stem[:end]
    return None
