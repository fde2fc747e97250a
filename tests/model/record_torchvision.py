"""Records what torchvision says of the cases in `torchvision_cases.py`, for tests that run without PyTorch.

    pip install torch torchvision && python -m tests.model.record_torchvision

v1 and v2 are torchvision's own models, loaded strictly. detectron2 is on no package index: its case is put together of
torchvision's operators as detectron2's configuration `mask_rcnn_R_50_FPN_3x` has them: the stride in the 1×1, anchors
that are not rounded, ROIAlign aligned and with as many samples as it takes, the background last.

Of each case: P2 … P6, rpn_logits, rpn_deltas (samples of the whole maps, channels last) · proposals (N, 4) · pooled,
mask_pooled (samples), logits (N, K), deltas (samples of (N, K, 4)) · detections (D, 6): x1, y1, x2, y2, score, class ·
masks: of the first eight · NAME.scale, NAME.bias: how the last layers were made to find something.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align
from torchvision.ops.misc import FrozenBatchNorm2d

from tests.model.torchvision_cases import (
    CASES,
    CLASSES,
    FOLDER,
    MEAN,
    PICTURE,
    last_layers,
    network_input,
    some_of,
    weights,
)

LIMITS = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 100}
DEVIATION = (58.395, 57.12, 57.375)


class ExactAnchors(AnchorGenerator):
    """Anchors as detectron2 has them: not rounded, spaced by the stride."""

    def forward(self, images: ImageList, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        levels = []
        for level, feature_map in enumerate(maps, 2):
            side, ratios = 2.0 ** (level + 3), torch.tensor([0.5, 1.0, 2.0])
            widths, heights = side / ratios.sqrt(), side * ratios.sqrt()
            base = torch.stack([-widths, -heights, widths, heights], 1) / 2
            rows, columns = (torch.arange(n) * 2.0**level for n in feature_map.shape[-2:])
            y, x = torch.meshgrid(rows, columns, indexing="ij")
            levels.append((torch.stack([x, y, x, y], -1).reshape(-1, 1, 4) + base).reshape(-1, 4))
        return [torch.cat(levels)]


class AlignedPool(torch.nn.Module):
    """ROIAlign as detectron2's ROIPooler has it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: dict[str, torch.Tensor], boxes: list[torch.Tensor], _: Any) -> torch.Tensor:
        rois = boxes[0]
        sides = ((rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])).sqrt()
        levels = torch.floor(4 + torch.log2(sides / 224 + 1e-8)).clamp(2, 5)
        out = torch.zeros(len(rois), 256, self.size, self.size)
        for level, name in zip((2, 3, 4, 5), "0123", strict=True):
            rows = torch.nonzero(levels == level)[:, 0]
            if len(rows):
                given = torch.cat([torch.zeros(len(rows), 1), rois[rows]], 1)
                out[rows] = roi_align(maps[name], given, self.size, 2.0**-level, 0, True)
        return out


def model_of(case: str) -> Any:
    if case == "v2":
        return maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **LIMITS)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    model = MaskRCNN(backbone, CLASSES[case], **LIMITS)
    overwrite_eps(model, 0.0 if case == "v1" else 1e-5)
    if case == "detectron2":
        for stage in (2, 3, 4):
            block = getattr(backbone.body, f"layer{stage}")[0]
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
        model.rpn.anchor_generator = ExactAnchors()
        model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool = AlignedPool(7), AlignedPool(14)
    return model


def in_torchvision(case: str, tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The state dict that torchvision's model takes: its own, or detectron2's by torchvision's names."""
    if case == "detectron2":
        tensors = dict(_renamed(tensors))
    return {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}


def _renamed(tensors: dict[str, np.ndarray]) -> Any:
    swaps = [
        ("backbone.bottom_up.stem.conv1.norm", "backbone.body.bn1"),
        ("backbone.bottom_up.stem.", "backbone.body."),
    ]
    swaps += [(f"backbone.bottom_up.res{i + 1}", f"backbone.body.layer{i}") for i in (1, 2, 3, 4)]
    swaps += [(f".conv{i}.norm", f".bn{i}") for i in (1, 2, 3)]
    swaps += [(".shortcut.norm", ".downsample.1"), (".shortcut", ".downsample.0")]
    swaps += [(f"backbone.fpn_lateral{i}", f"backbone.fpn.inner_blocks.{i - 2}.0") for i in (2, 3, 4, 5)]
    swaps += [(f"backbone.fpn_output{i}", f"backbone.fpn.layer_blocks.{i - 2}.0") for i in (2, 3, 4, 5)]
    swaps += [("proposal_generator.rpn_head.conv", "rpn.head.conv.0.0")]
    swaps += [("proposal_generator.rpn_head.objectness_logits", "rpn.head.cls_logits")]
    swaps += [("proposal_generator.rpn_head.anchor_deltas", "rpn.head.bbox_pred")]
    swaps += [("box_head.fc1", "box_head.fc6"), ("box_head.fc2", "box_head.fc7")]
    swaps += [
        ("mask_head.deconv", "mask_predictor.conv5_mask"),
        ("mask_head.predictor", "mask_predictor.mask_fcn_logits"),
    ]
    for name, value in tensors.items():
        if "cell_anchors" in name:
            continue
        if "cls_score" in name:
            value = np.concatenate([value[-1:], value[:-1]])
        if "bbox_pred" in name or "mask_head.predictor" in name:
            value = np.concatenate([np.zeros_like(value[: 4 if "bbox" in name else 1]), value])
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        yield name, value


def pixels(case: str) -> torch.Tensor:
    """The input as the model takes it (1, 3, H, W)."""
    image = network_input() - np.array(MEAN, np.float32)
    image = image[..., ::-1] if case == "detectron2" else image / np.array(DEVIATION, np.float32)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))


