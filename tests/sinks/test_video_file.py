"""The video sink, by decoding what it wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.codec import Codec

from streamseg.sinks._codecs import ENCODERS, Encoder
from streamseg.sinks.video_file import VideoFile
from streamseg.sources.video_file import VideoFile as VideoSource
from streamseg.types import Frame, InputError, OutputError, Result, StreamInfo, UsageError
from tests.clips import make_clip, make_sound, numbered_picture
from tests.sinks.written import NOTHING, decode, packets, planes, subtitles, times, together, write, write_pictures

SAMPLE = Path(__file__).parents[2] / "samples" / "pedestrians.mp4"


def street(number: int, *, width: int, height: int, pix_fmt: str) -> list[av.VideoFrame]:
    """The first pictures of the sample clip, scaled."""
    with av.open(SAMPLE) as container:
        pictures = islice(container.decode(video=0), number)
        return [picture.reformat(width, height, pix_fmt, threads=1) for picture in pictures]


def assert_same_pixels(one: av.VideoFrame, other: av.VideoFrame) -> None:
    assert (one.width, one.height) == (other.width, other.height)
    for a, b in zip(planes(one), planes(other), strict=True):
        np.testing.assert_array_equal(a, b)


# Pixels


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        (codec, f"yuv{chroma}p{depth}")
        for codec in ("h264", "h265", "vp9")
        for chroma in ("420", "422", "444")
        for depth in ("", "10le")
        if codec != "vp9" or not depth  # libvpx in PyAV's wheel has no 10 bit
    ],
)
def test_lossless_output_is_the_given_planes_bit_for_bit(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    given = [numbered_picture(i, width=64, height=48, pix_fmt=pix_fmt) for i in range(4)]
    kept = [planes(picture) for picture in given]
    write_pictures(given, tmp_path / "out.mkv", codec=codec, quality="lossless")
    decoded = decode(tmp_path / "out.mkv")
    assert [frame.format.name for frame in decoded] == [pix_fmt] * 4
    for frame, expected in zip(decoded, kept, strict=True):
        for plane, wanted in zip(planes(frame), expected, strict=True):
            np.testing.assert_array_equal(plane, wanted)


CLAIMED = [
    (encoder, pix_fmt)
    for encoder in ENCODERS
    for pix_fmt, bits in (("yuv420p", 8), ("yuv420p10le", 10))
    if "nvenc" not in encoder.name  # they need their hardware
    if bits <= encoder.exact_bits and pix_fmt in {f.name for f in Codec(encoder.name, "w").video_formats or ()}
]


@pytest.mark.parametrize(
    ("encoder", "pix_fmt"), CLAIMED, ids=[f"{encoder.name}-{pix_fmt}" for encoder, pix_fmt in CLAIMED]
)
def test_every_encoder_is_as_lossless_on_real_pictures_as_it_claims(
    tmp_path: Path, encoder: Encoder, pix_fmt: str
) -> None:
    """Synthetic pictures are too easy: SVT-AV1 keeps those of 10 bit, and changes real ones."""
    given = street(4, width=160, height=120, pix_fmt=pix_fmt)
    kept = [planes(picture) for picture in given]
    assert write_pictures(given, tmp_path / "out.mkv", codec=encoder.name, quality="lossless").path.exists()
    for frame, expected in zip(decode(tmp_path / "out.mkv"), kept, strict=True):
        assert frame.format.name == pix_fmt
        for plane, wanted in zip(planes(frame), expected, strict=True):
            np.testing.assert_array_equal(plane, wanted)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p10le", "gray10le", "gbrp10le"])
@pytest.mark.parametrize(("ending", "advice"), [("mp4", "; codec h265 keeps"), ("webm", "h265 in an .mp4 or .mkv")])
def test_lossless_av1_of_10_bit_is_refused_because_it_is_none(
    tmp_path: Path, pix_fmt: str, ending: str, advice: str
) -> None:
    given = [numbered_picture(0, width=64, height=48, pix_fmt=pix_fmt)]
    with pytest.raises(OutputError, match=r"lossless: libsvtav1 is exact up to 8 bits .* have 10 ") as caught:
        write_pictures(given, tmp_path / f"out.{ending}", codec="av1", quality="lossless")
    assert advice in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    write_pictures(given, tmp_path / f"out.{ending}", codec="av1")
    assert decode(tmp_path / f"out.{ending}")[0].format.name == "yuv420p10le"


def test_full_range_stays_full_range_bit_for_bit(tmp_path: Path) -> None:
    for codec in ("h264", "vp9"):
        given = [numbered_picture(i, width=64, height=48, pix_fmt="yuvj420p") for i in range(3)]
        write_pictures(given, tmp_path / f"{codec}.mkv", codec=codec, quality="lossless")
        decoded = decode(tmp_path / f"{codec}.mkv")
        assert decoded[0].color_range == 2
        for frame, picture in zip(decoded, given, strict=True):
            assert_same_pixels(frame, picture)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [*((codec, grey) for codec in ("h264", "h265") for grey in ("gray", "gray10le")), ("av1", "gray"), ("vp9", "gray")],
)
def test_grey_keeps_its_luma(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    given = [numbered_picture(i, width=64, height=48, pix_fmt=pix_fmt) for i in range(3)]
    write_pictures(given, tmp_path / "out.mkv", codec=codec, quality="lossless")
    for frame, picture in zip(decode(tmp_path / "out.mkv"), given, strict=True):
        np.testing.assert_array_equal(planes(frame)[0], planes(picture)[0])


def ramp(pix_fmt: str) -> av.VideoFrame:
    """Black at the left, white at the right: column x has level x."""
    pixels = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    return av.VideoFrame.from_ndarray(pixels, format="gray").reformat(format=pix_fmt)


def levels(path: Path, number: int = 0) -> np.ndarray:
    """The grey levels of a picture's middle row as a player shows them: (256,) int."""
    return decode(path)[number].to_ndarray(format="rgb24")[32, :, 1].astype(int)


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "ya8"])
@pytest.mark.parametrize(("codec", "ending"), [("h264", "mp4"), ("h265", "mp4"), ("vp9", "webm"), ("av1", "mkv")])
def test_grey_without_a_range_keeps_its_darkest_and_brightest_levels(
    tmp_path: Path, codec: str, ending: str, pix_fmt: str
) -> None:
    given = ramp(pix_fmt)
    given.color_range = 0
    write_pictures([given], tmp_path / f"out.{ending}", codec=codec)
    assert np.abs(levels(tmp_path / f"out.{ending}") - np.arange(256)).max() <= 4


