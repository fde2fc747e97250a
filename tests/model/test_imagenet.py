"""A ResNet filled from a file of the Keras applications says what theirs says."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from streamseg.model.imagenet import is_imagenet, load_imagenet_resnet, resnet_weights
from streamseg.model.resnet import ResNet
from streamseg.types import ModelError, UsageError

MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
Layers = dict[str, list[tuple[str, np.ndarray]]]


def write(path: Path, layers: Layers) -> Path:
    """A weights file as Keras 2 wrote it: layers with their tensors, in order; one stored nowhere becomes zeros."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, tensors in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name, _ in tensors]
            for name, value in tensors:
                stored = any(value.strides)
                group.create_dataset(name, shape=value.shape, dtype="f4", data=value if stored else None)
    return path


def of_keras(model: Any) -> Layers:
    """The layers of a model of the Keras applications with their tensors, as its `save_weights` names them."""
    return {
        layer.name: [(f"{layer.name}/{weight.name}:0", np.asarray(weight)) for weight in layer.weights]
        for layer in model.layers
    }


@functools.cache
def application(kind: str) -> Any:
    """A ResNet of the Keras applications whose norms do something, for pictures of 62 pixels.

    Its stem then has 31 cells a side: on odd sizes the two ways of padding the pool are the same.
    """
    keras.utils.set_random_seed(3)
    make = {"resnet50": keras.applications.ResNet50, "resnet101": keras.applications.ResNet101}[kind]
    model = make(weights=None, include_top=False, input_shape=(62, 62, 3))
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            # variances as small as epsilon, so that a wrong one shows; a block adds little, so that sums stay small
            last = layer.name.endswith("_3_bn")
            layer.gamma.assign(rng.uniform(0.1, 0.3, size) * (0.1 if last else 1))
            layer.beta.assign(rng.normal(0, 0.1, size))
            layer.moving_mean.assign(rng.normal(0, 0.1, size))
            layer.moving_variance.assign(rng.uniform(1e-4, 1, size))
    return model


def hollow(layers: Layers) -> Layers:
    """The same layers, all zeros that take no room."""
    return {
        layer: [(name, np.broadcast_to(np.float32(0), value.shape)) for name, value in tensors]
        for layer, tensors in layers.items()
    }


@functools.cache
def ours(kind: str) -> ResNet:
    backbone = ResNet(kind, name="backbone")
    backbone.build((None, 64, 64, 3))
    return backbone


@pytest.mark.parametrize("kind", ["resnet50", "resnet101"])
def test_our_network_says_on_rgb_what_theirs_says_on_bgr(kind: str, tmp_path: Path) -> None:
    theirs = application(kind)
    rgb = np.random.default_rng(4).uniform(0, 255, (1, 62, 62, 3)).astype(np.float32)
    report = load_imagenet_resnet(ours(kind), write(tmp_path / "weights.h5", of_keras(theirs)))
    assert len(report.loaded) == len(theirs.weights)
    expected = np.asarray(theirs(rgb[..., ::-1] - MEAN_BGR))
    got = np.asarray(ours(kind)(rgb - MEAN_BGR[::-1])[-1])
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, atol=2e-4 * np.abs(expected).max())


def test_a_file_of_before_2019_is_read_by_the_order_of_its_tensors(tmp_path: Path) -> None:
    old = tmp_path / "old.h5"
    layers: Layers = {"input_1": []}
    rng = np.random.default_rng(0)
    for convolution in ours("resnet50").convolutions:
        shapes = {"W": convolution.kernel.shape, "b": convolution.bias.shape}
        layers[convolution.name] = [(f"{convolution.name}_{k}_1:0", rng.random(v, "f4")) for k, v in shapes.items()]
        size, name = convolution.gamma.shape, convolution.norm_name
        parts = ("gamma", "beta", "running_mean", "running_std")
        layers[name] = [(f"{name}_{part}_1:0", rng.random(size, "f4")) for part in parts]
    assert is_imagenet(write(old, layers))
    load_imagenet_resnet(ours("resnet50"), old)
    stem, other = ours("resnet50").convolutions[0], ours("resnet50").convolutions[7]
    np.testing.assert_array_equal(np.asarray(stem.kernel), layers["conv1"][0][1][:, :, ::-1])
    np.testing.assert_array_equal(np.asarray(other.kernel), layers[other.name][0][1])
    for i, variable in enumerate((other.gamma, other.beta, other.mean, other.variance)):
        np.testing.assert_array_equal(np.asarray(variable), layers[other.norm_name][i][1])


