"""A whole model as one network, for programs that know nothing of streamseg: ONNX, OpenVINO or a TensorFlow SavedModel.

Legend: D = max_detections, M cells of a mask's side. In goes `picture` (1, H, W, 3) uint8 RGB, letterboxed; out come
`boxes` (D, 4) xyxy in its pixels, `scores` (D,), `class_ids` (D,) int32 and `masks` (D, M, M) in [0, 1], each spanning
its box: best first, rows of zeros at the end.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.config import ModelConfig
from streamseg.letterbox import in_pixels
from streamseg.masks import certainty
from streamseg.model.openvino_core import converted, openvino_core
from streamseg.types import ModelError, UsageError
from streamseg.words import nearest

OUTPUTS = ("boxes", "scores", "class_ids", "masks")
OPSET = 18
"""The ONNX operators that are written: the newest that the converter knows."""

Answers = dict[str, np.ndarray]
"""What a network says of one picture, by the names in OUTPUTS."""

Answer = Callable[[np.ndarray], Answers]
"""A network that has been read: a picture (1, H, W, 3) uint8 → its answers."""


@dataclass(frozen=True)
class Format:
    """One kind of file: its ending (a folder has none), the packages that it takes, and how it is written and read."""

    ending: str
    packages: tuple[str, ...]
    write: Callable[[Any, ModelConfig, Path], None]
    read: Callable[[Path], Answer]

    def files(self, path: Path) -> list[Path]:
        """What is written for `path`; the file that a reader opens comes last."""
        return [path.with_suffix(".bin"), path] if self.ending == ".xml" else [path]


def check(
    output: Path,
    *,
    format: str,
    size: tuple[int, int] | None = None,
    pictures: Path | None = None,
    overwrite: bool = False,
) -> Format:
    """The format of this name, if `output` suits it and is free, and an input of size (width, height) fits a network.

    Raises UsageError for what is wrong, also for a package that is missing; reads nothing but names.
    """
    if format not in FORMATS:
        raise UsageError(f"--format: expected {', '.join(FORMATS)}, got {format!r}{nearest(format, FORMATS)}")
    kind = FORMATS[format]
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(
            f'--format {format}: {" and ".join(missing)} not installed; pip install "streamseg[export]" brings it'
        )
    if size and (min(size) < 32 or size[0] % 32 or size[1] % 32):
        near = "x".join(str(max(1, round(side / 32)) * 32) for side in size)
        raise UsageError(f"--size: expected multiples of 32, got {size[0]}x{size[1]}; {near} is near")
    if pictures is not None and not pictures.is_dir():
        raise UsageError(f"--pictures: expected a folder of pictures, got {pictures}")
    if kind.ending and output.suffix != kind.ending:
        raise UsageError(f"-o: expected a name that ends in {kind.ending}, got {output}")
    if not kind.ending and output.suffix in (".onnx", ".xml", ".pb", ".bin"):
        raise UsageError(f"-o: expected the name of a folder, got {output}")
    for file in kind.files(output):
        replaceable = overwrite and not kind.ending and (file / "saved_model.pb").is_file()
        if file.is_dir() and (kind.ending or (overwrite and not replaceable)):
            raise UsageError(f"{file} is a folder, and no export of {format}; choose another output")
        if not kind.ending and file.is_file():
            raise UsageError(f"{file} is a file; --format savedmodel writes a folder")
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists already; --overwrite replaces it")
    return kind


def write(network: Any, path: Path, *, format: Format, width: int, height: int) -> None:
    """Write a network for inputs of width × height pixels. Raises ModelError when Keras is not on TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"exporting a model needs Keras on TensorFlow, got {keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
        )
    own_nms, network.nms = network.nms, standard_nms
    try:
        format.write(_whole(network, width=width, height=height), network.config, path)
    finally:
        network.nms = own_nms


def own_answer(network: Any, *, width: int, height: int) -> Answer:
    """What a network itself says of a picture, called as the Keras engine calls it: masks only for what it found."""
    import keras

    config = network.config

    def answer(picture: np.ndarray) -> Answers:
        found = network.call(picture)
        rows = np.array(keras.ops.convert_to_numpy(found["detections"]), np.float32)[0]  # (D, 6)
        num = int((rows[:, 4] > 0).sum())
        boxes, class_ids = rows[:, :4].copy(), rows[:, 5].astype(np.int32)
        side = 2 * config.mask_pool
        masks = np.zeros((len(rows), side, side), np.float32)
        if num:
            drawn = network.draw(found["levels"], rows[:num], np.zeros(num, np.int32))
            boxes[:num], masks[:num] = (keras.ops.convert_to_numpy(each) for each in drawn)
        scores = rows[:, 4]
        if config.mask_scoring > 0:
            scores = scores * certainty(masks) ** np.float32(config.mask_scoring)
            scores[scores < config.detection_min_score] = 0
            num = int((scores > 0).sum())
            order = np.argsort(-scores, kind="stable")
            there = np.arange(len(order)) < num
            scores, boxes, masks = scores[order], boxes[order] * there[:, None], masks[order] * there[:, None, None]
            class_ids = class_ids[order] * there
        if config.family == "matterport":
            boxes[:num] = in_pixels(boxes[:num], width, height)
        return {"boxes": boxes, "scores": scores, "class_ids": class_ids, "masks": masks}

    return answer


