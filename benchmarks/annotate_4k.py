"""Seconds of 4K full of people as COCO labels, beside a plain loop: CPU time, memory, pace, and what costs how much.

    python -m benchmarks.annotate_4k --data people/val.json [--seconds 10] [--tiles none 2x2] [--rounds 3] [--minutes 9]

The film: people of the data set, cut out along their true masks, 24 to 384 pixels high, walk before another photo. The
plain loop is what one would write: OpenCV reads, the same engine looks (at a picture that OpenCV has made small, so
that it need not be copied), each mask is drawn into a full picture and pycocotools encodes it. It follows nobody;
`annotate` does. There are three of it, by how a picture's full-frame masks are held: in one array (H, W, N) as
Mask_RCNN gives them, in one (N, H, W), and one after the other, which costs least and is seldom seen. Each runs in a
process of its own, its model loaded within its time. A machine is not equally quick all the time, so they run in
turn, some rounds, and of the rounds' ratios the middle one counts. Polygons are made of run lengths, plainly by a
decoded full picture and OpenCV's contours; told besides: of a full picture that is there already.
`--minutes` repeats the film until it takes about as long, and compares the frames a second of the last tenth with those
of the first.

Exit code 1 unless `annotate` takes 3.5 times less CPU time without tiles than the loop with Mask_RCNN's masks, and 1 GB
at most, its masks are encoded 100 times and polygons made 15 times as fast, and the last tenth has .9 of the pace of
the first.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.tiles import HEIGHT, HEIGHTS, PEOPLE, WIDTH, Photos
from streamseg import masks, outlines, plugins
from streamseg.annotate import work
from streamseg.annotate.chunks import WHOLE, Cut, Picked, Run, cut
from streamseg.annotate.job import annotate
from streamseg.annotate.recordings import Recorder, frame_of, records_in
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.selection import Selection
from streamseg.annotate.writing import blank, labels_of
from streamseg.config import Component
from streamseg.labels import LabelledFrame, LabelledVideo
from streamseg.types import Engine, Frame, Instances, Result

RATE = 25
STEPS = 0.005, 0.03
"""Of a walk, in heights a frame."""

LEAST = {"CPU": 3.5, "masks": 100.0, "polygons": 15.0, "pace": 0.9}
MOST_MB = 1024.0
TENTHS = 10
STAGES_OF = 40
"""Frames of which every stage is timed by itself."""

COLLECTED = 12
"""Frames, spread over the film, whose objects are encoded in both ways."""


# The film


@dataclass
class Walker:
    """Somebody in the film. rgb (h, w, 3) float32 · share (h, w, 1) float32 of him in each pixel · place, step: x, y"""

    rgb: np.ndarray
    share: np.ndarray
    place: np.ndarray
    step: np.ndarray

    def walk(self) -> None:
        """Go on by a frame; at a border, turn."""
        height, width = self.rgb.shape[:2]
        room = np.array([WIDTH - width, HEIGHT - height], np.float64)
        self.place += self.step
        self.step = np.where((self.place < 0) | (self.place > room), -self.step, self.step)
        self.place = np.clip(self.place, 0, room)

    def draw(self, picture: np.ndarray) -> None:
        x, y = self.place.astype(int)
        place = (slice(y, y + len(self.rgb)), slice(x, x + self.rgb.shape[1]))
        picture[place] = np.rint(self.share * self.rgb + (1 - self.share) * picture[place]).astype(np.uint8)


def film(data: Path, path: Path, *, seconds: float, seed: int = 1) -> Path:
    """A clip of people who walk, 25 frames and one keyframe a second."""
    rng, photos = np.random.default_rng(seed), Photos(data)
    behind = cv2.imread(str(photos.backgrounds[int(rng.integers(len(photos.backgrounds)))]))[:, :, ::-1]
    behind = cv2.GaussianBlur(cv2.resize(behind, (WIDTH // 8, HEIGHT // 8)), (0, 0), 6)
    behind = cv2.resize(behind, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    walkers = sorted((walker(photos, rng) for _ in range(PEOPLE)), key=lambda each: len(each.rgb))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", RATE
        for index in range(round(seconds * RATE)):
            picture = behind.copy()
            for each in walkers:
                each.draw(picture)
                each.walk()
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def walker(photos: Photos, rng: np.random.Generator) -> Walker:
    person = photos.people[int(rng.integers(len(photos.people)))]
    height = float(np.exp(rng.uniform(*np.log(HEIGHTS))))
    scale = height / person.mask.shape[0]
    size = (max(4, round(person.mask.shape[1] * scale)), round(height))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    share = cv2.resize(person.mask.astype(np.float32), size, interpolation=how)[..., None]
    rgb = cv2.resize(person.rgb, size, interpolation=how).astype(np.float32)
    place = rng.uniform(0, 1, 2) * (WIDTH - size[0], HEIGHT - size[1])
    step = np.array([height * rng.uniform(*STEPS) * rng.choice([-1, 1]), height * rng.normal(0, STEPS[0])])
    return Walker(rgb, share, place, step)


def repeated(path: Path, target: Path, *, times: int) -> Path:
    """The same packets over and over."""
    with av.open(str(path)) as container, av.open(str(target), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        # of a film without B-frames; its last frame lasts as long as the others
        length = (packets[1].pts or 0) - (packets[0].pts or 0)
        length *= len(packets)
        data = [(bytes(packet), packet.pts, packet.is_keyframe) for packet in packets]
        for number in range(times):
            for content, pts, key in data:
                packet = av.Packet(content)
                packet.pts = packet.dts = (pts or 0) + number * length
                packet.time_base, packet.stream, packet.is_keyframe = stream.time_base, copy, key
                output.mux(packet)
    return target


# What is compared


@dataclass(frozen=True)
class Moment:
    """How far it is: what is done, on the clock and in CPU time, frames that are done, megabytes in use."""

    what: str
    clock: float
    cpu: float
    done: int
    megabytes: float


@dataclass(frozen=True)
class Cost:
    """Of a process: seconds of CPU, peak memory; its objects, and when how many frames were done of what."""

    cpu: float
    megabytes: float
    objects: int
    times: tuple[Moment, ...] = ()


def of_its_own(work: Callable[..., tuple[int, Any]], *arguments: Any) -> Cost:
    """What some work costs in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_worked, args=(there, work, arguments))
    process.start()
    there.close()
    cost: Cost = here.recv()
    process.join()
    return cost