def test_grey_among_colours_and_colours_among_grey_keep_their_levels(tmp_path: Path) -> None:
    for order in (["gray", "rgb24"], ["rgb24", "gray"], ["gray", "yuv444p"], ["yuv444p", "gray"]):
        write_pictures([ramp(pix_fmt) for pix_fmt in order], tmp_path / "out.mp4", overwrite=True)
        for number in (0, 1):
            assert np.abs(levels(tmp_path / "out.mp4", number) - np.arange(256)).max() <= 4, (order, number)


@pytest.mark.parametrize(("codec", "ending"), [("h264", "mp4"), ("vp9", "webm"), ("av1", "mp4")])
@pytest.mark.parametrize("pix_fmt", ["gray", "yuv420p"])
def test_the_matrix_of_rgb_on_other_pictures_counts_as_none(
    tmp_path: Path, pix_fmt: str, codec: str, ending: str
) -> None:
    """As FFmpeg's PNG decoder tags grey."""
    given = [numbered_picture(i, width=64, height=48, pix_fmt=pix_fmt) for i in range(3)]
    for picture in given:
        picture.colorspace = 0
    write_pictures(given, tmp_path / f"out.{ending}", codec=codec)
    shown = decode(tmp_path / f"out.{ending}")
    assert len(shown) == 3 and int(shown[0].colorspace) != 0


@pytest.mark.parametrize("pix_fmt", ["rgb24", "gbrp", "bgra", "gbrp10le"])
def test_rgb_becomes_444_and_comes_back_within_two_levels(tmp_path: Path, pix_fmt: str) -> None:
    given = numbered_picture(3, width=64, height=48, pix_fmt=pix_fmt)
    sink = write_pictures([given], tmp_path / "out.mkv", quality="lossless")
    (frame,) = decode(tmp_path / "out.mkv")
    assert frame.format.name == ("yuv444p10le" if "10" in pix_fmt else "yuv444p")
    assert (frame.colorspace, frame.color_range) == (1, 1)
    before, after = given.to_ndarray(format="rgb24").astype(int), frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(before - after).max() <= 2
    assert any("yuv444p" in note for note in sink.notes)


def test_a_format_that_browsers_do_not_play_is_kept_with_a_note(tmp_path: Path) -> None:
    given = [numbered_picture(0, width=64, height=48, pix_fmt="yuv420p10le")]
    sink = write_pictures(given, tmp_path / "out.mp4")
    assert decode(tmp_path / "out.mp4")[0].format.name == "yuv420p10le"
    assert sink.notes == ["most browsers do not play libx264's yuv420p10le"]


def test_a_plain_clip_has_no_notes(tmp_path: Path) -> None:
    assert write(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4").notes == []


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "yuv420p10le"])
def test_odd_size_gets_one_repeated_row_and_column(tmp_path: Path, pix_fmt: str) -> None:
    given = numbered_picture(1, width=33, height=25, pix_fmt=pix_fmt)
    sink = write_pictures([given], tmp_path / "out.mp4", quality="lossless")
    (frame,) = decode(tmp_path / "out.mp4")
    assert (frame.width, frame.height) == (34, 26)
    luma = planes(frame)[0]
    np.testing.assert_array_equal(luma[:25, :33], planes(given)[0])
    np.testing.assert_array_equal(luma[:, 33], luma[:, 32])
    np.testing.assert_array_equal(luma[25], luma[24])
    given_chroma = planes(given)[1:] if pix_fmt != "nv12" else [planes(given)[1][:, :34:2], planes(given)[1][:, 1:34:2]]
    for chroma, wanted in zip(planes(frame)[1:], given_chroma, strict=True):
        np.testing.assert_array_equal(chroma, wanted)
    assert any("1 repeated column and 1 repeated row" in note for note in sink.notes)


def test_odd_size_stays_where_the_encoder_takes_it(tmp_path: Path) -> None:
    for codec, pix_fmt in (("vp9", "yuv420p"), ("av1", "yuv420p"), ("h264", "yuv444p")):
        given = numbered_picture(1, width=35, height=33, pix_fmt=pix_fmt)
        write_pictures([given], tmp_path / f"{codec}.mkv", codec=codec, quality="lossless")
        assert_same_pixels(decode(tmp_path / f"{codec}.mkv")[0], given)


