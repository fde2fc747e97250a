"""Make a model's networks in int8, and keep them only if they find as much as those in float32.

NNCF looks at what goes through each network for some hundred pictures, and rounds weights and features to 8 bit where
that loses little. How much is lost in all, the metrics say, on any CPU: one without VNNI computes the same in float32.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamseg import zoo
from streamseg.config import Component
from streamseg.engines.openvino import MADE, Openvino, cached_export, network_mark
from streamseg.evaluation.evaluate import Method, evaluate, open_parts, read_frame
from streamseg.model.export import PARTS
from streamseg.model.openvino_core import openvino_core
from streamseg.model_folder import ModelFolder
from streamseg.types import Frame, ModelError, OutputError, UsageError

log = logging.getLogger("streamseg")

MOST_LOST = 0.005
"""COCO's AP, of boxes and of masks, that int8 may lose."""

LEARN_FROM, HEADS_LEARN_FROM = 150, 40
"""Pictures that NNCF sees, at most; and those whose boxes the heads see, over a hundred boxes each."""

FLOAT_FIRST = (0, 1, 3)
"""How many of the first convolutions stay float32: the least number with which little enough is lost. They see the
picture itself, and what they round away of small objects no later layer brings back."""

Data = Path | Sequence[Component]
"""A COCO json, or the datasets of a configuration."""


@dataclass(frozen=True)
class Quantised:
    """Networks in int8: where they lie, and COCO's AP of boxes and masks in both precisions, on so many pictures.

    float_first: how many of their first convolutions stayed float32
    """

    path: Path
    pictures: int
    f32: dict[str, float]
    int8: dict[str, float]
    float_first: int = 0

    @property
    def lost(self) -> float:
        """The larger of what boxes and masks lose; less than 0 where both gain."""
        return max(self.f32[kind] - self.int8[kind] for kind in self.f32)

    def __str__(self) -> str:
        told = (f"{kind} AP {self.f32[kind]:.3f} in f32, {self.int8[kind]:.3f} in int8" for kind in self.f32)
        kept = f", the first {self.float_first} convolutions in f32" if self.float_first else ""
        return f"{'; '.join(told)}, on {self.pictures} pictures{kept}"


def check_quantised(output: Path, *, overwrite: bool) -> None:
    """Raises UsageError when networks in int8 may not be written into the folder `output`, or nncf is not here."""
    import importlib.util

    if importlib.util.find_spec("nncf") is None:
        raise UsageError('--precision int8: nncf not installed; pip install "streamseg[export]" brings it')
    if output.exists() and not (output / MADE).is_file():
        raise UsageError(f"{output} is no folder of networks in int8; choose another output")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already; --overwrite replaces it")


def quantise(
    model: str | Path,
    output: Path | None = None,
    *,
    learn_from: Data,
    judge_on: Data,
    class_names: Sequence[str] | None = None,
    limit: int | None = None,
    most_lost: float = MOST_LOST,
    overwrite: bool = False,
) -> Quantised:
    """Write a model's networks in int8 into `output`, by default where the engine looks for them.

    learn_from: pictures that go through the networks, LEARN_FROM of them spread over all · judge_on: pictures with true
    objects, the first `limit` of them, on which COCO's AP
    may lose `most_lost` · class_names: as for `ModelFolder.open`.
    Raises UsageError before anything is done, ModelError when too much is lost; then nothing is written.
    """
    folder = ModelFolder.open(model, class_names=class_names)
    output = output or folder.int8
    check_quantised(output, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix="streamseg-") as scratch:
        copy = _copy_of(folder, Path(scratch))

        def measured(precision: str) -> tuple[dict[str, float], int]:
            """COCO's AP of boxes and masks, and on how many pictures."""
            options = {"precision": precision, **({"class_names": class_names} if class_names else {})}
            found = evaluate(str(copy.path), judge_on, method=Method(limit=limit), engine="openvino", options=options)
            return {kind: found[kind]["AP"] for kind in ("box", "mask")}, found["images"]

        log.info("measuring what %s finds in f32", folder.name)
        f32, pictures = measured("f32")
        if not max(f32.values()) > 0:
            raise ModelError(f"{output}: not written, the model finds nothing in the pictures it was to be judged on")
        rounding = Rounding(folder, learn_from)
        for float_first in FLOAT_FIRST:
            log.info("rounding the networks of %s", folder.name)
            for part, network in rounding.networks(float_first=float_first).items():
                _save(network, copy.int8 / f"{part}.xml")
            _mark(copy.int8, folder, {})
            log.info("measuring what is lost")
            done = Quantised(output, pictures, f32, measured("int8")[0], float_first)
            log.info("%s", done)
            if done.lost <= most_lost:
                break
        else:
            raise ModelError(f"{output}: not written, int8 loses more than {most_lost:g}: {done}")
        figures = {"pictures": pictures, "f32": f32, "int8": done.int8, "float_first": done.float_first}
        _mark(copy.int8, folder, figures)
        try:
            _replace(copy.int8, output)
        except OSError as error:
            raise OutputError(f"{output} cannot be written: {error.strerror or error}") from error
    return done


