"""What the network computes on its way, by the names of the original's notebooks and by those of its layers.

B pictures, A anchors, N proposals, D detections, K classes. Boxes are y1, x1, y2, x2, normalised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from streamseg.inspection.steps import Call, noting
from streamseg.model.layers import Convolution
from streamseg.model.mask_rcnn import MaskRCNN as Network
from streamseg.types import UsageError
from streamseg.words import nearest

Y_FIRST = [1, 0, 3, 2]
"""Boxes x1, y1, x2, y2 and deltas x, y, log w, log h to the original's order, and back."""

FEATURES = ("C1", "C2", "C3", "C4", "C5", "P2", "P3", "P4", "P5", "P6")

Y_FIRST_OUTPUTS = (
    "anchors",
    "rpn_bbox",
    "pre_nms_anchors",
    "refined_anchors",
    "refined_anchors_clipped",
    "proposals",
    "deltas",
)

OUTPUTS = (
    "input_image",
    "input_image_meta",
    *FEATURES,
    *Y_FIRST_OUTPUTS,
    "rpn_logits",
    "rpn_class",
    "pre_nms_anchor_ix",
    "post_nms_anchor_ix",
    "pooled",
    "class_logits",
    "probs",
    "detections",
    "mask_pooled",
    "masks",
)
"""What `run_graph` knows, under the names that the notebooks use."""

LAYER_OUTPUTS = {
    "input_image": "input_image",
    "input_image_meta": "input_image_meta",
    "input_anchors": "anchors",
    **{f"fpn_p{i}": f"P{i}" for i in (2, 3, 4, 5, 6)},
    "rpn_class_logits": "rpn_logits",
    "rpn_class": "rpn_class",
    "rpn_bbox": "rpn_bbox",
    "ROI": "proposals",
    "roi_align_classifier": "pooled",
    "pool_squeeze": "pool_squeeze",
    "mrcnn_class_logits": "class_logits",
    "mrcnn_class": "probs",
    "mrcnn_bbox": "deltas",
    "mrcnn_detection": "detections",
    "roi_align_mask": "mask_pooled",
    "mrcnn_mask": "masks",
}
"""The original's layer -> what it puts out, where that is no layer of the same name here."""

ANCESTORS = {
    r"ROI/pre_nms_anchors": "pre_nms_anchors",
    r"ROI/refined_anchors": "refined_anchors",
    r"ROI/refined_anchors_clipped": "refined_anchors_clipped",
    r"ROI/rpn_non_max_suppression(/NonMaxSuppressionV\d)?": "post_nms_anchor_ix",
}
"""The tensors inside the original's proposal layer that its notebooks look for."""


HEADS = ("mrcnn_", "pool_squeeze")
"""How the names of the layers begin that see one box at a time."""


class Output(NamedTuple):
    """A value of the network that `run_graph` can be asked for: one of `OUTPUTS`, or what the named layer puts out."""

    name: str


def output_of(layer: str) -> Output:
    """What a layer of the original puts out. Raises UsageError for those inside the proposal network."""
    if layer.startswith("rpn_") and layer not in LAYER_OUTPUTS:
        raise UsageError(
            f"{layer}: expected a layer with one output; it is called for every level, which are together in the "
            "outputs of rpn_class_logits, rpn_class and rpn_bbox"
        )
    return Output(LAYER_OUTPUTS.get(layer, layer))


def ancestor(name: str) -> Output | None:
    """The value of a tensor of the original's graph, such as `ROI/refined_anchors:0`; None for one not known here."""
    plain = re.sub(r"_\d+(?=/)", "", re.sub(r":\d+$", "", name))
    return next((Output(value) for tensor, value in ANCESTORS.items() if re.fullmatch(tensor, plain)), None)