@pytest.mark.parametrize(("codec", "size"), [("h264", (2, 2)), ("h265", (16, 16)), ("av1", (32, 32)), ("vp9", (1, 1))])
def test_one_pixel_is_a_video_too(tmp_path: Path, codec: str, size: tuple[int, int]) -> None:
    write_pictures([numbered_picture(0, width=1, height=1)], tmp_path / "out.mkv", codec=codec)
    (frame,) = decode(tmp_path / "out.mkv")
    assert (frame.width, frame.height) == size


def test_narrow_pictures_do_not_bring_x265_down(tmp_path: Path) -> None:
    """With its CU-tree x265 overruns a buffer at this width, and the process dies of it sooner or later."""
    for _ in range(5):
        given = [numbered_picture(i, width=48, height=64) for i in range(6)]
        write_pictures(given, tmp_path / "out.mp4", codec="h265", overwrite=True)
        assert len(decode(tmp_path / "out.mp4")) == 6


def test_panorama_keeps_its_size(tmp_path: Path) -> None:
    write_pictures([numbered_picture(0, width=512, height=32)], tmp_path / "out.mp4")
    (frame,) = decode(tmp_path / "out.mp4")
    assert (frame.width, frame.height) == (512, 32)


def test_size_change_is_scaled_to_the_first_size_and_counted(tmp_path: Path) -> None:
    sizes = [(64, 48), (32, 24), (64, 48), (96, 48)]
    sink = write_pictures([numbered_picture(0, width=w, height=h) for w, h in sizes], tmp_path / "out.mp4")
    assert [(frame.width, frame.height) for frame in decode(tmp_path / "out.mp4")] == [(64, 48)] * 4
    assert "2 pictures of another size scaled to 64×48" in sink.notes


def test_format_change_in_a_clip_becomes_the_first_format(tmp_path: Path) -> None:
    formats = ["yuv420p", "yuv444p", "yuv420p"]
    write_pictures([numbered_picture(0, width=64, height=48, pix_fmt=f) for f in formats], tmp_path / "out.mp4")
    assert [frame.format.name for frame in decode(tmp_path / "out.mp4")] == ["yuv420p"] * 3


@pytest.mark.parametrize(("matrix", "full"), [(1, True), (5, False), (9, True)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_colours_stay_where_the_range_or_the_matrix_changes_in_a_clip(
    tmp_path: Path, pix_fmt: str, matrix: int, full: bool
) -> None:
    colour = (200, 60, 30)

    def given(matrix: int, full: bool) -> av.VideoFrame:
        rgb = av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="rgb24")
        made = rgb.reformat(
            format=pix_fmt, dst_colorspace=matrix, src_color_range=2, dst_color_range=2 if full else 1, threads=1
        )
        made.colorspace, made.color_range = matrix, 2 if full else 1
        return made

    write_pictures([given(1, False), given(matrix, full), given(1, False)], tmp_path / "out.mp4")
    for frame in decode(tmp_path / "out.mp4"):
        assert (int(frame.colorspace), int(frame.color_range)) == (1, 1)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - colour).max() <= 6


def test_a_tag_that_only_says_what_holds_without_it_changes_nothing(tmp_path: Path) -> None:
    given = [numbered_picture(i, width=64, height=48) for i in range(3)]
    given[1].colorspace, given[1].color_range = 5, 1
    write_pictures(given, tmp_path / "out.mkv", quality="lossless")
    for frame, picture in zip(decode(tmp_path / "out.mkv"), given, strict=True):
        assert_same_pixels(frame, picture)


def test_given_picture_is_never_changed(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=6)
    given = decode(clip)
    before = [(planes(f), f.pts, f.time_base, f.pict_type, f.colorspace, f.color_range) for f in given]
    info = StreamInfo("made", 64, 48, given[0].time_base, Fraction(25))
    with VideoFile(tmp_path / "out.mp4") as sink:
        sink.start(info)
        for index, picture in enumerate(given):
            sink.write(picture, Result(Frame(picture, index, index / 25, 0.0, "made"), NOTHING))
    for frame, (pixels, *rest) in zip(given, before, strict=True):
        assert [frame.pts, frame.time_base, frame.pict_type, frame.colorspace, frame.color_range] == rest
        for plane, wanted in zip(planes(frame), pixels, strict=True):
            np.testing.assert_array_equal(plane, wanted)


# Times


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_constant_rate_of_2997_is_kept(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=40, rate=Fraction(30000, 1001))
    write(clip, tmp_path / f"out.{ending}")
    tick = Fraction(1, 1000) if ending in ("mkv", "webm") else 0
    got = times(tmp_path / f"out.{ending}")
    assert len(got) == 40
    assert all(abs(g - w) <= tick for g, w in zip(got, times(clip), strict=True))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_variable_rate_is_kept(tmp_path: Path, ending: str) -> None:
    pts = [0, 10, 30, 31, 50, 200, 201, 202, 230, 231, 500, 520]
    clip = make_clip(tmp_path / "in.mp4", num_frames=12, pts=pts, time_base=Fraction(1, 600))
    write(clip, tmp_path / f"out.{ending}")
    tick = Fraction(1, 1000) if ending == "mkv" else 0
    for got, wanted in zip(times(tmp_path / f"out.{ending}"), pts, strict=True):
        assert abs(got - Fraction(wanted, 600)) <= tick


def test_stride_keeps_every_third_picture_at_its_own_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=10)
    write(clip, tmp_path / "out.mp4", kept={"stride": 3})
    assert times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in (0, 3, 6, 9)]


