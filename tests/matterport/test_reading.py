"""What scripts' datasets load in all the forms that worked with the original, and what is refused by its picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamseg.matterport.config import Config
from streamseg.matterport.dataset import Dataset, Samples
from streamseg.matterport.truth import load_image_gt
from streamseg.training.loader import Pictures
from streamseg.types import InputError

GREYS = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
"""A picture of 2 × 3 pixels in grey levels 0 to 250."""


class Loads(Dataset):
    """Pictures of 2 × 3 pixels that load as they are told."""

    def __init__(self, picture: Any = GREYS, masks: Any = None, class_ids: Any = (), count: int = 1) -> None:
        super().__init__(self)  # common in scripts, though it says nothing
        self.picture, self.masks, self.ids = picture, masks, class_ids
        self.add_class("cells", 0, "cell")
        self.add_class("cells", 1, "dirt")
        for i in range(count):
            self.add_image("cells", f"no{i}", None)
        self.prepare(class_map=None)

    def load_image(self, image_id: int) -> Any:
        return self.picture

    def load_mask(self, image_id: int) -> Any:
        return super().load_mask(image_id) if self.masks is None else (self.masks, self.ids)


def rgb_of(picture: Any) -> np.ndarray:
    rgb = Samples(Loads(picture))[0].rgb
    assert rgb is not None
    return rgb


@pytest.mark.parametrize(
    "picture",
    [
        GREYS,
        GREYS[..., None],
        GREYS[..., None].repeat(3, axis=2),
        np.dstack([GREYS, GREYS, GREYS, np.full_like(GREYS, 9)]),
        GREYS.astype(np.int64),
        GREYS.astype(np.float32),
        GREYS / 255,
        GREYS.astype(np.uint16) * 257,
        GREYS.tolist(),
    ],
    ids=["grey", "one channel", "RGB", "RGBA", "integers", "floats", "from 0 to 1", "16 bits", "list"],
)
def test_pictures_become_rgb_in_bytes(picture: Any) -> None:
    rgb = rgb_of(picture)
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, GREYS[..., None].repeat(3, axis=2))


def test_black_and_white_and_bytes_in_16_bits_keep_their_meaning() -> None:
    assert rgb_of(GREYS > 100)[..., 1].tolist() == [[0, 0, 0], [255, 255, 255]]
    assert rgb_of(GREYS.astype(np.uint16))[..., 1].tolist() == GREYS.tolist()


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((2, 3, 2), np.uint8), r"expected a picture \(H, W, 3\), grey or RGBA, got \(2, 3, 2\)"),
        (np.zeros((1, 2, 3, 3), np.uint8), r"got \(1, 2, 3, 3\)"),
        (np.zeros((0, 3, 3), np.uint8), r"got \(0, 3, 3\)"),
        (None, r"got \(\)"),
        (GREYS.astype(np.uint16) * 16, "expected uint16 pixels from 0 to 255, got 0 to 4000; of 12 bits or fewer"),
        (GREYS - 100.0, "expected float64 pixels from 0 to 255, got -100 to 150$"),
        (GREYS * np.nan, "got nan to nan"),
        (GREYS.astype(str), "expected numbers from 0 to 255, got <U"),
    ],
)
def test_pictures_of_no_clear_form_are_refused_by_name(picture: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"Loads\.load_image\(0\), cells no0: .*{message}"):
        Samples(Loads(picture))[0]


NOTHING = [
    (None, ()),
    (np.zeros((2, 3, 0), bool), np.zeros(0, np.int32)),
    (np.zeros((2, 3, 1)), [0]),
    (np.zeros((2, 3, 1)), []),
    (np.empty([0, 0, 0]), np.empty([0], np.int32)),
    (np.zeros((2, 3), np.uint8), np.array([])),
    (np.zeros((2, 3, 2), bool), [1, 2]),
]


@pytest.mark.parametrize(("masks", "class_ids"), NOTHING)
def test_a_picture_without_objects_is_background_in_every_form(masks: Any, class_ids: Any) -> None:
    class Tiny(Config):
        NUM_CLASSES, IMAGE_MIN_DIM, IMAGE_MAX_DIM = 3, 0, 64

    dataset = Loads(masks=masks, class_ids=class_ids, count=8)
    for samples in (Samples(dataset), Samples(dataset, Tiny())):
        sample = samples[0]
        assert sample.boxes.shape == (0, 4) and sample.masks == () and sample.class_ids.dtype == np.int32
    pictures = Pictures(Samples(dataset), side=14)
    assert len([pictures[i] for i in range(8)]) == 8 and not pictures.damaged
    image, _, ids, boxes, full = load_image_gt(dataset, Tiny(), 0)
    assert full.shape == (64, 64, 0) and boxes.shape == (0, 4) and ids.shape == (0,) and image.shape == (64, 64, 3)


BOTH = np.zeros((2, 3, 3), np.uint8)
BOTH[0, 0, 0] = BOTH[1, 2, 2] = 255  # the second mask is empty


@pytest.mark.parametrize("class_ids", [[2, 0, 1], (2, 1, 1), np.array([2, 9, 1], np.uint8), np.array([2.0, 1.0, 1.0])])
def test_class_ids_may_be_any_whole_numbers_and_those_of_empty_masks_do_not_count(class_ids: Any) -> None:
    sample = Samples(Loads(masks=BOTH, class_ids=class_ids))[0]
    assert sample.class_ids.tolist() == [2, 1] and sample.class_ids.dtype == np.int32
    assert sample.boxes.tolist() == [[0, 0, 1, 1], [2, 1, 3, 2]]


@pytest.mark.parametrize(
    ("masks", "class_ids", "message"),
    [
        (BOTH, ["cell", "cell", "dirt"], "expected whole numbers as class ids, got .*cell"),
        (BOTH, ["1", "1", "2"], "expected whole numbers as class ids, got .*1"),
        (BOTH, [1, None, 2], "expected whole numbers as class ids"),
        (BOTH, [1.5, 1, 2], "expected whole numbers as class ids, got .*1.5"),
        (BOTH, [1, 2], r"expected masks \(H, W, n\) and class ids \(n,\), got \(2, 3, 3\) and \(2,\)"),
        (BOTH, [0, 0, 1], "expected class ids from 1 to 2, got 0"),
        (np.ones((3, 2, 1)), [1], r"expected masks of the picture's \(2, 3\) rows and columns, got \(3, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_picture(masks: Any, class_ids: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"Loads\.load_mask\(0\), cells no0: {message}"):
        Samples(Loads(masks=masks, class_ids=class_ids))[0]


def test_a_mask_alone_is_refused() -> None:
    class Alone(Loads):
        def load_mask(self, image_id: int) -> Any:
            return BOTH

    with pytest.raises(InputError, match="no0: expected masks and class ids, got ndarray"):
        Samples(Alone())[0]
