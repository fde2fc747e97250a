"""What is done to a network on its way to OpenVINO."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from streamseg import zoo
from streamseg.config import ModelConfig
from streamseg.model.export import cancel_transposes, fill_graphs, graph_mark, has_graphs
from streamseg.model.openvino_core import converted
from streamseg.model_folder import ModelFolder
from streamseg.types import ModelError


def there_and(back: list[int]) -> ov.Model:
    """A picture turned to channels last, which is an output, and turned again and made positive, which is another."""
    picture = op.parameter([1, 2, 3, 4], np.float32, name="picture")
    there = op.transpose(op.negative(picture), op.constant([0, 2, 3, 1]))
    again = op.relu(op.transpose(there, op.constant(back)))
    return ov.Model([op.result(there), op.result(again)], [picture], "network")


def transposes(network: ov.Model) -> int:
    return sum(node.get_type_name() == "Transpose" for node in network.get_ordered_ops())


def test_a_transpose_and_its_inverse_cancel_and_the_numbers_stay() -> None:
    network = there_and([0, 3, 1, 2])
    picture = np.arange(-12, 12, dtype=np.float32).reshape(1, 2, 3, 4)
    assert transposes(network) == 2

    cancel_transposes(network)

    assert transposes(network) == 1  # the one that is an output
    found = ov.compile_model(network, "CPU")([picture])
    assert np.array_equal(found[0], -picture.transpose(0, 2, 3, 1))
    assert np.array_equal(found[1], np.maximum(-picture, 0))


def test_two_transposes_that_are_no_inverses_stay() -> None:
    network = there_and([0, 2, 1, 3])
    cancel_transposes(network)
    assert transposes(network) == 2


def test_a_function_is_converted_though_openvino_cannot_ask_for_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Python 3.13, where OpenVINO's own way to ask for its version is a NameError."""
    import tensorflow as tf
    from openvino.frontend.tensorflow import utils

    def failing(_: str) -> dict[str, str]:
        raise NameError("name 'tensorflow' is not defined")

    monkeypatch.setattr(utils, "get_environment_setup", failing)
    twice = tf.function(lambda numbers: 2 * numbers, input_signature=[tf.TensorSpec((3,), tf.float32)])
    network = converted(twice.get_concrete_function())
    assert ov.compile_model(network, "CPU")([np.array([1, 2, 3], np.float32)])[0].tolist() == [2, 4, 6]


EMBEDDED = sorted(path.parent.name for path in zoo.EMBEDDED.glob("*/model.yaml"))


def test_every_embedded_model_has_the_graphs_of_its_configuration() -> None:
    """If not: `python benchmarks/make_graphs.py`."""
    assert "people" in EMBEDDED
    for name in EMBEDDED:
        folder = ModelFolder.open(name)
        assert has_graphs(folder.graphs, folder.config), name


def test_a_mark_changes_with_what_networks_are_made_of_and_with_nothing_else() -> None:
    marks = {
        graph_mark(ModelConfig(**knobs))  # type: ignore[arg-type]
        for knobs in (
            {},
            {"backbone": "efficientnet_lite1"},
            {"box_channels": 128},
            {"class_names": ("background", "cat", "dog")},
            {"anchor_ratios": (1.0, 2.0)},
            {"smooth_levels": (3, 4)},
        )
    }
    assert len(marks) == 6
    assert len(marks | {graph_mark(ModelConfig.matterport()), graph_mark(ModelConfig.matterport(rpn_stride=2))}) == 8
    alike = {
        "class_names": ("background", "cat"),
        "input_sizes": ((64, 64),),
        "num_proposals": 10,
        "min_score": 0.2,
        "anchor_sizes": ((1, 2), (3, 4), (5, 6), (7, 8)),
    }
    assert graph_mark(ModelConfig(**alike)) in marks  # type: ignore[arg-type]


def answers(network: ov.Model, picture: np.ndarray) -> dict[str, np.ndarray]:
    """What a network says of a picture (1, height, width, 3) uint8, computed in float32."""
    network.reshape({"picture": list(picture.shape)})
    ready = ov.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return {port.any_name: value.copy() for port, value in ready([picture]).items()}


def exported_for(name: str, width: int, height: int) -> ov.Model:
    """A model's features exported for pictures of one size, with its weights in it: as TensorFlow and the converter
    do it by themselves."""
    import tensorflow as tf

    from streamseg.model.mask_rcnn import load_network

    folder = ModelFolder.open(name)
    network = load_network(folder.config, folder.weights)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec((1, height, width, 3), tf.uint8, name="picture")])
    def features(picture: tf.Tensor) -> dict[str, tf.Tensor]:
        levels = network.features(picture)
        logits, deltas = network.rpn([levels[i] for i in folder.config.rpn_levels])
        scores = logits[0, :, 1] - logits[0, :, 0]
        named = {f"level{i}": levels[i] for i in folder.config.roi_levels}
        return {"scores": scores, "deltas": deltas[0], **named}

    exported = converted(features.get_concrete_function())
    cancel_transposes(exported)
    return exported


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "sizes"), [("people", [(576, 320), (512, 704)]), ("nuclei", [(480, 1024)])])
def test_filled_graphs_answer_bit_for_bit_as_an_export_of_each_size(
    name: str, sizes: list[tuple[int, int]], tmp_path: Path
) -> None:
    folder = ModelFolder.open(name)
    fill_graphs(folder.graphs, folder.weights, tmp_path)
    for width, height in sizes:
        picture = np.random.default_rng(width).integers(0, 256, (1, height, width, 3), np.uint8)
        found = answers(ov.Core().read_model(tmp_path / "features.xml"), picture)
        expected = answers(exported_for(name, width, height), picture)
        assert found.keys() == expected.keys() and len(found) == 6
        for output, value in expected.items():
            np.testing.assert_array_equal(found[output], value, err_msg=output)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.move("rpn/deltas/bias", "rpn/delta/bias"), "rpn/deltas/bias is missing"),
        (lambda file: file.create_dataset("more", data=np.zeros(3)), "more does not belong to this model"),
        (
            lambda file: (file.pop("rpn/deltas/bias"), file.create_dataset("rpn/deltas/bias", data=np.zeros(3, "f2"))),
            r"rpn/deltas/bias: expected shape \(24,\), got \(3,\)",
        ),
        (
            lambda file: file["rpn/deltas/bias"].write_direct(np.full(24, np.nan, "f2")),
            "rpn/deltas/bias holds values that are not numbers",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_graphs_are_refused(
    change: Callable[[h5py.File], object], words: str, tmp_path: Path
) -> None:
    folder = ModelFolder.open("people")
    weights = Path(shutil.copy(folder.weights, tmp_path / "model.weights.h5"))
    with h5py.File(weights, "r+", locking=False) as file:
        change(file)
    with pytest.raises(ModelError, match=words):
        fill_graphs(folder.graphs, weights, tmp_path / "networks")
    assert not (tmp_path / "networks").exists()


def test_graphs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = ModelFolder.open("people")
    graphs = Path(shutil.copytree(folder.graphs, tmp_path / "graphs"))
    text = (graphs / "masks.xml").read_text()
    (graphs / "masks.xml").write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match="these graphs cannot be read"):
        fill_graphs(graphs, folder.weights, tmp_path / "networks")


def test_a_mark_that_is_no_text_is_that_of_no_graphs(tmp_path: Path) -> None:
    (tmp_path / "mark").write_bytes(b"\xff\xfe")
    assert not has_graphs(tmp_path, ModelFolder.open("people").config)
