"""A weights file of the original is loaded whole, or refused by the name of the tensor that does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.matterport_h5 import (
    HEADS,
    config_of,
    is_matterport,
    load_matterport,
    named_weights,
    read_tensors,
    save_matterport,
)
from streamseg.types import ModelError, UsageError

NARROW = ModelConfig.matterport(
    class_names=("background", "cat", "dog"),
    backbone="resnet50",
    input_sizes=((128, 128),),
    fpn_channels=8,
    rpn_channels=8,
    box_channels=16,
    mask_channels=8,
)
"""A network of the family that is small where its sizes are not fixed."""

Change = Callable[[h5py.File], None]


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    keras.utils.set_random_seed(3)
    network = MaskRCNN(NARROW, name="network")
    network.build()
    return network


@pytest.fixture(scope="module")
def original(network: MaskRCNN, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / "mask_rcnn_pets_0001.h5"
    save_matterport(network, path)
    yield path
    path.unlink()


@pytest.fixture
def changed(original: Path, tmp_path: Path) -> Iterator[Callable[[Change], Path]]:
    """A copy of the file with something changed in it."""
    path = tmp_path / "changed.h5"

    def make(change: Change) -> Path:
        shutil.copy(original, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    yield make
    path.unlink(missing_ok=True)


def listed(names: list[Any]) -> np.ndarray:
    """Names as Keras 2 stores them: bytes of one length."""
    return np.array(names, "S")


def write(root: h5py.Group, layers: dict[str, dict[str, Any]]) -> None:
    """A weights file in the layout of Keras 2: tensors by layer and by weight name."""
    root.attrs["layer_names"] = listed(list(layers))
    for layer, tensors in layers.items():
        group = root.create_group(layer)
        group.attrs["weight_names"] = listed(list(tensors))
        for name, value in tensors.items():
            group.create_dataset(name, data=value)


def unlist(group: h5py.Group, name: str) -> None:
    names = [each for each in group.attrs["weight_names"] if each != name.encode()]
    del group[name]
    group.attrs["weight_names"] = listed(names)


def put(file: h5py.File, layer: str, short: str, value: np.ndarray) -> None:
    name = f"{'rpn_model' if layer.startswith('rpn_') else layer}/{layer}/{short}:0"
    del file[name]
    file.create_dataset(name, data=value)


def first_value(network: MaskRCNN, layer: str, short: str = "kernel") -> float:
    return float(np.ravel(named_weights(network)[layer][short])[0])


def test_what_was_saved_is_loaded_tensor_by_tensor(network: MaskRCNN, original: Path) -> None:
    for variable in network.weights:
        variable.assign(np.zeros(variable.shape, np.float32))
    report = load_matterport(network, original)
    saved = read_tensors(original)
    assert {layer: set(tensors) for layer, tensors in named_weights(network).items()} == {
        layer: set(tensors) for layer, tensors in saved.items()
    }
    for layer, tensors in named_weights(network).items():
        for short, variable in tensors.items():
            np.testing.assert_array_equal(np.asarray(variable), saved[layer][short])
    assert len(report.loaded) == len(network.weights) and not report.missing and not report.skipped
    # 53 convolutions and their norms, 8 of the pyramid, 3 of the proposal network, the heads' 10 and their 6 norms
    assert len(report.loaded) == 53 * 6 + 8 * 2 + 3 * 2 + 10 * 2 + 6 * 4


def test_names_are_the_originals(original: Path) -> None:
    with h5py.File(original) as file:
        assert file["conv1/conv1/kernel:0"].shape == (7, 7, 3, 64)
        assert file["bn4f_branch2c/bn4f_branch2c/moving_variance:0"].shape == (1024,)
        assert file["mrcnn_class_bn1/mrcnn_class_bn1/gamma:0"].shape == (16,)
        assert file["mrcnn_mask_deconv/mrcnn_mask_deconv/kernel:0"].shape == (2, 2, 8, 8)
        assert list(file["res5a_branch1"].attrs["weight_names"]) == [
            b"res5a_branch1/kernel:0",
            b"res5a_branch1/bias:0",
        ]


def cut_out(file: h5py.File) -> None:
    unlist(file["conv1"], "conv1/bias:0")


def lose(file: h5py.File) -> None:
    del file["conv1/conv1/bias:0"]


def lose_layer(file: h5py.File) -> None:
    del file["res3d_branch2b"]


def rename(file: h5py.File) -> None:
    file.move("res3d_branch2b", "res3d_branch9")
    layers = [name.replace(b"res3d_branch2b", b"res3d_branch9") for name in file.attrs["layer_names"]]
    file.attrs["layer_names"] = listed(layers)
    names = file["res3d_branch9"].attrs["weight_names"]
    for name in names:
        file["res3d_branch9"].move(name, name.replace(b"res3d_branch2b", b"res3d_branch9"))
    file["res3d_branch9"].attrs["weight_names"] = listed(
        [name.replace(b"res3d_branch2b", b"res3d_branch9") for name in names]
    )


def reshape(file: h5py.File) -> None:
    put(file, "fpn_c5p5", "kernel", np.zeros((1, 1, 2048, 9), np.float32))


def spoil(file: h5py.File) -> None:
    file["bn_conv1/bn_conv1/gamma:0"][5] = np.nan


def overflow(file: h5py.File) -> None:
    file["bn_conv1/bn_conv1/gamma:0"][5] = np.inf


def count(file: h5py.File) -> None:
    put(file, "mrcnn_class_logits", "bias", np.zeros(3, np.int64))


def add(file: h5py.File) -> None:
    file.attrs["layer_names"] = listed([*file.attrs["layer_names"], b"block1_conv1"])
    group = file.create_group("block1_conv1")
    group.attrs["weight_names"] = listed([b"block1_conv1/kernel:0"])
    group.create_dataset("block1_conv1/kernel:0", data=np.zeros((3, 3), np.float32))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (cut_out, "conv1/bias is missing$"),
        (lose, "tensor conv1/conv1/bias:0 is listed, but not there"),
        (lose_layer, "layer res3d_branch2b is listed, but not there"),
        (rename, "res3d_branch2b/kernel is missing; .*res3d_branch9/kernel does not belong to this model"),
        (reshape, r"fpn_c5p5/kernel: expected shape \(1, 1, 2048, 8\), got \(1, 1, 2048, 9\)"),
        (spoil, "bn_conv1/gamma holds values that are not numbers"),
        (overflow, "bn_conv1/gamma holds values that are not numbers"),
        (count, "mrcnn_class_logits/bias holds values that are not numbers"),
        (add, "block1_conv1/kernel does not belong to this model"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_loaded(
    change: Change, complaint: str, network: MaskRCNN, original: Path, changed: Callable[[Change], Path]
) -> None:
    path = changed(change)
    network.backbone.weights[0].assign(np.full(network.backbone.weights[0].shape, 9, np.float32))
    with pytest.raises(ModelError, match=complaint) as refusal:
        load_matterport(network, path)
    assert str(path) in str(refusal.value)
    assert first_value(network, "conv1") == 9
    load_matterport(network, original)


def test_a_truncated_file_is_refused(network: MaskRCNN, changed: Callable[[Change], Path]) -> None:
    path = changed(lambda file: None)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ModelError, match="not a readable weights file"):
        load_matterport(network, path)
    with pytest.raises(ModelError, match="not a readable weights file"):
        config_of(path)


def test_a_file_of_another_model_is_refused_by_its_tensors(network: MaskRCNN, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.h5"
    with h5py.File(path, "w") as file:
        write(file, {"block1_conv1": {"block1_conv1/kernel:0": np.zeros((3, 3, 3, 64), np.float32)}})
    with pytest.raises(ModelError, match=r"/kernel is missing; .* is missing and \d+ more"):
        load_matterport(network, path)
    with pytest.raises(ModelError, match="no layer of it has a name of this model's"):
        load_matterport(network, path, by_name=True)
    with pytest.raises(ModelError, match="not weights of a Mask R-CNN: mrcnn_class_logits/bias is missing"):
        config_of(path)


def test_a_file_that_holds_no_weights_is_refused(network: MaskRCNN, tmp_path: Path) -> None:
    text, other = tmp_path / "readme.h5", tmp_path / "other.h5"
    text.write_text("weights")
    with h5py.File(other, "w") as file:
        file["pictures"] = np.zeros(3)
    assert not is_matterport(text) and not is_matterport(other) and not is_matterport(tmp_path / "absent.h5")
    with pytest.raises(ModelError, match="readme.h5: not a readable weights file"):
        load_matterport(network, text)
    with pytest.raises(ModelError, match="other.h5: .*found no `layer_names`"):
        load_matterport(network, other)
    with pytest.raises(ModelError, match="absent.h5: not a readable weights file"):
        load_matterport(network, tmp_path / "absent.h5")


def test_by_name_loads_what_is_there_and_tells_what_is_not(
    network: MaskRCNN, original: Path, changed: Callable[[Change], Path]
) -> None:
    path = changed(rename)
    named_weights(network)["res3d_branch2b"]["kernel"].assign(np.full((3, 3, 128, 128), 9, np.float32))
    report = load_matterport(network, path, by_name=True)
    assert report.missing == ("res3d_branch2b/kernel", "res3d_branch2b/bias")
    assert report.skipped == ("res3d_branch9/kernel", "res3d_branch9/bias")
    assert len(report.loaded) == len(network.weights) - 2
    assert str(report) == f"{len(network.weights) - 2} tensors loaded, 2 skipped, 2 missing"
    assert first_value(network, "res3d_branch2b") == 9
    load_matterport(network, original)


def test_by_name_refuses_a_layer_that_is_there_in_part_or_of_another_shape(
    network: MaskRCNN, changed: Callable[[Change], Path]
) -> None:
    with pytest.raises(ModelError, match="conv1/bias is missing"):
        load_matterport(network, changed(cut_out), by_name=True)
    with pytest.raises(ModelError, match="fpn_c5p5/kernel: expected shape"):
        load_matterport(network, changed(reshape), by_name=True)


def test_the_heads_of_another_number_of_classes_are_excluded(
    network: MaskRCNN, original: Path, changed: Callable[[Change], Path]
) -> None:
    def eighty_classes(file: h5py.File) -> None:
        for layer, kernel in (("mrcnn_class_logits", (16, 81)), ("mrcnn_bbox_fc", (16, 324))):
            put(file, layer, "kernel", np.zeros(kernel, np.float32))
            put(file, layer, "bias", np.zeros(kernel[-1], np.float32))
        put(file, "mrcnn_mask", "kernel", np.zeros((1, 1, 8, 81), np.float32))
        put(file, "mrcnn_mask", "bias", np.zeros(81, np.float32))

    path = changed(eighty_classes)
    with pytest.raises(ModelError, match=r"mrcnn_class_logits/kernel: expected shape \(16, 3\), got \(16, 81\)"):
        load_matterport(network, path, by_name=True)
    kept = first_value(network, "mrcnn_class_logits")
    report = load_matterport(network, path, exclude=HEADS)
    expected = {f"{layer}/{short}" for layer in HEADS if layer != "mrcnn_bbox" for short in ("kernel", "bias")}
    assert set(report.missing) == set(report.skipped) == expected
    assert first_value(network, "mrcnn_class_logits") == kept != 0
    with pytest.raises(UsageError, match=r"exclude: the network has no layer 'mrcnn_msk'; did you mean 'mrcnn_mask'\?"):
        load_matterport(network, original, exclude=("mrcnn_msk",))
    assert config_of(path).num_classes == 81


def test_weights_inside_a_saved_model_and_names_as_text_are_read_too(
    network: MaskRCNN, original: Path, changed: Callable[[Change], Path]
) -> None:
    def nest(file: h5py.File) -> None:
        root = file.create_group("model_weights")
        names = [name.decode() for name in file.attrs["layer_names"]]
        for name in names:
            file.move(name, f"model_weights/{name}")
            group = root[name]
            group.attrs["weight_names"] = [weight.decode() for weight in group.attrs["weight_names"]]
        del file.attrs["layer_names"]
        root.attrs["layer_names"] = names

    network.backbone.weights[0].assign(np.zeros(network.backbone.weights[0].shape, np.float32))
    path = changed(nest)
    assert is_matterport(path)
    assert len(load_matterport(network, path).loaded) == len(network.weights)
    assert first_value(network, "conv1") == np.ravel(read_tensors(original)["conv1"]["kernel"])[0]


def test_layers_inside_the_proposal_networks_group_and_leftovers_of_a_training_are_understood(
    network: MaskRCNN, changed: Callable[[Change], Path]
) -> None:
    def as_trained(file: h5py.File) -> None:
        names = list(file.attrs["layer_names"])
        assert b"rpn_model" in names
        empty = file.create_group("res2a_out")  # an activation: a layer without weights
        empty.attrs["weight_names"] = np.zeros(0)
        anchors = file.create_group("anchors")
        anchors.attrs["weight_names"] = listed([b"anchors/Variable:0"])
        anchors.create_dataset("anchors/Variable:0", data=np.zeros((2, 16368, 4), np.float32))
        file.attrs["layer_names"] = listed([*names, b"res2a_out", b"anchors"])

    path = changed(as_trained)
    report = load_matterport(network, path)
    assert len(report.loaded) == len(network.weights) and not report.skipped
    assert config_of(path).input_sizes == ((256, 256),), "16368 = 3 · (64² + 32² + 16² + 8² + 4²) anchors"


def renamed(new_name: Callable[[str, str], str]) -> Change:
    """Every weight under what `new_name` makes of its group and its name."""

    def change(file: h5py.File) -> None:
        for layer in map(bytes.decode, file.attrs["layer_names"]):
            group = file[layer]
            names = {name.decode(): new_name(layer, name.decode()) for name in group.attrs["weight_names"]}
            values = {new: group[old][()] for old, new in names.items()}
            for key in list(group):
                del group[key]
            for name, value in values.items():
                group.create_dataset(name, data=value)
            group.attrs["weight_names"] = listed([name.encode() for name in values])

    return change


def of_the_third_model(layer: str, name: str) -> str:
    """As the third network of a process has it: `conv1_2/kernel:0` in the group `conv1`."""
    owner, _, short = name.partition("/")
    return f"{owner}_2/{short}"


def of_a_port(layer: str, name: str) -> str:
    """As ports to later versions have it: the nested network's name before its layers', no number behind."""
    return f"{layer}/{name}".removesuffix(":0") if layer == "rpn_model" else name.removesuffix(":0")


def without_owner(layer: str, name: str) -> str:
    """A weight that has no layer in its name belongs to its group."""
    return name if layer == "rpn_model" else name.rpartition("/")[2]


@pytest.mark.parametrize("new_name", [of_the_third_model, of_a_port, without_owner])
def test_weights_are_found_whatever_their_writer_called_them(
    new_name: Callable[[str, str], str], network: MaskRCNN, original: Path, changed: Callable[[Change], Path]
) -> None:
    saved = read_tensors(original)
    path = changed(renamed(new_name))
    assert read_tensors(path).keys() == saved.keys()
    for variable in network.weights:
        variable.assign(np.zeros(variable.shape, np.float32))
    report = load_matterport(network, path)
    assert len(report.loaded) == len(network.weights) and not report.skipped
    for layer in ("conv1", "rpn_class_raw", "mrcnn_bbox_fc"):
        assert first_value(network, layer) == np.ravel(saved[layer]["kernel"])[0]
    assert config_of(path) == config_of(original)


def test_a_list_of_names_in_parts_is_read_whole(changed: Callable[[Change], Path], original: Path) -> None:
    def in_parts(file: h5py.File) -> None:
        names = file.attrs["layer_names"]
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:100], names[100:]
        unread = file.create_group("top_level_model_weights")  # what Keras 2.6 and later write beside the layers
        unread.attrs["weight_names"] = listed([b"scale:0"])

    path = changed(in_parts)
    assert is_matterport(path) and read_tensors(path).keys() == read_tensors(original).keys()


def test_a_layout_of_another_keras_is_named(network: MaskRCNN, tmp_path: Path) -> None:
    path = tmp_path / "kept.weights.h5"
    small = keras.Sequential([keras.layers.Dense(2)])
    small.build((None, 3))
    small.save_weights(path)
    with pytest.raises(
        ModelError, match=r"expected weights as Keras 2 wrote them, found .*Keras 3's own `.weights.h5`"
    ):
        load_matterport(network, path)


def test_groups_stand_as_in_the_files_of_the_original(parity: Path, original: Path) -> None:
    """So that its loader finds them, which goes by the groups' names or by their order, never by a weight's name."""
    recorded = json.loads((parity / "weights_table_shapes128.json").read_text())["layers"]
    with h5py.File(original) as file:
        written = {
            layer.decode(): [name.decode() for name in file[layer].attrs["weight_names"]]
            for layer in file.attrs["layer_names"]
        }
    wanted = {layer["name"]: [weight["name"] for weight in layer["weights"]] for layer in recorded if layer["weights"]}
    assert list(written.items()) == list(wanted.items())


def test_the_configuration_is_read_off_the_file(original: Path) -> None:
    config = config_of(original)
    assert config.class_names == ("background", "class 1", "class 2")
    for name in ("family", "backbone", "fpn_channels", "rpn_channels", "box_channels", "mask_channels", "box_pool"):
        assert getattr(config, name) == getattr(NARROW, name), name
    assert (1024, 1024) in config.input_sizes and (1024, 576) in config.input_sizes
    assert config_of(original, class_names=("cat", "dog")).class_names == NARROW.class_names
    with pytest.raises(UsageError, match="knows 2 classes beside the background, got 3 names"):
        config_of(original, class_names=("cat", "dog", "cow"))


def test_a_resnet_101_is_known_by_its_longer_fourth_stage(changed: Callable[[Change], Path]) -> None:
    def longer(file: h5py.File) -> None:
        file.attrs["layer_names"] = listed([*file.attrs["layer_names"], b"res4w_branch2a"])
        group = file.create_group("res4w_branch2a")
        group.attrs["weight_names"] = listed([b"res4w_branch2a/bias:0"])
        group.create_dataset("res4w_branch2a/bias:0", data=np.zeros(256, np.float32))

    assert config_of(changed(longer)).backbone == "resnet101"


def test_a_file_with_other_anchors_asks_for_a_configuration(changed: Callable[[Change], Path]) -> None:
    path = changed(lambda file: put(file, "rpn_class_raw", "bias", np.zeros(10, np.float32)))
    with pytest.raises(ModelError, match="expected 3 anchor ratios .*, found 5"):
        config_of(path)


def refill(name: str, value: Any) -> Change:
    """Another tensor, or none, in the place of one of the file."""

    def change(file: h5py.File) -> None:
        del file[name]
        if value is not None:
            file[name] = value

    return change


def grown(file: h5py.File) -> None:
    """A billion classes, of which no byte is written."""
    del file["mrcnn_class_logits/mrcnn_class_logits/bias:0"]
    file.create_dataset("mrcnn_class_logits/mrcnn_class_logits/bias:0", shape=(10**12,), chunks=(1024,), dtype="f4")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda file: file.attrs.__setitem__("layer_names", 5), "not a readable weights file"),
        (lambda file: file["fpn_p2"].attrs.__setitem__("weight_names", h5py.Empty("S5")), "not a readable weights"),
        (refill("fpn_p2/fpn_p2/bias:0", h5py.Empty("f")), "Mask R-CNN: fpn_p2/bias has no shape"),
        (refill("fpn_p2/fpn_p2/bias:0", np.float32(3)), r"Mask R-CNN: fpn_p2/bias has the shape \(\)"),
        (refill("mrcnn_mask_conv1/mrcnn_mask_conv1/kernel:0", np.zeros(3)), r"mask_conv1/kernel has the shape \(3,\)"),
        (grown, "expected 2 to 100,000 classes, found 1000000000000"),
        (refill("mrcnn_class_logits/mrcnn_class_logits/bias:0", np.zeros(1)), "expected 2 to 100,000 classes, found 1"),
    ],
)
def test_the_configuration_of_a_hostile_file_is_refused(
    change: Change, complaint: str, changed: Callable[[Change], Path]
) -> None:
    with pytest.raises(ModelError, match=complaint):
        config_of(changed(change))


@pytest.mark.parametrize("change", [grown, lambda file: file.attrs.__setitem__("layer_names", 5)])
def test_the_tensors_of_a_hostile_file_are_refused(change: Change, changed: Callable[[Change], Path]) -> None:
    path = changed(change)
    with pytest.raises(ModelError, match="not a readable weights file"):
        read_tensors(path)
    assert is_matterport(path) == (change is grown)


def test_a_group_in_the_place_of_a_tensor_is_refused(changed: Callable[[Change], Path]) -> None:
    def change(file: h5py.File) -> None:
        del file["fpn_p2/fpn_p2/bias:0"]
        file.create_group("fpn_p2/fpn_p2/bias:0")

    with pytest.raises(ModelError, match="not a readable weights file"):
        read_tensors(changed(change))