def test_first_picture_of_a_plain_clip_is_at_zero(tmp_path: Path) -> None:
    """Without delay_moov a stream with B-frames would begin two pictures late."""
    write(make_clip(tmp_path / "in.mp4", num_frames=30), tmp_path / "out.mp4")
    assert decode(tmp_path / "out.mp4")[0].pts == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.has_b_frames


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "vp9"])
def test_a_slow_clip_has_a_key_frame_every_ten_seconds(tmp_path: Path, codec: str) -> None:
    """One picture a second: 250 pictures would be four minutes."""
    given = [numbered_picture(0, width=64, height=64) for _ in range(25)]
    write_pictures(given, tmp_path / "out.mp4", pts=[25 * i for i in range(25)], codec=codec)
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [p.pts * p.time_base for p in container.demux(video=0) if p.is_keyframe and p.pts is not None]
    assert keys == [0, 10, 20]


def test_times_that_do_not_increase_are_moved_and_counted(tmp_path: Path) -> None:
    given = [numbered_picture(i, width=64, height=48) for i in range(4)]
    sink = write_pictures(given, tmp_path / "out.mp4", pts=[0, 5, 5, 9])
    assert times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in (0, 5, 6, 9)]
    assert any(note.startswith("1 pictures came at times") for note in sink.notes)


@pytest.mark.parametrize(("ending", "audio"), [("mp4", None), ("mp4", "aac"), ("mov", None), ("mkv", None)])
def test_a_clip_of_any_length_plays_to_its_last_picture(tmp_path: Path, ending: str, audio: str | None) -> None:
    for num_frames in range(48, 56):  # a fragment ends in the middle of the last group of pictures
        clip = make_clip(tmp_path / "in.mkv", num_frames=num_frames, audio=audio)
        write(clip, tmp_path / f"out.{ending}", overwrite=True)
        assert len(decode(tmp_path / f"out.{ending}")) == num_frames
        with av.open(str(tmp_path / f"out.{ending}")) as container:
            assert container.duration is not None
            assert num_frames / 25 <= container.duration / av.time_base < num_frames / 25 + 0.1


def standing_at_its_end(path: Path, *, seconds: int) -> Path:
    """Ten pictures of 25 a second, of which the last stays for that long."""
    plain = make_clip(path.with_name(f"plain{path.suffix}"), options={"bf": "0"})
    with av.open(plain) as source, av.open(path, "w") as output:
        target = output.add_stream_from_template(source.streams.video[0])
        found = [packet for packet in source.demux(video=0) if packet.dts is not None]
        found[-1].duration = round(seconds / found[-1].time_base)
        for packet in found:
            packet.stream = target
            output.mux(packet)
    return path


def seconds_of(path: Path) -> float:
    with av.open(path) as container:
        assert container.duration is not None
        return container.duration / av.time_base


@pytest.mark.parametrize("given", ["mp4", "mkv"])
@pytest.mark.parametrize(
    ("ending", "codec"), [("mp4", "h264"), ("mov", "h265"), ("mkv", "h264"), ("mp4", "av1"), ("webm", "vp9")]
)
def test_a_last_picture_that_stands_does_so_in_the_output(tmp_path: Path, given: str, ending: str, codec: str) -> None:
    clip, output = standing_at_its_end(tmp_path / f"in.{given}", seconds=10), tmp_path / f"out.{ending}"
    write(clip, output, codec=codec)
    assert seconds_of(output) == pytest.approx(10.36, abs=0.01)
    write(clip, output, codec=codec, kept={"end": 4}, overwrite=True)
    assert seconds_of(output) == pytest.approx(4, abs=0.01)
    assert len(decode(output)) == 10


def test_a_last_picture_that_stands_for_weeks_ends_no_run(tmp_path: Path) -> None:
    """An mp4 counts 2³¹ ticks of a picture; with more of them FFmpeg ends the process."""
    clip = standing_at_its_end(tmp_path / "in.mkv", seconds=40 * 24 * 3600)
    write(clip, tmp_path / "out.mp4")
    assert len(decode(tmp_path / "out.mp4")) == 10 and seconds_of(tmp_path / "out.mp4") > 24 * 3600


@pytest.mark.parametrize(
    ("ending", "codec"),
    [(ending, codec) for ending in ("mp4", "mkv") for codec in ("h264", "h265", "av1", "vp9")]
    + [("mov", "h264"), ("mov", "h265"), ("webm", "av1")],
)
def test_a_few_pictures_are_a_film_too(tmp_path: Path, ending: str, codec: str) -> None:
    """Fewer than an encoder looks ahead; x265 leaves the decoding times of a single one to chance."""
    for num_frames in (1, 1, 2, 3, 5):
        clip = make_clip(tmp_path / "in.mp4", num_frames=num_frames)
        write(clip, tmp_path / f"out.{ending}", codec=codec, overwrite=True)
        assert times(tmp_path / f"out.{ending}") == [Fraction(i, 25) for i in range(num_frames)]


# Tags


def test_colour_tags_and_pixel_aspect_are_kept(tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    clip = make_clip(tmp_path / "in.mp4", pix_fmt="yuv420p10le", tags=tags, pixel_aspect=Fraction(128, 117))
    for name in ("out.mp4", "out.mkv", "h265.mp4"):
        write(clip, tmp_path / name, codec="h265" if name.startswith("h265") else None)
        frame = decode(tmp_path / name)[0]
        assert {tag: getattr(frame, tag) for tag in tags} == tags
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].codec_context.sample_aspect_ratio == Fraction(128, 117)


