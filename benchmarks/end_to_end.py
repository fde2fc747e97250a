"""Real time on two cores: 20 s of 1080p30 through decoder, model, splash and encoder, beside a plain loop.

    python benchmarks/end_to_end.py --clips ../shared/data/videos [--runs 3] [--skip-plain] [--memory]

Run it on an idle machine. The clip is made once from 01_dog.mp4 and 05_default_juggle.mp4, scaled to 1080p. The whole
is measured in each precision that the CPU is quick at, too, and with a look at every second picture; each stage alone
in a process of its own, so that its CPU time is its own, and decoding and encoding together, which is what no engine
makes faster. The plain loop is what one would write without streamseg: OpenCV reads, the same engine,
supervision's masks, OpenCV writes. It needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

NUM_SECONDS, RATE, WIDTH, HEIGHT = 20, 30, 1920, 1080


def make_clip(clips: Path, path: Path, *, width: int = WIDTH, height: int = HEIGHT, seconds: int = NUM_SECONDS) -> None:
    """H.264 (x264 medium, CRF 20) of `seconds` at 30 fps, half of it from each of two real clips."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "medium", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        index = 0
        for name in ("01_dog.mp4", "05_default_juggle.mp4"):
            wanted = index + seconds * RATE // 2
            while index < wanted:  # a short clip starts again
                with av.open(str(clips / name)) as source:
                    for picture in source.decode(video=0):
                        if index == wanted:
                            break
                        scaled = picture.reformat(width, height, "yuv420p")
                        scaled.pts, scaled.time_base, scaled.pict_type = index, Fraction(1, RATE), 0
                        output.mux(stream.encode(scaled))
                        index += 1
        output.mux(stream.encode(None))


