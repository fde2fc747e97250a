"""What the Matterport family gains here: ResNet-101 at 1024² in OpenVINO, and masks that stay in their boxes.

    python benchmarks/matterport.py [--side 1024] [--runs 9] [--cores 2]

One picture with 30 objects goes through the OpenVINO engine in bfloat16 and float32 and through the Keras engine, which
is one TensorFlow graph in float32: letterbox, features, proposals, box head and masks. The weights are random, in the
original's file layout (258 MB, made once in the cache folder), so the boxes that the mask head gets are given: the
same 30 in every engine. Then the 30 masks are brought to a 1080p picture and drawn: in their boxes, as `run` does, and
in the original's way, each mask resized in float64, pasted into a full frame, and drawn by one choice over the whole
frame for every channel. The ways take turns, medians count; run it on an idle machine.

Exit code 1 if OpenVINO in bfloat16 is not twice as fast as the graph, or masks in their boxes, alone or drawn, are not
50 times as fast as full frames.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import av
import cv2
import numpy as np

from streamseg import masks, molding, zoo
from streamseg.canvas import PALETTE, Canvas
from streamseg.config import ModelConfig
from streamseg.effects.overlay import Overlay
from streamseg.letterbox import Letterbox
from streamseg.model_folder import ModelFolder
from streamseg.types import Frame, Instances, Result

NUM_OBJECTS, NUM_CLASSES, MASK_SIDE = 30, 81, 28
WIDTH, HEIGHT = 1920, 1080
FASTER_THAN_GRAPH, FASTER_THAN_FULL_FRAMES = 2.0, 50.0
OPACITY = 0.5
"""Of the original's `apply_mask`."""


def weights_file(side: int) -> Path:
    """A ResNet-101 of random weights as the original writes it, and the input's size in a .yaml beside it."""
    path = zoo.cache_folder() / "benchmark" / f"mask_rcnn_random_{side}.h5"
    if not (path.is_file() and path.with_suffix(".yaml").is_file()):
        import keras

        from streamseg.model.mask_rcnn import MaskRCNN
        from streamseg.model.matterport_h5 import save_matterport

        path.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(1)
        names = ("background", *(f"class {i}" for i in range(1, NUM_CLASSES)))
        config = ModelConfig.matterport(class_names=names, input_sizes=((side, side),))
        network = MaskRCNN(config, name="network")
        network.build()
        for convolution in network.backbone.convolutions:
            convolution.gamma.assign(0.5 * convolution.gamma)  # else random weights swell from block to block
        save_matterport(network, path)
        # JSON is YAML
        path.with_suffix(".yaml").write_text(json.dumps({"name": path.stem, "model": config.model_dump(mode="json")}))
    return path


def objects(width: int, height: int) -> Instances:
    """30 ellipses, from 5 to 45 % as high as the picture."""
    random = np.random.default_rng(3)
    high = height * np.linspace(0.05, 0.45, NUM_OBJECTS)
    wide = np.minimum(high * random.uniform(0.5, 2.0, NUM_OBJECTS), 0.9 * width)
    left, top = random.uniform(0, width - wide), random.uniform(0, height - high)
    cells = (np.arange(MASK_SIDE) + 0.5) / MASK_SIDE * 2 - 1
    distance = np.hypot(*np.meshgrid(cells, cells))
    shape = 1 / (1 + np.exp(12 * (distance - 0.9)))  # soft at its edge, as a network draws it
    return Instances(
        boxes=np.stack([left, top, left + wide, top + high], axis=1).astype(np.float32),
        masks=np.repeat(shape[None], NUM_OBJECTS, 0).astype(np.float32),
        scores=np.full(NUM_OBJECTS, 0.9, np.float32),
        class_ids=np.arange(1, NUM_OBJECTS + 1, dtype=np.int32),
        track_ids=np.arange(1, NUM_OBJECTS + 1, dtype=np.int32),
        class_names=("background", *(f"class {i}" for i in range(1, NUM_CLASSES))),
    )


@dataclass(frozen=True)
class GivenObjects(ModelFolder):
    """The model's folder, which finds the given objects whatever the network says; all else is done as ever."""

    given: np.ndarray | None = None  # (N, 6) in pixels of the input

    def found(self, detections: np.ndarray, letterbox: Letterbox) -> np.ndarray:
        super().found(detections, letterbox)
        assert self.given is not None
        return self.given.copy()


