"""What a script excludes from loading: the original's names, and a word for those that are none."""

from __future__ import annotations

import warnings

import pytest

from streamseg.matterport.excluded import excluded
from streamseg.types import UsageError

KNOWN = ["conv1", "rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred", "mrcnn_mask"]


def test_the_nested_model_is_its_three_layers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert excluded(["rpn_model"], KNOWN) == ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")
        assert excluded(["mrcnn_bbox", "conv1", "conv1"], KNOWN) == ("mrcnn_bbox", "conv1")  # mrcnn_bbox has no weights


def test_a_name_of_no_layer_is_warned_of_and_changes_nothing() -> None:
    with pytest.warns(UserWarning, match="exclude: .* no layer 'mrcnn_masks' with weights; did you mean 'mrcnn_mask'"):
        assert excluded(["mrcnn_masks", "conv1"], KNOWN) == ("conv1",)
    with pytest.warns(UserWarning, match="no layer 'dense_7' with weights$"):
        assert excluded(["dense_7"], KNOWN) == ()


def test_a_name_that_is_no_list_is_refused() -> None:
    with pytest.raises(UsageError, match=r"exclude: expected a list of layers, got 'conv1'; write \['conv1'\]"):
        excluded("conv1", KNOWN)