class Rounding:
    """Rounds a model's networks to 8 bit by what goes through them for pictures of `data`."""

    def __init__(self, folder: ModelFolder, data: Data) -> None:
        self.folder, self.exported = folder, cached_export(folder)
        self.frames = Frames(data, LEARN_FROM)
        self.size = Counter(map(folder.input_size, self.frames)).most_common(1)[0][0]
        self.given: dict[str, list[dict[str, np.ndarray]]] = {"box_head": [], "masks": []}
        engine = Openvino(model=str(folder.path), class_names=_own_names(folder), precision="f32", batch_size=1)
        for frame in Frames(data, HEADS_LEARN_FROM):
            found = engine.predict([frame])[0]
            for part, given in engine.given().items():
                if len(found):
                    self.given[part].append(given)
        if not self.given["masks"]:
            raise ModelError(
                f"{folder.path}: the model finds nothing in the pictures that its networks are to learn from"
            )

    def networks(self, *, float_first: int) -> dict[str, Any]:
        """The networks in int8, by the names of PARTS, but for the first convolutions that see the picture."""
        import nncf
        import openvino as ov

        nncf.set_log_level(logging.ERROR)
        width, height = self.size
        seen: dict[str, Any] = {"features": Repeated(self._pictures), **self.given}
        result = {}
        for part in PARTS:
            network = openvino_core().read_model(self.exported / f"{part}.xml")
            names: list[str] = []
            if part == "features":
                network.reshape({"picture": [1, height, width, 3]})
                convolutions = [op for op in network.get_ordered_ops() if "Convolution" in op.get_type_name()]
                names = [op.get_friendly_name() for op in convolutions[:float_first]]
            rounded = nncf.quantize(
                network,
                nncf.Dataset(seen[part]),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=LEARN_FROM,
                ignored_scope=nncf.IgnoredScope(names=names),
            )
            if part == "features":
                rounded.reshape({"picture": ov.PartialShape([1, -1, -1, 3])})
            result[part] = rounded
            log.debug("%s: rounded", part)
        return result

    def _pictures(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            picture = np.empty((1, self.size[1], self.size[0], 3), np.uint8)
            self.folder.fit(frame, picture[0])
            yield picture


class Frames:
    """At most `count` pictures of data, spread evenly over all, read anew each time that they are gone through."""

    def __init__(self, data: Data, count: int) -> None:
        self.parts = open_parts(data)
        places = [(part, i) for part in self.parts for i in range(len(part))]
        self.places = [places[int(i)] for i in np.linspace(0, len(places) - 1, min(count, len(places)))]

    def __iter__(self) -> Iterator[Frame]:
        for number, (part, i) in enumerate(self.places):
            yield read_frame(part[i], number)


@dataclass(frozen=True)
class Repeated:
    """What a generator yields, from the start each time."""

    make: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.make()


def _own_names(folder: ModelFolder) -> Sequence[str] | None:
    """What the classes of a model of one file are called; a folder says it itself."""
    return folder.config.class_names[1:] if folder.path.is_file() else None


def _copy_of(folder: ModelFolder, scratch: Path) -> ModelFolder:
    """The same model in `scratch`, its files linked, where networks in int8 can be put beside it and tried."""
    if folder.path.is_dir():
        path = scratch / folder.name
        path.mkdir()
        for name in (zoo.CONFIG, zoo.WEIGHTS):
            (path / name).symlink_to((folder.path / name).resolve())
    else:
        path = scratch / folder.path.name
        path.symlink_to(folder.path.resolve())
        beside = folder.path.with_suffix(".yaml")
        if beside.is_file():
            path.with_suffix(".yaml").symlink_to(beside.resolve())
    copy = ModelFolder.open(path, class_names=_own_names(folder))
    copy.int8.mkdir()
    return copy


def _mark(path: Path, folder: ModelFolder, figures: dict[str, Any]) -> None:
    (path / MADE).write_text(json.dumps({"networks": network_mark(folder), **figures}, indent=1) + "\n")


def _save(network: Any, path: Path) -> None:
    import openvino as ov

    for name in ("nncf", "Runtime_version", "conversion_parameters", "legacy_frontend"):  # paths and versions of here
        if network.has_rt_info([name]):
            network.set_rt_info("", [name])
    ov.save_model(network, path, compress_to_fp16=False)


def _replace(made: Path, output: Path) -> None:
    """Put a finished folder at its place; what was there goes only when all of it is beside it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(made, part)
    if output.exists():
        shutil.rmtree(output)
    part.rename(output)