@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(2, 3)])
@pytest.mark.parametrize(
    ("codec", "ending"),
    [(codec, ending) for codec in ("vp9", "av1") for ending in ("webm", "mkv", "mp4")]
    + [(codec, ending) for codec in ("h264", "h265") for ending in ("mkv", "mov")],
)
def test_a_player_shows_the_shape_of_the_input(tmp_path: Path, codec: str, ending: str, aspect: Fraction) -> None:
    clip = make_clip(tmp_path / "in.mp4", pixel_aspect=aspect)
    sink = write(clip, tmp_path / f"out.{ending}", codec=codec)
    with av.open(str(tmp_path / f"out.{ending}")) as container:
        said = container.streams.video[0].sample_aspect_ratio or Fraction(1)
        (frame, *_) = container.decode(video=0)
    assert said * frame.width / frame.height == aspect * 64 / 48
    kept = codec.startswith("h") or ending == "mp4"
    assert (frame.width, frame.height) == ((64, 48) if kept else (128, 48) if aspect == 2 else (64, 72))
    assert any("times as wide as high" in note for note in sink.notes) is not kept


def test_pixels_a_thousand_times_as_high_as_wide_are_a_mistake(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pixel_aspect=Fraction(1, 1000))
    write(clip, tmp_path / "out.webm")
    assert (decode(tmp_path / "out.webm")[0].width, decode(tmp_path / "out.webm")[0].height) == (64, 48)


def test_lossless_pictures_are_not_stretched(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", pixel_aspect=Fraction(2))
    with pytest.raises(OutputError, match=r"lossless: libvpx-vp9 in .webm does not say .*; an .mp4 does"):
        write(clip, tmp_path / "out.webm", quality="lossless")
    write(clip, tmp_path / "out.mp4", codec="vp9", quality="lossless")
    assert_same_pixels(decode(tmp_path / "out.mp4")[0], decode(clip)[0])


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_metadata_and_chapters_are_kept(tmp_path: Path, ending: str) -> None:
    second = Fraction(1, 1000)
    chapters = [
        {"id": 1, "start": 0, "end": 600, "time_base": second, "metadata": {"title": "one"}},
        {"id": 2, "start": 600, "end": 2000, "time_base": second, "metadata": {"title": "two"}},
    ]
    metadata = {"title": "A street", "artist": "Nobody", "comment": "made up"}
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, metadata=metadata, chapters=chapters)
    write(clip, tmp_path / f"out.{ending}")
    with av.open(str(tmp_path / f"out.{ending}")) as container:
        assert metadata.items() <= {key.lower(): value for key, value in container.metadata.items()}.items()
        got = [(c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]) for c in container.chapters()]
        assert len(container.streams.video) == 1
    assert got == [(0, Fraction(3, 5), {"title": "one"}), (Fraction(3, 5), 2, {"title": "two"})]


def test_metadata_that_an_mp4_has_no_place_for_is_kept(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", metadata={"title": "A street", "CAMERA": "north"})
    write(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["title"] == "A street"
        assert {key.lower(): value for key, value in container.metadata.items()}["camera"] == "north"


def test_chapters_of_a_part_are_cut_to_it(tmp_path: Path) -> None:
    second = Fraction(1, 1000)
    chapters = [
        {"id": i, "start": i * 500, "end": i * 500 + 500, "time_base": second, "metadata": {"title": str(i)}}
        for i in range(4)
    ]
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, chapters=chapters)
    write(clip, tmp_path / "out.mkv", kept={"start": 0.8, "end": 1.2})
    with av.open(str(tmp_path / "out.mkv")) as container:
        got = [(c["metadata"]["title"], c["start"] * c["time_base"], c["end"] * c["time_base"])
               for c in container.chapters()]  # fmt: skip
    assert got == [("1", 0, Fraction(1, 5)), ("2", Fraction(1, 5), Fraction(2, 5))]


# Sound and subtitles


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("audio", ["aac", "mp3"])
def test_sound_is_copied_packet_for_packet(tmp_path: Path, ending: str, audio: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=50, audio=audio)
    sink = write(clip, tmp_path / f"out.{ending}")
    before, after = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
    assert [data for _, data in after] == [data for _, data in before]
    shift = after[0][0] - before[0][0]
    video = decode(tmp_path / f"out.{ending}")[0]
    assert abs(shift - video.pts * video.time_base) <= Fraction(1, 1000), "sound and picture begin together"
    tick = Fraction(1, 1000) if ending == "mkv" else 0
    assert all(abs(a - b - shift) <= tick for (a, _), (b, _) in zip(after, before, strict=True))
    assert sink.notes == []


def test_all_tracks_of_a_file_are_copied_with_their_languages(tmp_path: Path) -> None:
    one = make_clip(tmp_path / "one.mkv", num_frames=25, audio="aac", subtitles=[(0.2, 0.6, "Hello")])
    two = make_sound(tmp_path / "two.mkv", codec="mp3")
    joined = together(tmp_path / "in.mkv", one, two, languages=["deu", "fra", "eng"])
    write(joined, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        kinds = [(s.type, s.codec_context.name, s.language) for s in container.streams]
    assert kinds[1:] == [
        ("audio", "aac", "deu"),
        ("subtitle", "srt", "fra"),
        ("audio", "mp3float", "eng"),
    ]
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0)):
        assert [d for _, d in packets(tmp_path / "out.mkv", kind, number)] == [
            d for _, d in packets(joined, kind, number)
        ]


