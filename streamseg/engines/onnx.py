"""Runs an ONNX file of any of five kinds of instance segmentation, with OpenVINO on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamseg.engines._onnx_file import OnnxModel
from streamseg.engines._onnx_graph import FAILURES, last_words
from streamseg.engines._onnx_kinds import KINDS, WEAKEST, Candidates
from streamseg.engines._precision import Cpu, Precision, chosen
from streamseg.engines.openvino import num_cores
from streamseg.letterbox import Letterbox
from streamseg.model.openvino_core import UNBOUND, openvino_core
from streamseg.model_folder import at_least_one
from streamseg.types import Frame, Instances, ModelError, UsageError

log = logging.getLogger("streamseg")

MOST_STREAMS = 4
"""Pictures that are looked at side by side unless it is asked for otherwise: each holds the whole network's memory."""


class Onnx:
    """Detections of an ONNX file with a YAML file of its name beside it, which says what its outputs mean.

    model: the file · class_names: instead of those in the YAML file · batch_size: most pictures of one call; they run
    side by side, one a core · precision: `f32`, which `auto` is too, because such files compute boxes in pixels, which
    `bf16` rounds to 2 or 4; or `bf16` · threads: cores to use, all by default.
    """

    def __init__(
        self,
        *,
        model: str,
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        threads: int | None = None,
    ) -> None:
        self.file, graph = OnnxModel.open(model, class_names=class_names)
        self.class_names = self.file.class_names
        self.min_score = self.file.config.min_score
        self.threads = at_least_one("threads", threads) or num_cores()
        self.batch_size = at_least_one("batch_size", batch_size) or min(self.threads, MOST_STREAMS)
        if precision == "int8":
            raise UsageError("precision: expected auto, bf16 or f32, got 'int8': an ONNX file brings its own")
        self.precision = chosen("f32" if precision == "auto" else precision, Cpu.here(), made_for=())
        self._reading = self.file.reading
        properties = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": min(self.batch_size, self.threads),
            **UNBOUND,
        }
        try:
            network = openvino_core().compile_model(graph, "CPU", properties)
        except FAILURES as error:
            raise ModelError(f"{self.file.path}: OpenVINO cannot run it ({last_words(error)})") from error
        self._requests = [network.create_infer_request() for _ in range(self.batch_size)]
        log.debug("ONNX: %s in %s, %d threads", self.file.path, self.precision, self.threads)

    def input_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of the file's one input."""
        return self.file.width, self.file.height

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, in order. Frames may be of any sizes.

        Raises ModelError where the file gives what its kind does not have, such as scores beyond 1.
        """
        results: list[Instances] = []
        running: list[tuple[Any, Letterbox]] = []
        for k, frame in enumerate(frames):
            request = self._requests[k % len(self._requests)]
            if len(running) == len(self._requests):
                results.append(self._finish(*running.pop(0)))
            letterbox = self._fit(frame)
            picture = request.get_input_tensor().data.reshape(self.file.height, self.file.width, 3)
            rgb = frame.rgb(letterbox.inner_width, letterbox.inner_height)
            letterbox.place(rgb, picture, padding=self.file.config.picture.padding)
            request.start_async()
            running.append((request, letterbox))
        return results + [self._finish(request, letterbox) for request, letterbox in running]

    def _fit(self, frame: Frame) -> Letterbox:
        fit, size = self.file.config.picture.fit, (self.file.width, self.file.height)
        if fit == "stretch":
            return Letterbox.stretch(frame.width, frame.height, *size)
        letterbox = Letterbox.fit(frame.width, frame.height, *size, frame.pixel_aspect)
        return letterbox.centred() if fit == "centre" else letterbox

    def _finish(self, request: Any, letterbox: Letterbox) -> Instances:
        """Wait for what the file says of a picture, and choose the objects among it."""
        request.wait()
        arrays = [tensor.data for tensor in request.output_tensors]
        outputs = dict(zip(self.file.outputs, arrays, strict=True))
        self.file.check({role: array.shape for role, array in outputs.items()})
        return self._chosen(KINDS[self.file.config.kind].read(outputs, self._reading), letterbox)

    def _chosen(self, found: Candidates, letterbox: Letterbox) -> Instances:
        """The objects of classes that count with more than a sliver inside the picture, the best first."""
        low, high = np.array(letterbox.inner[:2] * 2, np.float32), np.array(letterbox.inner[2:] * 2, np.float32)
        inside = np.clip(found.boxes, low, high)
        seen = (inside[:, 2:] - inside[:, :2]).min(axis=1, initial=np.inf) >= 0.5
        firm = np.flatnonzero(seen & (found.scores >= WEAKEST))
        class_ids = self._class_ids(found, firm)
        firm = firm[class_ids > 0]
        best = firm[np.argsort(-found.scores[firm], kind="stable")[: self.file.config.max_detections]]
        boxes = (inside if found.cuttable else found.boxes)[best]
        masks = self._shares("masks", found.masks(best, boxes))
        return Instances(
            boxes=letterbox.beyond_picture(boxes),
            masks=masks,
            scores=self._shares("scores", found.scores[best]),
            class_ids=self._class_ids(found, best),
            track_ids=np.full(len(best), -1, np.int32),
            class_names=self.class_names,
        )

    def _class_ids(self, found: Candidates, chosen: np.ndarray) -> np.ndarray:
        """Our numbers of the classes of some candidates (n,); 0 for one that is left out."""
        theirs = found.classes[chosen].astype(np.int64)
        wrong = theirs[(theirs < 0) | (theirs >= len(self._reading.numbers))]
        if len(wrong):
            raise ModelError(
                f"{self.file.path}: it found something of class {wrong[0]}; expected at most "
                f"{len(self._reading.numbers) - 1}, the last of onnx.class_names counted from onnx.first_class"
            )
        ours: np.ndarray = self._reading.numbers[theirs]
        return ours

    def _shares(self, role: str, values: np.ndarray) -> np.ndarray:
        """Values of any shape that are between 0 and 1, as they should be."""
        if len(values) and not -0.01 <= values.min() <= values.max() <= 1.01:
            raise ModelError(
                f"{self.file.path}: {role} of the kind {self.file.config.kind}: expected 0 to 1, got "
                f"{values.min():g} to {values.max():g}"
            )
        return np.clip(values.astype(np.float32, copy=False), 0, 1)
