"""The network as scripts use the original's `keras_model`: layers by the original's names, weights in its files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from streamseg.matterport.graph import LAYER_OUTPUTS, Y_FIRST, Output, output_of, values
from streamseg.matterport.utils import norm_boxes, parse_image_meta
from streamseg.model.mask_rcnn import MaskRCNN as Network
from streamseg.model.matterport_h5 import (
    LoadReport,
    groups_of,
    load_matterport,
    named_weights,
    read_shapes,
    save_matterport,
)
from streamseg.types import UsageError
from streamseg.words import nearest

PREDICTED = ("detections", "probs", "deltas", "masks", "proposals", "rpn_class", "rpn_bbox")
"""What the original's network puts out when it detects, in its order."""


class Weight:
    """A tensor of weights by the original's name, such as `conv1/kernel:0`."""

    def __init__(self, name: str, variable: Any) -> None:
        self.name, self.variable = name, variable
        self.shape = tuple(variable.shape)

    def numpy(self) -> np.ndarray:
        return np.array(keras.ops.convert_to_numpy(self.variable))

    @property
    def learns(self) -> bool:
        """Whether a training may change it: the statistics of a norm are kept, not learned."""
        return "/moving_" not in self.name


class Layer:
    """A layer of the original's graph: its name, its weights, and its output for `MaskRCNN.run_graph`.

    layers: those inside it, of the proposal network · output is refused where it has none (`graph.output_of`).
    """

    def __init__(self, name: str, weights: list[Weight], layers: tuple[Layer, ...] = ()) -> None:
        self.name, self.weights, self.layers = name, weights, layers

    def get_weights(self) -> list[np.ndarray]:
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Raises UsageError unless there is one array for each of its weights, of its shape."""
        wanted, got = [weight.shape for weight in self.weights], [np.shape(value) for value in weights]
        if wanted != got:
            raise UsageError(f"{self.name}: expected weights of the shapes {wanted}, got {got}")
        for weight, value in zip(self.weights, weights, strict=True):
            weight.variable.assign(np.asarray(value, np.float32))

    def count_params(self) -> int:
        return sum(int(np.prod(weight.shape)) for weight in self.weights)

    @property
    def trainable(self) -> bool:
        return any(weight.variable.trainable for weight in self.weights)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for weight in self.weights:
            if weight.learns:
                weight.variable.trainable = bool(value)

    @property
    def output(self) -> Output:
        return output_of(self.name)


class Conv2D(Layer):
    """A convolution."""


class Conv2DTranspose(Layer):
    """The mask head's enlarging convolution."""


class Dense(Layer):
    """A fully connected layer."""


class BatchNorm(Layer):
    """The norm behind a convolution."""


class Model(Layer):
    """The proposal network, which holds three layers."""


