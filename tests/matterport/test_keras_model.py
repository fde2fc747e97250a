"""The calls that notebooks and scripts make of the original's network, of its layers and of what it computes."""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest

import streamseg.matterport.model as modellib
from streamseg.matterport import MaskRCNN, utils, visualize
from streamseg.types import ModelError, UsageError
from tests.matterport.test_mask_rcnn import Small, calm, picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MaskRCNN:
    import keras

    keras.utils.set_random_seed(3)
    model = modellib.MaskRCNN("inference", Small(), tmp_path_factory.mktemp("logs"))
    calm(model)
    return model


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "name"), [("save_weights", "shapes.weights.h5"), ("save", "shapes.h5")])
def test_what_the_network_saves_is_a_file_of_the_original_and_is_read_back(
    model: MaskRCNN, tmp_path: Path, verb: str, name: str
) -> None:
    path, network = tmp_path / name, model.keras_model
    getattr(network, verb)(str(path))
    with h5py.File(path) as file:
        assert file["conv1/conv1/kernel:0"].shape == (7, 7, 3, 64)
        assert "rpn_conv_shared/kernel:0" in file["rpn_model"]
    kernel = network.get_layer("conv1").get_weights()[0]
    layers = {"conv1": kernel, "rpn_class_raw": network.get_layer("rpn_class_raw").get_weights()[0]}
    for read in (model.load_weights, network.load_weights):
        for layer, value in layers.items():
            network.get_layer(layer).set_weights([value + 1, network.get_layer(layer).get_weights()[1]])
        report = read(str(path), by_name=True)
        assert not report.missing and not report.skipped
        for layer, value in layers.items():
            np.testing.assert_array_equal(network.get_layer(layer).get_weights()[0], value)
    with pytest.raises(UsageError, match="it is there already"):
        network.save_weights(path, overwrite=False)
    with pytest.raises(UsageError, match="shapes.keras: expected the name of an .h5 of weights; `streamseg export`"):
        network.save("shapes.keras")


def test_the_network_refuses_a_file_that_holds_none_of_its_layers(model: MaskRCNN, tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense_1"])
        file.create_group("dense_1").attrs["weight_names"] = np.array([b"dense_1/kernel:0"])
        file.create_dataset("dense_1/dense_1/kernel:0", data=np.zeros((3, 4)))
    with pytest.raises(ModelError, match="no layer of it has a name of this model's"):
        model.keras_model.load_weights(path, by_name=True)


def test_layers_have_the_names_kinds_and_weights_of_the_original(
    model: MaskRCNN, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = model.get_trainable_layers()
    kinds = {layer.name: type(layer).__name__ for layer in layers}
    assert len(layers) == 2 * 53 + 8 + 1 + 16  # backbone with norms, pyramid, proposal network, heads with norms
    assert kinds["conv1"] == "Conv2D" and kinds["bn_conv1"] == "BatchNorm" and kinds["rpn_model"] == "Model"
    assert kinds["mrcnn_bbox_fc"] == "Dense" and kinds["mrcnn_mask_deconv"] == "Conv2DTranspose"
    assert all(model.find_trainable_layer(layer) is layer for layer in layers)
    stem = model.keras_model.get_layer("conv1")
    assert [weight.name for weight in stem.weights] == ["conv1/kernel:0", "conv1/bias:0"]
    assert [each.shape for each in stem.get_weights()] == [(7, 7, 3, 64), (64,)]
    assert len(model.keras_model.get_layer("rpn_model").get_weights()) == 6
    assert model.keras_model.get_layer(index=0).name == "conv1"
    with pytest.raises(UsageError, match=r"conv1: expected weights of the shapes .*, got \[\(3,\)\]"):
        stem.set_weights([np.zeros(3)])
    model.keras_model.summary()
    printed = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"conv1 +Conv2D +\(7, 7, 3, 64\) +9,472  yes", line) for line in printed)
    model.keras_model._make_predict_function()
    visualize.display_weight_stats(model)
    assert "rpn_conv_shared/kernel" in capsys.readouterr().out


def test_an_expression_chooses_the_layers_that_learn(model: MaskRCNN, capsys: pytest.CaptureFixture[str]) -> None:
    def learning() -> set[str]:
        return {variable.path.rpartition("/")[0].rpartition("/")[2] for variable in network.trainable_variables}

    network = model.keras_model
    model.set_trainable(r"(rpn\_.*)|(bn5a_.*)|(fpn_p2)")
    # our norms lie within their convolutions
    assert learning() == {
        "rpn_conv_shared",
        "rpn_class_raw",
        "rpn_bbox_pred",
        "fpn_p2",
        *(f"res5a_branch{branch}" for branch in ("1", "2a", "2b", "2c")),
    }
    assert network.get_layer("bn5a_branch1").trainable and not network.get_layer("res5a_branch1").trainable
    printed = capsys.readouterr().out
    assert "fpn_p2                 (Conv2D)" in printed and "    rpn_class_raw          (Conv2D)" in printed
    model.set_trainable(".*", keras_model=network, verbose=0)
    assert not capsys.readouterr().out
    moving = [variable for variable in network.non_trainable_variables if "moving_" in variable.path]
    assert len(moving) == len(network.non_trainable_variables) == 2 * (53 + 6)


