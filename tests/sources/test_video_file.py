"""Every habit that video files have, made small: what goes in comes out, upright, at its time, or one clear error."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from streamseg.sources.image_folder import ImageFolder
from streamseg.sources.video_file import VideoFile
from streamseg.types import Frame, InputError, Source, UsageError
from tests.clips import damage_packets, join_clips, make_clip, make_sound, numbered_picture, plane_view

# Pictures before a key picture that need the group before it: the hardest case for a seek.
OPEN_GOPS = {"preset": "medium", "x264-params": "open-gop=1:bframes=3:keyint=12:min-keyint=12:scenecut=0"}


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    return [plane_view(picture, number) for number in range(len(picture.planes))]


def same(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return one.format.name == other.format.name and all(
        np.array_equal(a, b) for a, b in zip(planes_of(one), planes_of(other), strict=True)
    )


def read(source: VideoFile) -> list[Frame]:
    with source:
        return list(source)


def save_photo(path: Path, *, orientation: int) -> Path:
    """Stored as 48×32 with red and green quarters above blue and white ones, and EXIF as a camera writes it."""
    pixels = np.full((32, 48, 3), 40, np.uint8)
    pixels[:16, :24, 0] = pixels[:16, 24:, 1] = pixels[16:, :24, 2] = 200
    pixels[16:, 24:] = 200
    exif = Image.Exif()
    exif[271], exif[274] = "a maker", orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def half_smashed(path: Path, *numbers: int) -> bytes:
    """A clip's bytes with noise in the second half of these pictures."""
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for number in numbers:
        packet = packets[number]
        assert packet.pos is not None
        begin, end = packet.pos + packet.size // 2, packet.pos + packet.size - 8
        data[begin:end] = np.random.default_rng(number).bytes(end - begin)
    return bytes(data)


def error_of(path: Path) -> str:
    with pytest.raises(InputError) as raised, VideoFile(path):
        pass
    message = str(raised.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


# What comes out is what went in


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "gray", "gray10le", "gbrp10le"]
    + ["yuva420p", "bgr0", "yuv411p"],
)
def test_a_picture_keeps_its_own_pixel_format_bit_for_bit(tmp_path: Path, pix_fmt: str) -> None:
    clip = make_clip(tmp_path / "clip.mkv", codec="ffv1", pix_fmt=pix_fmt, num_frames=3, width=32, height=24)
    frames = read(VideoFile(clip))
    assert len(frames) == 3
    for frame in frames:
        made = numbered_picture(frame.index, width=32, height=24, pix_fmt=pix_fmt)
        if pix_fmt == "bgr0":  # its fourth byte means nothing
            assert np.array_equal(frame.rgb(32, 24), made.to_ndarray(format="rgb24"))
        else:
            assert same(frame.picture, made)


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "rgb24", "yuv444p"])
def test_full_range_and_rgb_stay_what_they_are(tmp_path: Path, pix_fmt: str) -> None:
    (frame,) = read(VideoFile(make_clip(tmp_path / "clip.mp4", pix_fmt=pix_fmt, num_frames=1)))
    assert frame.picture.format.name == {"rgb24": "gbrp"}.get(pix_fmt, pix_fmt)
    assert (frame.picture.color_range == 2) == (pix_fmt != "yuv444p")
    made = numbered_picture(0, width=64, height=48, pix_fmt=pix_fmt)
    assert np.array_equal(frame.picture.to_ndarray(format="rgb24"), made.to_ndarray(format="rgb24"))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.mov", "clip.ts", "clip.avi", "clip.nut", "clip.h264"])
