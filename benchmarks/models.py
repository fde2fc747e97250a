"""Which model for what: AP, size and milliseconds a picture of every model, all measured in one run.

    python -m benchmarks.models --data people/val.json [--nuclei stage1_train] [--onnx FILE.onnx ...]
                                [--random-onnx FILE.onnx ...] [--json FILE]

Run it on an idle machine. The models are the embedded ones, matterport's and torchvision's of 80 classes, and ONNX
files of your own, each in every precision that it has and the CPU is quick at. Box and mask AP are those of `streamseg
evaluate`: of people on --data, of nuclei on the fifth of --nuclei that `nuclei` was not trained on.

Milliseconds are the engine's, from decoded pictures to objects with their masks, in calls of as many pictures as `run`
gives it: of photos of the data, and of the same cut to 16:9 and enlarged to 1080p, as a video has them. All models take
turns with the same pictures, so that a busy moment hits all; of two calls in a turn the second counts, because the
first finds the other models' arrays in the caches; medians over the turns.

Of a model that was not downloaded the weights are random: speed does not depend on them as long as the work is the
same. The box head computes all its proposals whatever they are (1000 a picture); what would be found is replaced by the
same 30 objects, which get masks. Such a model has no AP. An ONNX file of random weights, such as
`RFDETRSegNano(pretrain_weights=None).export()` writes, is left to find what it finds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import av
import numpy as np

from benchmarks.matterport import objects
from streamseg import zoo
from streamseg.config import Component, ModelConfig
from streamseg.engines._precision import Cpu
from streamseg.engines.onnx import Onnx
from streamseg.engines.openvino import Openvino, cached_export, quantised
from streamseg.evaluation.evaluate import Method, evaluate, open_parts, read_frame
from streamseg.letterbox import Letterbox
from streamseg.model.export import PARTS
from streamseg.model.matterport_h5 import INPUT_SIZES
from streamseg.model.openvino_core import openvino_core
from streamseg.model_folder import ModelFolder
from streamseg.types import Dataset, Frame, Instances

VIDEO = (1920, 1080)
NUM_PICTURES = 24
"""Different ones that are shown in turn."""

EMBEDDED, MATTERPORT, TORCHVISION = "Apache-2.0", "MIT", "BSD-3-Clause"
SOURCES = {
    EMBEDDED: "this package's LICENSE; NOTICE says what the weights were made from",
    MATTERPORT: "the LICENSE of matterport/Mask_RCNN",
    TORCHVISION: "torchvision's LICENSE; its README adds that terms of the training data may bind the weights",
}


class Runs(Protocol):
    """What an engine of `run` has that is needed here."""

    class_names: tuple[str, ...]
    batch_size: int
    precision: str

    def input_size(self, frame: Frame) -> tuple[int, int]: ...

    def predict(self, frames: Sequence[Frame]) -> list[Instances]: ...


@dataclass(frozen=True)
class Model:
    """One to be measured.

    name: what `--model` takes, or for random weights what it would take · path: what is run · licence: None where it is
    the user's own to know · random: its weights are
    """

    name: str
    path: str
    licence: str | None
    random: bool = False

    @property
    def engine(self) -> str:
        return "onnx" if zoo.is_onnx(self.path) else "openvino"

    def opened(self, precision: str) -> Any:
        if self.engine == "onnx":
            return Onnx(model=self.path, precision=precision)  # type: ignore[arg-type]
        # large networks look at one picture after the other, whatever the call holds
        lite = ModelFolder.open(self.path).config.family == "lite"
        engine = Openvino(model=self.path, precision=precision, batch_size=None if lite else 1)  # type: ignore[arg-type]
        if self.random:
            given = engine.folder
            engine.folder = GivenObjects(given.path, given.config, given.weights)
        return engine

    def precisions(self) -> list[str]:
        """Those that it has and this CPU is quick at, the quickest first."""
        words = Cpu.here().words.split(", ")
        has_int8 = self.engine == "openvino" and quantised(ModelFolder.open(self.path), needed=False)
        return [each for each in words if each != "int8" or has_int8]


@dataclass(frozen=True)
class GivenObjects(ModelFolder):
    """The model's folder, which finds the same 30 objects in every picture whatever the network says."""

    def found(self, detections: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        super().found(detections, letterbox)
        given = objects(letterbox.inner_width, letterbox.inner_height)
        return np.column_stack([given.boxes, given.scores, given.class_ids]).astype(np.float32)


# Weights that are not here


def _coco() -> ModelConfig:
    names = ("background", *zoo.COCO_CLASSES)
    return ModelConfig.matterport(class_names=names, input_sizes=INPUT_SIZES, detection_min_score=0.05)


def _first() -> ModelConfig:
    return ModelConfig.torchvision(class_names=("background", *zoo.COCO_IDS))


def _second() -> ModelConfig:
    names = ("background", *zoo.COCO_IDS)
    return ModelConfig.torchvision(class_names=names, head_norms=True, rpn_layers=2, box_convolutions=4, box_layers=1)


LARGE: Mapping[str, tuple[Callable[[], ModelConfig], str]] = {
    "coco": (_coco, MATTERPORT),
    "maskrcnn_resnet50_fpn": (_first, TORCHVISION),
    "maskrcnn_resnet50_fpn_v2": (_second, TORCHVISION),
}
"""Models that can be downloaded: what they are made of, and their licence."""


def random_model(name: str) -> Path:
    """The folder of a model as the downloaded one would be, with random weights; made once, in the cache folder."""
    folder = zoo.cache_folder() / "benchmark" / f"{name}_random"
    if not (folder / zoo.CONFIG).is_file():
        with get_context("spawn").Pool(1) as pool:  # Keras' threads end with it
            pool.apply(_write_random, (name, folder))
    return folder


def _write_random(name: str, folder: Path) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras

    from streamseg.model.checkpoint import save_weights
    from streamseg.model.mask_rcnn import MaskRCNN

    keras.utils.set_random_seed(1)
    config = LARGE[name][0]()
    network = MaskRCNN(config, name="network")
    network.build()
    for convolution in network.backbone.convolutions:
        convolution.gamma.assign(0.5 * convolution.gamma)  # else random weights swell from block to block
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / zoo.WEIGHTS)
    # JSON is YAML; it comes last, so that the folder counts only when all is there
    (folder / zoo.CONFIG).write_text(json.dumps({"name": folder.name, "model": config.model_dump(mode="json")}))


