"""A picture looked at in tiles too: every object once, whole, where it is, however the borders of the tiles lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.engines._tiled import Tiled, Tiles, _together, merged
from streamseg.masks import box_iou, overlaps
from streamseg.pictures import part_of
from streamseg.scaling import rgb_of
from streamseg.types import Frame, Instances, UsageError
from tests.fakes import picture

CLASS_NAMES = ("background", "person")


class Eye:
    """Finds bright rectangles on black, of at least `least` pixels a side after its look has been scaled to 64 wide."""

    class_names = CLASS_NAMES
    min_score = 0.5
    batch_size = 4

    def __init__(self, *, least: float = 3.0) -> None:
        self.least = least
        self.looks: list[tuple[int, int]] = []

    def input_size(self, frame: Frame) -> tuple[int, int]:
        return 64, 64

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        return [self._seen(frame) for frame in frames]

    def _seen(self, frame: Frame) -> Instances:
        import cv2

        self.looks.append((frame.width, frame.height))
        grey = rgb_of(frame.picture, width=frame.width, height=frame.height)[..., 0]
        number, _, stats, _ = cv2.connectedComponentsWithStats((grey > 100).astype(np.uint8))
        boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:number]]
        scale = 64 / frame.width
        boxes = [box for box in boxes if min(box[2] - box[0], box[3] - box[1]) * scale >= self.least]
        return found(boxes)


def found(boxes: Sequence[Sequence[float]], *, masks: np.ndarray | None = None) -> Instances:
    n = len(boxes)
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(n, 4),
        masks=np.ones((n, 28, 28), np.float32) if masks is None else masks,
        scores=np.linspace(0.9, 0.6, n).astype(np.float32),
        class_ids=np.ones(n, np.int32),
        track_ids=np.full(n, -1, np.int32),
        class_names=CLASS_NAMES,
    )


def scene(*boxes: tuple[int, int, int, int], width: int = 640, height: int = 480) -> Frame:
    grey = np.zeros((height, width), np.uint8)
    for x1, y1, x2, y2 in boxes:
        grey[y1:y2, x1:x2] = 235
    made = av.VideoFrame.from_ndarray(np.dstack([grey] * 3), format="rgb24").reformat(format="yuv420p")
    made.pts, made.time_base = 0, Fraction(1, 10)
    return Frame(made, 0, 0.0, 0.0, "square")


# Where the tiles lie


@pytest.mark.parametrize("text", ["2x2", "3x3", "1x4", "200,40", "64,32", "5000,100", "auto"])
@settings(max_examples=40, deadline=None)
@given(width=st.integers(64, 4000), height=st.integers(64, 4000), across=st.sampled_from([2, 4]))
def test_tiles_cover_the_picture_and_begin_at_whole_chroma_samples(
    text: str, width: int, height: int, across: int
) -> None:
    tiles = Tiles.parse(text).of(width, height, sample=(across, 2))
    for axis, side, step in ((0, width, across), (1, height, 2)):
        spans = sorted({(tile[axis], tile[axis] + tile[axis + 2]) for tile in tiles})
        if spans:
            assert spans[0][0] == 0 and spans[-1][1] == side
        assert all(later[0] < earlier[1] for earlier, later in zip(spans, spans[1:], strict=False))
        assert all(tile[axis] % step == 0 for tile in tiles)
        assert all((end - begin) % step == 0 for begin, end in spans[:-1])


def test_auto_is_four_tiles_at_4k_and_none_at_1080p() -> None:
    assert len(Tiles.parse("auto").of(3840, 2160)) == 4
    assert Tiles.parse("auto").of(1920, 1080) == []


def test_tiles_of_a_size_share_at_least_the_overlap() -> None:
    tiles = Tiles.parse("1280,200").of(3840, 2160)
    lefts = sorted({tile[0] for tile in tiles})
    assert all(tile[2] == 1280 for tile in tiles) and max(np.diff(lefts)) <= 1280 - 200


@pytest.mark.parametrize("text", ["", "2", "0x2", "21x2", "2x2x2", "a,b", "63,0", "200,101", "-1,2"])
def test_what_is_no_tiling_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="tiles: expected auto, a grid such as 2x2"):
        Tiles.parse(text)


# What is found


def test_what_is_too_small_in_the_whole_picture_is_found_in_a_tile_and_at_its_place() -> None:
    frame = scene((400, 300, 420, 320))
    eye = Eye()
    assert len(eye.predict([frame])[0]) == 0
    (seen,) = Tiled(eye, Tiles.parse("2x2")).predict([frame])
    assert np.abs(seen.boxes - [[400, 300, 420, 320]]).max() <= 1
    assert eye.looks[1:] == [(640, 480)] + [(356, 268)] * 4


@settings(max_examples=60, deadline=None)
@given(
    x=st.integers(0, 560), y=st.integers(0, 420), w=st.integers(24, 200), h=st.integers(24, 160),
    tiles=st.sampled_from(["2x2", "3x3", "160,40", "1x2"]),
)  # fmt: skip
def test_an_object_is_found_once_and_whole_wherever_the_seams_lie(x: int, y: int, w: int, h: int, tiles: str) -> None:
    box = (x, y, min(640, x + w), min(480, y + h))
    (seen,) = Tiled(Eye(least=0.5), Tiles.parse(tiles)).predict([scene(box)])
    assert len(seen) == 1
    assert box_iou(seen.boxes, np.array([box], np.float32))[0, 0] > 0.85
    truth = np.ones((1, 28, 28), np.float32)
    assert overlaps(seen.masks, seen.boxes, truth, np.array([box], np.float32))[0, 0] > 0.85


def test_pieces_that_no_look_has_whole_are_joined() -> None:
    frame = scene((100, 200, 540, 240))

    class Blind(Eye):
        def predict(self, frames: Sequence[Frame]) -> list[Instances]:
            seen = super().predict(frames)
            return [one[:0] if frame.width == 640 else one for frame, one in zip(frames, seen, strict=True)]

    (seen,) = Tiled(Blind(least=0.5), Tiles.parse("3x1")).predict([frame])
    assert len(seen) == 1 and np.abs(seen.boxes - [[100, 200, 540, 240]]).max() <= 2


def test_two_neighbours_stay_two_and_an_empty_picture_is_empty() -> None:
    tiled = Tiled(Eye(least=0.5), Tiles.parse("2x2"))
    boxes = [(290, 100, 318, 200), (322, 100, 350, 200)]
    (seen,) = tiled.predict([scene(*boxes)])
    assert len(seen) == 2
    assert len(tiled.predict([scene()])[0]) == 0
    assert tiled.predict([]) == []


def test_any_number_of_pictures_of_any_size_gives_what_each_gives_alone() -> None:
    tiled = Tiled(Eye(least=0.5), Tiles.parse("auto"))
    frames = [scene((10, 10, 60, 60)), scene((900, 700, 960, 800), width=3840, height=2160), scene()]
    together = tiled.predict(frames)
    for frame, seen in zip(frames, together, strict=True):
        np.testing.assert_array_equal(seen.boxes, tiled.predict([frame])[0].boxes)


@pytest.mark.parametrize("width", [4000, 4001])
def test_what_a_tile_has_at_the_pictures_own_border_is_not_cut_there(width: int) -> None:
    """The tile at the right has it better than the whole picture; only an inner border makes pieces."""
    tiles = Tiles.parse("2x2").of(width, 3000)
    left, top = tiles[1][:2]
    nothing = found([])
    parts = [nothing, found([[width - 60 - left, 200 - top, width - left, 400 - top]]), nothing, nothing]
    whole = replace(found([[width - 58, 205, width, 395]]), scores=np.float32([0.1]))
    seen = merged(whole, parts, tiles, width=width, height=3000)
    assert seen.scores.tolist() == parts[1].scores.tolist()
    assert seen.boxes.tolist() == [[width - 60, 200, width, 400]]


# A part of a picture


class Reader(Eye):
    """Keeps the first pixel and the size of what it is shown."""

    def predict(self, frames: Sequence[Frame]) -> list[Instances]:
        planes = [(frame, np.frombuffer(memoryview(frame.picture.planes[0]), np.uint8)) for frame in frames]
        self.shown = [(int(plane[0]), frame.width, frame.height) for frame, plane in planes]
        return [found([]) for _ in frames]


@pytest.mark.parametrize("pixel_format", ["yuv411p", "yuv410p", "yuv420p", "yuv444p"])
@pytest.mark.parametrize("tiles", ["3x3", "130,41"])
def test_a_tile_shows_what_it_says(pixel_format: str, tiles: str) -> None:
    """Video of DV has a colour for four pixels in a row. Here each pixel is as bright as its column says."""
    made = av.VideoFrame(250, 160, pixel_format)
    ramp = np.zeros((160, made.planes[0].line_size), np.uint8)
    ramp[:, :250] = np.arange(250)
    made.planes[0].update(ramp.tobytes())
    reader = Reader()
    tiled = Tiled(reader, Tiles.parse(tiles))
    frame = Frame(made, 0, 0.0, 0.0, "dv")
    tiled.predict([frame])
    said = tiled._layout(frame)
    assert len(said) > 3
    for (left, _, width, height), (first, *shown) in zip(said, reader.shown[1:], strict=True):
        assert first == left
        assert width - 3 <= shown[0] <= width and height - 3 <= shown[1] <= height


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv410p", "rgb24"])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 1), (1, 5), (7, 40)])
def test_a_picture_of_a_few_pixels_is_looked_at_too(pixel_format: str, size: tuple[int, int]) -> None:
    for tiles in "2x2", "20x20", "1x3":
        tiny = Frame(av.VideoFrame(*size, pixel_format), 0, 0.0, 0.0, "tiny")
        assert len(Tiled(Reader(), Tiles.parse(tiles)).predict([tiny])) == 1


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "nv12", "rgb24", "gray"])
def test_a_part_has_the_pixels_of_the_whole(pixel_format: str) -> None:
    rng = np.random.default_rng(1)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (24, 32, 3), np.uint8), 4, 0), 4, 1)
    whole = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pixel_format)
    part = part_of(whole, left=32, top=16, width=64, height=48)
    assert (part.width, part.height, part.format.name) == (64, 48, pixel_format)
    expected = rgb_of(whole, width=128, height=96)[16:64, 32:96]
    difference = np.abs(rgb_of(part, width=64, height=48).astype(int) - expected)
    assert difference[2:-2, 2:-2].max() <= 2  # at its edges chroma is smoothed with other neighbours


def test_a_part_of_an_untagged_hd_picture_is_read_as_hd() -> None:
    assert int(part_of(picture(width=1920, height=1080), left=0, top=0, width=640, height=480).colorspace) == 1


def test_tiles_without_objects_may_answer_with_masks_of_another_side() -> None:
    class Empty(Eye):
        def predict(self, frames: Sequence[Frame]) -> list[Instances]:
            found = super().predict(frames)
            return [each if len(each) else Instances.empty(CLASS_NAMES, mask_size=7) for each in found]

    frame = Frame(picture(0, width=64, height=64), 0, 0.0, 0.0, "test")
    for engine in (Eye(), Empty()):
        (found,) = Tiled(engine, Tiles.parse("2x2")).predict([frame])
        assert found.class_names == CLASS_NAMES
    looks = [Instances.empty(CLASS_NAMES, mask_size=7), _one(), Instances.empty(CLASS_NAMES)]
    assert len(_together(looks)) == 1 and _together(looks[:1]).masks.shape == (0, 7, 7)


def _one() -> Instances:
    return Instances(
        boxes=np.array([[1, 2, 9, 9]], np.float32),
        masks=np.ones((1, 28, 28), np.float32),
        scores=np.ones(1, np.float32),
        class_ids=np.ones(1, np.int32),
        track_ids=np.full(1, -1, np.int32),
        class_names=CLASS_NAMES,
    )