def test_index_and_time_count_from_the_first_picture(tmp_path: Path, name: str) -> None:
    frames = read(VideoFile(make_clip(tmp_path / name, num_frames=8)))
    assert [frame.index for frame in frames] == list(range(8))
    assert [round(frame.time, 6) for frame in frames] == [round(i / 25, 6) for i in range(8)]
    assert all(same(frame.picture, numbered_picture(i, width=64, height=48)) for i, frame in enumerate(frames))


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        (name, codec, rate)
        for name, codec in (("a.h264", "libx264"), ("a.hevc", "libx265"), ("a.m2v", "mpeg2video"))
        for rate in (24, Fraction(30000, 1001), 50, 60)
    ]
    + [("a.h264", "libx264", 5), ("a.hevc", "libx265", 5), ("a.ivf", "libvpx-vp9", 5)],
)
def test_a_bare_bitstream_runs_at_the_rate_that_it_states(
    tmp_path: Path, name: str, codec: str, rate: int | Fraction
) -> None:
    clip = make_clip(tmp_path / name, codec=codec, num_frames=5, rate=rate, lossless=False)
    with VideoFile(clip) as source:
        assert source.info.average_rate == rate
        times = [frame.time for frame in source]
    assert times == pytest.approx([float(i / Fraction(rate)) for i in range(5)], abs=1e-6)
    assert source.notes == []


def test_a_bare_bitstream_without_a_rate_is_played_at_25_and_says_so(tmp_path: Path) -> None:
    silent = {"x265-params": "log-level=none:vui-timing-info=0"}
    clip = make_clip(tmp_path / "a.hevc", codec="libx265", num_frames=3, rate=50, options=silent)
    source = VideoFile(clip)
    assert [frame.time for frame in read(source)] == [0, 0.04, 0.08]
    assert source.notes == ["the file does not say how many pictures a second it has: 25 are assumed"]


def test_ticks_of_a_clock_are_not_taken_for_a_rate(tmp_path: Path) -> None:
    """A picture every 20 s: their times are right, and the rate is one that a video can have."""
    pts = [0, 1_800_000, 3_600_000]
    clip = make_clip(tmp_path / "a.ts", pts=pts, time_base=Fraction(1, 90_000), num_frames=3, audio="aac")
    with av.open(clip) as container:
        assert container.streams.video[0].guessed_rate == 90_000
    with VideoFile(clip) as source:
        assert source.info.average_rate == 25
        assert [frame.time for frame in source] == [0, 20, 40]


def test_it_is_a_source_and_tells_of_the_stream_before_the_first_frame(tmp_path: Path) -> None:
    chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
    clip = make_clip(tmp_path / "street.mp4", metadata={"title": "Street"}, chapters=[chapter], audio="aac")
    with VideoFile(clip) as source:
        assert isinstance(source, Source)
        info = source.info
        assert (info.name, info.path, info.width, info.height) == ("street", clip, 64, 48)
        assert (info.average_rate, info.num_frames, info.live) == (25, 10, False)
        assert info.metadata["title"] == "Street"
        assert info.chapters[0]["metadata"] == {"title": "one"}
        frames = list(source)
    assert frames[0].picture.time_base == info.time_base
    assert frames[0].stream == "street"
    assert source.warnings == {} and source.drops == {}


def test_a_stream_takes_the_name_it_is_given(tmp_path: Path) -> None:
    frames = read(VideoFile(make_clip(tmp_path / "a.mp4", num_frames=1), name="gate"))
    assert frames[0].stream == "gate"


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    pts = [0, 3, 4, 9, 10, 11, 300, 301, 302, 1000]
    clip = make_clip(tmp_path / "uneven.mp4", pts=pts, time_base=Fraction(1, 1000))
    frames = read(VideoFile(clip))
    assert [frame.time for frame in frames] == [p / 1000 for p in pts]
    base = frames[0].picture.time_base
    assert base is not None and [(frame.picture.pts or 0) * base * 1000 for frame in frames] == pts


def test_time_counts_from_the_first_pts_whatever_that_is(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "late.ts", num_frames=3, pts=[100, 101, 102])
    frames = read(VideoFile(clip))
    assert [frame.time for frame in frames] == [0.0, 0.04, 0.08]
    assert frames[0].picture.pts and frames[0].picture.pts > 0


