"""Runs a model on the CPU with OpenVINO, its networks prepared once and kept in the cache."""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset8 as opset

from streamseg import zoo
from streamseg.config import FITTED_SCORE
from streamseg.engines._crops import Pyramid, crops
from streamseg.engines._decisions import detect, fitted, grown, propose
from streamseg.engines._precision import Cpu, Precision, chosen
from streamseg.letterbox import Letterbox
from streamseg.model.anchors import group_sizes, make_anchors
from streamseg.model.export import PARTS, VERSION, fill_graphs, graph_mark, has_graphs
from streamseg.model.openvino_core import UNBOUND, openvino_core
from streamseg.model_folder import InputSize, ModelFolder, at_least_one, grouped
from streamseg.types import Frame, Instances, ModelError, UsageError

log = logging.getLogger("streamseg")

SCRATCH = ".export-"

MADE = "made.json"
"""In the folder of networks in int8: which weights they were made of, and how good they are."""


class Openvino:
    """Detections of a model through OpenVINO.

    model: a name, folder or weights file · class_names: what the classes of such a file are called ·
    batch_size: most pictures of one call; they run side by side, one a core · precision: `int8`, `bf16` or `f32`;
    `auto` takes the first of them that the CPU is quick at, int8 only for a model that has networks for it · input:
    `large` shows the network half as many pixels again, for what is small · threads: cores to use, all by default.
    The first use of a model prepares its networks: in a second if its folder holds their graphs, as those of the
    embedded models do, else in half a minute.
    """

    def __init__(
        self,
        *,
        model: str = "people",
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        input: InputSize = "normal",
        threads: int | None = None,
    ) -> None:
        self.folder = ModelFolder.open(model, class_names=class_names, input=input)
        self.class_names = self.folder.config.class_names
        self.min_score = self.folder.config.min_score
        self.threads = at_least_one("threads", threads) or num_cores()
        self.batch_size = at_least_one("batch_size", batch_size) or 2 * min(self.threads, 4)
        has_int8 = precision in ("auto", "int8") and quantised(self.folder, needed=precision == "int8")
        self.precision = chosen(precision, Cpu.here(), made_for=("int8",) if has_int8 else ())
        log.debug("OpenVINO: %s in %s, %d threads", self.folder.path, self.precision, self.threads)
        self._networks: _Networks | None = None

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return self.folder.input_size(frame)

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        """The objects of each frame, in order. Frames may be of any sizes."""
        results: list[Instances | None] = [None] * len(frames)
        for size, places in grouped(frames, self.input_size).items():
            look = self._open(size)
            for i, instances in zip(places, look([frames[i] for i in places]), strict=True):
                results[i] = instances
        return [instances for instances in results if instances is not None]

    def _open(self, size: tuple[int, int]) -> Callable[[Sequence[Frame]], list[Instances]]:
        exported = self._networks.exported if self._networks else self._prepared()
        try:
            if self._networks is None:
                self._networks = _Networks(
                    self.folder,
                    exported,
                    compiled=compiled_folder(self.folder, self.precision),
                    precision=self.precision,
                    threads=self.threads,
                    streams=self.batch_size,
                )
            return partial(self._networks.predict, look=self._networks.look(size))
        except (OSError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
            what, way_out = "the prepared model", "delete this folder to have it made anew"
            if self.precision == "int8":  # no run makes these
                what, way_out = "these networks in int8", "--engine openvino:precision=f32 does without them; "
                way_out += f"make them anew: {_made_by(self.folder)} --overwrite"
            raise ModelError(f"{exported}: {what} cannot be read ({reason}); {way_out}") from error

    def _prepared(self) -> Path:
        return self.folder.int8 if self.precision == "int8" else cached_export(self.folder)

    def given(self) -> dict[str, dict[str, np.ndarray]]:
        """What the box head and the masks' network were given for the last picture, by their names and their inputs'.

        Without a detection, the masks' is that of an earlier picture. Raises ModelError before the first.
        """
        if self._networks is None:
            raise ModelError(f"{self.folder.path}: no picture was looked at yet")
        return self._networks.given()


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cached_export(folder: ModelFolder) -> Path:
    """The folder with a model's networks, for pictures of any size; makes them if need be.

    Their name holds a hash of weights and configuration, so a changed model is prepared anew. Graphs that lie in the
    model's folder are filled with its weights; where there are none, or of another configuration, the model is traced
    in a process of its own, so that this one never loads TensorFlow.
    """
    name = export_name(folder)
    cache = zoo.cache_folder() / "openvino"
    target = cache / name
    if is_whole(target):
        log.debug("prepared model: from the cache, %s", target)
        return target
    folder.check_weights()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(cache)
        scratch = Path(tempfile.mkdtemp(dir=cache, prefix=SCRATCH))
    except OSError:  # a home folder that cannot be written: good for this run only
        scratch = Path(tempfile.mkdtemp(prefix="streamseg-"))
        target = scratch / name
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)  # also where a third Ctrl-C leaves this thread behind
    try:
        if has_graphs(folder.graphs, folder.config):
            log.debug("preparing the model %s from its graphs, once", folder.name)
            fill_graphs(folder.graphs, folder.weights, scratch / "new")
        else:
            log.warning("preparing the model %s, once: about 20 s …", folder.name)
            _export(folder, scratch / "new")
        try:
            (scratch / "new").rename(target)
        except OSError:
            if not is_whole(target):  # else another process was faster, with the same content
                # it may hold what is compiled in int8, which runs of this moment use
                for file in (scratch / "new").iterdir():
                    file.replace(target / file.name)
    finally:
        if target.parent != scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def export_name(folder: ModelFolder) -> str:
    """Name of a model's export in the cache; another one for other weights or another configuration."""
    return f"{folder.name}-{network_mark(folder)}-v{VERSION}"


