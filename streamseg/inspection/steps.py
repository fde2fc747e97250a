"""Every step of a network on one picture, as arrays: what it proposed, judged, refined, suppressed and drew.

A anchors, n best anchors, N proposals, D detections, K classes, M cells along a side of a mask. Boxes are xyxy in
pixels of the network's input, whatever the family; scores and probabilities lie in [0, 1].
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import keras
import numpy as np

from streamseg.config import ModelConfig
from streamseg.datasets._picture_files import decoded
from streamseg.letterbox import Letterbox, in_pixels
from streamseg.model import matterport_h5
from streamseg.model.checkpoint import weights_by_name
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model_folder import ModelFolder
from streamseg.types import Frame, InputError, Instances, UsageError
from streamseg.words import nearest

LEVELS = ("P2", "P3", "P4", "P5")
"""The activations that are kept when no layers are asked for."""

EXPLODED = 1000.0
"""A weight beyond this is a sign that a training ran away; the original's limit."""


@dataclass(frozen=True)
class Steps:
    """What every step of the network says of one picture, under the names that the original's notebooks use.

    (In their layout, normalised and y first, `streamseg.matterport.MaskRCNN.run_graph` has them.)

    rgb (H, W, 3) uint8: the picture · image (h, w, 3) uint8: the input made of it, as `letterbox` says
    instances: what the engine returns for it, in pixels of the picture

    Proposal network
    anchors (A, 4) · rpn_class (A, 2): background, object · rpn_bbox (A, 4) deltas · pre_nms_anchor_ix (n,) int32: the
    best anchors, best first, and theirs: pre_nms_scores (n,), pre_nms_anchors, refined_anchors,
    refined_anchors_clipped (n, 4) · post_nms_anchor_ix (≤ N,) int32: the rows of those that became proposals ·
    proposals (N, 4), zeros after the real ones · real (N,) bool

    Heads
    probs (N, K) · deltas (N, K, 4) · class_ids (N,) int32 and scores (N,): the class that counts · refined (N, 4):
    proposals moved by the deltas of that class and clipped · firm, kept (N,) bool: past the lowest score, past the
    suppression within each class · detections (D, 6): x1, y1, x2, y2, score, class, zero rows at the end · source (D,)
    int32: the proposal of each detection, -1 for none · masks (D, M, M, K)

    activations: layer -> what it put out, without the axis of pictures; of a layer that is called several times, one
    after the other as `rpn/shared 1`, `rpn/shared 2` …
    """

    config: ModelConfig
    letterbox: Letterbox
    rgb: np.ndarray
    image: np.ndarray
    instances: Instances
    anchors: np.ndarray
    rpn_class: np.ndarray
    rpn_bbox: np.ndarray
    pre_nms_anchor_ix: np.ndarray
    pre_nms_scores: np.ndarray
    pre_nms_anchors: np.ndarray
    refined_anchors: np.ndarray
    refined_anchors_clipped: np.ndarray
    post_nms_anchor_ix: np.ndarray
    proposals: np.ndarray
    real: np.ndarray
    probs: np.ndarray
    deltas: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    refined: np.ndarray
    firm: np.ndarray
    kept: np.ndarray
    detections: np.ndarray
    source: np.ndarray
    masks: np.ndarray
    activations: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.config.class_names

    @property
    def found(self) -> np.ndarray:
        """The rows (≤ D,) of `detections` that are some."""
        return np.flatnonzero(self.detections[:, 5] > 0)

    @property
    def class_masks(self) -> np.ndarray:
        """The mask (D, M, M) of each detection in its own class; zeros where there is no detection."""
        return self.masks[np.arange(len(self.masks)), ..., self.detections[:, 5].astype(int)]


@dataclass(frozen=True)
class OpenModel:
    """A model with its network on the Keras backend, to look at several pictures without loading it again."""

    folder: ModelFolder
    network: MaskRCNN

    @classmethod
    def open(cls, model: str | Path, *, class_names: Sequence[str] | None = None) -> OpenModel:
        """By name, folder or `.h5` file. Raises UsageError for an unknown name, ModelError for a broken model."""
        folder = ModelFolder.open(model, class_names=class_names)
        return cls(folder, load_network(folder.config, folder.weights))


