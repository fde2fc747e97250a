"""Hard cuts are found in every pixel format; pans, flashes, fades and black frames are none."""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest

from streamseg.trackers._scene_cuts import SceneCuts, thumbnail
from streamseg.types import Frame, Instances, Sight

BLOCKS = np.random.default_rng(0).integers(20, 220, (2, 18, 32, 3))


def frame_of(picture: av.VideoFrame) -> Frame:
    return Frame(picture=picture, index=0, time=0.0, captured_at=0.0, stream="test")


def coloured(blocks: np.ndarray, *, format: str = "yuv420p", cell: int = 10) -> Frame:
    """Blocks (h, w, 3) of RGB as a picture of `cell` pixels a block, in a pixel format."""
    rgb = np.kron(np.clip(blocks, 0, 255), np.ones((cell, cell, 1))).astype(np.uint8)
    return frame_of(av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=format))


def cuts_in(frames: list[Frame]) -> list[int]:
    cuts = SceneCuts()
    return [index for index, frame in enumerate(frames) if cuts.is_cut(frame)]


FORMATS = ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p", "yuvj420p", "nv12", "p010le", "gray", "gray10le"]


@pytest.mark.parametrize("format", [*FORMATS, "rgb24", "gbrp", "yuyv422", "rgba", "gray16be"])
def test_a_cut_is_found_where_it_is_in_every_pixel_format(format: str) -> None:
    first, second = (coloured(blocks, format=format) for blocks in BLOCKS)
    assert cuts_in([first, first, first, second, second, first]) == [3, 5]


@pytest.mark.parametrize("format", FORMATS)
def test_thumbnail_is_the_grey_picture_made_small(format: str) -> None:
    grey = np.repeat(BLOCKS[0, :, :, :1], 3, axis=2)
    small = thumbnail(coloured(grey, format=format))
    assert small.shape == (18, 32)
    full_range = small if format in ("yuvj420p", "gray", "gray10le") else (small - 16) / 219 * 255
    np.testing.assert_allclose(full_range, grey[:, :, 0], atol=4)


def test_a_thumbnail_that_was_kept_is_taken_and_stays_as_it_was() -> None:
    kept = np.arange(18 * 32, dtype=np.float64).reshape(18, 32) % 251
    sight = Sight(Instances.empty(("background",)), kept.copy(), np.zeros((0, 72), np.float32))
    frame = Frame(av.VideoFrame(64, 48, "gray"), 0, 0.0, 0.0, "street", sight=sight)
    np.testing.assert_array_equal(thumbnail(frame), kept)
    SceneCuts().is_cut(frame)
    np.testing.assert_array_equal(sight.thumbnail, kept)


def test_a_flash_a_fade_and_noise_are_no_cuts() -> None:
    scene, noise = BLOCKS[0], np.random.default_rng(1)
    fade = [coloured(scene * share) for share in (1, 0.8, 0.6, 0.4, 0.2, 0.1)]
    flash = [coloured(scene), coloured(scene * 0.5 + 120), coloured(scene)]
    noisy = [coloured(scene + noise.normal(0, 20, scene.shape)) for _ in range(5)]
    assert cuts_in(fade) == [] and cuts_in(flash) == [] and cuts_in(noisy) == []


def test_a_black_frame_in_a_scene_is_no_cut_but_a_new_scene_after_black_is() -> None:
    first, second, black = coloured(BLOCKS[0]), coloured(BLOCKS[1]), coloured(BLOCKS[0] * 0)
    assert cuts_in([first, black, first, black, black, second]) == [5]


def test_a_steady_fast_pan_is_no_cut() -> None:
    wide = np.kron(np.random.default_rng(2).integers(0, 255, (5, 60, 1)), np.ones((4, 6, 3)))
    frames = [coloured(wide[:, start : start + 32]) for start in range(0, 300, 2)]
    assert cuts_in(frames) == []


def test_blank_and_tiny_pictures_are_no_trouble() -> None:
    grey = [frame_of(av.VideoFrame.from_ndarray(np.full(shape, 9, np.uint8), "gray")) for shape in ((1, 1), (3, 48))]
    assert cuts_in(grey * 2) == []


def test_a_thumbnail_of_full_hd_takes_less_than_a_millisecond() -> None:
    frame = frame_of(av.VideoFrame.from_ndarray(np.zeros((1620, 1920), np.uint8), format="yuv420p"))
    fastest = min(_seconds(frame) for _ in range(20))
    assert fastest < 0.001


def _seconds(frame: Frame) -> float:
    begin = time.perf_counter()
    thumbnail(frame)
    return time.perf_counter() - begin


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bikes.mp4", [30, 76, 137, 187, 242]), ("05_default_juggle.mp4", []), ("cockatoo.mp4", []), ("vtest.avi", [])],
)
def test_the_cuts_of_real_clips_are_found_and_nothing_else(shared_data: Path, name: str, expected: list[int]) -> None:
    with av.open(str(shared_data / "videos" / name)) as container:
        frames = (frame_of(picture) for _, picture in zip(range(250), container.decode(video=0), strict=False))
        cuts = SceneCuts()
        assert [index for index, frame in enumerate(frames) if cuts.is_cut(frame)] == expected
