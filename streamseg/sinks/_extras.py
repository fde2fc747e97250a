"""What a file holds beside pictures, sound and subtitles: kept where the output can hold it, named where it cannot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.stream import AttachmentStream, Discard, Disposition, Stream

from streamseg.side_data import side_data_of
from streamseg.sinks._codecs import ending_of
from streamseg.types import StreamInfo

HDR_OPTIONS = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}
"""Encoder -> its option for parameters of its own, and of those the one for the display and the one for the levels."""

CAPTIONS: Mapping[str, Mapping[str, str]] = {
    "libx264": {}, "libx265": {"a53cc": "1"}, "h264_nvenc": {}, "hevc_nvenc": {},
}  # fmt: skip
"""Encoder that writes the closed captions which its pictures carry -> the options by which it does."""

X264_FRAME_PACKING = {0: 6, 1: 3, 2: 4, 3: 5, 4: 0, 6: 2, 7: 1}
"""How two views share a picture, by FFmpeg's number (libavutil/stereo3d.h) -> by H.264's (its table D-8)."""

STEREO_MODES = {1: "left_right", 2: "top_bottom"}
"""The same -> Matroska's word, where the file that was read has none."""

COVERS = Disposition.attached_pic | Disposition.timed_thumbnails

WEBM_STEREO_MODES = ("mono", "left_right", "right_left", "top_bottom", "bottom_top")

LOST_SIDE_DATA = {
    "DOVI_RPU_BUFFER": "Dolby Vision",
    "DOVI_METADATA": "Dolby Vision",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "SPHERICAL": "the projection of a 360° picture",
    "ICC_PROFILE": "the ICC colour profile",
}


@dataclass(frozen=True)
class Attachment:
    """A file inside a file, such as a font."""

    name: str
    kind: str
    data: bytes


@dataclass(frozen=True)
class Extras:
    """What a file holds beside pictures, sound and subtitles.

    stereo: how two views share a picture, FFmpeg's number · stereo_mode: the same in Matroska's word · display: the
    mastering display's (x, y) of red, green, blue and white, then its least and greatest luminance in cd/m² · light:
    greatest level of a pixel and of a picture's mean in cd/m² · timecode: of the first picture · naming: title and
    language of the pictures' track · captions: the pictures carry closed captions · attachments: files, such as the
    fonts of subtitles · lost: what no output keeps, in words
    """

    stereo: int | None = None
    stereo_mode: str | None = None
    display: tuple[Fraction, ...] | None = None
    light: tuple[int, int] | None = None
    timecode: str | None = None
    naming: Mapping[str, str] = field(default_factory=dict)
    captions: bool = False
    attachments: Sequence[Attachment] = ()
    lost: Sequence[str] = field(default_factory=list)

    def options(self, encoder: str) -> dict[str, str]:
        """The options by which an encoder writes what it can into its stream."""
        options: dict[str, str] = {}
        parameters = []
        if encoder in HDR_OPTIONS:
            option, display, light = HDR_OPTIONS[encoder]
            if self.display is not None:
                parameters.append(f"{display}={_display_text(self.display, whole=encoder != 'libsvtav1')}")
            if self.light is not None:
                parameters.append("{}={},{}".format(light, *self.light))
            options[option] = ":".join(parameters)
        if encoder == "libx264" and self.stereo in X264_FRAME_PACKING:
            # Told by the pictures alone, x264 begins anew after the first one, and is not lossless from there on.
            parameters.append(f"frame-packing={X264_FRAME_PACKING[self.stereo]}")
            options["x264-params"] = ":".join(parameters)
        if self.captions:
            options |= CAPTIONS.get(encoder, {})
        return {option: value for option, value in options.items() if value}

    def metadata(self, container: str, info: StreamInfo) -> dict[str, str]:
        """The metadata of the pictures' stream by which a container keeps what it can."""
        kept = dict(self.naming)
        if self.timecode is not None and self._why_no_timecode(info) is None:
            kept["timecode"] = self.timecode
        if (mode := self._stereo_mode(container)) is not None:
            kept["stereo_mode"] = mode
        return kept

    def attach(self, output: OutputContainer, container: str) -> None:
        """Put the attached files into the output, if its container takes any."""
        if container == "matroska":
            for each in self.attachments:
                output.add_attachment(each.name, each.kind, each.data)

    def left_out(self, info: StreamInfo, *, encoder: str, container: str) -> list[str]:
        """What the output does not keep, in notes for the summary."""
        notes = [f"{what} {'are' if what.startswith('tracks') else 'is'} left out" for what in dict.fromkeys(self.lost)]
        ending = ending_of(container)
        if self.attachments and container != "matroska":
            names = ", ".join(each.name for each in self.attachments[:3])
            more = f" and {len(self.attachments) - 3} more" if len(self.attachments) > 3 else ""
            notes.append(f"attached files are left out, {ending} holds none: {names}{more}")
        if self.timecode is not None and (why := self._why_no_timecode(info)):
            notes.append(f"the timecode {self.timecode} is left out: {why}")
        if (self.display or self.light) and encoder not in HDR_OPTIONS:
            notes.append(f"the brightness of the mastering display (HDR10) is left out: {encoder} does not write it")
        if self.captions and encoder not in CAPTIONS:
            notes.append(f"the closed captions are left out: {encoder} does not write them")
        written = encoder == "libx264" and self.stereo in X264_FRAME_PACKING
        if (self.stereo or self.stereo_mode) and not written and self._stereo_mode(container) is None:
            notes.append(f"that the picture holds two views (3D) is left out: {encoder} in {ending} does not say it")
        return notes

    def _why_no_timecode(self, info: StreamInfo) -> str | None:
        """What speaks against the first picture's timecode as that of the output; FFmpeg would write no file at all."""
        form, rate = re.fullmatch(r"\d\d:\d\d:\d\d([:;.])\d\d", self.timecode or ""), round(info.average_rate)
        if info.start > 0:
            return "this part begins later"
        if form is None:
            return "it is none that FFmpeg writes"
        if rate < 1 or (form[1] != ":" and rate % 30):
            return f"it does not fit {float(info.average_rate):g} pictures a second"
        return None

    def _stereo_mode(self, container: str) -> str | None:
        mode = self.stereo_mode or STEREO_MODES.get(self.stereo or 0)
        holds = container == "matroska" or (container == "webm" and mode in WEBM_STEREO_MODES)
        return mode if holds else None