def test_colour_tags_stay_on_every_picture(tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    for rotation, interlaced in ((0, False), (90, False), (0, True)):
        clip = make_clip(tmp_path / "hdr.mp4", tags=tags, num_frames=4, rotation=rotation, interlaced=interlaced)
        for frame in read(VideoFile(clip)):
            assert {tag: int(getattr(frame.picture, tag)) for tag in tags} == tags


def test_pixels_that_are_not_square_keep_their_aspect(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "pal.mp4", pixel_aspect=Fraction(16, 15), num_frames=2)
    with VideoFile(clip) as source:
        assert source.info.pixel_aspect == Fraction(16, 15)
        assert next(iter(source)).pixel_aspect == 16 / 15


@pytest.mark.parametrize(("width", "height"), [(321, 243), (1, 1), (1600, 100), (2, 2)])
def test_odd_sizes_and_panoramas_come_through(tmp_path: Path, width: int, height: int) -> None:
    clip = make_clip(tmp_path / "odd.mkv", codec="ffv1", width=width, height=height, num_frames=2)
    frames = read(VideoFile(clip))
    assert [same(f.picture, numbered_picture(f.index, width=width, height=height)) for f in frames] == [True, True]


def test_a_size_that_changes_is_passed_on(tmp_path: Path) -> None:
    small = make_clip(tmp_path / "a.ts", num_frames=4)
    large = make_clip(tmp_path / "b.ts", num_frames=4, width=96, height=64, pts=range(10, 14))
    frames = read(VideoFile(join_clips(tmp_path / "joined.ts", small, large)))
    assert [(f.width, f.height) for f in frames] == [(64, 48)] * 4 + [(96, 64)] * 4
    assert [round(f.time * 25) for f in frames] == [0, 1, 2, 3, 10, 11, 12, 13]


# Rotation


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_rotated_video_comes_out_upright(tmp_path: Path, rotation: int, hflip: bool) -> None:
    clip = make_clip(tmp_path / "phone.mp4", rotation=rotation, hflip=hflip, num_frames=2, pixel_aspect=Fraction(2))
    with VideoFile(clip) as source:
        frames = list(source)
        info = source.info
    stored = planes_of(numbered_picture(1, width=64, height=48))
    expected = [np.rot90(plane, rotation // 90) for plane in stored]
    if hflip:
        expected = [np.fliplr(plane) for plane in expected]
    assert all(np.array_equal(a, b) for a, b in zip(planes_of(frames[1].picture), expected, strict=True))
    on_its_side = rotation in (90, 270)
    assert (info.width, info.height) == ((48, 64) if on_its_side else (64, 48))
    assert info.pixel_aspect == (Fraction(1, 2) if on_its_side else 2)
    assert frames[1].pixel_aspect == float(info.pixel_aspect)
    if rotation or hflip:
        assert frames[1].picture.rotation == 0 and frames[1].picture.side_data.get("DISPLAYMATRIX") is None


def test_rotated_422_becomes_444_and_says_so(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "camera.mp4", pix_fmt="yuv422p10le", rotation=90, num_frames=3)
    source = VideoFile(clip)
    assert read(source)[0].picture.format.name == "yuv444p10le"
    assert source.warnings == {"4:2:2 pictures turned on their side, now 4:4:4": 3}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_photo_is_as_upright_alone_as_in_a_folder(tmp_path: Path, ending: str, orientation: int) -> None:
    photo = save_photo(tmp_path / f"photo.{ending}", orientation=orientation)
    (alone,) = read(VideoFile(photo))
    with ImageFolder(tmp_path) as folder:
        (beside_others,) = folder
    size = (32, 48) if orientation > 4 else (48, 32)
    assert (alone.width, alone.height) == size == (beside_others.width, beside_others.height)
    middles = np.s_[size[1] // 4 :: size[1] // 2, size[0] // 4 :: size[0] // 2]  # of its quarters, which differ by 160
    difference = alone.rgb(*size)[middles].astype(int) - beside_others.rgb(*size)[middles]
    assert np.abs(difference).max() < 20


def test_motion_jpeg_of_photos_comes_out_upright(tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "photo.jpg", orientation=6)
    with av.open(tmp_path / "camera.avi", "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        container.start_encoding()
        for index in range(3):
            packet = av.Packet(photo.read_bytes())
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = index
            container.mux(packet)
    frames = read(VideoFile(tmp_path / "camera.avi"))
    assert [(frame.width, frame.height) for frame in frames] == [(32, 48)] * 3
    # what was stored at the bottom left is shown at the top left
    assert [frame.rgb(32, 48)[8, 8].argmax() for frame in frames] == [2] * 3


# Interlaced video


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9])
def test_interlaced_video_gives_a_picture_for_a_picture_and_says_so(tmp_path: Path, num_frames: int) -> None:
    source = VideoFile(make_clip(tmp_path / "tv.mp4", interlaced=True, num_frames=num_frames))
    frames = read(source)
    assert [frame.time for frame in frames] == [i / 25 for i in range(num_frames)]
    assert not any(frame.picture.interlaced_frame for frame in frames)
    assert source.warnings == {"interlaced pictures deinterlaced": num_frames}


def test_deinterlacing_removes_the_comb(tmp_path: Path) -> None:
    def bar(moment: int) -> av.VideoFrame:  # an upright bar that moves 4 pixels a field
        picture = numbered_picture(0, width=64, height=48)
        for plane in planes_of(picture):
            plane[:] = 128
        plane_view(picture, 0)[:] = 20
        plane_view(picture, 0)[:, 4 * moment : 4 * moment + 8] = 220
        return picture

    clip = make_clip(tmp_path / "tv.mp4", interlaced=True, num_frames=6, pictures=bar)

    def comb(picture: av.VideoFrame) -> float:
        rows = plane_view(picture, 0).astype(int)
        return float(np.abs(rows[1:] - rows[:-1]).mean())

    with av.open(clip) as container:
        before = [comb(picture) for picture in container.decode(video=0)]
    after = [comb(frame.picture) for frame in read(VideoFile(clip))]
    assert min(before) > 20 and max(after[1:-1]) < 0.5 * min(before)


def test_interlaced_and_rotated_video_is_both_put_right(tmp_path: Path) -> None:
    frames = read(VideoFile(make_clip(tmp_path / "tv.mp4", interlaced=True, rotation=90, num_frames=3)))
    assert [(f.width, f.height) for f in frames] == [(48, 64)] * 3


def test_progressive_video_is_left_alone(tmp_path: Path) -> None:
    source = VideoFile(make_clip(tmp_path / "film.mp4"))
    assert all(same(f.picture, numbered_picture(f.index, width=64, height=48)) for f in read(source))
    assert source.warnings == {}


# Start, end, stride


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"options": OPEN_GOPS}),
        ("a.mkv", {"options": OPEN_GOPS}),
        ("a.ts", {"options": OPEN_GOPS}),
        ("a.flv", {"options": OPEN_GOPS}),
        ("h265.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:lossless=1"}}),
        ("fragmented.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": OPEN_GOPS}),
        ("tv.mp4", {"interlaced": True}),
        ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("a.mpg", {"codec": "mpeg2video", "options": {"bf": "2"}}),
        ("a.h264", {}),
        ("a.webm", {}),
    ],
)
def test_start_gives_exactly_the_rest_of_the_whole_stream(tmp_path: Path, name: str, options: dict) -> None:
    clip = make_clip(tmp_path / name, num_frames=40, **options)

    warned: set[str] = set()

    def told(**span: float) -> list[tuple]:
        source = VideoFile(clip, **span)  # type: ignore[arg-type]
        frames = read(source)
        warned.update(what for what in source.warnings if "damaged" in what)
        return [(f.index, f.time, [plane.tobytes() for plane in planes_of(f.picture)]) for f in frames]

    whole = told()
    assert not warned
    for start in (0.04, 0.44, 0.48, 0.5, 0.96, 1.3, 1.56):
        assert told(start=start) == [frame for frame in whole if frame[1] >= start], f"start={start}"
    assert not warned


