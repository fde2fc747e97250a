"""A dataset as people's scripts write it, and the same one as streamseg's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg import types
from streamseg.matterport import utils
from streamseg.matterport.config import Config
from streamseg.matterport.dataset import Dataset, Samples
from streamseg.matterport.truth import load_image_gt
from streamseg.types import InputError, UsageError


class Squares(Dataset):
    """Pictures of 40 × 60 with one square each, made on the fly."""

    def __init__(self, *, class_ids: tuple[int, ...] = (1,), shape: tuple[int, int] = (40, 60)) -> None:
        super().__init__()
        self.objects, self.shape = class_ids, shape
        self.add_class("squares", 7, "square, filled")
        self.add_class("squares", 9, "hole")
        for i in range(3):
            self.add_image("squares", image_id=f"no{i}", path=None, left=10 * i)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        image = np.zeros((40, 60, 3), np.uint8)
        left = self.image_info[image_id]["left"]
        image[5:15, left : left + 10] = 200
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        masks = np.zeros((*self.shape, len(self.objects)), bool)
        masks[5:15, self.image_info[image_id]["left"] :][:, :10] = True
        return masks, np.array(self.objects, np.int32)


def test_classes_and_pictures_get_numbers_in_the_order_they_were_added() -> None:
    dataset = Dataset()
    dataset.add_class("coco", 12, "stop sign")
    dataset.add_class("shapes", 1, "circle")
    dataset.add_class("coco", 12, "listed again")
    dataset.add_image("shapes", image_id="a", path="a.png", width=30)
    dataset.add_image("coco", image_id=42, path="b.png")
    dataset.prepare()
    assert dataset.class_names == ["BG", "stop sign", "circle"]
    assert dataset.num_classes == 3 and dataset.num_images == 2
    assert dataset.class_ids.tolist() == [0, 1, 2] and dataset.image_ids.tolist() == [0, 1]
    assert dataset.map_source_class_id("coco.12") == 1
    assert dataset.get_source_class_id(2, "shapes") == 1
    assert dataset.source_class_ids["coco"] == [0, 1] and dataset.source_class_ids["shapes"] == [0, 2]
    assert dataset.image_from_source_map == {"shapes.a": 0, "coco.42": 1}
    assert dataset.image_info[0]["width"] == 30 and dataset.source_image_link(1) == "b.png"
    assert dataset.image_reference(0) == ""


def test_scripts_find_dataset_in_utils_whatever_they_import_first() -> None:
    assert utils.Dataset is Dataset
    code = "import streamseg.matterport.utils as utils; utils.Dataset().prepare()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    with pytest.raises(AttributeError, match="no attribute 'Datset'"):
        utils.Datset  # noqa: B018


def test_only_the_first_of_several_names_is_kept() -> None:
    assert Squares().class_names == ["BG", "square", "hole"]


def test_wrong_names_are_refused_with_the_nearest() -> None:
    dataset = Squares()
    with pytest.raises(UsageError, match="did you mean 'squares.7'"):
        dataset.map_source_class_id("square.7")
    with pytest.raises(UsageError, match="expected source 'squares', got 'coco'"):
        dataset.get_source_class_id(1, "coco")
    with pytest.raises(UsageError, match="without a dot, got 'a.b'"):
        dataset.add_class("a.b", 1, "x")


def test_a_picture_is_read_as_rgb_whatever_its_file_holds(tmp_path: Path) -> None:
    dataset = Dataset()
    red = np.zeros((6, 8, 4), np.uint8)
    red[..., 2], red[..., 3] = 255, 100
    for name, pixels in {"red.png": red, "grey.png": np.full((6, 8), 90, np.uint8)}.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        dataset.add_image("files", name, tmp_path / name)
    dataset.add_image("files", "gone", tmp_path / "gone.png")
    dataset.add_image("files", "none", None)
    dataset.prepare()
    assert dataset.load_image(0)[2, 3].tolist() == [255, 0, 0]
    assert dataset.load_image(1)[2, 3].tolist() == [90, 90, 90]
    with pytest.raises(InputError, match=r"gone\.png: the picture is missing"):
        dataset.load_image(2)
    with pytest.raises(InputError, match="picture 3 has no path"):
        dataset.load_image(3)


def test_a_picture_may_have_any_name_that_a_folder_can_hold(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"kamera\xe4.png")  # no UTF-8
    path.write_bytes(cv2.imencode(".png", np.full((6, 8, 3), 90, np.uint8))[1].tobytes())
    dataset = Dataset()
    dataset.add_image("files", 1, str(path))
    assert dataset.load_image(0).shape == (6, 8, 3)


def test_a_dataset_without_load_mask_has_no_objects() -> None:
    masks, class_ids = Dataset().load_mask(0)
    assert masks.shape[-1] == 0 and class_ids.dtype == np.int32 and not len(class_ids)


def test_a_picture_and_its_truth_become_an_input_of_the_network() -> None:
    class Doubled(Config):
        NUM_CLASSES = 3
        IMAGE_MIN_DIM, IMAGE_MAX_DIM = 80, 128
        MINI_MASK_SHAPE = (28, 28)

    dataset = Squares(class_ids=(1, 2))
    image, meta, class_ids, boxes, masks = load_image_gt(dataset, Doubled(), 1)
    # 40 × 60 becomes 80 × 120, with 24 rows above and 4 columns before it; the square lay at 5, 10
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    parts = utils.parse_image_meta(meta[None])
    assert parts["window"].tolist() == [[24, 4, 104, 124]] and parts["scale"] == 2 and parts["image_id"] == 1
    assert parts["active_class_ids"].tolist() == [[1, 1, 1]] and class_ids.tolist() == [1, 2]
    np.testing.assert_allclose(boxes, [[34, 24, 54, 44]] * 2, atol=1)
    assert masks.shape == (128, 128, 2) and utils.extract_bboxes(masks).tolist() == boxes.tolist()
    assert image[masks[..., 0]].mean() > 190
    small = load_image_gt(dataset, Doubled(), 1, use_mini_mask=True)[4]
    assert small.shape == (28, 28, 2) and small[2:-2, 2:-2].all()


def test_only_the_classes_of_a_pictures_source_are_active() -> None:
    class Small(Config):
        NUM_CLASSES = 4
        IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64

    dataset = Squares()
    dataset.add_class("other", 1, "circle")
    dataset.prepare()
    meta = load_image_gt(dataset, Small(), 0)[1]
    assert utils.parse_image_meta(meta[None])["active_class_ids"].tolist() == [[1, 1, 1, 0]]


def test_a_picture_of_a_source_without_classes_is_named() -> None:
    dataset = Squares()
    dataset.add_image("circles", "no3", None, left=0)
    dataset.prepare()
    with pytest.raises(UsageError, match=r"Squares, picture 3: .* \('squares'\), got 'circles'"):
        Samples(dataset)[3]


def test_objects_that_a_crop_leaves_nothing_of_are_left_out() -> None:
    class Cropped(Config):
        NUM_CLASSES = 3
        IMAGE_RESIZE_MODE = "crop"
        IMAGE_MIN_DIM = 64

    dataset = Squares()
    counts = {load_image_gt(dataset, Cropped(), 0)[3].shape[0] for _ in range(60)}
    assert counts == {0, 1}  # 17 of 33 crops miss it
    for _ in range(20):
        image, _, class_ids, boxes, masks = load_image_gt(dataset, Cropped(), 0)
        assert image.shape == (64, 64, 3) and len(class_ids) == len(boxes) == masks.shape[2]


def test_a_dataset_becomes_one_of_streamseg() -> None:
    samples = Samples(Squares())
    assert isinstance(samples, types.Dataset)
    assert samples.class_names == ("background", "square", "hole") and len(samples) == 3
    sample = samples[2]
    assert (sample.image_id, sample.width, sample.height) == (2, 60, 40)
    assert sample.boxes.tolist() == [[20, 5, 30, 15]] and sample.boxes.dtype == np.float32
    assert sample.class_ids.tolist() == [1] and not sample.crowd.any()
    assert sample.rgb is not None and sample.rgb[5, 20, 0] == 200
    np.testing.assert_array_equal(coco_mask.decode(sample.masks[0]), sample.rgb[..., 0] == 200)
    with pytest.raises(IndexError):
        samples[3]


def test_a_negative_class_is_a_crowd() -> None:
    sample = Samples(Squares(class_ids=(1, -2)))[0]
    assert sample.class_ids.tolist() == [1, 2] and sample.crowd.tolist() == [False, True]


def test_objects_without_a_pixel_are_left_out() -> None:
    class Empty(Squares):
        def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
            masks, class_ids = super().load_mask(image_id)
            masks[..., 0] = False
            return masks, class_ids

    sample = Samples(Empty(class_ids=(1, 2)))[0]
    assert sample.class_ids.tolist() == [2] and len(sample.masks) == len(sample.boxes) == 1


def test_a_picture_without_objects_is_a_sample_too() -> None:
    class Nothing(Squares):
        load_mask = Dataset.load_mask

    sample = Samples(Nothing())[0]
    assert sample.boxes.shape == (0, 4) and sample.masks == () and sample.crowd.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_ids": (3,)}, "class ids from 1 to 2, got 3"),
        ({"class_ids": (1, 0)}, "class ids from 1 to 2, got 0"),
        ({"shape": (60, 40)}, r"expected masks of the picture's \(40, 60\) rows and columns, got \(60, 40\)"),
    ],
)
def test_masks_that_do_not_fit_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples(Squares(**arguments))[0]


def test_a_dataset_that_was_not_prepared_says_so() -> None:
    dataset = Squares()
    dataset.add_image("squares", "late", None, left=0)
    with pytest.raises(UsageError, match=r"Squares: call prepare\(\)"):
        Samples(dataset)


def test_a_dataset_may_be_narrowed_to_some_of_its_pictures() -> None:
    dataset = Squares()
    dataset._image_ids = dataset.image_ids[[0, 2]]  # as scripts do that train on one fold after another
    samples = Samples(dataset)
    assert [samples[i].image_id for i in range(len(samples))] == [0, 2]
