"""A model as OpenVINO networks: to look, to decide, to crop, to draw masks."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from streamseg.config import ModelConfig
from streamseg.types import ModelError


def export_openvino(config: ModelConfig, weights: Path, folder: Path, *, width: int, height: int) -> None:
    """Write a model's networks (.xml and .bin each) and anchors.npy into `folder`, for inputs of width × height pixels.

    features: picture (1, height, width, 3) uint8 RGB → scores (A,) and deltas (A, 4) of the anchors, pyramid levels.
    proposals: the levels, the best anchors (n, 4), best first, and their deltas (n, 4) → boxes (N, 4), zeros at the
    end, and what the box head sees of them (N, p, p, C). In the matterport family, with its thousands of boxes, pools
    instead: the levels and boxes that the caller chose → the same crops.
    box_head: these crops → logits (N, K) and deltas (N, K, 4).
    crops: the levels and boxes (N, 4) → what the mask head sees (N, n, n, C); N is free.
    masks: these crops and class_ids (N,) int32 → masks (N, M, M).
    Networks that compute with coordinates stand apart, because they must stay float32 where the others need not.
    The choice of the best anchors is left to the caller: OpenVINO's TopK takes 150 ms where numpy takes 0.3.
    Weights stay float32: a norm folded into a kernel rounded to float16 moves scores by more than 1e-3.
    Raises ModelError when Keras is not on TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its start-up messages say nothing to a user
    import keras
    import openvino as ov

    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"exporting a model needs Keras on TensorFlow, got {keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
        )
    import tensorflow as tf

    from streamseg.model.anchors import make_anchors
    from streamseg.model.mask_rcnn import load_network
    from streamseg.model.rpn import propose

    network = load_network(config, weights)
    lite = config.family == "lite"
    names = sorted(config.roi_levels)
    maps = [
        tf.TensorSpec((1, -(-height // 2**i), -(-width // 2**i), config.fpn_channels), tf.float32, name=f"level{i}")
        for i in names
    ]
    anchors = make_anchors(config, width, height)
    chosen = tf.TensorSpec((min(config.proposals_before_nms, len(anchors)), 4), tf.float32)
    graph = partial(tf.function, autograph=False)  # there are no loops or branches to rewrite

    @graph(input_signature=[tf.TensorSpec((1, height, width, 3), tf.uint8)])
    def features(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        levels = network.features(picture)
        logits, deltas = network.rpn([levels[i] for i in config.rpn_levels])
        scores = logits[0, :, 1] - logits[0, :, 0] if lite else tf.nn.softmax(logits)[0, :, 1]
        return {"scores": scores, "deltas": deltas[0], **{f"level{i}": levels[i] for i in names}}

    @graph(input_signature=[*maps, chosen, chosen])
    def proposals(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        *levels, best, deltas = inputs
        boxes = propose(best[None], deltas[None], config, width=width, height=height)[0]
        pooled = network.pool(dict(zip(names, levels, strict=True)), boxes, config.box_pool)
        return {"proposals": boxes[0], "crops": pooled}

    def cropping(size: int) -> Any:
        @graph(input_signature=[*maps, tf.TensorSpec((None, 4), tf.float32)])
        def crops(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            *levels, boxes = inputs
            pyramid = dict(zip(names, levels, strict=True))
            return {"crops": network.align(pyramid, boxes, tf.zeros_like(boxes[:, 0], tf.int32), size=size)}

        return crops

    def cropped(size: int) -> tf.TensorSpec:
        return tf.TensorSpec((None, size, size, config.fpn_channels), tf.float32)

    @graph(input_signature=[cropped(config.box_pool)])
    def box_head(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, deltas = network.box_head(inputs)
        return {"logits": logits, "deltas": deltas}

    @graph(input_signature=[cropped(config.mask_pool), tf.TensorSpec((None,), tf.int32)])
    def masks(inputs: tf.Tensor, class_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"masks": tf.sigmoid(network.mask_logits(inputs, class_ids))}

    folder.mkdir(parents=True, exist_ok=True)
    levels = [f"level{i}" for i in names]
    parts = {
        "features": (features, ["picture"]),
        "crops": (cropping(config.mask_pool), [*levels, "boxes"]),
        "masks": (masks, ["crops", "class_ids"]),
        "box_head": (box_head, ["crops"]),
    }
    if lite:
        parts["proposals"] = (proposals, [*levels, "anchors", "deltas"])
    else:
        parts["pools"] = (cropping(config.box_pool), [*levels, "boxes"])
    for name, (function, inputs) in parts.items():
        converted = ov.convert_model(function.get_concrete_function())
        cancel_transposes(converted)
        for port, tensor in zip(converted.inputs, inputs, strict=True):
            port.set_names({tensor})
        ov.save_model(converted, folder / f"{name}.xml", compress_to_fp16=False)
    np.save(folder / "anchors.npy", anchors)


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


def main(weights: str, folder: str, width: str, height: str) -> None:
    """Export a weights file; its configuration comes as JSON. The OpenVINO engine runs this in a process of its own."""
    config = ModelConfig.model_validate_json(sys.stdin.read())
    export_openvino(config, Path(weights), Path(folder), width=int(width), height=int(height))


if __name__ == "__main__":
    main(*sys.argv[1:])