def asked(outputs: Iterable[Any]) -> dict[str, Output]:
    """Label -> value, of names of `OUTPUTS` and of pairs (label, output). Raises UsageError for anything else."""
    found: dict[str, Output] = {}
    for each in outputs:
        label, output = (each, Output(each)) if isinstance(each, str) else each
        if isinstance(each, str) and each not in OUTPUTS:
            raise UsageError(f"outputs: {each!r} is none of them{nearest(each, OUTPUTS)}")
        if not isinstance(output, Output):
            raise UsageError(f"outputs: {label!r}: expected the output of a layer or of `ancestor`, got {output!r}")
        found[label] = output
    return found


def values(
    network: Network,
    explain: Callable[..., Mapping[str, Any]],
    images: np.ndarray,
    windows: np.ndarray,
    *,
    metas: np.ndarray,
    outputs: Mapping[str, Output],
) -> dict[str, Any]:
    """What each label stands for, of images (B, H, W, 3) with their mean and windows (B, 4) x first.

    explain: the network's own, perhaps as a graph; it is not called when a layer has to be listened to.
    """
    layers = _layers(network)
    steps: Mapping[str, Any]
    heard = {id(layer): layer for each in outputs.values() if (layer := layers.get(each.name))}
    if heard:
        with noting(list(heard.values())) as calls:
            steps = network.explain(keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(windows))
    else:
        steps, calls = explain(images, windows), []
    noted = dict(zip(heard, calls, strict=True))
    known = {
        "input_image": lambda: images - np.asarray(network.config.mean_pixel, np.float32),
        "input_image_meta": lambda: metas,
    }

    def value(name: str) -> Any:
        if name in known:
            return known[name]()
        if name in layers:
            (call,) = noted[id(layers[name])]
            put_out = _put_out(name, layers[name], call)
            return _by_picture(put_out, len(images)) if name.startswith(HEADS) else put_out
        return _as_original(name, steps, count=len(images))

    return {label: value(output.name) for label, output in outputs.items()}


def _layers(network: Network) -> dict[str, Any]:
    """The network's layers by the names of what the original's layers of the same place put out."""
    found: dict[str, Any] = {}
    for layer in network._flatten_layers(include_self=False, recursive=True):
        found[layer.name] = layer
        if isinstance(layer, Convolution) and layer.norm:
            found[layer.norm_name] = layer
    blocks = {f"{block.name}_out": block for blocks in network.backbone.stages for block in blocks}
    return {**found, **blocks, "pool_squeeze": found["mrcnn_class_conv2"]}


def _put_out(name: str, layer: Any, call: Call) -> np.ndarray:
    """What the original's layer puts out: here a convolution, its norm and its activation are one, and taken apart."""
    if name == "pool_squeeze":
        return _array(call.output)[:, 0, 0]  # (B · N, F)
    if not isinstance(layer, Convolution) or not layer.norm:
        return _array(call.output)
    raw = layer._convolve(call.given, keras.ops.convert_to_tensor(layer.kernel)) + layer.bias
    if name == layer.name:
        return _array(raw)
    return _array((raw - layer.mean) * layer.gamma * keras.ops.rsqrt(layer.variance + layer.epsilon) + layer.beta)


def _by_picture(value: np.ndarray, count: int) -> np.ndarray:
    """A value of the boxes of all pictures (B · N, …), as the heads compute it, picture by picture: (B, N, …)."""
    return value.reshape(count, len(value) // count, *value.shape[1:])


def _as_original(name: str, steps: Mapping[str, Any], *, count: int) -> Any:
    """One of the network's own steps in the original's order of coordinates."""
    if name == "post_nms_anchor_ix":
        kept, most = _array(steps["post_nms_keep"]), steps["proposals"].shape[1]
        places = [np.flatnonzero(row)[:most].astype(np.int32) for row in kept]
        return places[0] if len(places) == 1 else places
    value = _array(steps[name])
    if name == "detections":
        return value[..., [*Y_FIRST, 5, 4]]
    if name == "anchors":
        value = np.broadcast_to(value, (count, *value.shape))
    return value[..., Y_FIRST] if name in Y_FIRST_OUTPUTS else value


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