def known() -> list[str]:
    """The embedded models and the large ones."""
    return [*sorted(folder.name for folder in zoo.EMBEDDED.glob("*/") if (folder / zoo.WEIGHTS).is_file()), *LARGE]


def model_of(name: str) -> Model:
    """One of `known`, of random weights where its own are not here; or any other that `--model` takes."""
    if name not in LARGE:
        return Model(name, name, EMBEDDED if name in known() else None)
    random = name not in zoo.names()
    return Model(name, str(random_model(name)) if random else name, LARGE[name][1], random)


# What they look at


@dataclass(frozen=True)
class Pictures:
    """What some models look at: the data their AP is measured on, and pictures of it to time them with.

    shown: `photo` and, where videos are usual, `video` → frames, all of one shape
    """

    data: Path | Sequence[Component]
    class_names: tuple[str, ...]
    shown: Mapping[str, Sequence[Frame]]


def of_people(data: Path) -> Pictures:
    (dataset,) = open_parts(data)
    photos = commonest(dataset)
    return Pictures(data, dataset.class_names, {"photo": photos, "video": [as_video(photo) for photo in photos]})


def of_nuclei(folder: Path) -> Pictures:
    data = [Component(name="nuclei", options={"folder": folder, "part": "val"})]
    (dataset,) = open_parts(data)
    return Pictures(data, dataset.class_names, {"photo": commonest(dataset)})


def commonest(dataset: Dataset) -> list[Frame]:
    """The first NUM_PICTURES pictures of the shape that most of a dataset have."""
    samples = [dataset[i] for i in range(len(dataset))]
    shapes = [round(sample.width / sample.height, 1) for sample in samples]
    ((shape, _),) = Counter(shapes).most_common(1)
    chosen = [sample for sample, its in zip(samples, shapes, strict=True) if its == shape][:NUM_PICTURES]
    return [read_frame(sample, i) for i, sample in enumerate(chosen)]