def extras_of(path: Path | None) -> Extras:
    """What the file holds that a stream comes from; nothing for a stream that comes from no file."""
    if path is None or not path.is_file():
        return Extras()
    try:
        with av.open(f"file:{path}", metadata_errors="replace") as container:
            return _found(container)
    except (av.FFmpegError, OSError, ValueError):
        return Extras()  # who needs more of the file than this will say that it cannot be read


def naming_of(stream: Stream) -> dict[str, str]:
    """Title and language of a track, as far as it has them, under the words by which FFmpeg writes them."""
    said = _lowered(stream.metadata)
    naming = {"title": said.get("title") or said.get("name"), "language": said.get("language")}  # an mp4 reads "name"
    return {word: text for word, text in naming.items() if text}


def _found(container: InputContainer) -> Extras:
    """What an open file holds."""
    videos = [stream for stream in container.streams.video if not stream.disposition & COVERS]
    best = container.streams.best("video")
    chosen: Any = next((stream for stream in videos if stream is best), videos[0] if videos else None)
    if chosen is None:
        return Extras()
    metadata = _lowered(chosen.metadata)
    attachments = [_attachment(stream) for stream in container.streams if isinstance(stream, AttachmentStream)]
    lost = _other_tracks(container, chosen)
    picture = None
    with suppress(av.FFmpegError):
        picture = next(container.decode(chosen), None)
    side_data = side_data_of(picture) if picture is not None else {}
    if metadata.get("alpha_mode") == "1" or (picture is not None and _is_transparent(picture)):
        lost.append("transparency")
    lost += [words for kind, words in LOST_SIDE_DATA.items() if kind in side_data]
    stereo = int(np.frombuffer(side_data["STEREO3D"], np.int32)[0]) if "STEREO3D" in side_data else None
    stereo_mode = metadata.get("stereo_mode")
    if picture is not None and picture.rotation and (stereo or stereo_mode):
        lost.append("that the picture holds two views (3D), which have been turned,")
        stereo = stereo_mode = None
    return Extras(
        stereo=stereo,
        stereo_mode=stereo_mode,
        display=_display(side_data),
        light=_light(side_data),
        timecode=_timecode(container, chosen),
        naming=naming_of(chosen),
        captions="A53_CC" in side_data,
        attachments=attachments,
        lost=lost,
    )