@pytest.mark.parametrize("given", ["mp4", "mkv"])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_every_track_keeps_its_title_and_its_language(tmp_path: Path, ending: str, given: str) -> None:
    named = [("video", "Camera 2", "fra"), ("audio", "Italiano", "ita"), ("audio", "Commentary", "eng")]
    parts = [make_clip(tmp_path / "a.mkv", num_frames=25, audio="aac"), make_sound(tmp_path / "b.mkv")]
    joined = together(tmp_path / "joined.mkv", *parts, languages=["und", "und"])
    clip, output = tmp_path / f"in.{given}", tmp_path / f"out.{ending}"
    with av.open(joined) as source, av.open(clip, "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        for stream, (_, title, language) in zip(streams, named, strict=True):
            stream.metadata.update(title=title, language=language)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    write(clip, output)
    with av.open(output) as container:
        found = [
            (stream.type, stream.metadata.get("title", stream.metadata.get("name")), stream.language)
            for stream in container.streams
        ]
    assert found == named


def test_part_of_a_clip_has_its_own_sound_in_step(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=75, audio="aac")
    for ending in ("mp4", "mkv"):
        write(clip, tmp_path / f"out.{ending}", kept={"start": 1.0, "end": 2.0, "stride": 2})
        first = decode(tmp_path / f"out.{ending}")[0]
        origin = first.pts * first.time_base
        kept = [(t - 1, data) for t, data in packets(clip, "audio") if 1 <= t < 2]
        got = [(t - origin, data) for t, data in packets(tmp_path / f"out.{ending}", "audio")]
        assert [data for _, data in got] == [data for _, data in kept]
        assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(got, kept, strict=True))


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_start_in_a_still_stretch_gives_its_picture_and_its_sound_from_there(tmp_path: Path, ending: str) -> None:
    """Pictures from 0 to 1 s and from 20 to 21 s, sound all the time: from 5 s on that is 16 s."""
    pts = [*range(10), *range(200, 210)]
    clip = make_clip(tmp_path / "in.mkv", num_frames=20, rate=10, pts=pts, time_base=Fraction(1, 10), audio="aac")
    out = tmp_path / f"out.{ending}"
    write(clip, out, kept={"start": 5.0}, quality="lossless")
    shown = decode(out)
    assert np.array_equal(planes(shown[0])[0], planes(numbered_picture(9, width=64, height=48))[0])
    expected = [0.0, *(15 + i / 10 for i in range(10))]
    assert [frame.time for frame in shown] == pytest.approx(expected, abs=0.001)
    kept = [(t - 5, data) for t, data in packets(clip, "audio") if t >= 5]
    got = packets(out, "audio")
    assert [data for _, data in got] == [data for _, data in kept]
    assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(got, kept, strict=True))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_film_of_a_picture_every_few_seconds_begins_at_its_start_too(tmp_path: Path, ending: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=5, rate=Fraction(1, 5), audio="aac")
    write(clip, tmp_path / f"out.{ending}", kept={"start": 7.0, "end": 18.0})
    assert times(tmp_path / f"out.{ending}") == pytest.approx([0, 3, 8], abs=0.001)
    sound = packets(tmp_path / f"out.{ending}", "audio")
    assert [data for _, data in sound] == [data for time, data in packets(clip, "audio") if 7 <= time < 18]


def test_a_start_after_the_last_picture_gives_that_one_as_long_as_there_is_sound(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "film.mkv", num_frames=25)
    joined = together(tmp_path / "in.mkv", clip, make_sound(tmp_path / "sound.mkv", seconds=10), languages=["eng"])
    write(joined, tmp_path / "out.mp4", kept={"start": 6.0})
    assert [frame.time for frame in decode(tmp_path / "out.mp4")] == [0]
    sound = [time for time, _ in packets(tmp_path / "out.mp4", "audio")]
    assert sound[0] < 0.03 and 3.9 < sound[-1] < 4.1
    with pytest.raises(InputError, match="start is 11 s"), VideoSource(joined, start=11):
        pass


def test_sound_that_webm_cannot_hold_becomes_opus_in_step(tmp_path: Path) -> None:
    """A click at 0.5 s is at 0.5 s again."""
    clip = _click(tmp_path / "in.mp4", at=0.5)
    sink = write(clip, tmp_path / "out.webm")
    assert any("converted to opus" in note for note in sink.notes)
    assert abs(_loudest(tmp_path / "out.webm") - 0.5) < 0.005


def test_sound_that_mov_cannot_hold_becomes_aac_in_step(tmp_path: Path) -> None:
    clip = _click(tmp_path / "in.mkv", at=0.5, codec="tta")
    sink = write(clip, tmp_path / "out.mov")
    assert any("converted to aac" in note for note in sink.notes)
    assert abs(_loudest(tmp_path / "out.mov") - 0.5) < 0.03


def test_subtitles_that_mp4_cannot_hold_become_mov_text(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, subtitles=[(0.2, 0.8, "Hello"), (1.0, 1.5, "you")])
    sink = write(clip, tmp_path / "out.mp4")
    assert any("converted to mov_text" in note for note in sink.notes)
    assert subtitles(tmp_path / "out.mp4") == [(0.2, 0.8, "Hello"), (1.0, 1.5, "you")]


def test_subtitles_go_from_mp4_to_mkv_and_webm(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=50, subtitles=[(0.2, 0.8, "Hello"), (1.0, 1.5, "you")])
    for ending in ("mkv", "webm", "mp4"):
        write(clip, tmp_path / f"out.{ending}")
        assert subtitles(tmp_path / f"out.{ending}") == [(0.2, 0.8, "Hello"), (1.0, 1.5, "you")]