def network_mark(folder: ModelFolder) -> str:
    """What tells a model's networks from others': a hash of its weights and of what its configuration makes of them."""
    return hashlib.sha256(folder.weights.read_bytes() + graph_mark(folder.config).encode()).hexdigest()[:16]


def quantised(folder: ModelFolder, *, needed: bool) -> bool:
    """Whether a model has networks in int8, made of its present weights.

    Those of other weights are passed over with a warning. Raises UsageError or ModelError where they are `needed`.
    """
    how = _made_by(folder)
    try:
        made = json.loads((folder.int8 / MADE).read_text())
    except FileNotFoundError:
        if needed:
            raise UsageError(f"precision: the model {folder.name} has no networks in int8; make them: {how}") from None
        return False
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder.int8 / MADE} cannot be read ({error})") from error
    if isinstance(made, dict) and made.get("networks") == network_mark(folder) and is_whole(folder.int8):
        return True
    problem = f"{folder.int8}: these networks are not whole or were made of other weights; "
    problem += f"make them anew: {how} --overwrite"
    if needed:
        raise ModelError(problem)
    log.warning("%s", problem)
    return False


def _made_by(folder: ModelFolder) -> str:
    """The command that makes a model's networks in int8."""
    return f"streamseg export --model {folder.path} --format openvino --precision int8 --data …"


def compiled_folder(folder: ModelFolder, precision: str) -> Path | None:
    """Where networks are kept as OpenVINO compiled them, or None where nothing can be kept.

    Networks in int8 that are made anew of the same weights get another place.
    """
    made = hashlib.sha256()
    if precision == "int8":
        for part in PARTS:
            made.update((folder.int8 / f"{part}.xml").read_bytes() + (folder.int8 / f"{part}.bin").read_bytes())
    path = zoo.cache_folder() / "openvino" / export_name(folder) / f"compiled-{precision}"
    path = path.with_name(f"{path.name}-{made.hexdigest()[:8]}") if precision == "int8" else path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if all(os.access(each, os.W_OK) for each in (path, path.parents[1])) else None


