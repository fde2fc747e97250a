"""A stage trains the layers that it names, and what is frozen stays frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from streamseg.config import ModelConfig
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.training.fit import make_network, train
from streamseg.training.layers import Selection, matching
from streamseg.types import UsageError
from tests.tiny_model import TINY, make_balls, tiny_experiment, tiny_stage


@pytest.fixture(scope="module")
def lite() -> MaskRCNN:
    network = MaskRCNN(TINY, name="network")
    network.build()
    return network


@pytest.fixture(scope="module")
def matterport() -> MaskRCNN:
    config = ModelConfig.matterport(backbone="resnet50", input_sizes=((128, 128),))
    network = MaskRCNN(config, name="network")
    network.build()
    return network


def names_of(network: MaskRCNN, layers: str) -> set[str]:
    return set(matching(network, layers))


def test_every_weight_has_a_name(lite: MaskRCNN, matterport: MaskRCNN) -> None:
    assert sum(map(len, matching(lite, "all").values())) == len(lite.weights)
    assert sum(map(len, matching(matterport, "all").values())) == len(matterport.weights)


def test_the_sets_of_the_lite_family_grow_from_the_heads_to_the_third_level(lite: MaskRCNN) -> None:
    heads = names_of(lite, "heads")
    assert {name.split("/")[0] for name in heads} == {"pyramid", "rpn", "box_head", "mask_head"}
    stages = {
        layers: {name.split("/")[1].split("_")[0] for name in names_of(lite, layers) - heads}
        for layers in ("5+", "4+", "3+", "all")
    }
    assert stages["5+"] == {"stage5", "stage6"}
    assert stages["4+"] == stages["5+"] | {"stage3", "stage4"}
    assert stages["3+"] == stages["4+"] | {"stage2"}
    assert stages["all"] == stages["3+"] | {"stem", "stage0", "stage1"}


def test_an_expression_must_match_the_whole_name(lite: MaskRCNN) -> None:
    assert names_of(lite, r"rpn/.*|pyramid/lateral[45]") == {
        "rpn/shared",
        "rpn/logits",
        "rpn/deltas",
        "pyramid/lateral4",
        "pyramid/lateral5",
    }
    with pytest.raises(UsageError, match=r"no layer is called 'rpn/share'; did you mean 'rpn/shared'\?"):
        matching(lite, "rpn/share")
    with pytest.raises(UsageError, match="the sets are heads, 5\\+, 4\\+, 3\\+, all"):
        matching(lite, "7\\+")
    with pytest.raises(UsageError, match=r"'\(' is neither a set of layers nor a regular expression"):
        matching(lite, "(")


def test_the_matterport_family_knows_its_layers_by_the_originals_names(matterport: MaskRCNN) -> None:
    heads = names_of(matterport, "heads")
    assert {"fpn_c5p5", "fpn_p2", "rpn_conv_shared", "rpn_bbox_pred", "mrcnn_class_logits", "mrcnn_mask_bn4"} <= heads
    assert all(name.startswith(("fpn_", "rpn_", "mrcnn_")) for name in heads)
    fourth = names_of(matterport, "4+") - heads
    assert {"res4a_branch1", "bn4f_branch2c", "res5c_branch2a", "bn5a_branch1"} <= fourth
    assert all(name.startswith(("res4", "bn4", "res5", "bn5")) for name in fourth)
    assert {"conv1", "bn_conv1", "res2a_branch1"} <= names_of(matterport, "all") - names_of(matterport, "3+")


def test_what_is_frozen_stays_frozen_whatever_a_stage_names() -> None:
    network = make_network(tiny_experiment(Path("none.json"), frozen_stages=3))
    selection = Selection(network)
    everything = selection.choose("all")
    assert not any("/stem/" in path or path.endswith("gamma") for path in everything)
    assert len(selection.choose("heads")) < len(selection.choose("4+")) < len(everything)
    assert selection.choose("all") == everything
    with pytest.raises(UsageError, match="all of 'backbone/stem' is frozen"):
        selection.choose("backbone/stem")


@pytest.mark.usefixtures("eager")
def test_a_stage_changes_its_layers_alone(tmp_path: Path) -> None:
    """Three stages: the proposal network, the heads, and the mask head again; each moves what it names."""
    stages = tuple(tiny_stage(epochs=1, layers=layers) for layers in ("rpn/.*", "heads", "mask_head/.*"))
    seen: dict[int, dict[str, np.ndarray]] = {}

    def watch(state: dict[str, Any]) -> None:
        path = tmp_path / "run" / "checkpoint.h5"
        if "epoch" in state and state["step"] == 1 and path.exists():
            with h5py.File(path) as file:
                found: dict[str, np.ndarray] = {}
                file["network"].visititems(
                    lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
                seen[state["epoch"] - 1] = found

    experiment = tiny_experiment(make_balls(tmp_path / "b", 4), stages=stages)
    train(experiment, output=tmp_path / "run", progress=watch)
    with h5py.File(tmp_path / "run" / "checkpoint.h5") as file:
        last = {name: file["network"][name][()] for name in seen[1]}
    moved = [
        {name.split("/")[0] for name in last if not np.array_equal(before[name], after[name])}
        for before, after in ((seen[1], seen[2]), (seen[2], last))
    ]
    assert moved == [{"pyramid", "rpn", "box_head", "mask_head"}, {"mask_head"}]