# A screen recording: ten pictures in the first second, and nothing changes until 20 s.
STILL = {"pts": [*range(10), *range(200, 210)], "time_base": Fraction(1, 10), "num_frames": 20, "rate": 10}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.webm", "a.flv"])
def test_a_picture_that_is_on_screen_at_the_start_is_shown_from_there(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / name, **STILL)  # type: ignore[arg-type]
    whole = read(VideoFile(clip))
    for start in (1.5, 5, 19.9):
        frames = read(VideoFile(clip, start=start))
        assert [(f.index, f.time) for f in frames] == [(9, start)] + [(f.index, f.time) for f in whole[10:]]
        assert same(frames[0].picture, whole[9].picture)
    assert [(f.index, f.time) for f in read(VideoFile(clip, start=5, end=15))] == [(9, 5)]
    assert [(f.index, f.time) for f in read(VideoFile(clip, start=5, stride=4))][:2] == [(9, 5), (13, 20.3)]
    assert read(VideoFile(clip, start=20))[0].index == 10


@pytest.mark.parametrize("rate", [1, 5, 25, Fraction(30000, 1001)])
def test_at_an_even_rate_a_start_between_two_pictures_begins_with_the_later_one(
    tmp_path: Path, rate: int | Fraction
) -> None:
    clip = make_clip(tmp_path / "a.mp4", rate=rate)
    assert [f.index for f in read(VideoFile(clip, start=float(2.5 / rate)))] == list(range(3, 10))


