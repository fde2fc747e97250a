"""Runs a model on the CPU with OpenVINO, exported once for each shape of picture and kept in the cache."""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from openvino.preprocess import PrePostProcessor

from streamseg import zoo
from streamseg.engines._decisions import best_rows, detect, propose
from streamseg.model_folder import ModelFolder, at_least_one, grouped
from streamseg.types import Frame, Instances, ModelError

log = logging.getLogger("streamseg")

EXPORT_VERSION = 5
"""Part of a cached export's name: raised when what is exported changes."""

PARTS = {
    "lite": ("features", "proposals", "box_head", "crops", "masks"),
    "matterport": ("features", "pools", "box_head", "crops", "masks"),
}
"""The networks that a model of each family is exported as."""

SCRATCH = ".export-"


class Openvino:
    """Detections of a model through OpenVINO.

    model: a name, folder or .h5 file · class_names: what the classes of such a file are called ·
    batch_size: most pictures of one call; they run side by side, one a core · precision: `bf16` (default where the CPU
    has it) or `f32` · threads: cores to use, all by default.
    The first use of a shape of picture exports the model (up to half a minute, once).
    """

    def __init__(
        self,
        *,
        model: str = "people",
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Literal["bf16", "f32"] | None = None,
        threads: int | None = None,
    ) -> None:
        self.folder = ModelFolder.open(model, class_names=class_names)
        self.class_names = self.folder.config.class_names
        self.min_score = self.folder.config.min_score
        self.threads = at_least_one("threads", threads) or num_cores()
        self.batch_size = at_least_one("batch_size", batch_size) or 2 * min(self.threads, 4)
        self._core = ov.Core()
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = precision or ("bf16" if capable else "f32")
        log.debug("OpenVINO: %s in %s, %d threads", self.folder.path, self.precision, self.threads)
        self._networks: dict[tuple[int, int], _Networks] = {}

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self.folder.input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, in order. Frames may be of any sizes."""
        results: list[Instances | None] = [None] * len(frames)
        for size, places in grouped(frames, self.input_size).items():
            networks = self._networks.get(size) or self._open(size)
            for i, instances in zip(places, networks.predict([frames[i] for i in places]), strict=True):
                results[i] = instances
        return [instances for instances in results if instances is not None]

    def _open(self, size: tuple[int, int]) -> _Networks:
        exported = cached_export(self.folder, width=size[0], height=size[1])
        try:
            networks = _Networks(
                self._core,
                self.folder,
                exported,
                size,
                precision=self.precision,
                threads=self.threads,
                streams=self.batch_size,
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
            raise ModelError(
                f"{exported}: the prepared model cannot be read ({reason}); delete this folder to have it made anew"
            ) from error
        self._networks[size] = networks
        return networks


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cached_export(folder: ModelFolder, *, width: int, height: int) -> Path:
    """The folder with a model's exported networks for inputs of width × height pixels; exports them if need be.

    The name holds a hash of weights and configuration, so a changed model is exported anew. The export runs in a
    process of its own, so that this one never loads TensorFlow.
    """
    name = export_name(folder, width=width, height=height)
    cache = zoo.cache_folder() / "openvino"
    target = cache / name
    if is_whole(target, folder.config.family):
        log.debug("prepared model for %dx%d pictures: from the cache, %s", width, height, target)
        return target
    folder.check_weights()
    log.warning("preparing the model %s for %dx%d pictures, once: about 20 s …", folder.name, width, height)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=SCRATCH))
    except OSError:  # a home folder that cannot be written: good for this run only
        scratch = Path(tempfile.mkdtemp(prefix="streamseg-"))
        target = scratch / name
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)  # also where a third Ctrl-C leaves this thread behind
    try:
        _export(folder, scratch / "new", width=width, height=height)
        try:
            (scratch / "new").rename(target)
        except OSError:
            if not is_whole(target, folder.config.family):  # else another process was faster, with the same content
                shutil.rmtree(target, ignore_errors=True)
                (scratch / "new").rename(target)
    finally:
        if target.parent != scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def export_name(folder: ModelFolder, *, width: int, height: int) -> str:
    """Name of a model's export in the cache; another one for other weights or another configuration."""
    settings = folder.config.model_dump_json(exclude={"class_names", "min_score", "min_side"})
    mark = hashlib.sha256(folder.weights.read_bytes() + settings.encode()).hexdigest()[:16]
    return f"{folder.name}-{mark}-{width}x{height}-v{EXPORT_VERSION}"


def is_whole(exported: Path, family: str) -> bool:
    """Whether a folder holds all that an export of a model of this family writes."""
    files = ["anchors.npy", *(f"{part}.{ending}" for part in PARTS[family] for ending in ("xml", "bin"))]
    return all((exported / file).is_file() for file in files)


def _export(folder: ModelFolder, target: Path, *, width: int, height: int) -> None:
    """Export into the folder `target` in another process; raises ModelError with what that one said."""
    command = [
        sys.executable,
        "-m",
        "streamseg.model.export",
        str(folder.weights),
        str(target),
        str(width),
        str(height),
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's Ctrl-C is for this process, which decides
    ) as child:
        atexit.register(child.kill)  # a process that leaves this thread behind takes the child along
        try:
            _, said = child.communicate(folder.config.model_dump_json(), timeout=600)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise ModelError(f"{folder.path}: preparing the model took more than {error.timeout:.0f} s") from error
        except BaseException:
            child.kill()
            raise
        finally:
            atexit.unregister(child.kill)
    if child.returncode:
        lines = said.strip().splitlines() or ["no message"]
        raise ModelError(lines[-1].removeprefix("streamseg.types.ModelError: "))