def test_subtitle_that_is_on_screen_at_the_start_is_kept(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, subtitles=[(0.2, 1.2, "Hello")])
    write(clip, tmp_path / "out.mkv", kept={"start": 1.0})
    assert subtitles(tmp_path / "out.mkv") == [(0.0, 0.2, "Hello")]


def test_track_without_anything_in_the_kept_part_is_left_out_with_a_note(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=50, subtitles=[(0.2, 0.8, "Hello")])
    sink = write(clip, tmp_path / "out.mp4", kept={"start": 1.0})
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.type for s in container.streams] == ["video"]
    assert any("has nothing in this part" in note for note in sink.notes)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_of_a_transport_stream_is_carried_over(tmp_path: Path, ending: str) -> None:
    """Its AAC packets carry a header of 7 bytes each that files have no use for; mp4 and mkv keep it once."""
    clip = make_clip(tmp_path / "in.ts", num_frames=50, audio="aac")
    write(clip, tmp_path / f"out.{ending}")
    before, after = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
    assert [data for _, data in after] == [data[7:] for _, data in before]
    first = [decode(path)[0] for path in (clip, tmp_path / f"out.{ending}")]
    offsets = [t[0][0] - f.pts * f.time_base for t, f in zip((before, after), first, strict=True)]
    assert abs(offsets[0] - offsets[1]) <= Fraction(1, 1000)


