"""Cell nuclei in the layout of Kaggle's Data Science Bowl 2018: a folder a picture, a mask file a nucleus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamseg.datasets._picture_files import picture_size, pictures_in, read_mask, sample_of
from streamseg.datasets._split import Part, part_of
from streamseg.types import InputError, Sample


class Nuclei:
    """The pictures `ID/images/ID.png` of a folder with their masks `ID/masks/*.png`.

    part: `train` takes a share `split` of the pictures, `val` the others, drawn with `seed`. Raises InputError for a
    picture that is missing or without masks, and for a mask of another size. Empty masks are left out and counted.
    """

    class_names = ("background", "nucleus")

    def __init__(self, *, folder: Path, part: Part = "all", split: float = 0.8, seed: int = 0) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the one that holds ID/images and ID/masks")
        found = sorted(each for each in self.folder.iterdir() if (each / "images").is_dir())
        if not found:
            raise InputError(f"{folder}: expected folders ID/images and ID/masks, found none")
        self._pictures = [_picture_in(each / "images") for each in part_of(found, part, split=split, seed=seed)]
        self._masks = [_masks_in(picture.parent.parent / "masks") for picture in self._pictures]
        self._sizes = [picture_size(picture) for picture in self._pictures]
        for picture, size, masks in zip(self._pictures, self._sizes, self._masks, strict=True):
            for mask in masks:
                if (got := picture_size(mask)) != size:
                    raise InputError(
                        f"{mask}: expected {size[0]}x{size[1]} pixels as {picture.name} has, got {got[0]}x{got[1]}"
                    )
        self._empty: set[Path] = set()

    @property
    def warnings(self) -> Mapping[str, int]:
        return {"empty masks left out": len(self._empty)} if self._empty else {}

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        masks = {path: read_mask(path) for path in self._masks[index]}
        self._empty.update(path for path, mask in masks.items() if not mask.any())
        kept = [mask for mask in masks.values() if mask.any()]
        return sample_of(
            self._pictures[index],
            image_id=index,
            size=self._sizes[index],
            masks=kept,
            class_ids=[1] * len(kept),
        )


def _picture_in(folder: Path) -> Path:
    found = pictures_in(folder)
    if len(found) != 1:
        raise InputError(f"{folder}: expected one picture, found {len(found)}")
    return found[0]


def _masks_in(folder: Path) -> list[Path]:
    found = pictures_in(folder) if folder.is_dir() else []
    if not found:
        raise InputError(f"{folder}: expected a picture for every mask, found none")
    return found