def without_a_tensor(layers: Layers) -> None:
    layers["conv4_block6_3_conv"].pop()


def with_one_too_many(layers: Layers) -> None:
    layers["conv3_block2_1_conv"].append(("conv3_block2_1_conv/more:0", np.zeros(3, "f4")))


def with_a_foreign_layer(layers: Layers) -> None:
    layers["conv4_block7_1_conv"] = [("conv4_block7_1_conv/kernel:0", np.zeros(3, "f4"))]


def with_another_shape(layers: Layers) -> None:
    layers["conv1_conv"][0] = ("conv1_conv/kernel:0", np.zeros((7, 7, 3, 32), "f4"))


def with_a_nan(layers: Layers) -> None:
    layers["conv1_bn"][1] = ("conv1_bn/beta:0", np.full(64, np.nan, "f4"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_a_tensor, "conv4_block6_3_conv/bias is missing"),
        (with_one_too_many, "conv3_block2_1_conv holds more tensors than it should"),
        (with_a_foreign_layer, "conv4_block7_1_conv does not belong to a resnet50"),
        (with_another_shape, r"conv1_conv/kernel: expected shape \(7, 7, 3, 64\), got \(7, 7, 3, 32\)"),
        (with_a_nan, "conv1_bn/beta holds values that are not numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name_and_nothing_is_loaded(
    tmp_path: Path, spoil: Callable[[Layers], None], words: str
) -> None:
    layers = hollow(of_keras(application("resnet50")))
    spoil(layers)
    backbone = ours("resnet50")
    before = [np.asarray(variable) for variable in backbone.weights]
    with pytest.raises(ModelError, match=words):
        load_imagenet_resnet(backbone, write(tmp_path / "spoilt.h5", layers))
    for value, variable in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(value, np.asarray(variable))


def test_the_top_is_left_aside(tmp_path: Path) -> None:
    layers = hollow(of_keras(application("resnet50")))
    layers["predictions"] = [("predictions/kernel:0", np.zeros((2048, 10), "f4"))]
    load_imagenet_resnet(ours("resnet50"), write(tmp_path / "top.h5", layers))


def test_the_weights_of_a_mask_rcnn_are_none_of_imagenet(tmp_path: Path) -> None:
    one = np.zeros(1, "f4")
    layers: Layers = {"conv1": [("conv1/kernel:0", one)], "fpn_p2": [("fpn_p2/kernel:0", one)]}
    assert not is_imagenet(write(tmp_path / "mask_rcnn.h5", layers))
    assert is_imagenet(write(tmp_path / "resnet.h5", {"conv1_conv": [("conv1_conv/kernel:0", one)]}))


# --- where it comes from


CONTENT = b"weights" * 1000


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a folder on the web that holds a file under the name it has at Keras."""

    class Folder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5":
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Folder) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/resnet"
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "streamseg" / "models"


def test_the_weights_are_fetched_once_into_the_cache(server: str, cache: Path) -> None:
    checksum = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    path = resnet_weights("resnet50", address=server, checksum=checksum)
    assert path.parent == cache and path.read_bytes() == CONTENT
    assert resnet_weights("resnet50", address="http://127.0.0.1:9", checksum=checksum) == path


def test_only_the_file_that_keras_promises_is_kept(server: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="not the file that was promised"):
        resnet_weights("resnet50", address=server)
    assert list(cache.iterdir()) == []


def test_without_a_network_the_message_says_where_to_put_the_file(cache: Path) -> None:
    put = cache / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with pytest.raises(ModelError, match=f"cannot be reached.*put it at {re.escape(str(put))}"):
        resnet_weights("resnet101", address="http://127.0.0.1:9")


def test_there_are_no_weights_of_another_backbone() -> None:
    with pytest.raises(UsageError, match="expected resnet50 or resnet101, got 'resnet18'"):
        resnet_weights("resnet18")