# --- step by step -----------------------------------------------------------------------------------------------------


def test_the_proposal_layer_is_looked_into_as_the_notebooks_do(
    model: MaskRCNN, capsys: pytest.CaptureFixture[str]
) -> None:
    layer, image = model.keras_model.get_layer, picture(90, 120, 7)
    pillar = layer("ROI").output
    assert model.ancestor(pillar, "ROI/no_such_thing:0") is None
    suppression = model.ancestor(pillar, "ROI/rpn_non_max_suppression:0")
    assert suppression == model.ancestor(pillar, "ROI_1/rpn_non_max_suppression/NonMaxSuppressionV3:0")
    steps = model.run_graph(
        [image],
        [
            ("rpn_class", layer("rpn_class").output),
            ("before", model.ancestor(pillar, "ROI/pre_nms_anchors:0")),
            ("refined", model.ancestor(pillar, "ROI/refined_anchors:0")),
            ("clipped", model.ancestor(pillar, "ROI/refined_anchors_clipped:0")),
            ("kept", suppression),
            ("proposals", pillar),
        ],
    )
    assert isinstance(steps, OrderedDict) and list(steps)[1:] == ["before", "refined", "clipped", "kept", "proposals"]
    np.testing.assert_array_equal(steps["proposals"][0, : len(steps["kept"])], steps["clipped"][0, steps["kept"]])
    np.testing.assert_array_equal(np.clip(steps["refined"], 0, 1), steps["clipped"])
    best = np.argsort(-steps["rpn_class"][0, :, 1], kind="stable")[: len(steps["before"][0])]
    np.testing.assert_allclose(utils.norm_boxes(model.anchors[best], (128, 192)), steps["before"][0], atol=1e-6)
    assert "proposals                shape: (1, 40, 4)" in capsys.readouterr().out


def test_heads_give_their_numbers_proposal_by_proposal(model: MaskRCNN) -> None:
    layer, image = model.keras_model.get_layer, picture(90, 120, 7)
    names = ("mrcnn_class", "mrcnn_bbox", "mrcnn_bbox_fc", "mrcnn_detection", "mrcnn_mask", "pool_squeeze")
    names = (*names, "mrcnn_class_logits", "roi_align_classifier", "roi_align_mask", "mrcnn_mask_bn4")
    steps = model.run_graph([image, image], [(name, layer(name).output) for name in names])
    again = model.run_graph([image, image], ["probs", "deltas", "detections", "masks", "pooled", "mask_pooled"])
    for name, ours in zip(("mrcnn_class", "mrcnn_bbox", "mrcnn_detection", "mrcnn_mask"), list(again), strict=False):
        np.testing.assert_allclose(steps[name], again[ours], atol=1e-4)
    assert steps["roi_align_classifier"].shape == (2, 40, 7, 7, 16) == again["pooled"].shape
    assert steps["roi_align_mask"].shape == (2, 6, 14, 14, 16) == again["mask_pooled"].shape
    assert steps["mrcnn_mask_bn4"].shape == (2, 6, 14, 14, 256)
    np.testing.assert_allclose(steps["mrcnn_bbox_fc"].reshape(2, 40, 3, 4), steps["mrcnn_bbox"], atol=1e-4)
    kernel, bias = layer("mrcnn_class_logits").get_weights()
    np.testing.assert_allclose(steps["pool_squeeze"] @ kernel + bias, steps["mrcnn_class_logits"], atol=1e-3)


