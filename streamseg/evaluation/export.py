"""Export a model to one file for other programs, and keep the file only if it finds what the model finds."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.model.mask_rcnn import load_network
from streamseg.model.portable import Answer, Answers, Format, check, own_answer, write
from streamseg.model_folder import ModelFolder
from streamseg.sources.image_folder import ImageFolder
from streamseg.sources.video_file import VideoFile
from streamseg.spelling import sample_path
from streamseg.types import Frame, ModelError, OutputError

log = logging.getLogger("streamseg")

MOST_PIXELS = 0.5
MOST_SCORE = 1e-3
MOST_MASK = 1e-2
"""How far boxes, scores and the cells of masks may lie from the model's own."""

SAMPLE_STRIDE = 20
"""Every which picture of the sample clip is looked at."""


@dataclass
class Agreement:
    """How far a file's answers lie from the model's own over the pictures seen so far.

    detections: of the model · strangers: detections of either side without a counterpart, a detection of the same class
    at most MOST_PIXELS away · farthest: how far the nearest is then, at most, in pixels · box (pixels), score, mask:
    the largest difference from a counterpart
    """

    pictures: int = 0
    detections: int = 0
    strangers: int = 0
    farthest: float = 0.0
    box: float = 0.0
    score: float = 0.0
    mask: float = 0.0

    @property
    def holds(self) -> bool:
        return not self.strangers and self.score <= MOST_SCORE and self.mask <= MOST_MASK

    def __str__(self) -> str:
        strangers = ""
        if self.strangers:
            off = f"up to {self.farthest:.1f} pixels off" if np.isfinite(self.farthest) else "none of the class there"
            strangers = f"{self.strangers} without a counterpart ({off}), "
        return (
            f"{self.detections} detections in {self.pictures} pictures, {strangers}scores within {self.score:.1g}, "
            f"boxes within {self.box:.1g} pixels, masks within {self.mask:.1g}"
        )

    def add(self, found: Answers, expected: Answers, *, min_score: float) -> None:
        """Take in the answers to one more picture; min_score: from where on a model returns detections.

        A detection that has a counterpart only on one side may lie within MOST_SCORE of that score, or of the weakest
        of a full list: the last bit decides there whether it is returned.
        """
        self.pictures += 1
        self.detections += int((expected["scores"] > 0).sum())
        for some, others in ((found, expected), (expected, found)):
            there = others["scores"] > 0
            full = there.all()
            weakest = max(min_score, float(others["scores"].min()) if full else 0.0)
            for i in np.flatnonzero(some["scores"] > 0):
                apart = np.abs(others["boxes"] - some["boxes"][i]).max(axis=1)
                apart[~there | (others["class_ids"] != some["class_ids"][i])] = np.inf
                j = int(apart.argmin())
                if apart[j] <= MOST_PIXELS:
                    self.box = max(self.box, float(apart[j]))
                    self.score = max(self.score, float(abs(others["scores"][j] - some["scores"][i])))
                    self.mask = max(self.mask, float(np.abs(others["masks"][j] - some["masks"][i]).max()))
                elif some["scores"][i] > weakest + MOST_SCORE:
                    self.strangers += 1
                    self.farthest = max(self.farthest, float(apart[j]))


@dataclass(frozen=True)
class Exported:
    """What was written: its path, its input's size in pixels, and how well it agrees with the model."""

    path: Path
    width: int
    height: int
    agreement: Agreement


def export(
    model: str | Path,
    output: Path,
    *,
    format: str,
    size: tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    pictures: Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model as one network, after its answers to real pictures were compared with the model's own in float32.

    model: a name, folder or .h5 file · format: a name of `portable.FORMATS` · size: (width, height) of the input in
    pixels, the first of the model's own by default · class_names: as for `ModelFolder.open` · pictures: a folder of
    pictures to compare on, beside those of the sample clip.
    Raises UsageError before anything is done, ModelError when the answers differ or there were none; then nothing is
    written.
    """
    kind = check(output, format=format, size=size, pictures=pictures, overwrite=overwrite)
    folder = ModelFolder.open(model, class_names=class_names)
    width, height = size or folder.config.input_sizes[0]
    log.info("reading the model %s", folder.name)
    network = load_network(folder.config, folder.weights, precision="float32")
    agreement = export_network(
        network,
        output,
        format=kind,
        size=(width, height),
        truth=own_answer(network, width=width, height=height),
        pictures=inputs(folder, pictures, width=width, height=height),
    )
    return Exported(output, width, height, agreement)


def export_network(
    network: Any,
    output: Path,
    *,
    format: Format,
    size: tuple[int, int],
    truth: Answer,
    pictures: Iterable[np.ndarray],
) -> Agreement:
    """Write a network for inputs of size (width, height) if the file answers pictures (1, H, W, 3) uint8 as `truth`."""
    width, height = size
    part = output.with_name(f"{output.stem}.part{format.ending}" if format.ending else f"{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _remove(format.files(part))
        log.info("writing %s for %dx%d pictures", output, width, height)
        write(network, part, format=format, width=width, height=height)
        log.info("comparing its answers with the model's own")
        agreement = Agreement()
        answer = format.read(part)
        for picture in pictures:
            agreement.add(answer(picture), truth(picture), min_score=network.config.detection_min_score)
            log.debug("%s", agreement)
        if not agreement.detections:
            raise ModelError(
                f"{output}: not written, the model finds nothing in the {agreement.pictures} pictures that it was "
                "to be compared on; --pictures names a folder of pictures with objects in them"
            )
        if not agreement.holds:
            raise ModelError(
                f"{output}: not written, the file does not answer as the model does: {agreement} "
                f"(allowed: {MOST_SCORE:g}, {MOST_PIXELS:g} and {MOST_MASK:g})"
            )
        _remove(format.files(output))
        for written, final in zip(format.files(part), format.files(output), strict=True):
            written.rename(final)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror or error}") from error
    finally:
        _remove(format.files(part))
    return agreement


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def inputs(folder: ModelFolder, pictures: Path | None, *, width: int, height: int) -> Iterator[np.ndarray]:
    """Pictures of the sample clip, then those of a folder, as the network takes them: (1, height, width, 3) uint8."""
    sources: list[Callable[[], Any]] = [lambda: VideoFile(path=sample_path(), stride=SAMPLE_STRIDE)]
    if pictures is not None:
        sources.append(lambda: ImageFolder(pictures))

    def frames(open_source: Callable[[], Any]) -> Iterator[Frame]:
        with open_source() as source:
            yield from source

    for frame in chain.from_iterable(map(frames, sources)):
        picture = np.empty((1, height, width, 3), np.uint8)
        folder.fit(frame, picture[0])
        yield picture