def _remove_abandoned(cache: Path) -> None:
    """Remove what exports left behind that were killed: nothing else is older than an hour."""
    for scratch in cache.glob(f"{SCRATCH}*"):
        if time.time() - scratch.stat().st_mtime > 3600:
            shutil.rmtree(scratch, ignore_errors=True)


class _Networks:
    """The networks of one input size, with as many requests for the first as pictures run side by side."""

    def __init__(
        self,
        core: ov.Core,
        folder: ModelFolder,
        exported: Path,
        size: tuple[int, int],
        *,
        precision: str,
        threads: int,
        streams: int,
    ) -> None:
        self.folder, self.size, self.config = folder, size, folder.config
        self.anchors = np.load(exported / "anchors.npy")
        self.levels = [f"level{i}" for i in sorted(self.config.roi_levels)]
        between = ov.Type.bf16 if precision == "bf16" else ov.Type.f32  # what the levels are handed over in
        common: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
        if os.access(exported, os.W_OK):
            common["CACHE_DIR"] = str(exported / "compiled")
        many = {**common, "NUM_STREAMS": min(streams, threads), "INFERENCE_NUM_THREADS": threads}
        # proposals, pools and crops compute with coordinates, which bfloat16 would round to 2 or 4 pixels; what is
        # small runs on one thread, which spares it the waiting for others
        small = {**common, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
        lite = self.config.family == "lite"
        if not lite:
            many["NUM_STREAMS"], small["INFERENCE_NUM_THREADS"] = 1, threads
        exact = {**small, "INFERENCE_PRECISION_HINT": "f32"}

        def opened(name: str, properties: dict[str, Any]) -> Any:
            return core.compile_model(
                handing_over(core.read_model(exported / f"{name}.xml"), between), "CPU", properties
            )

        features = opened("features", many)
        self.features = [features.create_infer_request() for _ in range(streams if lite else 1)]
        self.crops = opened("crops", exact).create_infer_request()
        self.masks = opened("masks", small).create_infer_request()
        self.pools = opened("proposals" if lite else "pools", exact).create_infer_request()
        self.box_head = opened("box_head", small).create_infer_request()

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        results: list[Instances] = []
        running: list[Any] = []
        for k, frame in enumerate(frames):
            request = self.features[k % len(self.features)]
            if len(running) == len(self.features):
                results.append(self._finish(*running.pop(0)))
            letterbox = self.folder.fit(frame, request.get_tensor("picture").data[0])
            request.start_async()
            running.append((request, letterbox))
        results += [self._finish(request, letterbox) for request, letterbox in running]
        return results

    def _finish(self, request: Any, letterbox: Any) -> Instances:
        """Wait for a picture's features, find the objects in them, and draw their masks."""
        request.wait()
        proposals = self._proposals(request)
        self.box_head.set_tensor("crops", self.pools.get_tensor("crops"))
        self.box_head.infer()
        logits, deltas = (self.box_head.get_tensor(name).data for name in ("logits", "deltas"))
        found = self.folder.found(detect(proposals, logits, deltas, self.config, size=self.size), letterbox)
        if not len(found):
            return Instances.empty(self.config.class_names, mask_size=2 * self.config.mask_pool)
        self._take_levels(self.crops, request)
        boxes = self.folder.network_boxes(found[:, :4], letterbox)
        self.crops.set_tensor("boxes", ov.Tensor(np.ascontiguousarray(boxes)))
        self.crops.infer()
        self.masks.set_tensor("crops", self.crops.get_output_tensor(0))
        self.masks.set_tensor("class_ids", ov.Tensor(found[:, 5].astype(np.int32)))
        self.masks.infer()
        return self.folder.instances(found, self.masks.get_output_tensor(0).data.copy(), letterbox)

    def _take_levels(self, network: Any, request: Any) -> None:
        for name in self.levels:
            network.set_tensor(name, request.get_tensor(name))

    def _proposals(self, request: Any) -> np.ndarray:
        """Proposals (N, 4) from a picture's features; `pools` then holds what the box head sees of them."""
        scores, deltas = request.get_tensor("scores").data, request.get_tensor("deltas").data
        self._take_levels(self.pools, request)
        if self.config.family == "matterport":  # thousands of boxes are chosen from faster outside of a graph
            proposals = propose(scores, deltas, self.anchors, self.config)
            self.pools.set_tensor("boxes", ov.Tensor(proposals))
            self.pools.infer()
            return proposals
        best = best_rows(scores, self.config.proposals_before_nms)
        self.pools.get_tensor("anchors").data[:] = self.anchors[best]
        self.pools.get_tensor("deltas").data[:] = deltas[best]
        self.pools.infer()
        chosen: np.ndarray = self.pools.get_tensor("proposals").data
        return chosen


def handing_over(network: ov.Model, between: ov.Type) -> ov.Model:
    """The network with the features that it takes or gives in the type `between`."""
    steps = PrePostProcessor(network)
    for ports, step in ((network.inputs, steps.input), (network.outputs, steps.output)):
        for port in ports:
            name = port.any_name
            if name.startswith("level") or name == "crops":
                step(name).tensor().set_element_type(between)
    return steps.build()