def _worked(connection: Any, work: Callable[..., tuple[int, Any]], arguments: Sequence[Any]) -> None:
    logging.disable()
    plugins.find("engines", "auto").chosen()  # type: ignore[attr-defined]  # its import is no work
    before = resource.getrusage(resource.RUSAGE_SELF)
    objects, times = work(*arguments)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    connection.send(Cost(cpu, peak_megabytes(), objects, tuple(times)))


def peak_megabytes() -> float:
    """Of this process since its program began; `getrusage` also counts what it was before, a copy of its parent."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def annotated(path: Path, folder: Path, tiles: str | None) -> tuple[int, list[Moment]]:
    """Its objects, and when how many frames were done."""
    times: list[Moment] = []
    request = AnnotateRequest(inputs=[str(path)], output=str(folder), formats=("coco",), tiles=tiles)
    summary = annotate(request, progress=lambda what, _, done, expected: times.append(moment(what, done)))
    assert summary.exit_code == 0, summary.error
    return sum(video.objects for video in summary.videos.values()), times


Objects = Sequence[tuple[np.ndarray, np.ndarray, float]]
"""Mask (M, M), box in the picture (4,) and score of each that was found in a picture."""


def one_by_one(objects: Objects) -> list[dict[str, Any]]:
    """As who knows about memory writes it: a full picture for one mask, encoded and forgotten before the next."""
    return [plain_mask(mask, box) for mask, box, _ in objects]


def one_array(objects: Objects) -> list[dict[str, Any]]:
    """As models written with PyTorch give them: (N, H, W) bool."""
    if not objects:
        return []
    pictures = np.stack([plain_picture(mask, box).astype(bool) for mask, box, _ in objects])
    return [coco_mask.encode(np.asfortranarray(each, np.uint8)) for each in pictures]


def mask_rcnn(objects: Objects) -> list[dict[str, Any]]:
    """As Mask_RCNN's `detect` gives them, (H, W, N) bool, and as the script for COCO beside it encodes them."""
    if not objects:
        return []
    pictures = np.stack([plain_picture(mask, box).astype(bool) for mask, box, _ in objects], axis=-1)
    pictures = pictures.astype(np.uint8)
    return [coco_mask.encode(np.asfortranarray(pictures[:, :, n])) for n in range(len(objects))]