def giving(engine: Any, side: int) -> Any:
    """The engine, made to find the same 30 objects."""
    wanted = objects(side, side * HEIGHT // WIDTH)
    rows = np.concatenate([wanted.boxes, wanted.scores[:, None], wanted.class_ids[:, None]], axis=1)
    folder = engine.folder
    engine.folder = GivenObjects(folder.path, folder.config, folder.weights, rows.astype(np.float32))
    return engine


def in_turns(ways: Mapping[str, Callable[[], object]], *, runs: int) -> dict[str, float]:
    """The median milliseconds of each way: they take turns, and of two runs in a turn the second counts.

    The first finds the other ways' arrays in the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            way()
            start = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - start) * 1000)
    return {name: median(values) for name, values in times.items()}


# The original's way


def unmold(found: Instances, boxes: np.ndarray) -> np.ndarray:
    """Every mask as large as the picture, (HEIGHT, WIDTH, N) bool; boxes (N, 4) int32 y1, x1, y2, x2."""
    full = [molding.paste(mask, box, shape=(HEIGHT, WIDTH)) for mask, box in zip(found.masks, boxes, strict=True)]
    return np.stack(full, axis=-1)


def draw_full_frames(found: Instances, boxes: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Unmolded and drawn over the whole frame, channel by channel."""
    full = unmold(found, boxes)
    drawn = pixels.astype(np.uint32)
    for i in range(full.shape[-1]):
        for channel, level in enumerate(PALETTE[i % len(PALETTE)]):
            plane = drawn[:, :, channel]
            drawn[:, :, channel] = np.where(full[:, :, i], plane * (1 - OPACITY) + OPACITY * level, plane)
    return drawn.astype(np.uint8)


# Ours


def paste_in_boxes(found: Instances) -> list[np.ndarray]:
    """Every mask in the pixels of its box."""
    placed = zip(found.masks, found.boxes, strict=True)
    return [masks.paste(mask, box, width=WIDTH, height=HEIGHT)[2] for mask, box in placed]


def draw_in_boxes(effect: Overlay, found: Instances, picture: av.VideoFrame) -> av.VideoFrame:
    canvas = Canvas(picture)
    effect.draw(canvas, Result(Frame(picture, 0, 0.0, 0.0, "benchmark"), found))
    return canvas.picture


def show(title: str, taken: Mapping[str, float], *, ours: str, rival: str, wanted: float) -> bool:
    """Print times beside those of the rival; whether ours is as many times faster as wanted."""
    print(f"\n{title}")
    for name, value in taken.items():
        print(f"  {name:<28} {value:9.2f} ms   {taken[rival] / value:7.2f} times as fast")
    ratio = taken[rival] / taken[ours]
    print(f"  {ours}: {wanted:g} times wanted: {'yes' if ratio >= wanted else 'NO'}")
    return ratio >= wanted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--side", type=int, default=1024, help="of the network's square input; smaller ones prove nothing"
    )
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before any of the libraries counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    cv2.setNumThreads(1)
    path = weights_file(given.side)

    from streamseg.engines.keras import Keras
    from streamseg.engines.openvino import Openvino

    noise = np.random.default_rng(1).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    pixels = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    frame = Frame(picture, 0, 0.0, 0.0, "benchmark")
    engines = {
        "Keras graph, float32": giving(Keras(model=str(path), precision="f32"), given.side),
        "OpenVINO, float32": giving(Openvino(model=str(path), precision="f32"), given.side),
        "OpenVINO, bfloat16": giving(Openvino(model=str(path), precision="bf16"), given.side),
    }
    answers = [engine.predict([frame])[0] for engine in engines.values()]
    exact, rounded = (np.abs(answer.masks - answers[0].masks).max() for answer in answers[1:])
    same = all(len(answer) == NUM_OBJECTS for answer in answers) and exact < 1e-2
    title = f"detect of one picture, ResNet-101 at {given.side}², {NUM_OBJECTS} objects, {given.cores} cores"
    taken = in_turns({name: partial(each.predict, [frame]) for name, each in engines.items()}, runs=given.runs)
    holds = show(title, taken, ours="OpenVINO, bfloat16", rival="Keras graph, float32", wanted=FASTER_THAN_GRAPH)
    print(f"  masks against the graph's: float32 within {exact:.1g}, bfloat16 within {rounded:.1g}")
    if not same:
        print("  the engines do not draw the same masks: NO")

    found = objects(WIDTH, HEIGHT)
    whole = np.rint(found.boxes[:, [1, 0, 3, 2]]).astype(np.int32)
    effect = Overlay(opacity=OPACITY)
    comparisons: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "masks alone": (partial(paste_in_boxes, found), partial(unmold, found, whole)),
        "masks and overlay": (
            partial(draw_in_boxes, effect, found, picture),
            partial(draw_full_frames, found, whole, pixels),
        ),
    }
    for what, (ours, theirs) in comparisons.items():
        taken = in_turns({"in their boxes": ours, "full frames": theirs}, runs=given.runs)
        holds &= show(
            f"{what}, {NUM_OBJECTS} objects in a {WIDTH}x{HEIGHT} picture",
            taken,
            ours="in their boxes",
            rival="full frames",
            wanted=FASTER_THAN_FULL_FRAMES,
        )
    return 0 if holds and same else 1


if __name__ == "__main__":
    sys.exit(main())
