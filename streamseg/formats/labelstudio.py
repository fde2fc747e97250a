"""Tasks for Label Studio with what was found as predictions, labelstudio.json, and the labelling set-up that fits.

A task is a frame, with brush masks or polygons, or a whole video, with boxes: Label Studio has no masks on videos. It
finds a frame of a video as time × rate, so a video whose rate varies can only be frames.
"""

from __future__ import annotations

import colorsys
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_text import PartText
from streamseg.formats._spool import TrackSpool, tracked
from streamseg.labels import EMPTY, Label, LabelledFrame, LabelledVideo
from streamseg.types import UsageError

_RUN_BITS = 3, 4, 8, 16
"""Bits for the length of a brush run: the four sizes that Label Studio's own encoder offers."""


class Labelstudio:
    """What Label Studio's import takes as JSON tasks; labelstudio_setup.txt is pasted as the labelling interface.

    task: "brush" (exact masks) or "polygon", a task a frame, or "video", a task a video with a box a track · tolerance:
    of polygons, as `outlines.polygon` has it · prefix: what stands before the path of a picture or video, the address
    at which Label Studio finds the output folder
    """

    wants_pictures = True
    tracks_only = False

    def __init__(
        self,
        *,
        task: Literal["brush", "polygon", "video"] = "brush",
        tolerance: float | None = None,
        prefix: str = "/data/local-files/?d=",
    ) -> None:
        if tolerance is not None and not 0 <= tolerance < math.inf:
            raise UsageError(f"tolerance: expected pixels from 0 up, got {tolerance:g}")
        self.wants_pictures, self.tracks_only = task != "video", task == "video"
        self._task, self._tolerance, self._prefix = task, tolerance, prefix
        self._left_out: Counter[str] = Counter()
        self._files: list[PartText] = []
        self._between = "[\n"
        self._video: LabelledVideo | None = None
        self._boxes: _Boxes | None = None

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._files = [PartText(folder / "labelstudio.json"), PartText(folder / "labelstudio_setup.txt")]
        self._files[1].write(_SETUPS[self._task].format(labels=_labels(class_names)))
        self._files[1].close()

    def begin(self, video: LabelledVideo) -> None:
        if self._task == "video":
            if not video.constant_rate:
                raise UsageError(
                    f"{video.name}: its frame rate varies, and Label Studio finds the frames of a video by a constant "
                    "one; take a task for each frame instead, --format labelstudio:task=brush or task=polygon"
                )
            if video.path is None:
                raise UsageError(
                    f"{video.name}: Label Studio finds a video by its file, and none is known; --video FILE names it"
                )
            self._boxes = _Boxes(video, self._left_out)
        self._video = video

    def write(self, frame: LabelledFrame) -> None:
        assert self._video is not None, "begin(video) comes before the first write"
        check_classes(frame, self._class_names)
        if self._boxes is not None:
            self._boxes.write(frame)
            return
        picture = frame.picture or f"{self._video.name}/frame_{frame.index:06d}.jpg"
        data = {
            "image": self._prefix + _quoted(picture),
            "video": self._video.name,
            "frame_index": frame.index,
            "time": round(frame.time, 6),
        }
        regions = [self._region(label, number) for number, label in enumerate(frame.labels, start=1)]
        self._begin_task(data)
        self._files[0].write(",\n".join(_text(region) for region in regions if region is not None))
        self._files[0].write(_TASK_END)

    def end(self) -> None:
        assert self._video is not None, "begin(video) comes before the end"
        if self._boxes is not None:
            assert self._video.path is not None, "begin refuses a video without"
            name = f"{self._video.name}{self._video.path.suffix}"  # two files may be called alike, videos are not
            self._begin_task({"video": self._prefix + _quoted(name), "fps": float(self._video.rate)})
            self._boxes.end(self._files[0])
            self._files[0].write(_TASK_END)
        self._video = self._boxes = None

    def close(self) -> Mapping[str, int]:
        self._files[0].write("[]\n" if self._between == "[\n" else "\n]\n")
        for file in self._files:
            file.finish()
        return dict(self._left_out)

    def discard(self) -> None:
        if self._boxes is not None:
            self._boxes.spool.close()
        for file in self._files:
            file.discard()

    def _begin_task(self, data: Mapping[str, Any]) -> None:
        """All of a task that stands before its regions."""
        self._files[0].write(
            f'{self._between}{{"data": {_text(data)}, "predictions": [{{"model_version": "streamseg", "result": [\n'
        )
        self._between = ",\n"

    def _region(self, label: Label, number: int) -> dict[str, Any] | None:
        """An object of a frame; None where it has no pixel."""
        assert self._video is not None
        if self._task == "brush":
            lengths = outlines.picture_row_lengths(label.mask).tolist()
            value: dict[str, Any] = {"format": "rle", "rle": brush(lengths), "brushlabels": [label.class_name]}
            empty = len(lengths) < 2
        else:
            points = _per_cent(outlines.polygon(label.mask, tolerance=self._tolerance), self._video)
            value = {"points": points, "closed": True, "polygonlabels": [label.class_name]}
            empty = not points
        if empty:
            self._left_out[EMPTY] += 1
            return None
        region = {
            "id": str(number),
            "from_name": "label",
            "to_name": "image",
            "type": f"{self._task}labels",
            "original_width": self._video.width,
            "original_height": self._video.height,
            "image_rotation": 0,
            "score": round(label.score, 6),
            "value": value,
        }
        return region | ({"meta": {"text": [f"track {label.track}"]}} if label.track >= 0 else {})


