"""The original's `MaskRCNN`: the same calls and the same numbers, on streamseg's network.

Boxes are y1, x1, y2, x2. B pictures, D rows of detections, n objects, K classes, m cells along a side of a mask.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from streamseg import molding
from streamseg.config import AugmentConfig
from streamseg.engines.keras import compiled, has_gpu
from streamseg.matterport import graph, utils
from streamseg.matterport.augmentation import Augmenter, augmentation_of, pictures_of
from streamseg.matterport.config import Config, model_config, mold_of, trains_norm
from streamseg.matterport.dataset import Dataset
from streamseg.matterport.excluded import excluded
from streamseg.matterport.generator import data_generator
from streamseg.matterport.graph import OUTPUTS, Y_FIRST, Output
from streamseg.matterport.keras_model import KerasModel, Layer, Model
from streamseg.matterport.targets import build_detection_targets, build_rpn_targets, generate_random_rois
from streamseg.matterport.train import Plan, Shelf, train
from streamseg.matterport.truth import load_image_gt
from streamseg.matterport.utils import (
    compose_image_meta,
    compute_backbone_shapes,
    mold_image,
    parse_image_meta,
    unmold_image,
)
from streamseg.model.imagenet import is_imagenet, load_imagenet_resnet, resnet_weights
from streamseg.model.mask_rcnn import MaskRCNN as Network
from streamseg.model.matterport_h5 import LoadReport, load_matterport, named_weights
from streamseg.training.layers import Selection
from streamseg.types import UsageError

__all__ = [  # what scripts look for in the original's `model`
    "OUTPUTS",
    "MaskRCNN",
    "build_detection_targets",
    "build_rpn_targets",
    "compose_image_meta",
    "compute_backbone_shapes",
    "data_generator",
    "generate_random_rois",
    "load_image_gt",
    "log",
    "mold_image",
    "parse_image_meta",
    "unmold_image",
]

RUN = re.compile(r"[^/\\]+(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})[/\\]mask_rcnn_[^/\\]+(\d{4})(?:\.weights)?\.h5$")
"""A weights file of a training: …/balloon20190301T1830/mask_rcnn_balloon_0012.h5, or …_0012.weights.h5 by Keras 3."""


class MaskRCNN:
    """A Mask R-CNN of the original's kind: detects with `mode="inference"`, trains with `mode="training"`.

    config: a `Config` · model_dir: the folder of the trainings' logs and weights.
    keras_model: the network itself (`keras_model.KerasModel`)
    epoch, log_dir, checkpoint_path: of the training, by `set_log_dir`
    """

    def __init__(self, mode: Literal["training", "inference"], config: Config, model_dir: str | Path) -> None:
        if mode not in ("training", "inference"):
            raise UsageError(f"mode: expected training or inference, got {mode!r}")
        if isinstance(config, type):
            raise UsageError(f"config: expected a Config, got its class; write {config.__name__}()")
        self.mode, self.config, self.model_dir = mode, config, str(model_dir)
        self._input_shape = tuple(map(int, config.IMAGE_SHAPE))  # of the last input, of which `anchors` are
        self._anchors: dict[tuple[int, ...], np.ndarray] = {}
        training = mode == "training"
        self.keras_model = KerasModel(
            model_config(config),
            trains_norm=training and trains_norm(config),
            name="network",
        )
        self.keras_model.build()
        self._detect = compiled(self.keras_model, Network.call, use_xla=has_gpu())
        self._masks = compiled(self.keras_model, Network.masks, use_xla=has_gpu())
        self._explain = compiled(self.keras_model, Network.explain, use_xla=has_gpu())
        self._selection, self._shelf = Selection(self.keras_model), Shelf()
        self.set_log_dir()

    # --- weights ------------------------------------------------------------------------------------------------------

    def load_weights(
        self, filepath: str | Path, by_name: bool = False, exclude: Sequence[str] | None = None
    ) -> LoadReport:
        """Fill the network from an `.h5` of the original; says what was loaded, skipped and missing.

        by_name: layers that only the file or only the network has are let be · exclude: layers that are left alone,
        such as the heads of another number of classes, or `rpn_model`, which is three; implies by_name. A training goes
        on from the file's epoch.
        The file of `get_imagenet_weights` fills the backbone. Raises ModelError naming the tensors that do not fit;
        then nothing was loaded.
        """
        path = Path(filepath)
        if is_imagenet(path):
            report = load_imagenet_resnet(self.keras_model.backbone, path)
        else:
            layers = excluded(exclude or (), named_weights(self.keras_model))
            report = load_matterport(self.keras_model, path, by_name=by_name or bool(exclude), exclude=layers)
        self.set_log_dir(filepath)
        return report

    def get_imagenet_weights(self) -> str:
        """The path of the ImageNet weights of this backbone, fetched if they are not here yet. Raises ModelError."""
        return str(resnet_weights(self.config.BACKBONE, progress=True))

    def find_last(self) -> str:
        """The newest weights file of the newest training of this configuration's name; FileNotFoundError for none."""
        named = re.compile(re.escape(self._name) + r"\d{8}T\d{4}")
        runs = sorted(path for path in Path(self.model_dir).glob("*/") if named.fullmatch(path.name))
        if not runs:
            raise FileNotFoundError(errno.ENOENT, f"no training of {self._name} lies there", self.model_dir)
        files = sorted(path for path in runs[-1].glob("mask_rcnn*.h5") if not path.stem.endswith(".part"))
        if not files:
            raise FileNotFoundError(errno.ENOENT, "no weights of this training lie there", str(runs[-1]))
        return str(files[-1])

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Where this training logs: the run that `model_path` is of, from its epoch on, else a new one from now."""
        self.epoch, began = 0, datetime.datetime.now()
        if found := RUN.search(str(model_path or "")):
            year, month, day, hour, minute, epoch = map(int, found.groups())
            with contextlib.suppress(ValueError):  # a folder that only looks like a run's
                began, self.epoch = datetime.datetime(year, month, day, hour, minute), epoch
        self.log_dir = str(Path(self.model_dir) / f"{self._name}{began:%Y%m%dT%H%M}")
        folder, name = (text.replace("{", "{{").replace("}", "}}") for text in (self.log_dir, self._name))
        self.checkpoint_path = str(Path(folder) / f"mask_rcnn_{name}_{{epoch:04d}}.h5")

    @property
    def _name(self) -> str:
        if not self.config.NAME:
            raise UsageError("NAME: expected the name of the experiment, got none; the Config has to say it")
        return self.config.NAME.lower()

    # --- detection ----------------------------------------------------------------------------------------------------

    def detect(self, images: Sequence[np.ndarray], verbose: int = 0) -> list[dict[str, np.ndarray]]:
        """What is on each picture (H, W, 3) uint8 RGB; any number of pictures of any sizes.

        For each: rois (n, 4) int32 in its pixels, class_ids (n,) int32, scores (n,) float32, masks (H, W, n) bool;
        best first. verbose prints what is done.
        """
        self._expect("inference", "detect")
        images = _pictures(images)
        if verbose:
            log(f"Processing {len(images)} images")
            for image in images:
                log("image", image)
        molds = [self._mold(image) for image in images]
        molded = [mold.picture(image) for mold, image in zip(molds, images, strict=True)]
        if molded:
            self._input_shape = molded[-1].shape
        found = self._found(molded, [mold.window for mold in molds])
        results = []
        for i, (detections, masks) in enumerate(found):
            shape, input_shape = images[i].shape, molded[i].shape
            boxes, class_ids, scores, rows = molding.unmold(
                detections, shape=shape, input_shape=input_shape, window=molds[i].window
            )
            full = _full(masks[rows], boxes, shape=shape)
            results.append({"rois": boxes, "class_ids": class_ids, "scores": scores, "masks": full})
        return results

    def detect_molded(
        self, molded_images: np.ndarray, image_metas: np.ndarray, verbose: int = 0
    ) -> list[dict[str, np.ndarray]]:
        """`detect` for pictures (B, H, W, 3) and metas (B, 12 + K) of `mold_inputs`; results in molded pixels."""
        self._expect("inference", "detect_molded")
        if len(molded_images) != len(image_metas):
            raise UsageError(f"image_metas: expected {len(molded_images)}, one a picture, got {len(image_metas)}")
        if verbose:
            log(f"Processing {len(molded_images)} images")
            log("molded_images", molded_images)
            log("image_metas", image_metas)
        self._input_shape = molded_images.shape[1:]
        windows = utils.parse_image_meta(image_metas)["window"]
        results = []
        for detections, masks in self._found(list(self._unmean(molded_images)), windows):
            shape = molded_images.shape[1:]
            whole = 0, 0, *shape[:2]
            boxes, class_ids, scores, rows = molding.unmold(detections, shape=shape, input_shape=shape, window=whole)
            full = _full(masks[rows], boxes, shape=shape)
            results.append({"rois": boxes, "class_ids": class_ids, "scores": scores, "masks": full})
        return results

    def mold_inputs(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pictures as the network takes them: molded (B, H, W, 3) float64, metas (B, 12 + K), windows (B, 4).

        Raises UsageError when they do not become inputs of one size.
        """
        images = _pictures(images)
        molds = [self._mold(image) for image in images]
        molded = [mold.picture(image) for mold, image in zip(molds, images, strict=True)]
        shapes = sorted({each.shape for each in molded})
        if len(shapes) != 1:
            raise UsageError(f"images: expected one or more that become inputs of one size, got sizes {shapes}")
        none_active = np.zeros(self.config.NUM_CLASSES, np.int32)
        metas = [
            utils.compose_image_meta(0, image.shape, shapes[0], mold.window, mold.scale, none_active)
            for image, mold in zip(images, molds, strict=True)
        ]
        windows = np.stack([mold.window for mold in molds])
        return utils.mold_image(np.stack(molded), self.config), np.stack(metas), windows

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Sequence[int] | np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rois, class ids, scores and masks (`detect`) from what the network says of one picture.

        detections (D, 6): normalised box, class, score · mrcnn_mask (D, m, m, K) · window of the picture in the input.
        """
        boxes, class_ids, scores, rows = molding.unmold(
            detections, shape=original_image_shape, input_shape=image_shape, window=window
        )
        masks = np.asarray(mrcnn_mask)[rows, :, :, class_ids]
        return boxes, class_ids, scores, _full(masks, boxes, shape=original_image_shape)

    def _found(
        self, molded: Sequence[np.ndarray], windows: Sequence[Sequence[int]] | np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Detections (n, 6) and the masks (n, m, m) of their classes, for each molded picture with its mean."""
        found: list[Any] = [None] * len(molded)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(molded):
            by_shape.setdefault(image.shape, []).append(i)
        for shape, places in by_shape.items():
            for start in range(0, len(places), self.config.BATCH_SIZE):
                batch = places[start : start + self.config.BATCH_SIZE]
                images = np.stack([molded[i] for i in batch]).astype(np.float32)
                parts = self._predict(images, utils.norm_boxes(np.stack([windows[i] for i in batch]), shape))
                for i, part in zip(batch, parts, strict=True):
                    found[i] = part
        return found

    def _predict(self, images: np.ndarray, windows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """`_found` for one batch (B, H, W, 3) with normalised windows (B, 4)."""
        output = self._detect(images, windows[:, Y_FIRST])
        rows = np.asarray(keras.ops.convert_to_numpy(output["detections"]))  # (B, D, 6)
        picture_ids, places = np.nonzero(rows[..., 5] > 0)
        real = rows[picture_ids, places]  # (R, 6)
        # rounded up to a power of two, so that few graphs are traced
        padded = np.zeros((1 << max(0, len(real) - 1).bit_length(), 6), np.float32)
        padded[: len(real)] = real
        pictures = np.zeros(len(padded), np.int32)
        pictures[: len(real)] = picture_ids
        drawn = self._masks(output["levels"], padded[:, :4], padded[:, 5].astype(np.int32), pictures)
        masks = np.asarray(keras.ops.convert_to_numpy(drawn), np.float32)[: len(real)]
        detections = real[:, [*Y_FIRST, 5, 4]]  # class before score
        return [(detections[picture_ids == i], masks[picture_ids == i]) for i in range(len(images))]

    def _mold(self, image: np.ndarray) -> molding.Mold:
        if self.config.IMAGE_RESIZE_MODE == "crop":
            raise UsageError("IMAGE_RESIZE_MODE: expected square, pad64 or none to detect; crop is for training")
        if self.config.IMAGE_RESIZE_MODE == "none" and any(side % 64 for side in image.shape[:2]):
            raise UsageError(f"image: expected sides that are multiples of 64 with resize mode none, got {image.shape}")
        return mold_of(self.config, image)

    def _unmean(self, molded_images: np.ndarray) -> np.ndarray:
        """Molded pictures with the mean that the network itself takes off."""
        return (np.asarray(molded_images) + np.asarray(self.config.MEAN_PIXEL, np.float64)).astype(np.float32)

    def _expect(self, mode: str, verb: str) -> None:
        if self.mode != mode:
            raise UsageError(f'{verb}: make the model with mode="{mode}"; this one has "{self.mode}"')

    # --- training -----------------------------------------------------------------------------------------------------

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: AugmentConfig | Augmenter | Mapping[str, Any] | bool | None = None,
        custom_callbacks: Sequence[Any] | None = None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> dict[str, list[float]]:
        """Train on a prepared dataset up to an epoch; returns the losses of every epoch, of `val_dataset` as `val_…`.

        epochs: the number of the last one, counting those before (`epoch`) · layers: `heads`, `3+`, `4+`, `5+`, `all`
        or a regular expression over the original's names of layers · augmentation: an augmenter of imgaug's kind or the
        fields of `streamseg.config.AugmentConfig`, for the molded training pictures but those of
        no_augmentation_sources. GPU_COUNT GPUs share a batch. Each epoch
        leaves its weights at `checkpoint_path`, and numbers for TensorBoard in `log_dir`. The pictures stay in memory
        for the next call. Losses have the original's names, times LOSS_WEIGHTS, in what is returned, for callbacks, in
        `keras_model.history.history` and in TensorBoard. Raises ModelError at the first loss that is not a number.
        """
        self._expect("training", "train")
        for name, dataset in (("train_dataset", train_dataset), ("val_dataset", val_dataset)):
            if not hasattr(dataset, "image_info"):
                raise UsageError(f"{name}: expected a Dataset, got {dataset!r}")
        if custom_callbacks is not None and not isinstance(custom_callbacks, Sequence):
            raise UsageError(f"custom_callbacks: expected a list, got {type(custom_callbacks).__name__}; write [it]")
        plan = Plan(
            learning_rate,
            epochs,
            layers,
            augmentation_of(augmentation),
            self.epoch,
            self.checkpoint_path,
            self.log_dir,
            pictures_of(train_dataset, no_augmentation_sources),
        )
        if epochs <= self.epoch:
            warnings.warn(
                f"epochs: {self.epoch} are done already, got {epochs}, the number of the last one; nothing is trained",
                stacklevel=2,
            )
        history = self.keras_model.history = keras.callbacks.History()
        train(
            self._selection,
            self.config,
            train_dataset,
            val_dataset,
            plan=plan,
            shelf=self._shelf,
            history=history,
            callbacks=custom_callbacks or (),
        )
        self.epoch = max(self.epoch, epochs)
        losses: dict[str, list[float]] = history.history
        return losses

    # --- inspection ---------------------------------------------------------------------------------------------------

    def get_anchors(self, image_shape: Sequence[int] | np.ndarray) -> np.ndarray:
        """The anchors (A, 4) float32 of an input of `image_shape`, normalised; `anchors` then has them in pixels."""
        self._input_shape = tuple(map(int, image_shape))
        return utils.norm_boxes(self.anchors, self._input_shape)

    @property
    def anchors(self) -> np.ndarray:
        """The anchors (A, 4) float64 of the last input, in its pixels."""
        config, shape = self.config, self._input_shape
        if shape not in self._anchors:
            anchors = utils.generate_pyramid_anchors(
                config.RPN_ANCHOR_SCALES,
                config.RPN_ANCHOR_RATIOS,
                utils.compute_backbone_shapes(config, shape),
                config.BACKBONE_STRIDES,
                config.RPN_ANCHOR_STRIDE,
            )
            self._anchors = {shape: anchors}
        return self._anchors[shape]

    def run_graph(
        self,
        images: Sequence[np.ndarray],
        outputs: Sequence[str | tuple[str, Output]],
        image_metas: np.ndarray | None = None,
    ) -> OrderedDict[str, Any]:
        """What the network computes on its way, each with the pictures first; prints the shape and range of each.

        outputs: names of `OUTPUTS`, or pairs (what to call it, `keras_model.get_layer(…).output` or `ancestor(…)`).
        images as for `detect`; with image_metas they are molded already. They must become inputs of one size. Boxes and
        deltas begin with y as everywhere here, detections (B, D, 6) are normalised box, class, score.
        `post_nms_anchor_ix`: of one picture (n,), of several a list.
        """
        wanted = graph.asked(outputs)
        if image_metas is None:
            molded, image_metas, _ = self.mold_inputs(images)
        else:
            molded = np.asarray(images)
        self._input_shape = molded.shape[1:]
        windows = utils.norm_boxes(utils.parse_image_meta(image_metas)["window"], molded.shape[1:])
        shown, windows = self._unmean(molded), windows[:, Y_FIRST]
        found = graph.values(self.keras_model, self._explain, shown, windows, metas=image_metas, outputs=wanted)
        for name, value in found.items():
            for each in value if isinstance(value, list) else [value]:
                log(name, each)
        return OrderedDict(found)

    def ancestor(self, tensor: Output, name: str) -> Output | None:
        """The value that the original's graph calls `name` on the way to `tensor`; None for one that is not here.

        Those of the proposal layer: `ROI/pre_nms_anchors:0`, `ROI/refined_anchors:0`, `ROI/refined_anchors_clipped:0`,
        `ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0`.
        """
        return graph.ancestor(name)

    def find_trainable_layer(self, layer: Layer) -> Layer:
        """The layer that holds the weights: here each does so itself."""
        return layer

    def get_trainable_layers(self) -> list[Layer]:
        """The layers that hold weights."""
        return self.keras_model.layers

    def set_trainable(
        self, layer_regex: str, keras_model: KerasModel | Model | None = None, indent: int = 0, verbose: int = 1
    ) -> None:
        """Let only the layers learn whose whole name the expression fits; `train` chooses again by its `layers`.

        keras_model: whose layers, this model's by default · verbose prints the chosen ones, `indent` spaces further in.
        """
        if verbose and keras_model is None:
            log("Selecting layers to train")
        for layer in (keras_model or self.keras_model).layers:
            if isinstance(layer, Model):
                self.set_trainable(layer_regex, layer, indent + 4, verbose)
                continue
            layer.trainable = bool(re.fullmatch(layer_regex, layer.name))
            if verbose and layer.trainable:
                log(f"{' ' * indent}{layer.name:20}   ({type(layer).__name__})")

    def named_weights(self) -> dict[str, dict[str, np.ndarray]]:
        """The weights by the original's layer and tensor names: `conv1` → `kernel`, `bias`."""
        layers = named_weights(self.keras_model)
        return {
            layer: {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in tensors.items()}
            for layer, tensors in layers.items()
        }


def _pictures(images: Sequence[Any]) -> list[np.ndarray]:
    """What a script calls pictures as arrays (H, W, 3). Raises UsageError for what is none, such as a name."""
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise UsageError(f"images: expected a list of pictures, got one of {images.shape}; write [image]")
    pictures = [np.asarray(image) for image in images]
    for given, picture in zip(images, pictures, strict=True):
        if picture.ndim != 3 or picture.shape[2] != 3:
            got = picture.shape if picture.ndim else repr(given)
            raise UsageError(f"image: expected (height, width, 3) RGB, got {got}")
        if picture.dtype.kind not in "biuf":
            raise UsageError(f"image: expected numbers, got {picture.dtype}")
    return pictures


def _full(masks: np.ndarray, boxes: np.ndarray, *, shape: Sequence[int]) -> np.ndarray:
    """Masks (n, m, m) in their boxes (n, 4) of a whole picture of `shape`: (H, W, n) bool."""
    full = np.zeros((*shape[:2], len(boxes)), bool)
    for i, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        full[..., i] = molding.paste(mask, box, shape=shape)
    return full


def log(text: str, array: np.ndarray | None = None) -> None:
    """Print a line, with the shape, range and dtype of an array behind it."""
    if array is not None:
        array = np.asarray(array)
        span = f"min: {array.min():10.5f}  max: {array.max():10.5f}" if array.size else "min: empty  max: empty"
        text = f"{text:25}shape: {array.shape!s:20}  {span}  {array.dtype}"
    print(text)