def as_video(photo: Frame) -> Frame:
    """The middle of a photo as a frame of 1080p."""
    height = min(photo.height, photo.width * VIDEO[1] // VIDEO[0])
    top = (photo.height - height) // 2
    middle = np.ascontiguousarray(photo.rgb(photo.width, photo.height)[top : top + height])
    picture = av.VideoFrame.from_ndarray(middle, format="rgb24").reformat(*VIDEO, "yuv420p", dst_colorspace="ITU709")
    return replace(photo, picture=picture)


# Measuring


@dataclass
class Row:
    """A model in one precision, and what was measured of it.

    times, cpu: kind of picture → milliseconds a picture, a turn each, by the clock and of all cores together ·
    found: objects of each picture that was shown
    """

    model: Model
    engine: Runs
    pictures: Pictures
    times: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    found: list[int] = field(default_factory=list)

    def turn(self, index: int) -> None:
        count = self.engine.batch_size
        for kind, frames in self.pictures.shown.items():
            shown = [frames[(index * count + i) % len(frames)] for i in range(count)]
            self.engine.predict(shown)
            began = time.perf_counter(), time.process_time()
            answers = self.engine.predict(shown)
            taken = time.perf_counter() - began[0], time.process_time() - began[1]
            for times, seconds in zip((self.times, self.cpu), taken, strict=True):
                times.setdefault(kind, []).append(seconds / count * 1000)
            self.found += [len(answer) for answer in answers]

    def figures(self, *, limit: int | None) -> dict[str, Any]:
        """All that is known of it; AP is None where the weights are random or the data has none of its classes."""
        shared = set(self.engine.class_names[1:]) & set(self.pictures.class_names[1:])
        ap: dict[str, Any] = {"box": {"AP": None}, "mask": {"AP": None}}
        if shared and not self.model.random:
            options, method = {"precision": self.engine.precision}, Method(limit=limit)
            engine = self.model.engine
            ap = evaluate(self.model.path, self.pictures.data, method=method, engine=engine, options=options)
        return {
            "model": self.model.name,
            "precision": self.engine.precision,
            "random_weights": self.model.random,
            "box_ap": ap["box"]["AP"],
            "mask_ap": ap["mask"]["AP"],
            "ms": {kind: median(times) for kind, times in self.times.items()},
            "cpu_ms": {kind: median(times) for kind, times in self.cpu.items()},
            "input": {kind: self.engine.input_size(frames[0]) for kind, frames in self.pictures.shown.items()},
            "pictures_a_call": self.engine.batch_size,
            "objects": sum(self.found) / len(self.found),
            **size_of(self.model, self.engine.precision),
            "licence": self.model.licence,
            "all_ms": self.times,
        }


def size_of(model: Model, precision: str) -> dict[str, float]:
    """Millions of parameters, and megabytes of the file that holds them."""
    if model.engine == "onnx":
        file = Path(model.path)
        return {"parameters_m": parameters([file]), "file_mb": file.stat().st_size / 1e6}
    folder = ModelFolder.open(model.path)
    export = cached_export(folder)
    held = [folder.int8 / f"{part}.bin" for part in PARTS] if precision == "int8" else [folder.weights]
    size = sum(file.stat().st_size for file in held) / 1e6
    return {"parameters_m": parameters([export / f"{part}.xml" for part in PARTS]), "file_mb": size}


def parameters(networks: Sequence[Path]) -> float:
    """Millions of numbers in the constants of networks; those that merely say a shape are integers."""
    constants = [
        op for path in networks for op in openvino_core().read_model(path).get_ops() if op.get_type_name() == "Constant"
    ]
    return sum(float(np.prod(op.shape)) for op in constants if op.get_element_type().is_real()) / 1e6


# The table

COLUMNS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda row: row["model"] + (" *" if row["random_weights"] else ""),
    "precision": lambda row: row["precision"],
    "box AP": lambda row: _number(row["box_ap"], ".3f"),
    "mask AP": lambda row: _number(row["mask_ap"], ".3f"),
    "ms a photo": lambda row: _number(row["ms"].get("photo"), ".1f"),
    "ms a 1080p frame": lambda row: _number(row["ms"].get("video"), ".1f"),
    "input": lambda row: ", ".join(f"{width}x{height}" for width, height in row["input"].values()),
    "objects": lambda row: _number(row["objects"], ".0f"),
    "parameters": lambda row: _number(row["parameters_m"], ".1f") + " M",
    "file": lambda row: _number(row["file_mb"], ".0f") + " MB",
    "licence": lambda row: row["licence"] or "see its maker",
}


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    cells = [list(COLUMNS), *([column(row) for column in COLUMNS.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="people as a COCO json, pictures in images/ beside it")
    parser.add_argument("--nuclei", type=Path, help="stage1_train of the Data Science Bowl 2018; without it, no nuclei")
    parser.add_argument("--onnx", type=Path, nargs="+", default=[], help="files, each with its YAML file beside it")
    parser.add_argument("--random-onnx", type=Path, nargs="+", default=[], help="the same without training: no AP")
    parser.add_argument("--models", nargs="*", metavar="NAME", help="only these, or your own, beside ONNX files")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--limit", type=int, help="AP on so many pictures, the first")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all figures there, too")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before OpenVINO counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    people = of_people(given.data)
    nuclei = of_nuclei(given.nuclei) if given.nuclei else None
    rows: list[Row] = []
    wanted = known() if given.models is None else given.models
    listed = [model_of(name) for name in wanted if name != "nuclei" or nuclei]
    listed += [Model(file.name, str(file), None) for file in given.onnx]
    listed += [Model(file.name, str(file), None, random=True) for file in given.random_onnx]
    for model in listed:
        pictures = nuclei if nuclei and model.name == "nuclei" else people
        rows += [Row(model, model.opened(precision), pictures) for precision in model.precisions()]
    for index in range(given.turns):
        for row in rows:
            row.turn(index)
        print(f"turn {index + 1} of {given.turns}", file=sys.stderr, flush=True)
    figures = [row.figures(limit=given.limit) for row in rows]
    print(f"{given.cores} cores that are quick at {Cpu.here().words}; medians of {given.turns} turns")
    print("\n".join(table(figures)))
    print("* random weights; the objects are given, of an ONNX file they are what it finds")
    for licence, source in SOURCES.items():
        print(f"{licence}: from {source}")
    if given.json:
        about = {"cores": given.cores, "quick_at": Cpu.here().words, "turns": given.turns, "licences": SOURCES}
        given.json.write_text(json.dumps({**about, "models": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
