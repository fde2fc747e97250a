"""A model as OpenVINO networks: to look, to judge boxes, to draw masks. TensorFlow traces them, OpenVINO runs them.

A *graph* is such a network with its weights as inputs, for pictures of any size. It follows from the configuration
alone, so it is traced once; filled with the weights of a file it is ready to run.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.config import ModelConfig
from streamseg.model.openvino_core import converted, openvino_core
from streamseg.model.tensors import misfit, refused
from streamseg.types import ModelError

PARTS = ("features", "box_head", "masks")
"""The networks that a model is exported as.

features: picture (1, height, width, 3) uint8 RGB → scores (A,) and deltas (A, 4) of the anchors, pyramid levels.
box_head: what is pooled of boxes (N, p, p, C) → logits (N, K) and deltas (N, K, 4).
masks: what is pooled of boxes (N, n, n, C) and class_ids (N,) int32 → masks (N, M, M).
What lies between them, the choice of boxes and the pooling, computes with coordinates and is left to the caller.
"""

INPUTS = ("picture", "crops", "class_ids")
"""What goes into the networks; the other inputs of a graph are weights."""

VERSION = 6
"""Raised when a configuration is exported as other networks than before."""

WITHOUT_EFFECT = {
    "class_names", "min_score", "input_sizes", "min_side", "anchor_sizes", "anchor_ratios", "rpn_delta_std",
    "rpn_nms_threshold", "proposals_before_nms", "num_proposals", "nms_rounds", "delta_std", "detection_min_score",
    "detection_nms_threshold", "max_detections", "whole_anchors", "proposals_by_level", "smallest_proposal",
    "smallest_detection", "all_classes", "clip_to", "roi_sampling", "roi_aligned", "box_voting", "box_fitting",
    "mask_scoring",
}  # fmt: skip
"""Fields of a configuration that its graphs do not depend on, but for how many classes and anchors there are."""


def graph_mark(config: ModelConfig) -> str:
    """What tells a configuration's graphs from others': the same for two configurations only if their graphs are."""
    settings = config.model_dump_json(exclude=WITHOUT_EFFECT, exclude_defaults=True)
    counts = config.num_classes, len(config.anchor_sizes[0]) * len(config.anchor_ratios)
    return hashlib.sha256(f"{VERSION} {config.family} {counts} {settings}".encode()).hexdigest()[:16]


def export_openvino(config: ModelConfig, weights: Path, folder: Path) -> None:
    """Write a model's networks (.xml and .bin each, as PARTS says) into `folder`.

    Raises ModelError when the weights are not the model's own, or Keras is not on TensorFlow.
    """
    from streamseg.model.checkpoint import weights_by_name
    from streamseg.model.mask_rcnn import load_network

    network = load_network(config, weights)
    values = {name: np.asarray(variable, np.float32) for name, variable in weights_by_name(network).items()}
    write_filled(traced(network), values, folder, origin=weights)


def export_graphs(config: ModelConfig, folder: Path) -> None:
    """Write the graphs of a configuration into `folder`, to be filled by `fill_graphs`.

    Raises ModelError when Keras is not on TensorFlow.
    """
    import openvino as ov

    from streamseg.model.layers import to_be_filled
    from streamseg.model.mask_rcnn import MaskRCNN

    network = MaskRCNN(config, name="network")
    with to_be_filled():
        network.build()
    folder.mkdir(parents=True, exist_ok=True)
    for part, graph in traced(network).items():
        ov.save_model(graph, folder / f"{part}.xml", compress_to_fp16=False)
    (folder / "mark").write_text(graph_mark(config) + "\n")


def has_graphs(folder: Path, config: ModelConfig) -> bool:
    """Whether a folder holds the graphs of this configuration."""
    mark = folder / "mark"
    return mark.is_file() and mark.read_bytes().strip() == graph_mark(config).encode()


def fill_graphs(graphs: Path, weights: Path, folder: Path) -> None:
    """Write into `folder` the networks that the graphs of one folder and a weights file of ours make; no TensorFlow.

    Raises ModelError when the file's tensors are not those of the graphs, or these cannot be read.
    """
    from streamseg.model.checkpoint import read_weights

    core = openvino_core()
    try:
        read = {part: core.read_model(graphs / f"{part}.xml") for part in PARTS}
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(
            f"{graphs}: these graphs cannot be read ({reason}); without this folder the model is traced instead"
        ) from error
    write_filled(read, read_weights(weights), folder, origin=weights)


def traced(network: Any) -> dict[str, Any]:
    """The graphs of a built `MaskRCNN`, by the names in PARTS: their further inputs are called as its weights are.

    Raises ModelError when Keras is not on TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its start-up messages say nothing to a user
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"exporting a model needs Keras on TensorFlow, got {keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    from streamseg.model.checkpoint import weights_by_name

    config = network.config
    original = config.family == "matterport"
    width, height = config.input_sizes[0]

    def features(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        levels = network.features(picture)
        logits, deltas = network.rpn([levels[i] for i in config.rpn_levels])
        scores = tf.nn.softmax(logits)[0, :, 1] if original else logits[0, :, 1] - logits[0, :, 0]
        return {"scores": scores, "deltas": deltas[0], **{f"level{i}": levels[i] for i in config.roi_levels}}

    def box_head(crops: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, deltas = network.box_head(crops)
        return {"logits": logits, "deltas": deltas}

    def masks(crops: tf.Tensor, class_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"masks": tf.sigmoid(network.mask_logits(crops, class_ids))}

    def pooled(size: int) -> tf.TensorSpec:
        return tf.TensorSpec((None, size, size, config.fpn_channels), tf.float32)

    parts: dict[str, tuple[Any, dict[str, tf.TensorSpec], tuple[str, ...]]] = {
        "features": (
            features,
            {"picture": tf.TensorSpec((1, height, width, 3), tf.uint8)},
            ("backbone/", "pyramid/", "rpn/"),
        ),
        "box_head": (box_head, {"crops": pooled(config.box_pool)}, ("box_head/",)),
        "masks": (
            masks,
            {"crops": pooled(config.mask_pool), "class_ids": tf.TensorSpec((None,), tf.int32)},
            ("mask_head/",),
        ),
    }
    variables = weights_by_name(network)
    graphs = {}
    for part, (function, inputs, rooms) in parts.items():
        own = {name: variable for name, variable in variables.items() if name.startswith(rooms)}
        specs = [tf.TensorSpec(variable.shape, tf.float32) for variable in own.values()]
        traced_part = tf.function(with_weights(function, list(own.values())), autograph=False)
        graph = converted(traced_part.get_concrete_function(*inputs.values(), *specs))
        cancel_transposes(graph)
        for port, name in zip(graph.inputs, (*inputs, *own), strict=True):
            port.set_names({name})
        graphs[part] = graph
    forget_size(graphs["features"])
    return graphs


def with_weights(function: Callable[..., Any], variables: Sequence[Any]) -> Callable[..., Any]:
    """The function with further arguments: what these variables of its network are to be."""
    import keras

    def called(*given: Any) -> Any:
        inputs, values = given[: -len(variables)], given[-len(variables) :]
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(*inputs)

    return called


def forget_size(features: Any) -> None:
    """Let a network that was traced for pictures of one size take those of any: (1, height, width, 3).

    Only two kinds of nodes hold sizes: each cell doubled, where the new size becomes a factor, and anchors in a row,
    where their number becomes whatever there is.
    """
    from openvino import PartialShape
    from openvino import opset13 as op

    for node in features.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Interpolate":
            attributes = {**node.get_attributes(), "shape_calculation_mode": "scales"}
            known = ("mode", "shape_calculation_mode", "pads_begin", "pads_end", "coordinate_transformation_mode",
                     "nearest_mode", "antialias", "cube_coeff")  # fmt: skip
            doubled = op.interpolate(
                node.input_value(0),
                op.constant(np.array([2, 2], np.float32)),
                axes=node.input_value(len(node.inputs()) - 1),
                **{name: attributes[name] for name in known},
            )
            node.output(0).replace(doubled.output(0))
        elif kind == "Reshape":
            pattern = node.input_value(1).get_node()
            if pattern.get_type_name() == "Constant" and len(row := pattern.get_data()) == 3 and row[0] == -1:
                node.input(1).replace_source_output(op.constant(np.array([1, -1, row[2]])).output(0))
    features.reshape({"picture": PartialShape([1, -1, -1, 3])})


def write_filled(graphs: Mapping[str, Any], values: Mapping[str, np.ndarray], folder: Path, *, origin: Path) -> None:
    """Write the graphs with their weights, tensors by name, in place; `origin` is where the values are from.

    What follows from the weights alone, such as a norm folded into a kernel, is computed once, here. They stay
    float32: a kernel with its norm rounded to float16 moves scores by more than 1e-3.
    Raises ModelError when a tensor is missing, of another shape or not the graphs', or the disk is full.
    """
    import openvino as ov
    from openvino import opset13 as op
    from openvino.passes import ConstantFolding, Manager

    wanted = {port.any_name: port for graph in graphs.values() for port in graph.inputs if port.any_name not in INPUTS}
    problems = [
        problem for name, port in wanted.items() if (problem := misfit(name, values.get(name), tuple(port.shape)))
    ]
    problems += [f"{name} does not belong to this model" for name in values if name not in wanted]
    if problems:
        raise refused(origin, "weights of this model", problems)
    for part, graph in graphs.items():
        for port in graph.inputs:
            if (name := port.any_name) not in INPUTS:
                parameter = port.get_node()
                port.replace(op.constant(values[name].astype(np.float32, copy=False)).output(0))
                graph.remove_parameter(parameter)
        graph.validate_nodes_and_infer_types()
        folding = Manager()
        folding.register_pass(ConstantFolding())
        folding.run_passes(graph)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            ov.save_model(graph, folder / f"{part}.xml", compress_to_fp16=False)
        except (OSError, RuntimeError) as error:  # OpenVINO says the former as the latter, and not why
            raise ModelError(f"{folder}: cannot be written; is the disk full?") from error


def cancel_transposes(network: Any) -> None:
    """Let whatever takes a tensor transposed there and back take the tensor itself; the numbers stay the same.

    The conversion leaves such pairs where a tensor is an output, too, and OpenVINO then moves every pyramid level four
    times: a twentieth of the time of the features.
    """
    for back in network.get_ordered_ops():
        there = back.input_value(0).get_node() if back.get_type_name() == "Transpose" else None
        if there is None or there.get_type_name() != "Transpose":
            continue
        orders = [node.input_value(1).get_node() for node in (there, back)]
        if any(order.get_type_name() != "Constant" for order in orders):
            continue
        first, second = (order.get_data() for order in orders)
        if np.array_equal(first[second], np.arange(len(first))):
            for taker in back.output(0).get_target_inputs():
                taker.replace_source_output(there.input_value(0))


def main(weights: str, folder: str) -> None:
    """Export a weights file; its configuration comes as JSON. The OpenVINO engine runs this in a process of its own."""
    config = ModelConfig.model_validate_json(sys.stdin.read())
    export_openvino(config, Path(weights), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
