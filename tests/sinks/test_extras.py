"""What a file holds beside pictures, sound and subtitles is in the output, or the notes name it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamseg.canvas import Canvas
from streamseg.side_data import side_data_of
from streamseg.sinks.video_file import VideoFile
from streamseg.sources.video_file import VideoFile as VideoSource
from streamseg.types import Instances, Result
from tests.clips import make_clip, numbered_picture, plane_view

HDR10 = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
"""The display of P3 colours and 0.0001 to 1000 cd/m² on which it was made, and its brightest pixel and picture."""


def written(clip: Path, output: Path, *, kept: Mapping[str, Any] | None = None, **options: Any) -> list[str]:
    """The clip through the source into the sink; its notes."""
    with VideoSource(clip, **(kept or {})) as source, VideoFile(output, **options) as sink:
        sink.start(source.info)
        for frame in source:
            sink.write(frame.picture, Result(frame, Instances.empty(("background",))))
    return sink.notes


def copied(path: Path, *clips: Path, tags: Mapping[str, str] | None = None, font: bytes = b"") -> Path:
    """The video tracks of the clips in one file, as they are. tags: of the first one · font: attached as a.ttf."""
    with av.open(path, "w") as output:
        work = []
        for clip in clips:
            container = av.open(clip)
            target = output.add_stream_from_template(container.streams.video[0])
            work.append((container, target))
        work[0][1].metadata.update(tags or {})
        if font:
            output.add_attachment("a.ttf", "application/x-truetype-font", font)
        output.start_encoding()
        for container, target in work:
            with container:
                for packet in container.demux(video=0):
                    if packet.dts is not None:
                        packet.stream = target
                        output.mux(packet)
    return path


def first_picture(path: Path) -> av.VideoFrame:
    with av.open(path) as container:
        return next(container.decode(video=0))


def test_a_clip_without_any_has_no_notes(tmp_path: Path) -> None:
    chapter = {"id": 1, "start": 0, "end": 1, "time_base": Fraction(1), "metadata": {"title": "one"}}
    clip = make_clip(tmp_path / "in.mp4", audio="aac", chapters=[chapter])
    for ending in ("mp4", "mkv"):
        assert written(clip, tmp_path / f"out.{ending}") == []


def test_other_videos_are_named(tmp_path: Path) -> None:
    large, small = make_clip(tmp_path / "a.mp4"), make_clip(tmp_path / "b.mp4", width=32, height=24)
    notes = written(copied(tmp_path / "in.mp4", large, small), tmp_path / "out.mp4")
    assert notes == ["track 1 (video, h264) is left out"]
    assert first_picture(tmp_path / "out.mp4").width == 64
    notes = written(copied(tmp_path / "three.mp4", large, small, small), tmp_path / "two.mp4")
    assert notes == ["tracks 1, 2 (video, h264) are left out"]


def test_a_cover_picture_is_named(tmp_path: Path) -> None:
    assert written(make_clip(tmp_path / "in.mp4", cover=True), tmp_path / "out.mp4") == [
        "the cover picture is left out"
    ]


def test_attached_fonts_are_kept_in_an_mkv_and_named_elsewhere(tmp_path: Path) -> None:
    clip = copied(tmp_path / "in.mkv", make_clip(tmp_path / "a.mp4"), font=b"letters")
    assert written(clip, tmp_path / "out.mkv") == []
    with av.open(tmp_path / "out.mkv") as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("a.ttf", "application/x-truetype-font", b"letters")
    assert written(clip, tmp_path / "out.mp4") == ["attached files are left out, .mp4 holds none: a.ttf"]


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv"])
def test_a_timecode_stays_that_of_the_first_picture(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / "in.mov", metadata={"timecode": "10:11:12:13"})
    assert written(clip, tmp_path / f"out.{ending}") == []
    with av.open(tmp_path / f"out.{ending}") as container:
        video = container.streams.video[0]
        assert {key.lower(): value for key, value in video.metadata.items()}["timecode"] == "10:11:12:13"
        assert (ending == "mkv") or [stream.type for stream in container.streams] == ["video", "data"]
    notes = written(clip, tmp_path / f"part.{ending}", kept={"start": 0.2})
    assert notes == ["the timecode 10:11:12:13 is left out: this part begins later"]
    with av.open(tmp_path / f"part.{ending}") as container:
        assert [stream.type for stream in container.streams] == ["video"] and "timecode" not in container.metadata


@pytest.mark.parametrize("timecode", ["10:11:12;13", "noon"])
def test_a_timecode_that_cannot_be_written_costs_nothing_else(tmp_path: Path, timecode: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", metadata={"timecode": timecode})
    (note,) = written(clip, tmp_path / "out.mp4")
    assert note.startswith(f"the timecode {timecode} is left out: it ")
    assert first_picture(tmp_path / "out.mp4").width == 64


@pytest.mark.parametrize("codec", ["h264", "h265", "av1"])
def test_the_brightness_of_hdr10_is_kept(tmp_path: Path, codec: str) -> None:
    params = {"x265-params": f"log-level=none:hdr10=1:{HDR10}"}
    clip = make_clip(tmp_path / "in.mp4", codec="libx265", pix_fmt="yuv420p10le", num_frames=5, options=params)
    assert not any("left out" in note for note in written(clip, tmp_path / "out.mp4", codec=codec))
    before, after = side_data_of(first_picture(clip)), side_data_of(first_picture(tmp_path / "out.mp4"))
    assert bytes(after["CONTENT_LIGHT_LEVEL"]) == bytes(before["CONTENT_LIGHT_LEVEL"])
    numbers = [
        np.frombuffer(told["MASTERING_DISPLAY_METADATA"], np.int32)[:20].astype(float) for told in (before, after)
    ]
    had, has = (each[0::2] / each[1::2] for each in numbers)
    assert has == pytest.approx(had, abs=1e-4)


def test_the_brightness_of_hdr10_is_named_where_the_encoder_does_not_write_it(tmp_path: Path) -> None:
    params = {"x265-params": f"log-level=none:hdr10=1:{HDR10}"}
    clip = make_clip(tmp_path / "in.mp4", codec="libx265", pix_fmt="yuv420p10le", num_frames=5, options=params)
    notes = written(clip, tmp_path / "out.webm")
    assert "the brightness of the mastering display (HDR10) is left out: libvpx-vp9 does not write it" in notes


def test_two_views_in_a_picture_stay_so_and_lossless_stays_exact(tmp_path: Path) -> None:
    flat = make_clip(tmp_path / "flat.mkv", num_frames=5)
    clip = copied(tmp_path / "in.mkv", flat, tags={"stereo_mode": "left_right"})
    for ending in ("mkv", "mp4"):
        notes = written(clip, tmp_path / f"out.{ending}", quality="lossless")
        assert notes == ["most browsers do not play lossless libx264"]
        with av.open(tmp_path / f"out.{ending}") as container:
            told = container.streams.video[0].metadata.get("stereo_mode")
            pictures = list(container.decode(video=0))
        assert told == ("left_right" if ending == "mkv" else None)
        assert "STEREO3D" in side_data_of(pictures[0])
        for index, picture in enumerate(pictures):
            made = numbered_picture(index, width=64, height=48)
            assert np.array_equal(plane_view(picture, 0), plane_view(made, 0))
    assert written(clip, tmp_path / "out.webm") == []
    notes = written(clip, tmp_path / "h265.mp4", codec="h265")
    assert notes == ["that the picture holds two views (3D) is left out: libx265 in .mp4 does not say it"]


def with_captions(path: Path) -> Path:
    """A clip with the closed captions of American television in every picture (ATSC A/53, in an SEI of H.264)."""
    plain = make_clip(path.with_name("plain.h264"), options={"bf": "0", "x264-params": "aud=1"})
    captions = b"\xb5\0\x31GA94\x03\x42\xff\xfc\x94\x2c\xfc\xc8\xe5\xff"
    message = b"\0\0\0\1\x06\x04" + bytes([len(captions)]) + captions + b"\x80"
    begin = b"\0\0\0\1\x09"  # and one byte more: where a picture begins
    pictures = plain.read_bytes().split(begin)[1:]
    path.write_bytes(b"".join(begin + each[:1] + message + each[1:] for each in pictures))
    return path


def captions_of(path: Path) -> list[bytes]:
    """Those of every picture."""
    with av.open(path) as container:
        return [bytes(side_data_of(picture).get("A53_CC", b"")) for picture in container.decode(video=0)]


@pytest.mark.parametrize(("codec", "ending"), [("h264", "mp4"), ("h264", "mkv"), ("h265", "mp4")])
@pytest.mark.parametrize("drawn", [False, True])
def test_closed_captions_are_kept_whatever_is_drawn(tmp_path: Path, codec: str, ending: str, drawn: bool) -> None:
    clip = with_captions(tmp_path / "in.h264")
    assert captions_of(clip) == [b"\xfc\x94\x2c\xfc\xc8\xe5"] * 10
    output = tmp_path / f"out.{ending}"
    with VideoSource(clip) as source, VideoFile(output, codec=codec, quality="lossless") as sink:
        sink.start(source.info)
        for frame in source:
            canvas = Canvas(frame.picture)
            before = plane_view(frame.picture, 0).copy()
            if drawn:
                canvas.rectangle(8, 8, 16, 16, (255, 255, 255))
            sink.write(canvas.picture, Result(frame, Instances.empty(("background",))))
            assert np.array_equal(plane_view(frame.picture, 0), before)
    assert captions_of(output) == captions_of(clip)
    assert not any("captions" in note for note in sink.notes)
    assert bool(plane_view(first_picture(output), 0)[12, 12] == 235) is drawn


@pytest.mark.parametrize("codec", ["vp9", "av1"])
def test_closed_captions_are_named_where_the_encoder_does_not_write_them(tmp_path: Path, codec: str) -> None:
    clip = with_captions(tmp_path / "in.h264")
    name = {"vp9": "libvpx-vp9", "av1": "libsvtav1"}[codec]
    assert f"the closed captions are left out: {name} does not write them" in written(
        clip, tmp_path / "out.mkv", codec=codec
    )


@pytest.mark.parametrize(("alpha", "named"), [(255, False), (254, True)])
def test_transparency_is_named_where_there_is_any(tmp_path: Path, alpha: int, named: bool) -> None:
    def picture(index: int) -> av.VideoFrame:
        made = numbered_picture(index, width=64, height=48, pix_fmt="yuva420p")
        plane_view(made, 3)[:] = 255
        plane_view(made, 3)[7, 9] = alpha
        return made

    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva420p", num_frames=2, pictures=picture)
    assert ("transparency is left out" in written(clip, tmp_path / "out.mp4")) is named
