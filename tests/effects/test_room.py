"""What holds for every effect: any picture, any box, in the order given, without a model's library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import av
import numpy as np
import pytest

from streamseg import plugins, rooms
from streamseg.effects.overlay import Overlay
from streamseg.effects.splash import Splash
from streamseg.types import Effect
from tests.canvas.pictures import FORMATS
from tests.contract import entry, options
from tests.effects.scenes import draw, objects, picture, planes

NAMES = rooms.names("effects")

WITHOUT_OBJECTS = {
    "blur": "as it was",
    "counts": "as it was",
    "cutout": "changed",
    "labels": "as it was",
    "lines": "changed",
    "overlay": "as it was",
    "pixelate": "as it was",
    "splash": "changed",
    "trails": "as it was",
    "zones": "changed",
}
"""Effect -> what becomes of a picture in which there is nothing, before anything was seen."""

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "lines": {"ends": {"gate": [0.1, 0.9, 0.8, 0.2]}},
    "zones": {"corners": {"shop": [0.1, 0.1, 0.9, 0.2, 0.5, 0.9]}},
}
"""Effect -> the options to make one with, where it has an option without a default or draws nothing without it."""

COLOURLESS = {("splash", "gr"), ("splash", "ya")}
"""Effects and the beginnings of pixel formats that hold nothing which they could change."""

SIZES = [(1, 1), (2, 1), (321, 243), (512, 32), (3, 200)]
TOTALS = {"objects": {"person": 3}}


def made(name: str, **more: Any) -> Effect:
    effect: Effect = plugins.build("effects", name, {**options(OPTIONS, name, room="effects"), **more})
    return effect


def memory(frame: av.VideoFrame) -> list[bytes]:
    return [bytes(plane) for plane in frame.planes]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p10le", "rgb24", "gray"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_effect_draws_in_any_picture_with_boxes_in_any_place(
    name: str, size: tuple[int, int], pixel_format: str
) -> None:
    width, height = size
    found = objects(
        (0, 0, width, height),
        (-10, -10, width / 2, height / 2),
        (width * 0.3, height * 0.2, width * 1.9, height * 0.8),
        (width + 1, height + 1, width + 9, height + 9),
        (width / 2, 0, width / 2, height),
        (float("nan"), 0, width, height),
        masks=np.random.default_rng(0).random((6, 28, 28)).astype(np.float32),
    )
    before = picture(pixel_format, width, height)
    kept = memory(before)
    with np.errstate(all="raise"):
        drawn = draw(made(name), before, found, TOTALS)
    assert (drawn.width, drawn.height, drawn.format.name, drawn.pts) == (width, height, pixel_format, 7)
    assert memory(before) == kept


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_effect_draws_at_every_depth_and_chroma_layout_and_leaves_the_given_picture_alone(
    name: str, pixel_format: str
) -> None:
    before = picture(pixel_format, 320, 240)
    kept = memory(before)
    found = objects((20, 20, 90, 100), (210, -30, 400, 80))
    drawn = draw(made(name), before, found, TOTALS)
    assert (drawn.width, drawn.height, drawn.format.name, drawn.pts) == (320, 240, pixel_format, 7)
    assert memory(before) == kept
    colourless = (name, pixel_format[:2]) in COLOURLESS
    assert (memory(drawn) == kept) == colourless, "it drew nothing: where nothing can be drawn, COLOURLESS says so"


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "rgb24"])
@pytest.mark.parametrize("name", NAMES)
def test_picture_without_objects_stays_as_it_was_or_does_not(name: str, pixel_format: str) -> None:
    what = "whether a picture without objects is 'as it was' or 'changed'"
    expected = entry(WITHOUT_OBJECTS, name, room="effects", called="WITHOUT_OBJECTS", what=what)
    before = picture(pixel_format)
    drawn = draw(made(name), before, objects())
    assert ("as it was" if memory(drawn) == memory(before) else "changed") == expected


def test_frame_s_own_picture_is_never_changed_by_all_effects_together() -> None:
    before = picture("yuv420p", 320, 240)
    kept = memory(before)
    effects = [made(name) for name in NAMES]
    assert draw(effects, before, objects((20, 20, 200, 200)), TOTALS) is not before
    assert memory(before) == kept


def test_effects_are_drawn_in_the_order_given() -> None:
    box = (0.0, 0.0, 64.0, 48.0)
    people, none = objects(box), ["dog"]
    grey_last = planes(draw([Overlay(), Splash(classes=none)], picture(), people))
    grey_first = planes(draw([Splash(classes=none), Overlay()], picture(), people))
    assert (grey_last[1] == 128).all()
    assert (grey_first[1] != 128).all()
    assert np.array_equal(grey_last[0], grey_first[0])


@pytest.mark.parametrize("name", [name for name in NAMES if "classes" in plugins.option_names("effects", name)])
def test_objects_of_other_classes_than_the_chosen_ones_are_as_good_as_absent(name: str) -> None:
    person, before = objects((10, 10, 50, 40)), picture("yuv420p", 320, 240)
    chosen = memory(draw(made(name, classes=["dog"]), before, person))
    assert chosen == memory(draw(made(name), before, objects()))
    assert chosen != memory(draw(made(name), before, person))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_an_effect(name: str) -> None:
    assert isinstance(made(name), Effect)


def test_effects_import_neither_keras_nor_openvino() -> None:
    code = "import sys\n" + "".join(f"import streamseg.effects.{name}\n" for name in NAMES)
    code += "print(sorted({'keras', 'tensorflow', 'openvino', 'torch', 'jax'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