def _other_tracks(container: InputContainer, chosen: Any) -> list[str]:
    """The tracks that no output takes, in words: "the cover picture", "tracks 2, 3 (data, GoPro MET)"."""
    covers, tracks = [], dict[str, list[int]]()
    for stream in container.streams:
        if stream.type == "video" and stream.disposition & COVERS:
            covers += ["the cover picture"] if stream.disposition & Disposition.attached_pic else []
        elif stream.type == "video" and stream is not chosen:
            codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
            tracks.setdefault(f"video, {codec}", []).append(stream.index)
        # The titles of chapters are a track that FFmpeg reads by itself.
        elif stream.type == "data" and stream.discard != Discard.all and "timecode" not in stream.metadata:
            handler = stream.metadata.get("handler_name", "").strip("\t\n\x0b\x00 ")
            tracks.setdefault(f"data, {handler}" if handler else "data", []).append(stream.index)
    return covers + [
        f"track{'s' if len(indices) > 1 else ''} {', '.join(map(str, indices))} ({kind})"
        for kind, indices in tracks.items()
    ]


def _attachment(stream: AttachmentStream) -> Attachment:
    """A copy of an attached file, which is gone once its container is closed."""
    kind = stream.metadata.get("mimetype") or "application/octet-stream"
    return Attachment(stream.metadata.get("filename") or f"attachment{stream.index}", kind, stream.data)


def _timecode(container: InputContainer, chosen: Any) -> str | None:
    """The timecode of the first picture, wherever the file says it."""
    told = (chosen, container, *(stream for stream in container.streams if stream.type == "data"))
    return next((_lowered(part.metadata)["timecode"] for part in told if "timecode" in _lowered(part.metadata)), None)


def _lowered(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata under small letters: Matroska has capitals."""
    return {key.lower(): value for key, value in metadata.items()}


def _is_transparent(picture: av.VideoFrame) -> bool:
    """Whether any of its pixels is not quite opaque."""
    if not any(component.is_alpha for component in picture.format.components):
        return False
    return bool(picture.reformat(format="rgba", threads=1).to_ndarray()[..., 3].min() < 255)


def _display(side_data: Mapping[str, Any]) -> tuple[Fraction, ...] | None:
    """Ten numbers out of an AVMasteringDisplayMetadata: ten fractions, and whether colours and luminance are known."""
    if "MASTERING_DISPLAY_METADATA" not in side_data:
        return None
    numbers = np.frombuffer(side_data["MASTERING_DISPLAY_METADATA"], np.int32).tolist()
    if not (numbers[20] and numbers[21]) or 0 in numbers[1:20:2]:
        return None
    display = tuple(Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2))
    *colours, least, greatest = display
    possible = all(0 <= value <= 1 for value in colours) and 0 <= least < greatest <= 10_000
    return display if possible else None


def _light(side_data: Mapping[str, Any]) -> tuple[int, int] | None:
    if "CONTENT_LIGHT_LEVEL" not in side_data:
        return None
    of_pixel, of_picture = np.frombuffer(side_data["CONTENT_LIGHT_LEVEL"], np.uint32)[:2].tolist()
    return (of_pixel, of_picture) if max(of_pixel, of_picture) < 1 << 16 else None


def _display_text(display: tuple[Fraction, ...], *, whole: bool) -> str:
    """As encoders want it; whole: in steps of 0.00002 and of 0.0001 cd/m², as H.265 has them."""

    def text(value: Fraction, step: int) -> str:
        return str(round(value * step)) if whole else f"{float(value):.6f}"

    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = (text(value, 50_000) for value in display[:8])
    least, greatest = (text(value, 10_000) for value in display[8:])
    colours = f"G({green_x},{green_y})B({blue_x},{blue_y})R({red_x},{red_y})WP({white_x},{white_y})"
    return f"{colours}L({greatest},{least})"