def read_picture(path: str | Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8 RGB, upright. Raises InputError when it cannot be read."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    bgr = decoded(Path(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise InputError(f"{path}: expected a picture (JPEG, PNG …), it cannot be read as one")
    rgb: np.ndarray = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb


def inspect(
    picture: np.ndarray | str | Path, model: str | Path | OpenModel = "people", *, layers: Sequence[str] = LEVELS
) -> Steps:
    """What every step of the model says of a picture (H, W, 3) uint8 RGB, or of a file; the input is made as for `run`.

    model: a name, folder, `.h5` file or open model · layers: whose activations are kept: `C1` … `C5` (of a
    ResNet), `P2` … `P6`, or layers by their names (`layer_names`).
    Raises UsageError for an unknown model or layer, InputError for what is no picture.
    """
    rgb = picture if isinstance(picture, np.ndarray) else read_picture(picture)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"expected a picture (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    opened = model if isinstance(model, OpenModel) else OpenModel.open(model)
    folder, network, config = opened.folder, opened.network, opened.folder.config
    frame = Frame(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"), 0, 0.0, 0.0, "picture")
    width, height = folder.input_size(frame)
    images = np.zeros((1, height, width, 3), np.uint8)
    letterbox = folder.fit(frame, images[0])
    windows = np.array([[0, 0, *folder.picture_in(letterbox)]], np.float32) if config.clip_to == "picture" else None
    maps = [name for name in layers if name in feature_maps(config)]
    with listening(network, [name for name in layers if name not in maps]) as heard:
        said = network.explain(keras.ops.convert_to_tensor(images), windows)
    arrays = {name: np.array(keras.ops.convert_to_numpy(value[0])) for name, value in said.items() if name != "anchors"}
    arrays["anchors"] = np.array(keras.ops.convert_to_numpy(said["anchors"]))
    activations = {name: np.array(arrays[name], np.float32) for name in maps} | heard
    if config.family == "matterport":
        for name in ("anchors", "pre_nms_anchors", "refined_anchors", "refined_anchors_clipped", "refined"):
            arrays[name] = in_pixels(arrays[name], width, height)
        arrays["proposals"] = in_pixels(arrays["proposals"], width, height) * arrays["real"][:, None]
    else:  # the other families rank by logits, which are no probabilities
        arrays["pre_nms_scores"] = arrays["rpn_class"][arrays["pre_nms_anchor_ix"], 1]
    detections = arrays["detections"]
    fitted = np.concatenate([arrays["fitted"], detections[:, 4:]], axis=1)
    instances = _instances(folder, letterbox, fitted, arrays["masks"])
    if config.family == "matterport":
        there = detections[:, 5:] > 0
        detections[:, :4] = np.where(there, in_pixels(detections[:, :4], width, height), 0)
    kept = np.zeros_like(arrays["firm"])
    np.logical_or.at(kept, arrays["order"], arrays["kept"])  # a proposal may stand there once for each class
    limit = min(config.num_proposals, len(arrays["post_nms_keep"]))
    names = [name for name in Steps.__dataclass_fields__ if name in arrays]
    return Steps(
        config=config,
        letterbox=letterbox,
        rgb=rgb,
        image=images[0],
        instances=instances,
        post_nms_anchor_ix=np.flatnonzero(arrays["post_nms_keep"])[:limit].astype(np.int32),
        activations={name: activations[name] for name in _as_asked(layers, activations)},
        **{name: kept if name == "kept" else arrays[name] for name in names},
    )


def _instances(folder: ModelFolder, letterbox: Letterbox, detections: np.ndarray, masks: np.ndarray) -> Instances:
    """What the engine makes of a network's detections (D, 6) with the masks (D, M, M, K) of all classes."""
    numbered = np.concatenate([detections, np.arange(len(detections))[:, None]], axis=1).astype(np.float32)
    found = folder.found(numbered, letterbox)
    rows, class_ids = found[:, 6].astype(int), found[:, 5].astype(int)
    return folder.instances(found[:, :6], masks[rows, ..., class_ids], letterbox)


# --- layers -----------------------------------------------------------------------------------------------------------


def feature_maps(config: ModelConfig) -> tuple[str, ...]:
    """The maps between backbone and heads that a network gives by a short name."""
    return (*(("C1", "C2", "C3", "C4", "C5") if config.family != "lite" else ()), "P2", "P3", "P4", "P5", "P6")


def layer_names(network: MaskRCNN) -> dict[str, Any]:
    """Every layer by its name: its place (`rpn/shared`), or the original's name in the matterport family."""
    prefix, by_place = f"{network.name}/", network.config.family != "matterport"
    layers = network._flatten_layers(include_self=False, recursive=True)
    return {layer.path.removeprefix(prefix) if by_place else layer.name: layer for layer in layers}


@contextlib.contextmanager
def listening(network: MaskRCNN, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """A dictionary that holds, once the network has run, what the named layers put out, the axis of pictures dropped.

    Raises UsageError for a layer that the network does not have.
    """
    layers = layer_names(network)
    for name in names:
        if name not in layers:
            raise UsageError(f"layers: no layer is called {name!r}{_hint(name, network.config, layers)}")
    result: dict[str, np.ndarray] = {}
    with noting([layers[name] for name in names]) as calls:
        yield result
    for name, noted in zip(names, calls, strict=True):
        put_out = [each for call in noted for each in keras.tree.flatten(call.output)]
        heard = [np.array(keras.ops.convert_to_numpy(keras.ops.cast(each, "float32"))[0]) for each in put_out]
        result |= {name if len(heard) == 1 else f"{name} {i}": out for i, out in enumerate(heard, start=1)}


class Call(NamedTuple):
    """What a layer was given, its first argument, and what it put out."""

    given: Any
    output: Any


@contextlib.contextmanager
def noting(layers: Sequence[Any]) -> Iterator[list[list[Call]]]:
    """For each of the layers the calls that a network makes of it meanwhile; the network must not run as a graph."""
    calls: list[list[Call]] = [[] for _ in layers]
    for layer, noted in zip(layers, calls, strict=True):
        layer.call = _noting(layer.call, noted)
    try:
        yield calls
    finally:
        for layer in layers:
            del layer.call  # its class's own again


def _hint(name: str, config: ModelConfig, layers: dict[str, Any]) -> str:
    maps = feature_maps(config)
    close = nearest(name, [*maps, *layers])
    return close if "did you mean" in close else f"; there is {', '.join(maps)}, and every layer of the network"


def _noting(call: Any, calls: list[Call]) -> Any:
    """A layer's `call` that also keeps what it takes and puts out."""

    def noted(given: Any, *args: Any, **kwargs: Any) -> Any:
        output = call(given, *args, **kwargs)
        calls.append(Call(given, output))
        return output

    return noted


def _as_asked(layers: Sequence[str], activations: dict[str, np.ndarray]) -> Iterator[str]:
    """The names of activations in the order of the layers that they were asked by."""
    for layer in dict.fromkeys(layers):
        yield from (name for name in activations if name == layer or name.startswith(f"{layer} "))


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WeightStats:
    """One tensor of weights: its least and largest value, their spread, and how many lie in each of the equal steps
    from the least to the largest.

    dead: all values are the same, as where nothing was ever learnt (a bias may be) · dead_channels: of a kernel, those
    whose weights are all 0 · exploding: a value beyond ±1000, or none at all
    """

    layer: str
    name: str
    shape: tuple[int, ...]
    least: float
    largest: float
    std: float
    counts: np.ndarray
    dead: bool
    dead_channels: int
    exploding: bool

    @classmethod
    def of(cls, layer: str, name: str, values: np.ndarray, *, steps: int = 40) -> WeightStats:
        finite = values[np.isfinite(values)].astype(np.float64)
        some = finite if finite.size else np.zeros(1)
        least, largest = float(some.min()), float(some.max())
        last = -2 if values.shape[-1:] == (1,) else -1  # a depthwise kernel has its channels there
        channels = np.moveaxis(values, last, -1) if name == "kernel" and values.ndim > 1 else None
        return cls(
            layer=layer,
            name=name,
            shape=values.shape,
            least=least,
            largest=largest,
            std=float(some.std()),
            counts=np.histogram(finite, steps)[0] if least < largest else np.array([finite.size]),
            dead=values.size > 1 and finite.size == values.size and least == largest and name != "bias",
            dead_channels=0 if channels is None else int((channels == 0).all(axis=tuple(range(values.ndim - 1))).sum()),
            exploding=finite.size < values.size or max(-least, largest) > EXPLODED,
        )


def weight_stats(network: MaskRCNN) -> list[WeightStats]:
    """The statistics of every tensor of weights, in the network's order."""
    if network.config.family == "matterport":
        layers = matterport_h5.named_weights(network)
        named = [(layer, name, value) for layer, tensors in layers.items() for name, value in tensors.items()]
    else:
        paths = weights_by_name(network)
        named = [(path.rpartition("/")[0], path.rpartition("/")[2], value) for path, value in paths.items()]
    return [
        WeightStats.of(layer, name, np.asarray(keras.ops.convert_to_numpy(variable.value)))
        for layer, name, variable in named
    ]