def standard_nms(boxes: Any, *, threshold: float, groups: Any = None) -> Any:
    """`nms_exact` of boxes (1, N, 4) as the one operation that every format has: (1, N) bool.

    Thousands of boxes a tile at a time would be a loop for each tile: minutes to convert, and seconds to run. Groups
    (1, N) are moved apart, so that no box meets one of another.
    """
    import tensorflow as tf

    count = boxes.shape[1]
    if groups is not None:
        apart = tf.reduce_max(boxes) + 1.0
        boxes = boxes + tf.cast(groups, tf.float32)[..., None] * apart
    falling = np.arange(count, 0, -1, dtype=np.float32)
    kept = tf.image.non_max_suppression(boxes[0], falling, count, iou_threshold=threshold)
    return tf.scatter_nd(kept[:, None], tf.ones_like(kept), [count])[None] > 0


def _whole(network: Any, *, width: int, height: int) -> Any:
    """The network from picture to masks as a TensorFlow function that keeps hold of its variables."""
    import tensorflow as tf

    # as in `letterbox.in_pixels`; numpy, because the ONNX converter takes a constant tensor for an input
    scale, shift = np.array([width - 1, height - 1] * 2, np.float32), np.array([0, 0, 1, 1], np.float32)

    class Whole(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = [variable.value for variable in network.variables]

        @tf.function(input_signature=[tf.TensorSpec((1, height, width, 3), tf.uint8, name="picture")], autograph=False)
        def answer(self, picture: tf.Tensor) -> dict[str, tf.Tensor]:
            found = network.call(picture)
            rows = found["detections"][0]
            scores, class_ids = rows[:, 4], tf.cast(rows[:, 5], tf.int32)
            boxes, masks = network.draw(found["levels"], rows, tf.zeros_like(class_ids))
            if network.config.mask_scoring > 0:
                scores = _scored(scores, masks, network.config)
                order = tf.argsort(scores, direction="DESCENDING", stable=True)
                scores, boxes, class_ids, masks = (tf.gather(each, order) for each in (scores, boxes, class_ids, masks))
                boxes *= tf.cast(scores > 0, tf.float32)[:, None]
                class_ids *= tf.cast(scores > 0, tf.int32)
            there = tf.cast(scores > 0, tf.float32)
            if network.config.family == "matterport":
                boxes = (boxes * scale + shift) * there[:, None]
            return {"boxes": boxes, "scores": scores, "class_ids": class_ids, "masks": masks * there[:, None, None]}

    return Whole()


def _scored(scores: Any, masks: Any, config: ModelConfig) -> Any:
    """Scores (D,) with the say of the masks' (D, M, M) `certainty`; 0 below the least that is a detection."""
    import tensorflow as tf

    covered = tf.cast(masks >= 0.5, tf.float32)
    count = tf.reduce_sum(covered, axis=(1, 2))
    mean = tf.reduce_sum(masks * covered, axis=(1, 2)) / tf.maximum(count, 1.0)
    certain = tf.where(count > 0, mean, tf.reduce_max(masks, axis=(1, 2)))
    scores = scores * certain**config.mask_scoring
    return tf.where(scores >= config.detection_min_score, scores, tf.zeros_like(scores))


def _facts(config: ModelConfig) -> dict[str, str]:
    """What travels with the file for whoever runs it."""
    return {
        "class_names": json.dumps(config.class_names),
        "min_score": f"{config.min_score:g}",
        "padding": json.dumps(config.padding),
    }


def _write_onnx(whole: Any, config: ModelConfig, path: Path) -> None:
    import onnx
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it tells every step
    model, _ = tf2onnx.convert.from_function(whole.answer, input_signature=whole.answer.input_signature, opset=OPSET)
    for node in model.graph.node:
        if node.op_type == "Resize":
            _repeat_cells(node)
    onnx.helper.set_model_props(model, _facts(config))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _repeat_cells(resize: Any) -> None:
    """Say "each cell twice" as every runtime understands it: the converter's word for it left ONNX with opset 13."""
    words = {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    for attribute in resize.attribute:
        if attribute.name in words:
            attribute.s = words[attribute.name]


def _read_onnx(path: Path) -> Answer:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda picture: dict(zip(OUTPUTS, session.run(OUTPUTS, {"picture": picture}), strict=True))


def _write_openvino(whole: Any, config: ModelConfig, path: Path) -> None:
    import openvino as ov

    network = converted(whole.answer.get_concrete_function())
    for port in [*network.inputs, *network.outputs]:
        port.set_names(port.names & {"picture", *OUTPUTS})
    for name, fact in _facts(config).items():
        network.set_rt_info(fact, ["streamseg", name])
    ov.save_model(network, path, compress_to_fp16=False)


def _read_openvino(path: Path) -> Answer:
    # in bfloat16, the default where the CPU has it, coordinates would be rounded to 2 or 4 pixels
    network = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def answer(picture: np.ndarray) -> Answers:
        found = network({"picture": picture})
        return {name: found[name] for name in OUTPUTS}

    return answer


def _write_savedmodel(whole: Any, config: ModelConfig, path: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(whole, str(path), signatures=whole.answer)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / "streamseg.json").write_text(json.dumps(_facts(config), indent=1))


def _read_savedmodel(path: Path) -> Answer:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # kept: it owns the variables
    network = loaded.signatures["serving_default"]

    def answer(picture: np.ndarray) -> Answers:
        found = network(picture=tf.constant(picture))
        return {name: found[name].numpy() for name in OUTPUTS}

    return answer


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", ("tf2onnx", "onnx", "onnxruntime"), _write_onnx, _read_onnx),
    "openvino": Format(".xml", ("openvino",), _write_openvino, _read_openvino),
    "savedmodel": Format("", ("tensorflow",), _write_savedmodel, _read_savedmodel),
}
"""The formats by the names that `--format` takes."""