def compile_network(network: Any, properties: dict[str, Any], *, kept: Path | None) -> Any:
    """A network compiled for the CPU, or read from the folder `kept`, where there is one and it was compiled before.

    OpenVINO gets a folder of its own beside that of the model, with links to what is kept, and what it compiled is
    moved out of there as a whole: in one folder with another process, it removes what that one has not finished, which
    then fails. Where that folder cannot be had or what was compiled cannot be kept, it is compiled the next time, too.
    """
    own: Path | None = None
    if kept is not None:
        with suppress(OSError):
            own = Path(tempfile.mkdtemp(dir=kept.parents[1], prefix=SCRATCH))
            for compiled in kept.iterdir():
                (own / compiled.name).symlink_to(compiled)
    if kept is None or own is None:
        return openvino_core().compile_model(network, "CPU", properties)
    try:
        made = openvino_core().compile_model(network, "CPU", {**properties, "CACHE_DIR": str(own)})
        with suppress(OSError):
            for compiled in own.iterdir():
                if not compiled.is_symlink():
                    compiled.replace(kept / compiled.name)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return made


def is_whole(exported: Path) -> bool:
    """Whether a folder holds all that an export writes."""
    return all((exported / f"{part}.{ending}").is_file() for part in PARTS for ending in ("xml", "bin"))


def _export(folder: ModelFolder, target: Path) -> None:
    """Export into the folder `target` in another process; raises ModelError with what that one said."""
    command = [sys.executable, "-m", "streamseg.model.export", str(folder.weights), str(target)]
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


@dataclass(frozen=True)
class _Look:
    """What looks at pictures of one size (width, height): as many requests as pictures run side by side.

    counts: of `anchors.group_sizes` · requests: each with the pyramid that it writes into
    """

    size: tuple[int, int]
    anchors: np.ndarray
    counts: tuple[int, ...]
    requests: Sequence[tuple[Any, Pyramid]]