@pytest.mark.parametrize("audio", ["ac3", "libopus", "flac", "pcm_s16le"])
def test_sound_of_many_codecs_is_copied(tmp_path: Path, audio: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", num_frames=25, audio=audio)
    for ending in ("mp4", "mkv"):
        write(clip, tmp_path / f"out.{ending}")
        before, after = packets(clip, "audio"), packets(tmp_path / f"out.{ending}", "audio")
        assert b"".join(data for _, data in after) == b"".join(data for _, data in before)


def test_rotated_clip_is_upright_without_the_flag(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", rotation=90)
    for codec in ("h264", "h265"):
        write(clip, tmp_path / f"{codec}.mp4", codec=codec)
        frame = decode(tmp_path / f"{codec}.mp4")[0]
        assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


def test_cover_picture_is_no_track(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", cover=True, audio="aac", num_frames=25)
    write(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]


def test_real_clip_keeps_its_sound_and_its_times(tmp_path: Path, shared_data: Path) -> None:
    clip = shared_data / "videos" / "01_dog.mp4"
    sink = write(clip, tmp_path / "out.mp4", preset="ultrafast", kept={"end": 3.0})
    wanted = [(t, data) for t, data in packets(clip, "audio") if t < 3]
    assert packets(tmp_path / "out.mp4", "audio") == wanted
    assert times(tmp_path / "out.mp4") == [Fraction(1001 * i, 30000) for i in range(90)]
    assert sink.notes == []


# Names, and what goes wrong


def test_output_has_its_part_name_until_it_is_complete(tmp_path: Path) -> None:
    picture = numbered_picture(0, width=64, height=48)
    picture.pts, picture.time_base = 0, Fraction(1, 25)
    final, part = tmp_path / "a" / "b" / "out.mp4", tmp_path / "a" / "b" / "out.part.mp4"
    with VideoFile(final) as sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
        sink.write(picture, Result(Frame(picture, 0, 0.0, 0.0, "made"), NOTHING))
        assert sink.path == part and part.exists() and not final.exists()
    assert sink.path == final and final.exists() and not part.exists()


def test_error_leaves_a_playable_part_file_with_its_sound_and_no_final_one(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", num_frames=75, audio="aac")
    with (
        pytest.raises(RuntimeError, match="engine broke"),
        VideoSource(clip) as source,
        VideoFile(tmp_path / "out.mp4") as sink,
    ):
        sink.start(source.info)
        for frame in source:
            if frame.index == 50:
                raise RuntimeError("engine broke")
            sink.write(frame.picture, Result(frame, NOTHING))
    assert sink.path == tmp_path / "out.part.mp4" and not (tmp_path / "out.mp4").exists()
    assert len(decode(sink.path)) == 50
    sound = packets(sink.path, "audio")
    assert 1.9 < sound[-1][0] <= 2.0, "the sound ends with the pictures"


def test_existing_file_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already; --overwrite"):
        write(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert not (tmp_path / "out.part.mp4").exists()
    write(clip, tmp_path / "out.mp4", overwrite=True)
    assert len(decode(tmp_path / "out.mp4")) == 10


def test_older_file_stays_whole_when_its_replacement_fails(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(RuntimeError), VideoFile(tmp_path / "out.mp4", overwrite=True) as sink:
        picture = numbered_picture(0, width=64, height=48)
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        sink.write(picture, Result(Frame(picture, 0, 0.0, 0.0, "made"), NOTHING))
        raise RuntimeError
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.part.mp4"])
def test_input_is_refused_as_output_and_stays_whole(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / name)
    before = clip.read_bytes()
    with pytest.raises(UsageError, match="is the input itself"):
        write(clip, tmp_path / "clip.mp4", overwrite=True)
    assert clip.read_bytes() == before


def test_stale_part_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.part.mp4").write_bytes(b"x" * 100_000)
    write(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")
    assert len(decode(tmp_path / "out.mp4")) == 10


def test_no_picture_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there was no picture"), VideoFile(tmp_path / "out.mp4") as sink:
        sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "quick"}, "libx264 has no 'quick'; there is fast, faster"),
        ({"path": "out.mp5"}, r"ending in \.mp4.*got '\.mp5'; did you mean '\.mp4'"),
        ({"path": "out"}, r"ending in \.mp4"),
        ({"codec": "hvec"}, "did you mean 'hevc'"),
        ({"path": "out.webm", "codec": "h264"}, "a .webm holds vp9 or av1"),
        ({"path": "out.mov", "codec": "av1"}, "a .mov holds h264 or h265"),
        ({"quality": 52}, r"expected 0 \(best\) to 51 or lossless for libx264, got 52"),
        ({"quality": "losless"}, "did you mean 'lossless'"),
        ({"quality": "good"}, "or lossless for libx264, got 'good'"),
        ({"preset": "veryfst"}, "did you mean 'veryfast'"),
        ({"codec": "av1", "preset": 14}, r"expected 0 \(slowest\) to 13 for libsvtav1, got 14"),
    ],
)
def test_wrong_option_is_said_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        VideoFile(**({"path": "out.mp4"} | options))


def test_encoder_without_its_hardware_is_said_at_construction() -> None:
    try:
        VideoFile("out.mp4", codec="nvenc")
    except UsageError as error:
        assert "needs an NVIDIA GPU" in str(error)


def test_folder_as_output_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(UsageError, match="got a folder"):
        write(make_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4")


def test_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    said = _in_child(
        f"""
        import os
        from streamseg.sinks.video_file import VideoFile
        from streamseg.types import OutputError
        os.chdir({str(tmp_path)!r})  # its parents are another user's
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            VideoFile("locked/out.mp4").__enter__()
        except OutputError as error:
            print(error)
        """
    )
    assert "out.mp4 cannot be written: permission denied" in said


WRITE_NOISE = """
    import numpy as np, av
    from fractions import Fraction
    from streamseg.sinks.video_file import VideoFile
    from streamseg.types import *
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (72, 64), np.uint8) for _ in range(10)]
    nothing = Instances.empty(("background",))
    def write(path, count, **options):
        with VideoFile(path, **options) as sink:
            sink.start(StreamInfo("made", 64, 48, Fraction(1, 25), Fraction(25)))
            for i in range(count):
                picture = av.VideoFrame.from_ndarray(noise[i % 10], format="yuv420p")
                picture.pts, picture.time_base = i, Fraction(1, 25)
                sink.write(picture, Result(Frame(picture, i, i / 25, 0.0, "made"), nothing))
"""


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm"])
def test_full_disk_is_an_output_error_and_leaves_a_playable_part_file(tmp_path: Path, ending: str) -> None:
    said = _in_child(
        WRITE_NOISE
        + f"""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        write({str(tmp_path / f"out.{ending}")!r}, 500)
    except OutputError as error:
        print(error)
    """
    )
    assert "cannot be written: file too large" in said
    assert [path.name for path in tmp_path.iterdir()] == [f"out.part.{ending}"]
    with VideoSource(tmp_path / f"out.part.{ending}") as source:
        assert len(list(source)) >= 25


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "webm"])
def test_killed_run_leaves_all_but_the_last_second_with_its_sound(tmp_path: Path, ending: str) -> None:
    """Killed after 8 of 10 seconds: the last second and the 60 pictures that an encoder may hold are missing."""
    clip = make_clip(tmp_path / "in.mp4", num_frames=250, audio="aac")
    code = f"""
        import os, signal
        from streamseg.sinks.video_file import VideoFile as Sink
        from streamseg.sources.video_file import VideoFile as Source
        from streamseg.types import Instances, Result
        with Source({str(clip)!r}) as source, Sink({str(tmp_path / f"out.{ending}")!r}) as sink:
            sink.start(source.info)
            for frame in source:
                if frame.index == 200:
                    os.kill(os.getpid(), signal.SIGKILL)
                sink.write(frame.picture, Result(frame, Instances.empty(("background",))))
        """
    child = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[2], timeout=60)
    assert child.returncode == -signal.SIGKILL
    part = tmp_path / f"out.part.{ending}"
    shown = len(decode(part))
    assert shown >= 200 - 25 - 60
    assert shown / 25 - 1 <= packets(part, "audio")[-1][0] <= 8
    assert not (tmp_path / f"out.{ending}").exists()


def _in_child(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _click(path: Path, *, at: float, codec: str = "aac") -> Path:
    """A clip of one second whose sound is silence but for 5 ms."""
    wave = np.zeros(48000, np.int16)
    begin = int(at * 48000)
    wave[begin : begin + 240] = 20000
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height = 64, 48
        sound: Any = container.add_stream(codec, rate=48000, layout="mono")
        for i in range(25):
            container.mux(video.encode(numbered_picture(i, width=64, height=48)))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def _loudest(path: Path) -> float:
    """The middle of the loud part of the sound, in seconds after the first picture, less half a click."""
    first = decode(path)[0]
    stamps, levels = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(float))
            samples = samples.max(axis=0) if samples.shape[0] < 8 else samples.ravel()
            stamps.append(float(frame.pts * frame.time_base) + np.arange(len(samples)) / frame.sample_rate)
            levels.append(samples)
    stamp, level = np.concatenate(stamps), np.concatenate(levels)
    loud = stamp[level > level.max() / 2]
    return float((loud.min() + loud.max()) / 2 - 0.0025 - first.pts * first.time_base)
