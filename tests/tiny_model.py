"""A model and a training small enough for tests, and pictures of blue ellipses that it can learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from streamseg.config import ExperimentConfig, ModelConfig, StageConfig, TrainingConfig

TINY = ModelConfig(
    class_names=("background", "ball"),
    input_sizes=((128, 96), (96, 128)),
    fpn_channels=16,
    rpn_channels=16,
    anchor_sizes=((16,), (32,), (64,), (96,)),
    anchor_ratios=(1.0,),
    proposals_before_nms=300,  # more than the 256 anchors that there are
    num_proposals=24,
    box_pool=3,
    box_channels=32,
    mask_pool=5,
    mask_channels=16,
    mask_layers=1,
    box_fitting=0.5,
    mask_scoring=0.5,
)


def make_balls(folder: Path, num_pictures: int = 2, *, masks: bool = True) -> Path:
    """A COCO json in `folder` of 128×96 pictures, each with two ellipses; without `masks`, of their boxes only."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(5)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, num_pictures + 1):
        rgb = rng.integers(90, 160, (96, 128, 3), np.uint8)
        for x in (32, 96):
            centre, axes = (x, 48), (int(rng.integers(14, 24)), int(rng.integers(20, 36)))
            cv2.ellipse(rgb, centre, axes, 0, 0, 360, (20, 20, 250), -1)
            outline = cv2.ellipse2Poly(centre, axes, 0, 0, 360, 10)
            low, high = outline.min(0), outline.max(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])],
                    "area": int(np.prod(high - low)),
                    "iscrowd": 0,
                    "segmentation": [outline.ravel().tolist()] if masks else [],
                }
            )
        cv2.imwrite(str(folder / "images" / f"{number}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
    path = folder / "balls.json"
    categories = [{"id": 1, "name": "ball"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def tiny_experiment(data: Path, *, stages: tuple[StageConfig, ...] | None = None, **changes: Any) -> ExperimentConfig:
    """A training of TINY on `data`: one stage of two epochs unless told otherwise."""
    options: dict[str, Any] = {
        "train": data,
        "start_from": "nothing",
        "stages": stages or (tiny_stage(),),
        "frozen_stages": 7,
        "precision": "float32",
        "rpn_samples": 32,
        "roi_samples": 24,
        "mask_samples": 4,
        "max_objects": 4,
        "mini_mask": 14,
        "ema": 0.5,
    }
    return ExperimentConfig(name="balls", model=TINY, training=TrainingConfig(**{**options, **changes}))


def tiny_stage(**changes: Any) -> StageConfig:
    options: dict[str, Any] = {"epochs": 2, "crop": 96, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0}
    return StageConfig(**{**options, "scale": (0.9, 1.1), **changes})


def write_tiny_model(folder: Path, config: ModelConfig = TINY, *, seed: int = 0) -> Path:
    """The folder of a model of random weights whose scores and masks are spread widely; needs Keras."""
    import keras
    from keras import ops

    from streamseg.model.checkpoint import save_weights
    from streamseg.model.mask_rcnn import MaskRCNN

    keras.utils.set_random_seed(seed)
    network = MaskRCNN(config, name="network")
    network.build()
    rng = np.random.default_rng(seed)
    # a signal fades on its way through random layers: each lateral convolution makes up for it
    cells = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.float32)
    picture = np.repeat(np.repeat(cells, 8, 1), 8, 2)
    for lateral, features in zip(network.pyramid.lateral, network.backbone(picture), strict=True):
        spread = ops.convert_to_numpy(lateral(features)).std()
        lateral.kernel.assign(ops.convert_to_numpy(lateral.kernel) / spread)
    for head, part, spread in (
        (network.rpn, "logits", 0.5),
        (network.rpn, "deltas", 0.2),
        (network.box_head, "logits", 1.0),
        (network.box_head, "deltas", 0.2),
        (network.mask_head, "logits", 2.0),
    ):
        kernel = getattr(head, part).kernel
        kernel.assign(rng.normal(0, spread, kernel.shape))
    levels = network.features(picture)
    start = rng.uniform(0, 80, (1, 50, 2))
    rois = np.concatenate([start, start + rng.uniform(20, 50, (1, 50, 2))], -1).astype(np.float32)
    pooled = network.pool({i: levels[i] for i in config.roi_levels}, rois, config.box_pool)
    logits = ops.convert_to_numpy(network.box_head(pooled)[0])
    layer, spread = network.box_head.logits, logits.std(0) / 1.5
    layer.kernel.assign(ops.convert_to_numpy(layer.kernel) / spread)
    layer.bias.assign(-logits.mean(0) / spread)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(network, folder / "model.weights.h5")
    (folder / "model.yaml").write_text(yaml.safe_dump({"model": config.model_dump(mode="json")}))
    return folder


def tiny_training_model(experiment: ExperimentConfig) -> Any:
    """A model that is ready to be trained as `experiment` says, four steps a stage; needs Keras."""
    from streamseg.model.losses import TrainedMaskRCNN
    from streamseg.training.fit import make_network
    from streamseg.training.optimizers import Schedule, make_optimizer

    training = experiment.training
    assert training is not None
    model = TrainedMaskRCNN(make_network(experiment), training, name="training")
    model.build()
    optimizer = make_optimizer(training, Schedule(training.stages, [4] * len(training.stages)))
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer)
    return model