class _Networks:
    """A model's networks: one for each size of pictures that looks at them, one that judges boxes, one for masks."""

    def __init__(
        self,
        folder: ModelFolder,
        exported: Path,
        *,
        compiled: Path | None,
        precision: str,
        threads: int,
        streams: int,
    ) -> None:
        self.folder, self.config, self.exported = folder, folder.config, exported
        self._looks: dict[tuple[int, int], _Look] = {}
        lite = self.config.family == "lite"
        # what is not rounded in an int8 network stays float32
        common: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", **UNBOUND}
        imitated = precision == "int8" and not Cpu.here().int8
        if imitated:
            # its products are summed in 16 bit there, which overflow: a fiftieth of AP is lost, for no time worth it
            common["LP_TRANSFORMS_MODE"] = "NO"
        self._compiled = compiled
        self._num_requests = streams if lite else 1
        # two streams that make their first answers in this mode spoil each other's weights
        num_streams = min(streams, threads) if lite and not imitated else 1
        self._many = {**common, "NUM_STREAMS": num_streams, "INFERENCE_NUM_THREADS": threads}
        # what is small runs on one thread, which spares it the waiting for others
        few = {**common, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1 if lite else threads}
        side = self.config.box_pool
        boxes = {"crops": [self.config.num_proposals, side, side, self.config.fpn_channels]}
        self._box_head = self._opened("box_head", few, boxes).create_infer_request()
        self._masks = self._opened("masks", few).create_infer_request()

    def look(self, size: tuple[int, int]) -> _Look:
        """What looks at pictures of `size` (width, height)."""
        if size not in self._looks:
            width, height = size
            network = self._opened("features", self._many, {"picture": [1, height, width, 3]}, self._summed)
            self._looks[size] = _Look(
                size,
                make_anchors(self.config, width, height),
                group_sizes(self.config, width, height),
                [self._request(network) for _ in range(self._num_requests)],
            )
        return self._looks[size]

    def _request(self, network: Any) -> tuple[Any, Pyramid]:
        """A request of a network of features, which writes its levels into the memory of a pyramid."""
        request, channels = network.create_infer_request(), self.config.fpn_channels
        names = {i: f"level{i}" for i in self.config.roi_levels}
        pyramid = Pyramid({i: tuple(network.output(name).shape)[1:3] for i, name in names.items()}, channels)
        for i, name in names.items():
            request.set_tensor(name, ov.Tensor(pyramid.levels[i][None], shared_memory=True))
        return request, pyramid

    def given(self) -> dict[str, dict[str, np.ndarray]]:
        """What the box head and the masks' network were given last, by their names and their inputs'."""
        heads = {"box_head": (self._box_head, ("crops",)), "masks": (self._masks, ("crops", "class_ids"))}
        return {
            part: {name: request.get_tensor(name).data.copy() for name in names}
            for part, (request, names) in heads.items()
        }

    @property
    def _summed(self) -> list[str]:
        """The outputs that are a sum as it is, not smoothed."""
        return [f"level{i}" for i in self.config.roi_levels if i not in self.config.smooth_levels]

    def _opened(
        self,
        name: str,
        properties: dict[str, Any],
        shapes: dict[str, list[int]] | None = None,
        summed: Sequence[str] = (),
    ) -> Any:
        network = openvino_core().read_model(self.exported / f"{name}.xml")
        if shapes:
            network.reshape(shapes)
        for output in summed:
            _write_at_once(network.output(output).node)
        return compile_network(network, properties, kept=self._compiled)

    def predict(self, frames: Sequence[Frame], *, look: _Look) -> list[Instances]:
        results: list[Instances] = []
        running: list[tuple[Any, Pyramid, Letterbox]] = []
        for k, frame in enumerate(frames):
            request, pyramid = look.requests[k % len(look.requests)]
            if len(running) == len(look.requests):
                results.append(self._finish(*running.pop(0), look))
            letterbox = self.folder.fit(frame, request.get_tensor("picture").data[0])
            request.start_async()
            running.append((request, pyramid, letterbox))
        results += [self._finish(*each, look) for each in running]
        return results

    def _finish(self, request: Any, pyramid: Pyramid, letterbox: Letterbox, look: _Look) -> Instances:
        """Wait for a picture's features, find the objects in them, and draw their masks."""
        request.wait()
        config, (width, height) = self.config, look.size
        limit = self.folder.picture_in(letterbox)
        pooled = partial(crops, pyramid, config=config, width=width, height=height)
        scores, deltas = request.get_tensor("scores").data, request.get_tensor("deltas").data
        proposals = propose(scores, deltas, look.anchors, config, size=limit, counts=look.counts)
        self._box_head.set_tensor("crops", ov.Tensor(pooled(proposals, size=config.box_pool)))
        self._box_head.infer()
        logits, deltas = (self._box_head.get_tensor(name).data for name in ("logits", "deltas"))
        found = self.folder.found(detect(proposals, logits, deltas, config, size=limit), letterbox)
        if not len(found):
            return Instances.empty(config.class_names, mask_size=2 * config.mask_pool)
        boxes = self.folder.network_boxes(found[:, :4], letterbox)
        class_ids = found[:, 5].astype(np.int32)

        def drawn(boxes: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
            self._masks.set_tensor("crops", ov.Tensor(pooled(boxes, size=config.mask_pool)))
            self._masks.set_tensor("class_ids", ov.Tensor(class_ids))
            self._masks.infer()
            masks: np.ndarray = self._masks.get_output_tensor(0).data
            return masks

        firm = found[:, 4] >= FITTED_SCORE
        if config.box_fitting > 0 and firm.any():
            masks = drawn(grown(boxes[firm]), class_ids[firm])
            found[firm, :4] = boxes[firm] = fitted(boxes[firm], masks, config, size=limit)
        return self.folder.instances(found, drawn(boxes, class_ids).copy(), letterbox)


def _write_at_once(result: Any) -> None:
    """Let a network write the sum (1, C, h, w) that is turned into one of its outputs (1, h, w, C) only once.

    Where a sum is what is turned, OpenVINO adds it up in the place of its second addend, from there moves it twice, and
    takes a twentieth longer for a picture in int8. A step between that changes no number keeps it from that.
    """
    turned = result.input_value(0).node
    least = opset.constant(np.finfo(np.float32).min)
    turned.input(0).replace_source_output(opset.maximum(turned.input_value(0), least).output(0))
