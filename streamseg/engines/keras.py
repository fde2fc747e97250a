"""Runs a model with Keras on TensorFlow, JAX or torch; the way to a GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # start-up messages that say nothing to a user

import keras
import numpy as np

from streamseg.engines._precision import Precision
from streamseg.letterbox import Letterbox
from streamseg.model.mask_rcnn import MaskRCNN, load_network
from streamseg.model_folder import InputSize, ModelFolder, at_least_one, grouped
from streamseg.types import Frame, Instances, UsageError

log = logging.getLogger(__name__)


class Keras:
    """Detections of a model through Keras, on the backend that KERAS_BACKEND names.

    model: a name, folder or weights file · class_names: what the classes of such a file are called · batch_size:
    pictures of one call; a short batch is filled up, so the graph is traced once · precision: `bf16` or `f32`; `auto`
    is bf16 on a GPU, f32 on a CPU · input: `large` shows the network half as many pixels again, for what is small.
    """

    def __init__(
        self,
        *,
        model: str = "people",
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        input: InputSize = "normal",
    ) -> None:
        self.folder = ModelFolder.open(model, class_names=class_names, input=input)
        self.class_names = self.folder.config.class_names
        self.min_score = self.folder.config.min_score
        on_gpu = has_gpu()
        self.batch_size = at_least_one("batch_size", batch_size) or (8 if on_gpu else 1)
        if precision == "int8":
            raise UsageError("precision: int8 is computed on a CPU, by the engine openvino; expected auto, bf16 or f32")
        self.precision = precision if precision != "auto" else "bf16" if on_gpu else "f32"
        backend, device = keras.backend.backend(), "GPU" if on_gpu else "CPU"
        log.debug("Keras on %s, %s: %s in %s", backend, device, self.folder.path, self.precision)
        self.fill = on_gpu or keras.backend.backend() == "jax"
        policy = "mixed_bfloat16" if self.precision == "bf16" else "float32"
        self.network = load_network(self.folder.config, self.folder.weights, precision=policy)
        self._detect = compiled(self.network, MaskRCNN.call, use_xla=on_gpu)
        self._draw = compiled(self.network, MaskRCNN.draw, use_xla=on_gpu)
        self._sizes: set[tuple[int, int]] = set()

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self.folder.input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, in order. Frames may be of any sizes and any number."""
        results: list[Instances | None] = [None] * len(frames)
        for size, places in grouped(frames, self.input_size).items():
            if size not in self._sizes:
                self._sizes.add(size)
                log.debug("a new network input, %dx%d: its first batch takes longer", *size)
            for start in range(0, len(places), self.batch_size):
                batch = places[start : start + self.batch_size]
                for i, instances in zip(batch, self._predict(size, [frames[i] for i in batch]), strict=True):
                    results[i] = instances
        return [instances for instances in results if instances is not None]

    def _predict(self, size: tuple[int, int], frames: list[Frame]) -> list[Instances]:
        count = self.batch_size if self.fill else len(frames)
        images = np.zeros((count, size[1], size[0], 3), np.uint8)
        letterboxes = [self.folder.fit(frame, images[i]) for i, frame in enumerate(frames)]
        output = self._detect(images, *self._windows(letterboxes, count))
        detections = np.array(keras.ops.convert_to_numpy(output["detections"]), np.float32)  # (B, D, 6)
        found = [self.folder.found(detections[i], letterbox) for i, letterbox in enumerate(letterboxes)]
        side = 2 * self.folder.config.mask_pool
        counts = [len(part) for part in found]
        total, borders = sum(counts), np.cumsum(counts)[:-1]
        masks = np.zeros((0, side, side), np.float32)
        if total:
            # rounded up to a power of two, so that few graphs are traced
            rows = np.zeros((1 << (total - 1).bit_length(), 6), np.float32)
            rows[:total] = np.concatenate(found)
            rows[:total, :4] = self.folder.network_boxes(rows[:total, :4], letterboxes[0])
            rows[total:, 5] = 1
            picture_ids = np.zeros(len(rows), np.int32)
            picture_ids[:total] = np.repeat(np.arange(len(found)), counts)
            boxes, masks = (
                np.array(keras.ops.convert_to_numpy(each), np.float32)[:total]
                for each in self._draw(output["levels"], rows, picture_ids)
            )
            if self.folder.config.box_fitting > 0:
                rows[:total, :4] = boxes
                found = np.split(rows[:total], borders)
        parts = np.split(masks, borders)
        return [self.folder.instances(*three) for three in zip(found, parts, letterboxes, strict=True)]

    def _windows(self, letterboxes: Sequence[Letterbox], count: int) -> list[np.ndarray]:
        """For a model that cuts boxes to the picture, where it lies in each of `count` inputs: (count, 4)."""
        if self.folder.config.clip_to != "picture":
            return []
        windows = np.zeros((count, 4), np.float32)
        windows[: len(letterboxes), 2:] = [self.folder.picture_in(each) for each in letterboxes]
        return [windows]


def has_gpu() -> bool:
    """Whether the backend sees a GPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def compiled(network: MaskRCNN, method: Callable[..., Any], *, use_xla: bool) -> Callable[..., Any]:
    """A method of the network as one graph of the backend; on a CPU, XLA would slow depthwise convolutions down."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow

        # a network has no Python loops or branches for AutoGraph to rewrite, which would take a second of every start
        graph: Callable[..., Any] = tensorflow.function(
            lambda *inputs: method(network, *inputs), jit_compile=use_xla, autograph=False
        )
        return graph
    if backend == "jax":
        import jax

        variables = network.variables

        @jax.jit
        def run(values: list[Any], *inputs: Any) -> Any:
            with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
                return method(network, *inputs)

        return lambda *inputs: run([variable.value for variable in variables], *inputs)
    import torch

    def plain(*inputs: Any) -> Any:
        with torch.no_grad():
            return method(
                network, *(keras.ops.convert_to_tensor(x) if isinstance(x, np.ndarray) else x for x in inputs)
            )

    return plain