def test_end_is_not_included(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", num_frames=50)
    assert [f.index for f in read(VideoFile(clip, start=0.4, end=0.6))] == [10, 11, 12, 13, 14]


def test_stride_keeps_every_nth_frame_at_its_own_time(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", num_frames=20)
    assert [(f.index, f.time) for f in read(VideoFile(clip, stride=8))] == [(0, 0.0), (8, 0.32), (16, 0.64)]
    assert [f.index for f in read(VideoFile(clip, start=0.2, stride=7))] == [5, 12, 19]


@pytest.mark.parametrize(
    ("span", "expected"),
    [({}, 50), ({"start": 1.0}, 25), ({"end": 0.4}, 10), ({"start": 1.6, "end": 9.0}, 10), ({"stride": 4}, 13)],
)
def test_the_number_of_frames_to_come_is_estimated(tmp_path: Path, span: dict, expected: int) -> None:
    clip = make_clip(tmp_path / "a.mp4", num_frames=50)
    with VideoFile(clip, **span) as source:
        assert source.info.num_frames == expected == len(list(source))


def test_a_start_behind_the_last_picture_is_an_error(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", num_frames=25)
    with pytest.raises(InputError, match=r"start is 5 s, but the last picture is at 0\.96 s"), VideoFile(clip, start=5):
        pass


@pytest.mark.parametrize(
    ("options", "word"),
    [({"start": -1}, "start"), ({"start": 2, "end": 2}, "end"), ({"stride": 0}, "stride"), ({"threads": 0}, "threads")],
)
def test_a_wrong_option_fails_at_construction(options: dict, word: str) -> None:
    with pytest.raises(UsageError, match=f"^{word}: expected"):
        VideoFile(Path("a.mp4"), **options)


# Damage


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("damaged", [(5,), (20, 21, 22), (29,), (28, 29)])
def test_a_damaged_packet_is_counted_and_skipped(tmp_path: Path, threads: int, damaged: tuple[int, ...]) -> None:
    clip = make_clip(tmp_path / "whole.mp4", num_frames=30, options={"preset": "ultrafast", "intra-refresh": "0"})
    source = VideoFile(damage_packets(clip, *damaged, target=tmp_path / "damaged.mp4"), threads=threads)
    frames = read(source)
    assert [round(f.time * 25) for f in frames] == [i for i in range(30) if i not in damaged]
    assert source.warnings == {"damaged packets skipped": len(damaged)}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video"), ("a.mov", "prores_ks")]
)
def test_a_picture_that_the_decoder_conceals_damage_of_is_kept_and_counted(
    tmp_path: Path, name: str, codec: str, threads: int
) -> None:
    """Of pictures 5 and 14 the second half is noise."""
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    whole = make_clip(
        tmp_path / name, codec=codec, pix_fmt=pix_fmt, width=320, height=240, num_frames=30, lossless=False
    )
    damaged = tmp_path / f"damaged_{name}"
    damaged.write_bytes(half_smashed(whole, 5, 14))
    source = VideoFile(damaged, threads=threads)
    assert [round(frame.time * 25) for frame in read(source)] == list(range(30))
    assert source.warnings == {"damaged pictures kept": 2}
    source = VideoFile(whole, threads=threads)
    assert len(read(source)) == 30 and source.warnings == {}


def test_a_picture_whose_packet_the_end_of_the_file_cuts_is_counted(tmp_path: Path) -> None:
    """MJPEG's decoder says nothing of it, the container does."""
    clip = make_clip(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p", width=320, height=240, lossless=False)
    with av.open(clip) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        assert last.pos is not None
        half = last.pos + last.size // 2
    (tmp_path / "cut.avi").write_bytes(clip.read_bytes()[:half])
    source = VideoFile(tmp_path / "cut.avi")
    assert len(read(source)) == 10
    assert source.warnings == {"damaged pictures kept": 1}


def test_a_clip_of_damaged_packets_alone_is_an_error(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "whole.mp4", num_frames=3)
    message = error_of(damage_packets(clip, 0, 1, 2, target=tmp_path / "damaged.mp4"))
    assert "all its 3 packets are damaged" in message


def test_timestamps_that_start_again_are_repaired_in_the_order_of_decoding(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.ts", num_frames=5)
    source = VideoFile(join_clips(tmp_path / "twice.ts", clip, clip))
    frames = read(source)
    assert [round(frame.time * 25) for frame in frames] == list(range(10))
    assert source.warnings == {"timestamps that did not increase, repaired": 1}
    assert same(frames[7].picture, numbered_picture(2, width=64, height=48))


def test_missing_timestamps_are_filled_in_and_counted(tmp_path: Path) -> None:
    source = VideoFile(make_clip(tmp_path / "raw.h264", num_frames=4))
    assert [round(frame.time * 25) for frame in read(source)] == [0, 1, 2, 3]
    assert source.warnings == {"missing timestamps filled in": 4}


def test_a_truncated_mp4_with_its_index_first_gives_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    start = {"movflags": "faststart"}
    clip = make_clip(tmp_path / "cut.mp4", num_frames=50, width=160, height=96, container_options=start, keep=0.5)
    source = VideoFile(clip)
    frames = read(source)
    assert 10 < len(frames) < 40
    assert abs(source.warnings["packets missing at the end of a truncated file"] - (50 - len(frames))) <= 1


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "cut.avi", "cut.webm"])
def test_other_truncated_files_give_what_is_there(tmp_path: Path, name: str) -> None:
    source = VideoFile(make_clip(tmp_path / name, num_frames=100, width=160, height=96, keep=0.5))
    frames = read(source)
    assert 30 < len(frames) < 70
    if name in ("cut.mkv", "cut.webm"):
        assert source.warnings["seconds missing at the end of a truncated file"] == 2


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_clip_whose_clock_starts_late_is_not_taken_for_a_truncated_one(tmp_path: Path, name: str) -> None:
    late = [250 + i for i in range(100)]
    make = {"num_frames": 100, "width": 160, "height": 96, "pts": late, "time_base": Fraction(1, 25)}
    clip = make_clip(tmp_path / name, **make)  # type: ignore[arg-type]
    for start, number in ((0, 100), (1, 75)):
        with VideoFile(clip, start=start) as source:
            assert source.info.num_frames == number == len(list(source))
            assert source.warnings == {}
    source = VideoFile(make_clip(tmp_path / f"cut_{name}", keep=0.5, **make))  # type: ignore[arg-type]
    assert 30 < len(read(source)) < 70
    assert source.warnings["seconds missing at the end of a truncated file"] == 2


def test_an_error_of_the_disk_in_the_middle_ends_the_clip_and_is_counted(tmp_path: Path) -> None:
    from streamseg.sources._decoding import Decoding

    class FailingDisk:
        """A container whose reads fail from the sixth packet on."""

        def __init__(self, container: av.container.InputContainer) -> None:
            self.packets = iter(container.demux(video=0))
            self.num_read = 0

        def demux(self, stream: object) -> Iterator[av.Packet]:
            while True:
                self.num_read += 1
                if self.num_read > 5:
                    raise av.OSError(5, "Input/output error")
                yield next(self.packets)

    with av.open(make_clip(tmp_path / "a.mp4")) as container:
        decoding = Decoding(FailingDisk(container), container.streams.video[0])
        assert len(list(decoding)) == 5
        assert decoding.warnings["read errors passed over"] == 8


# Files that are no video


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    make_clip(tmp_path / "street.mp4", num_frames=1)
    assert error_of(tmp_path / "stret.mp4").endswith("no such file (did you mean street.mp4?)")
    assert "no folder" in error_of(tmp_path / "nowhere" / "street.mp4")


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert error_of(tmp_path / "empty.mp4").endswith("the file is empty")


def test_a_folder_is_no_video_file(tmp_path: Path) -> None:
    assert "got a folder" in error_of(tmp_path)


def test_a_pipe_is_refused_instead_of_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "a pipe or a device" in error_of(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("name", ["noise.mp4", "noise.mkv", "noise.avi", "noise"])
def test_noise_is_no_video(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(5000))
    assert "expected a video" in error_of(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("notes.txt", "hello world\n" * 200, "a text file"),
        ("notes.mp4", "hello\n" * 50, "expected a video"),
        ("talk.srt", "1\n00:00:00,000 --> 00:00:01,000\nhello\n", "only subtitles"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nnowhere.ts\n", "a playlist"),
        ("list.mp4", "ffconcat version 1.0\nfile a.mp4\n", "a playlist"),
        ("session.sdp", "v=0\nm=video 49170 RTP/AVP 96\na=rtpmap:96 H264/90000\n", "a playlist"),
    ],
)
def test_text_is_no_video(tmp_path: Path, name: str, text: str, word: str) -> None:
    (tmp_path / name).write_text(text)
    assert word in error_of(tmp_path / name)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9])
def test_an_mp4_without_its_end_is_called_truncated(tmp_path: Path, keep: float) -> None:
    clip = make_clip(tmp_path / "cut.mp4", num_frames=30, width=160, height=96, keep=keep)
    assert "truncated" in error_of(clip)


def test_sound_alone_is_no_video_even_with_a_cover_picture(tmp_path: Path) -> None:
    assert error_of(make_sound(tmp_path / "song.mp4")).endswith("got only sound")
    assert error_of(make_sound(tmp_path / "song.mp3", codec="mp3", cover=True)).endswith("sound and a cover picture")


def test_a_cover_picture_beside_a_video_is_not_taken_for_it(tmp_path: Path) -> None:
    assert len(read(VideoFile(make_clip(tmp_path / "film.mp4", cover=True, audio="aac")))) == 10


def test_a_video_without_a_single_picture_is_an_error(tmp_path: Path) -> None:
    assert "no picture" in error_of(make_clip(tmp_path / "none.mkv", num_frames=0, audio="aac"))
    error_of(make_clip(tmp_path / "none.mp4", num_frames=0))


def test_a_name_with_a_colon_or_a_percent_sign_is_just_a_name(tmp_path: Path) -> None:
    assert len(read(VideoFile(make_clip(tmp_path / "http:12:30 50%d #1.mp4", num_frames=3)))) == 3


# Everything is imported before the rights are gone: they may reach as far as the interpreter's own files.
_AS_NOBODY = """
import os, sys
from streamseg.sources.video_file import VideoFile
from streamseg.types import InputError
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    with VideoFile(sys.argv[1]):
        print("nothing was raised")
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="drops root's rights in a child")
def test_a_file_without_permission_is_an_error_that_says_so(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "mine.mp4", num_frames=1)
    clip.chmod(0o600)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    make_clip(hidden / "a.mp4", num_frames=1)
    hidden.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):  # the child must get as far as the file
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    for path in (clip, hidden / "a.mp4"):
        child = subprocess.run([sys.executable, "-c", _AS_NOBODY, path], capture_output=True, text=True, timeout=60)
        assert child.stdout.strip() == f"{path}: no permission to read it", child.stderr


def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    source = VideoFile(make_clip(tmp_path / "a.mp4"))
    with source:
        next(iter(source))
    with pytest.raises(RuntimeError):
        iter(source)


# Real files


def test_box_with_backward_timestamps_comes_out_evenly(shared_data: Path) -> None:
    source = VideoFile(shared_data / "videos" / "box.mp4")
    frames = read(source)
    assert len(frames) == 455
    assert source.warnings == {"timestamps that did not increase, repaired": 231}
    steps = np.diff([frame.time for frame in frames])
    assert steps.min() >= 0.03 and steps.max() <= 0.036


def test_tree_with_a_lying_header_gives_its_68_frames_at_their_times(shared_data: Path) -> None:
    with VideoFile(shared_data / "videos" / "tree.avi") as source:
        assert source.info.num_frames == 68
        frames = list(source)
    assert len(frames) == 68
    assert [frame.picture.pts for frame in frames][:4] == [0, 11, 17, 24]
    assert source.warnings == {}


@pytest.mark.parametrize("name", ["01_dog.mp4", "bikes.mp4", "carphone_pristine.mp4", "vtest.avi"])
def test_healthy_clips_give_a_picture_a_packet_and_no_warning(shared_data: Path, name: str) -> None:
    clip = shared_data / "videos" / name
    with av.open(clip) as container:
        num_packets = sum(packet.size > 0 for packet in container.demux(video=0))
    with VideoFile(clip) as source:
        assert sum(1 for _ in source) == num_packets
        assert source.warnings == {}


@pytest.mark.parametrize(
    ("name", "pix_fmt", "size", "aspect"),
    [
        ("carphone_pristine.mp4", "yuv420p", (176, 144), Fraction(128, 117)),
        ("cockatoo.mp4", "yuv444p", (1280, 720), 1),
        ("vtest.avi", "yuv420p", (768, 576), 1),
        ("crowd_1080p_8frames.mp4", "yuv420p", (1920, 1080), 1),
    ],
)
def test_real_clips_open_as_they_are(
    shared_data: Path, name: str, pix_fmt: str, size: tuple[int, int], aspect: Fraction
) -> None:
    with VideoFile(shared_data / "videos" / name, end=0.3) as source:
        frame = next(iter(source))
        assert (frame.width, frame.height) == size == (source.info.width, source.info.height)
        assert frame.picture.format.name == pix_fmt
        assert source.info.pixel_aspect == aspect


def test_a_seek_into_a_real_clip_finds_the_same_pictures(shared_data: Path) -> None:
    clip = shared_data / "videos" / "bikes.mp4"
    whole = [f for f in read(VideoFile(clip, end=6.2)) if f.time >= 6]
    part = read(VideoFile(clip, start=6, end=6.2))
    assert [(f.index, f.time) for f in part] == [(f.index, f.time) for f in whole]
    assert all(same(a.picture, b.picture) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize("options", [{}, {"rotation": 90}, {"interlaced": True}], ids=str)
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_file_that_was_left_leaves_nothing_to_the_cycle_collector(
    options: dict[str, Any], start: float, tmp_path: Path
) -> None:
    """That comes when it likes: of a day of 4K in chunks, each left hundreds of megabytes of pictures until then."""
    clip = make_clip(tmp_path / "a.mp4", num_frames=25, **options)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for num_frames in (3, 100):
            with VideoFile(clip, start=start) as source:
                assert len([frame.index for frame, _ in zip(source, range(num_frames), strict=False)]) >= 3
            assert isinstance(source.warnings, dict)
            del source
        gc.collect()
        left = {type(each).__name__ for each in gc.garbage} & {"VideoFrame", "Packet", "Decoding", "VideoFile", "Graph"}
        assert left == set()
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