class KerasModel(Network):
    """The network itself, with what scripts ask of the original's Keras model."""

    @property
    def layers(self) -> list[Layer]:
        """The layers that hold weights, in the order of the original's graph; the proposal network is one of them."""
        named = named_weights(self)
        return [_layer(group, members, named) for group, members in groups_of(named).items()]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by the original's name, or by its place in `layers`. Raises UsageError for one that is not here.

        Some hold no weights, but an output: `ROI`, `mrcnn_detection`, `res4f_out` …
        """
        if index is not None:
            return self.layers[index]
        layers = self.layers
        there = {layer.name: layer for layer in [*layers, *_flat(layers)]}
        blocks = [f"{block.name}_out" for blocks in self.backbone.stages for block in blocks]
        if name in there:
            return there[name]
        if name not in (*LAYER_OUTPUTS, *blocks):
            close = nearest(str(name), [*LAYER_OUTPUTS, *blocks, *there])
            others = f"; there is {', '.join(LAYER_OUTPUTS)}, res2a_out … res5c_out and what summary() prints"
            raise UsageError(f"get_layer: no layer is called {name!r}{close if 'did you mean' in close else others}")
        return Layer(name, [])

    def save_weights(self, filepath: str | Path, overwrite: bool = True, save_format: str | None = None) -> None:
        """Write an `.h5` as the original does, whatever the file's name.

        overwrite: False refuses one that is there · save_format: `h5`, which it always is.
        """
        if save_format not in (None, "h5"):
            raise UsageError(f"save_format: expected h5, got {save_format!r}")
        path = Path(filepath)
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: it is there already; overwrite=True replaces it")
        save_matterport(self, path)

    def save(self, filepath: str | Path, overwrite: bool = True, include_optimizer: bool = False) -> None:
        """`save_weights` of an `.h5`, which scripts give `load_weights` again. Raises UsageError for another kind.

        include_optimizer says nothing here: the file holds weights only.
        """
        if Path(filepath).suffix not in (".h5", ".hdf5"):
            raise UsageError(
                f"{filepath}: expected the name of an .h5 of weights; `streamseg export` makes a model that runs "
                "elsewhere of such a file"
            )
        self.save_weights(filepath, overwrite)

    def load_weights(self, filepath: str | Path, by_name: bool = False, skip_mismatch: bool = False) -> LoadReport:
        """Fill the network from an `.h5` of the original, as `MaskRCNN.load_weights` does.

        skip_mismatch: layers that have other shapes in the file are left alone, with a warning that names them.
        """
        path = Path(filepath)
        others = _of_other_shapes(self, path) if skip_mismatch else []
        if others:
            warnings.warn(f"{path}: left alone, for their shapes differ: {', '.join(others)}", stacklevel=2)
        return load_matterport(self, path, by_name=by_name, exclude=others)

    def predict(
        self, inputs: Sequence[np.ndarray], batch_size: int | None = None, verbose: int = 0
    ) -> list[np.ndarray]:
        """What the network says of molded pictures (B, H, W, 3), their metas (B, 12 + K) and anchors (B, A, 4).

        The list of the original: detections (B, D, 6), class probabilities (B, N, K), deltas (B, N, K, 4), masks
        (B, D, m, m, K), proposals (B, N, 4), the proposal network's probabilities (B, A, 2) and deltas (B, A, 4).
        batch_size: as many are computed at a time, else all · verbose prints the shapes. Raises UsageError unless the
        anchors are those of the network.
        """
        arrays = [np.asarray(each) for each in inputs]
        step = batch_size or max(1, len(arrays[0]))
        starts = range(0, max(1, len(arrays[0])), step)
        parts = [self.predict_on_batch([each[start : start + step] for each in arrays]) for start in starts]
        found = [np.concatenate(values) for values in zip(*parts, strict=True)]
        if verbose:
            print("  ".join(f"{name} {value.shape}" for name, value in zip(PREDICTED, found, strict=True)))
        return found

    def predict_on_batch(self, x: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`predict`, all pictures in one step."""
        molded, metas, anchors = (np.asarray(each) for each in x)
        wanted = {name: Output(name) for name in ("anchors", *PREDICTED)}
        windows = norm_boxes(parse_image_meta(metas)["window"], molded.shape[1:])[:, Y_FIRST]
        images = (molded + np.asarray(self.config.mean_pixel)).astype(np.float32)
        found = values(self, self.explain, images, windows, metas=metas, outputs=wanted)
        own = found.pop("anchors")
        if anchors.shape != own.shape or not np.allclose(anchors, own, atol=1e-5):
            raise UsageError(f"anchors: expected what get_anchors{molded.shape[1:]} says, once a picture: {own.shape}")
        return list(found.values())

    def summary(
        self, line_length: int | None = None, positions: Any = None, print_fn: Callable[[str], Any] | None = None
    ) -> None:
        """Print every layer that holds weights: name, kind, shape of its first tensor, number of weights.

        print_fn takes each line · line_length and positions say nothing here: the table is as wide as it is.
        """
        print_fn = print_fn or print
        print_fn(f"{'Layer':24}{'Kind':17}{'Shape':22}{'Weights':>12}  Trained")
        layers = list(_flat(self.layers))
        for layer in layers:
            kind, shape = type(layer).__name__, str(layer.weights[0].shape)
            learns = "yes" if layer.trainable else "no"
            print_fn(f"{layer.name:24}{kind:17}{shape:22}{layer.count_params():>12,}  {learns}")
        print_fn(f"{len(layers)} layers, {sum(layer.count_params() for layer in layers):,} weights")

    def _make_predict_function(self) -> None:
        """What scripts call before they detect in another thread: here there is nothing to prepare."""


def _of_other_shapes(network: Network, path: Path) -> list[str]:
    """The layers of a network that have other shapes in a weights file."""
    found = read_shapes(path)
    return [
        layer
        for layer, tensors in named_weights(network).items()
        if any(found.get(layer, {}).get(name, value.shape) != tuple(value.shape) for name, value in tensors.items())
    ]


def _layer(name: str, members: list[str], named: dict[str, dict[str, Any]]) -> Layer:
    if members != [name]:
        layers = tuple(_layer(member, [member], named) for member in members)
        return Model(name, [weight for layer in layers for weight in layer.weights], layers)
    tensors = named[name]
    weights = [Weight(f"{name}/{short}:0", variable) for short, variable in tensors.items()]
    if "gamma" in tensors:
        return BatchNorm(name, weights)
    if name == "mrcnn_mask_deconv":
        return Conv2DTranspose(name, weights)
    return (Dense if len(tensors["kernel"].shape) == 2 else Conv2D)(name, weights)


def _flat(layers: list[Layer]) -> Iterator[Layer]:
    for layer in layers:
        yield from layer.layers or (layer,)