def run(case: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Every stage, as torchvision has it."""
    model = model_of(case).eval()
    missing = model.load_state_dict(in_torchvision(case, tensors), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    got: dict[str, Any] = {}
    heads = model.roi_heads
    hooks = {
        "rpn": model.rpn.head,
        "pooled": heads.box_roi_pool,
        "box": heads.box_predictor,
        "mask_pooled": heads.mask_roi_pool,
        "mask": heads.mask_predictor,
    }
    for name, module in hooks.items():
        module.register_forward_hook(lambda _, __, output, name=name: got.__setitem__(name, output))
    width, height = PICTURE
    images = ImageList(pixels(case), [(height, width)])
    with torch.no_grad():
        got["levels"] = model.backbone(images.tensors)
        got["proposals"] = model.rpn(images, got["levels"])[0]
        got["found"] = heads(got["levels"], got["proposals"], images.image_sizes)[0][0]
    return got


def last(value: torch.Tensor) -> np.ndarray:
    """Channels last."""
    return value.numpy().transpose(0, 2, 3, 1) if value.ndim == 4 else value.numpy()


def said(case: str, got: dict[str, Any], layer: str) -> np.ndarray:
    """What a last layer said: a row for each place, a column for each of its outputs in torchvision."""
    kind, of_rpn = layer.rpartition(".")[2], not layer.startswith("roi_heads")
    if of_rpn:
        part, outputs = (0, 3) if "logits" in kind else (1, 12)
        return np.concatenate([last(each).reshape(-1, outputs) for each in got["rpn"][part]])
    if kind in ("cls_score", "bbox_pred"):
        return got["box"][int(kind == "bbox_pred")].numpy()
    return last(got["mask"]).reshape(-1, CLASSES[case])


def scale_last_layers(case: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Centre and spread what the last layers say; returns the scales and biases."""
    found = {}
    for layer, spread in last_layers(case).items():
        values, bias = said(case, run(case, tensors), layer), tensors[f"{layer}.bias"]
        if "cls_score" in layer and case == "detectron2":
            values = np.roll(values, -1, axis=1)
        values = values[:, values.shape[1] - len(bias) :]  # detectron2 has nothing for the background
        mean = values.mean(0)
        scale = np.float32(spread / (values - mean).std())
        bias = ((bias - mean) * scale + 0.2 * np.sin(np.arange(len(bias)))).astype(np.float32)
        if "cls_score" in layer:
            bias[-1 if case == "detectron2" else 0] += 2
        found |= {f"{layer}.scale": scale, f"{layer}.bias": bias}
        tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"] * scale
        tensors[f"{layer}.bias"] = bias
    return found


def record(case: str) -> None:
    tensors = weights(case, scaled=False)
    kept = scale_last_layers(case, tensors)
    got = run(case, tensors)
    for i, level in enumerate(got["levels"].values(), 2):
        kept[f"P{i}"] = some_of(f"P{i}", last(level))
        kept[f"P{i}.rms"] = np.sqrt(np.mean(last(level) ** 2))
    logits, deltas = (
        np.concatenate([last(each).reshape(-1, size) for each in part])
        for part, size in zip(got["rpn"], (1, 4), strict=True)
    )
    kept["rpn_logits"], kept["rpn_deltas"] = some_of("rpn_logits", logits), some_of("rpn_deltas", deltas)
    kept["proposals"] = got["proposals"][0].numpy()
    kept["pooled"] = some_of("pooled", last(got["pooled"]))
    kept["logits"] = got["box"][0].numpy()
    kept["deltas"] = some_of("deltas", got["box"][1].numpy())
    found = got["found"]
    kept["detections"] = np.column_stack([found["boxes"], found["scores"], found["labels"]]).astype(np.float32)
    kept["mask_pooled"] = some_of("mask_pooled", last(got["mask_pooled"]))
    kept["masks"] = found["masks"][:8, 0].numpy()
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(FOLDER / f"{case}.npz", **kept)
    sides = kept["detections"][:, 2:4] - kept["detections"][:, :2]
    scores, classes = kept["detections"][:, 4], set(kept["detections"][:, 5].astype(int))
    print(case, len(kept["proposals"]), "proposals,", len(scores), "detections of", len(classes), "classes, scores")
    print(scores[[0, len(scores) // 2, -1]], "sides", np.percentile(sides, [0, 25, 50, 75, 100]).round(1))


if __name__ == "__main__":
    for each in CASES:
        record(each)