_TASK_END = "\n]}]}"


class _Boxes:
    """The boxes of the tracks of one video, on their way into its task a track after the other.

    Label Studio moves a box on evenly from one to the next, unless it is the last before a gap, which is not `enabled`.
    """

    def __init__(self, video: LabelledVideo, left_out: Counter[str]) -> None:
        self.spool = TrackSpool()
        self._video, self._left_out = video, left_out
        self._running: dict[int, tuple[int, Label]] = {}
        self._num_frames = 0

    def write(self, frame: LabelledFrame) -> None:
        self._num_frames = frame.index + 1
        shown = {self.spool.number(label): label for label in tracked(frame, self._left_out)}
        for number, (index, label) in self._running.items():
            self._add(number, index, label, enabled=number in shown)
        self._running = {number: (frame.index, label) for number, label in shown.items()}

    def end(self, file: PartText) -> None:
        for number, (index, label) in self._running.items():
            self._add(number, index, label, enabled=False)
        num_frames = self._video.num_frames or self._num_frames
        for track in self.spool.tracks():
            rest = {
                "framesCount": num_frames,
                "duration": round(float(num_frames / self._video.rate), 6),
                "labels": [track.class_name],
            }
            head = {
                "id": str(track.number),
                "from_name": "box",
                "to_name": "video",
                "type": "videorectangle",
                "score": round(track.score, 6),
            }
            file.write((",\n" if track.number > 1 else "") + f'{_text(head)[:-1]}, "value": {_text(rest)[:-1]}, ')
            for position, (_, text) in enumerate(self.spool.texts(track.number)):
                file.write(('"sequence": [' if not position else ", ") + text)
            file.write("]}}")
        self.spool.close()

    def _add(self, number: int, index: int, label: Label, *, enabled: bool) -> None:
        x1, y1, x2, y2 = label.box
        ((x, y), (width, height)) = _per_cent([x1, y1, x2 - x1, y2 - y1], self._video)
        box = {"frame": index + 1, "time": round(float((index + 1) / self._video.rate), 6), "enabled": enabled}
        place = {"rotation": 0, "x": x, "y": y, "width": width, "height": height}
        self.spool.add(number, frame=index, text=_text(box | place))


def brush(lengths: Sequence[int]) -> list[int]:
    """Label Studio's bytes for a mask whose runs outside, inside, outside, … the rows have these lengths.

    They tell four values a pixel, 0 or 255. First how many values there are, in 32 bits; the bits of a value, in 5;
    the bits of each size of lengths, in 4. Then every run: a set bit, 2 bits for the size of its length, the length,
    the value. All but the first number and the values are told less 1.
    """
    bits = [f"{4 * sum(lengths):032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    longest = 1 << _RUN_BITS[-1]
    for number, length in enumerate(lengths):
        value = f"{number % 2 * 255:08b}"
        whole, rest = divmod(4 * length, longest)
        bits.append(f"111{longest - 1:b}{value}" * whole)
        if rest:
            which = next(i for i, size in enumerate(_RUN_BITS) if rest <= 1 << size)
            bits.append(f"1{which:02b}{rest - 1:0{_RUN_BITS[which]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


_SETUPS = {
    "brush": """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="label" toName="image">
{labels}  </BrushLabels>
</View>
""",
    "polygon": """<View>
  <Image name="image" value="$image" zoom="true"/>
  <PolygonLabels name="label" toName="image">
{labels}  </PolygonLabels>
</View>
""",
    "video": """<View>
  <Video name="video" value="$video" framerate="$fps"/>
  <VideoRectangle name="box" toName="video"/>
  <Labels name="label" toName="video">
{labels}  </Labels>
</View>
""",
}


def _labels(class_names: Sequence[str]) -> str:
    """The classes, each in a colour far from that of the one before."""
    colours = [colorsys.hsv_to_rgb(number * 0.618 % 1, 0.85, 0.9) for number in range(len(class_names))]
    texts = ["#" + "".join(f"{round(255 * part):02x}" for part in colour) for colour in colours]
    return "".join(
        f'    <Label value={quoteattr(name)} background="{colour}"/>\n'
        for name, colour in zip(class_names, texts, strict=True)
    )


def _per_cent(numbers: Sequence[float], video: LabelledVideo) -> list[list[float]]:
    """Numbers x, y, x, y, … in pixels as pairs in per cent of the picture."""
    xs, ys = numbers[::2], numbers[1::2]
    return [[round(100 * x / video.width, 5), round(100 * y / video.height, 5)] for x, y in zip(xs, ys, strict=True)]


def _quoted(path: str) -> str:
    """A path as part of an address: what would end it there is escaped, letters of any script stay."""
    return "".join(quote(character) if character in "%#?&+\"' " else character for character in path)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
