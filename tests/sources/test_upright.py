"""Pictures turn plane by plane: no sample changes its value."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.sources._upright import Turn, turned
from tests.clips import numbered_picture, plane_view

TURNS = [Turn(transpose=t, mirror_x=x, mirror_y=y) for t in (False, True) for x in (False, True) for y in (False, True)]
PLANAR = ["yuv420p", "yuv444p", "yuv420p10le", "yuv444p12le", "gray", "gray10le", "gbrp", "gbrp10le", "yuva420p"]


def brute_force(samples: np.ndarray, turn: Turn) -> np.ndarray:
    """The same turn sample by sample."""
    rows, columns = samples.shape[:2]
    shape = (columns, rows) if turn.transpose else (rows, columns)
    target = np.zeros(shape + samples.shape[2:], samples.dtype)
    for y in range(shape[0]):
        for x in range(shape[1]):
            v = shape[0] - 1 - y if turn.mirror_y else y
            u = shape[1] - 1 - x if turn.mirror_x else x
            target[y, x] = samples[u, v] if turn.transpose else samples[v, u]
    return target


@pytest.mark.parametrize("pix_fmt", PLANAR)
@pytest.mark.parametrize("turn", TURNS)
def test_every_plane_turns_alone(pix_fmt: str, turn: Turn) -> None:
    picture = numbered_picture(3, width=12, height=8, pix_fmt=pix_fmt)
    upright = turned(picture, turn)
    assert upright.format.name == pix_fmt
    assert (upright.width, upright.height) == ((8, 12) if turn.transpose else (12, 8))
    for number in range(len(picture.planes)):
        assert np.array_equal(plane_view(upright, number), brute_force(plane_view(picture, number), turn))


@pytest.mark.parametrize("turn", TURNS)
def test_an_odd_size_turns_too(turn: Turn) -> None:
    picture = numbered_picture(0, width=7, height=5)
    upright = turned(picture, turn)
    for number in range(3):
        assert np.array_equal(plane_view(upright, number), brute_force(plane_view(picture, number), turn))


@pytest.mark.parametrize("pix_fmt", ["rgb24", "bgr24", "bgra"])
def test_packed_pixels_stay_whole(pix_fmt: str) -> None:
    picture = numbered_picture(0, width=6, height=4, pix_fmt=pix_fmt)
    for turn in TURNS:
        assert np.array_equal(turned(picture, turn).to_ndarray(), brute_force(picture.to_ndarray(), turn))


def test_422_on_its_side_keeps_every_chroma_sample_twice_in_444() -> None:
    turn = Turn(transpose=True, mirror_x=False, mirror_y=True)
    for pix_fmt, becomes in (("yuv422p", "yuv444p"), ("yuv422p10le", "yuv444p10le"), ("yuvj422p", "yuvj444p")):
        picture = numbered_picture(0, width=8, height=6, pix_fmt=pix_fmt)
        upright = turned(picture, turn)
        assert upright.format.name == becomes
        assert np.array_equal(plane_view(upright, 0), brute_force(plane_view(picture, 0), turn))
        for number in (1, 2):
            chroma = brute_force(plane_view(picture, number), turn)
            assert np.array_equal(plane_view(upright, number)[0::2], chroma)
            assert np.array_equal(plane_view(upright, number)[1::2], chroma)


def test_422_upside_down_stays_422() -> None:
    picture = numbered_picture(0, width=8, height=6, pix_fmt="yuv422p")
    assert turned(picture, Turn(transpose=False, mirror_x=True, mirror_y=True)).format.name == "yuv422p"


def test_440_on_its_side_is_422() -> None:
    picture = numbered_picture(0, width=8, height=6, pix_fmt="yuv440p")
    turn = Turn(transpose=True, mirror_x=True, mirror_y=False)
    upright = turned(picture, turn)
    assert upright.format.name == "yuv422p"
    assert np.array_equal(plane_view(upright, 1), brute_force(plane_view(picture, 1), turn))


@pytest.mark.parametrize(("packed", "planar"), [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("p010le", "yuv420p10le")])
def test_mixed_planes_are_unpacked_and_turned(packed: str, planar: str) -> None:
    turn = Turn(transpose=False, mirror_x=True, mirror_y=True)
    picture = numbered_picture(0, width=16, height=8, pix_fmt=packed)
    unpacked = picture.reformat(format=planar, threads=1)
    upright = turned(picture, turn)
    assert upright.format.name == planar
    for number in range(3):
        assert np.array_equal(plane_view(upright, number), brute_force(plane_view(unpacked, number), turn))


def test_colour_tags_and_pts_are_kept() -> None:
    picture = numbered_picture(0, width=8, height=6)
    picture.pts, picture.colorspace, picture.color_primaries, picture.color_trc, picture.color_range = 7, 9, 9, 16, 2
    upright = turned(picture, TURNS[-1])
    kept = (upright.pts, upright.colorspace, upright.color_primaries, upright.color_trc, upright.color_range)
    assert kept == (7, 9, 9, 16, 2)