def measured(command: list[str]) -> tuple[str, float, float]:
    """What a command printed, its wall seconds and its CPU seconds."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def whole_run(clip: Path, output: Path, *, precision: str = "auto", detect_every: int = 1) -> dict[str, Any]:
    """One `streamseg run --effect splash`: its summary, with the CPU seconds of the whole process."""
    command = [sys.executable, "-m", "streamseg", "run", str(clip), "-o", str(output)]
    command += ["--set", f"engine.precision={precision}", "--detect-every", str(detect_every)]
    text, seconds, cpu = measured([*command, "--effect", "splash", "--overwrite", "--json", "-q"])
    return {**json.loads(text), "process_seconds": seconds, "cpu": cpu}


# One stage alone


def frames_of(clip: Path, *, end: float | None = None) -> Iterator[Any]:
    from streamseg.sources.video_file import VideoFile

    with VideoFile(path=clip, end=end) as source:
        yield from source


def clock() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.monotonic(), usage.ru_utime + usage.ru_stime


def stage_alone(stage: str, clip: Path) -> dict[str, float]:
    """Wall and CPU milliseconds a frame of one stage, its input ready in memory where it fits (2 s of pictures)."""
    if stage == "source":
        start = clock()
        count = sum(1 for _ in frames_of(clip))
        return _per_frame(start, count)
    from streamseg.engines.auto import Auto

    # two seconds of each clip: more pictures than that do not fit in memory with their results
    frames = [frame for frame in frames_of(clip) if frame.index % 300 < 60]
    engine = Auto()
    warm = [instances for frame in frames[:2] for instances in engine.predict([frame])]
    del warm
    start, found = clock(), []
    for i in range(0, len(frames), engine.batch_size):
        found += engine.predict(frames[i : i + engine.batch_size])
    if stage == "engine":
        return _per_frame(start, len(frames))
    from streamseg.canvas import Canvas
    from streamseg.effects.splash import Splash
    from streamseg.sinks.video_file import VideoFile as Sink
    from streamseg.sources.video_file import VideoFile
    from streamseg.trackers.mask_iou import MaskIou
    from streamseg.types import Result

    tracker, effect = MaskIou(min_score=engine.min_score), Splash()
    start, results = clock(), []
    for frame, instances in zip(frames, found, strict=True):
        result = Result(frame, tracker.update(frame, instances))
        canvas = Canvas(frame.picture)
        effect.draw(canvas, result)
        results.append((canvas.picture, result))
    if stage == "tracker+effects":
        return _per_frame(start, len(frames))
    with tempfile.TemporaryDirectory() as folder, VideoFile(path=clip) as source:
        start = clock()
        with Sink(path=Path(folder) / "out.mp4") as sink:
            sink.start(source.info)
            for picture, result in results:
                sink.write(picture, result)
        return _per_frame(start, len(results))


def decoded_and_encoded(clip: Path) -> dict[str, float]:
    """The clip written again as it is, decoder and encoder in threads of their own, as in a run."""
    from queue import Queue

    from streamseg.sinks.video_file import VideoFile as Sink
    from streamseg.sources.video_file import VideoFile
    from streamseg.types import Frame, Instances, Result

    frames: Queue[Frame | None] = Queue(8)

    def decode() -> None:
        for frame in frames_of(clip):
            frames.put(frame)
        frames.put(None)

    start, count = clock(), 0
    reader = threading.Thread(target=decode)
    with tempfile.TemporaryDirectory() as folder, VideoFile(path=clip) as source:
        with Sink(path=Path(folder) / "out.mp4") as sink:
            sink.start(source.info)
            reader.start()
            while (frame := frames.get()) is not None:
                sink.write(frame.picture, Result(frame, Instances.empty(("background",))))
                count += 1
        reader.join()
    return _per_frame(start, count)


def _per_frame(start: tuple[float, float], count: int) -> dict[str, float]:
    end = clock()
    return {"wall": (end[0] - start[0]) / count * 1e3, "cpu": (end[1] - start[1]) / count * 1e3}


def plain_loop(clip: Path, output: Path) -> dict[str, float]:
    """The same job as one would write it: OpenCV, full-frame masks through supervision, OpenCV's encoder."""
    import av
    import cv2
    import numpy as np
    import supervision as sv

    from streamseg import masks
    from streamseg.engines.auto import Auto
    from streamseg.types import Frame

    engine = Auto()
    reader = cv2.VideoCapture(str(clip))
    writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    annotator = sv.MaskAnnotator()
    start, count = clock(), 0
    while True:
        ok, bgr = reader.read()
        if not ok:
            break
        picture = av.VideoFrame.from_ndarray(bgr, format="bgr24")
        (found,) = engine.predict([Frame(picture, count, count / RATE, 0.0, "plain")])
        found = found[found.scores >= engine.min_score]
        full = np.zeros((len(found), HEIGHT, WIDTH), bool)
        for i in range(len(found)):
            rows, columns, patch = masks.paste(found.masks[i], found.boxes[i], width=WIDTH, height=HEIGHT)
            full[i, rows, columns] = patch >= 128
        grey = cv2.cvtColor(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        drawn = np.where(full.any(axis=0)[..., None], bgr, grey) if len(found) else grey
        if len(found):
            detections = sv.Detections(xyxy=found.boxes, mask=full, class_id=found.class_ids.astype(int))
            drawn = annotator.annotate(drawn.copy(), detections)
        writer.write(drawn)
        count += 1
    writer.release()
    return _per_frame(start, count)


def memory_at_4k(clips: Path, folder: Path) -> dict[str, float]:
    """Peak memory of a splash of 10 s of 4K, and its rise from the second third of the run to the last, in MB."""
    clip = folder / "clip_4k.mp4"
    if not clip.exists():
        make_clip(clips, clip, width=3840, height=2160, seconds=10)
    command = [sys.executable, "-m", "streamseg", "run", str(clip), "-o", str(folder / "out_4k.mp4")]
    run = subprocess.Popen([*command, "--effect", "splash", "--overwrite", "-q"], stdout=subprocess.DEVNULL)
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            try:
                text = Path(f"/proc/{run.pid}/status").read_text()
            except OSError:
                return
            seen.extend(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = run.wait()
    done.set()
    watcher.join()
    if code:
        sys.exit(f"the 4K run ended with {code}")
    third = len(seen) // 3
    return {"peak": max(seen), "rise": max(seen[2 * third :]) - max(seen[third : 2 * third])}


def _precisions() -> list[str]:
    """What this CPU is quick at, the quickest first."""
    from streamseg.engines._precision import Cpu

    return Cpu.here().words.split(", ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("../shared/data/videos"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "streamseg-benchmark")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--skip-plain", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    clip, output = given.folder / "clip_1080p.mp4", given.folder / "out.mp4"
    if given.stage:
        if given.stage == "plain":
            figures = plain_loop(clip, output)
        elif given.stage == "limit":
            figures = decoded_and_encoded(clip)
        else:
            figures = stage_alone(given.stage, clip)
        print(json.dumps(figures))
        return
    if not clip.exists():
        make_clip(given.clips, clip)
    cores = len(os.sched_getaffinity(0))
    whole_run(clip, output)  # the first run prepares the model
    runs = [whole_run(clip, output) for _ in range(given.runs)]
    count = runs[0]["frames"]["read"]
    print(f"{cores} cores, {count} frames of 1080p")
    for run in runs:
        stages = ", ".join(f"{name} {seconds / count * 1e3:.1f}" for name, seconds in run["stages"].items())
        print(
            f"run: {count / run['seconds']:5.1f} fps, {run['cpu'] / count * 1e3:.1f} ms CPU a frame; busy ms: {stages}"
        )
    fps = median(count / run["seconds"] for run in runs)
    automatic = runs[0]["precision"]
    for precision, every in [(name, 1) for name in _precisions()] + [(automatic, 2)]:
        each = [whole_run(clip, output, precision=precision, detect_every=every) for _ in range(given.runs)]
        rate, cpu = (median(run[name] for run in each) for name in ("seconds", "cpu"))
        words = precision + (" (auto)" if precision == automatic else "") + (f", --detect-every {every}" * (every > 1))
        print(f"{words}: {count / rate:.1f} fps, {cpu / count * 1e3:.1f} ms CPU a frame")

    def alone_in_a_process(stage: str) -> dict[str, float]:
        text, _, _ = measured([sys.executable, __file__, "--stage", stage, "--folder", str(given.folder)])
        figures: dict[str, float] = json.loads(text.splitlines()[-1])
        return figures

    limit = alone_in_a_process("limit")
    print(f"decoded and encoded only: {1e3 / limit['wall']:.1f} fps, {limit['cpu']:.1f} ms CPU a frame")
    alone = {}
    for stage in ("source", "engine", "tracker+effects", "sink"):
        alone[stage] = alone_in_a_process(stage)
        print(f"alone: {stage:16} {alone[stage]['wall']:6.1f} ms wall, {alone[stage]['cpu']:6.1f} ms CPU a frame")
    wall = 1e3 / fps
    bound = max(max(a["wall"] for a in alone.values()), sum(a["cpu"] for a in alone.values()) / cores)
    own = max(max(a["wall"] for a in alone.values()), median(r["cpu"] for r in runs) / count * 1e3 / cores)
    print(
        f"median: {fps:.1f} fps, {wall:.1f} ms a frame = {wall / own:.2f} × its bound of {own:.1f} ms "
        f"(slowest stage alone, or the CPU time of the whole over {cores} cores; from the stages alone {bound:.1f})"
    )
    if not given.skip_plain:
        plain = alone_in_a_process("plain")
        print(
            f"plain loop: {1e3 / plain['wall']:.1f} fps, {plain['cpu']:.1f} ms CPU a frame; "
            f"streamseg is {plain['wall'] / wall:.2f} times as fast"
        )
    if given.memory:
        memory = memory_at_4k(given.clips, given.folder)
        print(f"4K: peak {memory['peak']:.0f} MB, rise over the last two thirds {memory['rise']:.0f} MB")


if __name__ == "__main__":
    main()