WAYS = (mask_rcnn, one_array, one_by_one)
"""To hold and encode the full-frame masks of a picture, in a plain loop; the first is the one to be compared with."""


def plainly(path: Path, folder: Path, way: Callable[[Objects], list[dict[str, Any]]]) -> tuple[int, list[Any]]:
    """The plain loop, and its objects."""
    engine = looking()
    capture, annotations = cv2.VideoCapture(str(path)), []
    index = 0
    while True:
        read, bgr = capture.read()
        if not read:
            break
        objects = list(small_look(engine, bgr, index))
        for encoded, (_, _, score) in zip(way(objects), objects, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 1,
                    "score": float(score),
                    "bbox": coco_mask.toBbox(encoded).tolist(),
                    "area": int(coco_mask.area(encoded)),
                    "iscrowd": 0,
                    "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
                }
            )
        index += 1
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(index)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    folder.mkdir()
    (folder / "coco.json").write_text(json.dumps(content))
    return len(annotations), []


def looking() -> Engine:
    return work.build(Component(name="auto"), tiles=None)


def small_look(engine: Engine, bgr: np.ndarray, index: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Mask, box in the picture and score of each object that is sure enough."""
    size = engine.input_size(plain_frame(np.zeros((HEIGHT // 8, WIDTH // 8, 3), np.uint8), 0))
    scale = min(size[0] / WIDTH, size[1] / HEIGHT)
    small = cv2.resize(bgr, (round(WIDTH * scale), round(HEIGHT * scale)), interpolation=cv2.INTER_LINEAR)
    (found,) = engine.predict([plain_frame(small, index)])
    factor = np.array([WIDTH / small.shape[1], HEIGHT / small.shape[0]] * 2, np.float32)
    for box, mask, score in zip(found.boxes * factor, found.masks, found.scores, strict=True):
        if score >= engine.min_score:
            yield mask, box, score


def plain_frame(bgr: np.ndarray, index: int) -> Frame:
    return Frame(av.VideoFrame.from_ndarray(bgr, format="bgr24"), index, index / RATE, 0.0, "plain")


def plain_picture(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The mask (M, M) in a picture of its own, (HEIGHT, WIDTH) uint8."""
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    pasted = cv2.resize(mask, (max(1, x2 - x1), max(1, y2 - y1)), interpolation=cv2.INTER_LINEAR) >= 0.5
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top = max(0, x1), max(0, y1)
    inside = pasted[top - y1 : HEIGHT - y1, left - x1 : WIDTH - x1]
    picture[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return picture


def plain_mask(mask: np.ndarray, box: np.ndarray) -> dict[str, Any]:
    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(plain_picture(mask, box)))
    return encoded


def plain_polygons(coded: dict[str, Any]) -> list[list[int]]:
    return contours(np.ascontiguousarray(coco_mask.decode(coded)))


def contours(picture: np.ndarray) -> list[list[int]]:
    rings, _ = cv2.findContours(picture, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [cv2.approxPolyDP(ring, 1.0, True).ravel().tolist() for ring in rings]


# What is measured in this process


def encodings(path: Path) -> dict[str, float]:
    """How many times as fast masks are encoded and polygons made, of the objects of some frames."""
    engine = looking()
    every = max(1, (cut(path, Selection(), seconds=1e9).num_frames or 1) // COLLECTED)
    frames = (frame for frame in frames_of(path) if frame.index % every == 0)
    found = [found[found.scores >= engine.min_score] for frame in frames for found in engine.predict([frame])]
    objects = [(mask, box) for each in found for mask, box in zip(each.masks, each.boxes, strict=True)]
    coded = [masks.rle(mask, box, width=WIDTH, height=HEIGHT) for mask, box in objects]
    with masks.without_threads():  # as `annotate` does it
        ours = seconds(lambda: [masks.rle(mask, box, width=WIDTH, height=HEIGHT) for mask, box in objects])
    plain = seconds(lambda: [plain_mask(mask, box) for mask, box in objects])
    polygons = seconds(lambda: [outlines.polygons(each) for each in coded])
    plainly_made = seconds(lambda: [plain_polygons(each) for each in coded])
    of_picture = seconds(lambda: [contours(plain_picture(mask, box)) for mask, box in objects])
    number = len(objects)
    print(f"{number} objects, ms each:     ours   plain")
    print(f"  run lengths         {1e3 * ours / number:10.3f}{1e3 * plain / number:8.2f}")
    print(f"  polygons of them    {1e3 * polygons / number:10.3f}{1e3 * plainly_made / number:8.2f}")
    print(f"  of a full picture   {'':10}{1e3 * of_picture / number:8.2f}")
    return {"masks": plain / ours, "polygons": plainly_made / polygons}


def seconds(work: Callable[[], Any]) -> float:
    """Of CPU, the best of ten: those of the engine's threads, which still wait for more to do, are in the first."""
    taken = []
    for _ in range(10):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def frames_of(path: Path) -> Iterator[Frame]:
    whole = Run(path.stem, path, Cut(WHOLE, None, None, Fraction(RATE), True), 0, 1)
    with Picked(whole, Selection()) as source:
        yield from source


def stages(path: Path, folder: Path) -> dict[str, float]:
    """Seconds of CPU a frame of every stage, one after the other, over the first frames."""
    taken: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        taken[stage] = taken.get(stage, 0) + (time.process_time() - began) / STAGES_OF
        return result

    engine = looking()
    reader = iter(frames_of(path))
    frames: list[Frame] = timed("decoding", lambda: [next(reader) for _ in range(STAGES_OF)])
    engine.predict(frames[:1])
    found: list[Instances] = timed("engine", lambda: [each for frame in frames for each in engine.predict([frame])])
    kept = timed("recording", lambda: record(folder, path, frames, found))
    named = {"stream": path.stem, "class_names": engine.class_names}
    picture = blank(WIDTH, HEIGHT)
    seen = timed("reading that again", lambda: [frame_of(each, picture, **named) for each in records_in(kept)])
    tracker = plugins.build("trackers", "mask_iou", {"min_score": engine.min_score})
    tracker.load()  # once a job, and within its time above: as a share of so few frames it would hide the tracker
    followed = timed("tracker", lambda: [tracker.update(frame, frame.sight.instances) for frame in seen])
    results = [Result(frame, each) for frame, each in zip(seen, followed, strict=True)]
    labels = timed("run lengths", lambda: [labels_of(each, width=WIDTH, height=HEIGHT) for each in results])
    for name, options in (("coco", {}), ("coco with polygons", {"segmentation": "polygons"})):
        timed(f"writing {name}", lambda options=options: write(folder, frames, labels, options))
    return taken


def record(folder: Path, path: Path, frames: Sequence[Frame], found: Sequence[Instances]) -> Path:
    """A chunk with these detections."""
    run = Run(path.stem, path, Cut(WHOLE, None, None, Fraction(RATE), True), 0, 1)
    files: list[Path] = []
    with Picked(run, Selection()) as source:
        recorder = Recorder(folder, run, source, job={}, ended=lambda _: files.append(folder / "000000.jsonl.gz"))
        with recorder:
            recorder.start(source.info)
            for frame, instances in zip(frames, found, strict=True):
                recorder.write(frame.picture, Result(frame, instances))
    return files[0]


def write(folder: Path, frames: Sequence[Frame], labels: Sequence[Any], options: dict[str, Any]) -> None:
    format = plugins.build("formats", "coco", options)
    format.open(folder, ("person",))
    format.begin(LabelledVideo("film", None, WIDTH, HEIGHT, None, Fraction(RATE), True, (WIDTH, HEIGHT)))
    for frame, each in zip(frames, labels, strict=True):
        format.write(LabelledFrame(frame.index, frame.time, each))
    format.end()
    format.close()


def moment(what: str, done: int) -> Moment:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Moment(what, time.monotonic(), time.process_time(), done, pages * resource.getpagesize() / 2**20)


def tenths(times: Sequence[Moment], what: str) -> tuple[list[Moment], list[Moment]]:
    """The first tenth of the frames and the last one."""
    told = [each for each in times if each.what == what and each.done]
    total = told[-1].done
    first = [each for each in told if each.done <= total / TENTHS]
    return first, [each for each in told if each.done >= total * (TENTHS - 1) / TENTHS]


def rate(tenth: Sequence[Moment], unit: str) -> float:
    """Frames a second of the clock, or of CPU."""
    frames = tenth[-1].done - tenth[0].done
    return frames / max(getattr(tenth[-1], unit) - getattr(tenth[0], unit), 1e-9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the film")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="in which plain loops and `annotate` run in turn")
    parser.add_argument("--tiles", nargs="+", default=["none", "2x2"])
    parser.add_argument("--minutes", type=float, default=0.0, help="that the longer film takes; 0: none is made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = film(asked.data, folder / "film.mp4", seconds=asked.seconds, seed=asked.seed)
        next(iter(small_look(looking(), cv2.imread(str(_still(path, folder))), 0)), None)  # the model is prepared
        held = compared(path, folder, tiles=asked.tiles, rounds=asked.rounds)
        held |= {name: value >= LEAST[name] for name, value in told(encodings(path)).items()}
        taken = stages(path, folder / "stages")
        for stage, each in taken.items():
            print(f"  {1e3 * each:7.1f} ms of CPU a frame: {stage}")
        share = taken["engine"] / sum(each for stage, each in taken.items() if "polygons" not in stage)
        print(f"  the engine, which is the same in the plain loop, is {100 * share:.0f} % of them")
        if asked.minutes:
            held["pace"] = lasting(path, folder, minutes=asked.minutes)
    print("falls short:", ", ".join(name for name, good in held.items() if not good) or "nothing")
    return 0 if all(held.values()) else 1


def _still(path: Path, folder: Path) -> Path:
    """The film's first picture as a file."""
    cv2.imwrite(str(folder / "still.png"), next(frames_of(path)).picture.to_ndarray(format="bgr24"))
    return folder / "still.png"


def compared(path: Path, folder: Path, *, tiles: Sequence[str], rounds: int) -> dict[str, bool]:
    """Whether time and memory are what is claimed."""
    frames = cut(path, Selection(), seconds=1e9).num_frames or 0
    names = [way.__name__ for way in WAYS]
    print(f"{frames} frames             CPU s   peak MB   objects    so many times as long: {', '.join(names)}")
    ratios: dict[str, list[list[float]]] = {each: [] for each in tiles}
    peaks: dict[str, list[float]] = {each: [] for each in tiles}
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        plain = {name: of_its_own(plainly, path, place / name, way) for name, way in zip(names, WAYS, strict=True)}
        for name, cost in plain.items():
            print(f"plain, {name:13}{cost.cpu:9.1f}{cost.megabytes:10.0f}{cost.objects:10}")
        for each in tiles:
            cost = of_its_own(annotated, path, place / f"labels-{each}", None if each == "none" else each)
            of_round = [plain[name].cpu / cost.cpu for name in names]
            ratio = "".join(f"{ratio:10.2f}" for ratio in of_round)
            print(f"annotate {each:11}{cost.cpu:9.1f}{cost.megabytes:10.0f}{cost.objects:10}{ratio}", flush=True)
            ratios[each].append(of_round)
            peaks[each].append(cost.megabytes)
    held = {f"memory with tiles {each}": max(peaks[each]) <= MOST_MB for each in tiles}
    for each in tiles:
        middle = np.median(ratios[each], axis=0)
        print(f"annotate {each:11}, the middle of {rounds}: {'':12}" + "".join(f"{ratio:10.2f}" for ratio in middle))
        if each == "none":
            held["CPU"] = middle[0] >= LEAST["CPU"]
    return held


def told(ratios: dict[str, float]) -> dict[str, float]:
    for name, ratio in ratios.items():
        print(f"  {name}: {ratio:.0f} times as fast")
    return ratios


def lasting(path: Path, folder: Path, *, minutes: float) -> bool:
    """Whether the pace stays over some minutes."""
    began = time.monotonic()
    of_its_own(annotated, path, folder / "once", None)
    taken = time.monotonic() - began
    longer = repeated(path, folder / "longer.mp4", times=max(2, round(minutes * 60 / taken)))
    began = time.monotonic()
    cost = of_its_own(annotated, longer, folder / "longer", None)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes, peak {cost.megabytes:.0f} MB; frames a second:")
    held = cost.megabytes <= MOST_MB
    for what in ("looking", "writing"):
        first, last = tenths(cost.times, what)
        for unit in ("clock", "cpu"):  # that of CPU says the same where others are at work too
            before, after = rate(first, unit), rate(last, unit)
            print(f"  {what}, by the {unit}: {before:.2f} in the first tenth, {after:.2f} in the last", end="")
            print(f", {after / before:.2f} of it; {first[-1].megabytes:.0f} and {last[-1].megabytes:.0f} MB in use")
            held &= unit == "cpu" or after >= LEAST["pace"] * before
    return held


if __name__ == "__main__":
    raise SystemExit(main())
