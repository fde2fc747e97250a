"""What holds for every effect: any picture, any box, in the order given, without a model's library."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from streamseg import plugins
from streamseg.effects.overlay import Overlay
from streamseg.effects.splash import Splash
from streamseg.types import Effect
from tests.effects.scenes import draw, objects, picture, planes

NAMES = ("blur", "counts", "cutout", "labels", "overlay", "pixelate", "splash")
SIZES = [(1, 1), (2, 1), (321, 243), (512, 32), (3, 200)]
TOTALS = {"objects": {"person": 3}}


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
    kept = [bytes(plane) for plane in before.planes]
    with np.errstate(all="raise"):
        drawn = draw(plugins.build("effects", name, {}), before, found, TOTALS)
    assert (drawn.width, drawn.height, drawn.format.name, drawn.pts) == (width, height, pixel_format, 7)
    assert [bytes(plane) for plane in before.planes] == kept


def test_frame_s_own_picture_is_never_changed_by_all_effects_together() -> None:
    before = picture("yuv420p", 320, 240)
    kept = [bytes(plane) for plane in before.planes]
    effects = [plugins.build("effects", name, {}) for name in NAMES]
    assert draw(effects, before, objects((20, 20, 200, 200)), TOTALS) is not before
    assert [bytes(plane) for plane in before.planes] == kept


def test_effects_are_drawn_in_the_order_given() -> None:
    box = (0.0, 0.0, 64.0, 48.0)
    people, none = objects(box), ["dog"]
    grey_last = planes(draw([Overlay(), Splash(classes=none)], picture(), people))
    grey_first = planes(draw([Splash(classes=none), Overlay()], picture(), people))
    assert (grey_last[1] == 128).all()
    assert (grey_first[1] != 128).all()
    assert np.array_equal(grey_last[0], grey_first[0])


@pytest.mark.parametrize("name", NAMES)
def test_every_effect_takes_classes_and_is_found_by_its_name(name: str) -> None:
    effect = plugins.build("effects", name, {"classes": ["dog"]})
    assert isinstance(effect, Effect)
    assert effect.classes == ["dog"]
    assert name in plugins.names("effects")


def test_effects_import_neither_keras_nor_openvino() -> None:
    code = "import sys\n" + "".join(f"import streamseg.effects.{name}\n" for name in NAMES)
    code += "print(sorted({'keras', 'tensorflow', 'openvino', 'torch', 'jax'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