def test_maps_are_those_of_the_layers_before_and_after_norm_and_activation(model: MaskRCNN) -> None:
    layer = model.keras_model.get_layer
    names = ("input_image", "conv1", "bn_conv1", "res3d_out", "res4f_out", "fpn_c5p5", "fpn_p5", "fpn_p6")
    steps = model.run_graph([picture(90, 120, 7)], [(name, layer(name).output) for name in names])
    maps = model.run_graph([picture(90, 120, 7)], ["C1", "C3", "C4", "P5", "P6"])
    shown = modellib.unmold_image(steps["input_image"][0], model.config)
    assert shown.shape == (128, 192, 3) and not shown[:, 185:].any()  # black on the right
    gamma, beta, mean, variance = layer("bn_conv1").get_weights()
    normed = (steps["conv1"] - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(steps["bn_conv1"], normed, atol=1e-4)
    stem = np.maximum(normed, 0)  # rows and columns 0, 1, 2 of each pool, of which the last is beyond the border
    np.testing.assert_allclose(maps["C1"][0, 3, 5], stem[0, 6:9, 10:13].max(axis=(0, 1)), atol=1e-4)
    for name, ours in (("res3d_out", "C3"), ("res4f_out", "C4"), ("fpn_p5", "P5"), ("fpn_p6", "P6")):
        np.testing.assert_allclose(steps[name], maps[ours], atol=1e-4)
    assert steps["fpn_c5p5"].shape == (1, 4, 6, 16)


def test_the_network_predicts_the_originals_list(model: MaskRCNN) -> None:
    molded, metas, _ = model.mold_inputs([picture(90, 120, 7)])
    anchors = model.get_anchors(molded.shape[1:])
    found = model.keras_model.predict([molded, metas, anchors[None]], verbose=0)
    names = ["detections", "probs", "deltas", "masks", "proposals", "rpn_class", "rpn_bbox"]
    for value, wanted in zip(found, model.run_graph([picture(90, 120, 7)], names).values(), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-3)
    with pytest.raises(UsageError, match="anchors: expected what get_anchors"):
        model.keras_model.predict([molded, metas, anchors[None, :100]])


def test_the_network_predicts_in_steps_of_a_batch(model: MaskRCNN) -> None:
    molded, metas, _ = model.mold_inputs([picture(90, 120, seed) for seed in (7, 8, 9)])
    inputs = [molded, metas, np.stack([model.get_anchors(molded.shape[1:])] * 3)]
    for whole, part in zip(
        model.keras_model.predict_on_batch(inputs), model.keras_model.predict(inputs, 2), strict=True
    ):
        assert whole.shape == part.shape and len(part) == 3
        np.testing.assert_allclose(whole[0], part[0], atol=1e-3)


def test_layers_of_other_shapes_are_left_alone_when_asked(model: MaskRCNN, tmp_path: Path) -> None:
    class Fewer(Small):
        NUM_CLASSES = 2

    model.keras_model.save_weights(tmp_path / "three.h5")
    two = modellib.MaskRCNN("inference", Fewer(), tmp_path)
    with pytest.warns(UserWarning, match="left alone, .*: mrcnn_bbox_fc, mrcnn_class_logits, mrcnn_mask$"):
        report = two.keras_model.load_weights(tmp_path / "three.h5", by_name=True, skip_mismatch=True)
    assert {name.partition("/")[0] for name in report.missing} == {"mrcnn_bbox_fc", "mrcnn_class_logits", "mrcnn_mask"}


def test_scripts_say_more_to_keras_than_matters_here(model: MaskRCNN, tmp_path: Path) -> None:
    lines: list[str] = []
    model.keras_model.summary(100, None, lines.append)
    assert lines[0].startswith("Layer")
    model.keras_model.save(tmp_path / "a.h5", include_optimizer=False)
    model.keras_model.save_weights(tmp_path / "b.h5", save_format="h5")
    assert (tmp_path / "a.h5").stat().st_size == (tmp_path / "b.h5").stat().st_size > 0
    with pytest.raises(UsageError, match="save_format: expected h5, got 'tf'"):
        model.keras_model.save_weights(tmp_path / "c", save_format="tf")


def test_anchors_are_those_of_the_last_input_in_pixels(model: MaskRCNN) -> None:
    model.detect([picture(128, 128, 1)])
    assert len(model.anchors) == 3 * (32**2 + 16**2 + 8**2 + 4**2 + 2**2)
    y1, x1, y2, x2 = model.anchors[1]  # a square of 32 pixels around the first corner
    assert (y1, x1, y2, x2) == (-16, -16, 16, 16)


def test_what_is_not_there_is_named(model: MaskRCNN) -> None:
    layer = model.keras_model.get_layer
    with pytest.raises(UsageError, match=r"no layer is called 'res4w_out'; did you mean 'res4f_out'\?"):
        layer("res4w_out")
    with pytest.raises(UsageError, match="no layer is called 'xyz'; there is input_image, .*and what summary"):
        layer("xyz")
    with pytest.raises(UsageError, match="rpn_class_raw: expected a layer with one output; it is called for every lev"):
        print(layer("rpn_class_raw").output)
    with pytest.raises(UsageError, match="outputs: 'nms': expected the output of a layer or of `ancestor`, got None"):
        model.run_graph([picture(90, 120, 1)], [("nms", None)])  # type: ignore[list-item]
