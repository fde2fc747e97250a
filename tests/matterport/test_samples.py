"""Short scripts that make the calls of the original's samples and notebooks, one after the other, on small networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import streamseg.matterport.model as modellib
from streamseg.matterport import utils
from streamseg.matterport.config import Config
from streamseg.matterport.model import log
from tests.matterport.test_mask_rcnn import calm

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from streamseg.matterport import visualize  # noqa: E402

pytestmark = pytest.mark.thorough

HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]


class ShapesConfig(Config):
    NAME = "shapes"
    GPU_COUNT = 1
    IMAGES_PER_GPU = 2
    BACKBONE = "resnet50"
    NUM_CLASSES = 1 + 2
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TOP_DOWN_PYRAMID_SIZE = 32
    FPN_CLASSIF_FC_LAYERS_SIZE = 64
    TRAIN_ROIS_PER_IMAGE = 8
    POST_NMS_ROIS_TRAINING = 50
    POST_NMS_ROIS_INFERENCE = 40
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1
    DETECTION_MIN_CONFIDENCE = 0
    DETECTION_MAX_INSTANCES = 8
    MAX_GT_INSTANCES = 10


class InferenceConfig(ShapesConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1


class ShapesDataset(utils.Dataset):
    """A disc and a square on each picture, drawn when it is asked for."""

    def load_shapes(self, count: int, height: int, width: int) -> None:
        self.add_class("shapes", 1, "square")
        self.add_class("shapes", 2, "circle")
        for i in range(count):
            self.add_image("shapes", image_id=i, path=None, width=width, height=height, shift=5 * (i % 4))

    def load_image(self, image_id: int) -> np.ndarray:
        info = self.image_info[image_id]
        image = np.full((info["height"], info["width"], 3), 40, np.uint8)
        masks, _ = self.load_mask(image_id)
        image[masks[..., 0]], image[masks[..., 1]] = (200, 30, 30), (30, 30, 200)
        return image

    def image_reference(self, image_id: int) -> str:
        return str(self.image_info[image_id]["shift"])

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        info = self.image_info[image_id]
        masks = np.zeros((info["height"], info["width"], 2), np.uint8)
        square, circle = masks[:, :, 0].copy(), masks[:, :, 1].copy()
        shift = info["shift"]
        masks[:, :, 0] = cv2.rectangle(square, (5 + shift, 5), (20 + shift, 20), (1,), -1)
        masks[:, :, 1] = cv2.circle(circle, (40, 30 + shift), 9, (1,), -1)
        class_ids = np.array([self.class_names.index(name) for name in ("square", "circle")])
        return masks.astype(bool), class_ids.astype(np.int32)


def shapes(count: int) -> ShapesDataset:
    dataset = ShapesDataset()
    dataset.load_shapes(count, 64, 64)
    dataset.prepare()
    return dataset


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights to start from: random ones that find something, which one seed in some does not."""
    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("shapes")
    model = modellib.MaskRCNN(mode="training", config=ShapesConfig(), model_dir=str(folder))
    calm(model)
    model.keras_model.save_weights(str(folder / "mask_rcnn_coco.h5"))
    return folder


@pytest.fixture(scope="module")
def detecting(start: Path) -> Any:
    model = modellib.MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=str(start))
    model.load_weights(str(start / "mask_rcnn_coco.h5"), by_name=True)
    return model


def test_the_notebook_that_trains_on_shapes(start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ShapesConfig()
    config.display()
    dataset_train, dataset_val = shapes(6), shapes(2)
    for image_id in np.random.choice(dataset_train.image_ids, 2):
        image = dataset_train.load_image(image_id)
        mask, class_ids = dataset_train.load_mask(image_id)
        visualize.display_top_masks(image, mask, class_ids, dataset_train.class_names)

    model = modellib.MaskRCNN(mode="training", config=config, model_dir=str(start))
    model.load_weights(str(start / "mask_rcnn_coco.h5"), by_name=True, exclude=HEADS)
    model.train(dataset_train, dataset_val, learning_rate=config.LEARNING_RATE, epochs=1, layers="heads")
    model.train(dataset_train, dataset_val, learning_rate=config.LEARNING_RATE / 10, epochs=2, layers="all")
    model.keras_model.save_weights(str(start / "mask_rcnn_shapes.h5"))

    model = modellib.MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=str(start))
    model_path = model.find_last()
    assert model_path.endswith("mask_rcnn_shapes_0002.h5")
    model.load_weights(model_path, by_name=True)
    image_id = np.random.choice(dataset_val.image_ids)
    image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
        dataset_val, model.config, image_id, use_mini_mask=False
    )
    log("original_image", image)
    log("image_meta", image_meta)
    visualize.display_instances(image, gt_bbox, gt_mask, gt_class_id, dataset_train.class_names, figsize=(8, 8))
    r = model.detect([image], verbose=1)[0]
    _, ax = plt.subplots(1, 1, figsize=(8, 8))
    visualize.display_instances(
        image, r["rois"], r["masks"], r["class_ids"], dataset_val.class_names, r["scores"], ax=ax
    )
    precisions = []
    for image_id in dataset_val.image_ids:
        image, _, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
            dataset_val, model.config, image_id, use_mini_mask=False
        )
        molded_images = np.expand_dims(modellib.mold_image(image, model.config), 0)
        assert molded_images.shape == (1, 64, 64, 3)
        r = model.detect([image], verbose=0)[0]
        precision, *_ = utils.compute_ap(
            gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
        )
        precisions.append(precision)
    assert 0 <= np.mean(precisions) <= 1
    printed = capsys.readouterr().out
    assert "original_image" in printed and "Processing 1 images" in printed

    again = modellib.MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=str(start))
    again.load_weights(str(start / "mask_rcnn_shapes.h5"), by_name=True)
    np.testing.assert_array_equal(again.detect([image])[0]["rois"], r["rois"])


class BalloonDataset(utils.Dataset):
    """Polygons of the VGG annotator's json."""

    def load_balloon(self, folder: Path, subset: str) -> None:
        self.add_class("balloon", 1, "balloon")
        annotations = json.loads((folder / subset / "via_region_data.json").read_text())
        for a in [a for a in annotations.values() if a["regions"]]:
            polygons = [r["shape_attributes"] for r in a["regions"]]
            path = folder / subset / a["filename"]
            height, width = cv2.imread(str(path)).shape[:2]
            self.add_image(
                "balloon", image_id=a["filename"], path=str(path), width=width, height=height, polygons=polygons
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        info = self.image_info[image_id]
        if info["source"] != "balloon":
            return super(self.__class__, self).load_mask(image_id)
        mask = np.zeros([info["height"], info["width"], len(info["polygons"])], np.uint8)
        for i, p in enumerate(info["polygons"]):
            points = np.stack([p["all_points_x"], p["all_points_y"]], axis=-1).astype(np.int32)
            mask[:, :, i] = cv2.fillPoly(mask[:, :, i].copy(), [points], (1,))
        return mask.astype(bool), np.ones([mask.shape[-1]], dtype=np.int32)

    def image_reference(self, image_id: int) -> str:
        info = self.image_info[image_id]
        return (
            str(info["path"]) if info["source"] == "balloon" else super(self.__class__, self).image_reference(image_id)
        )


@pytest.mark.usefixtures("eager")
def test_the_balloon_script_trains_and_splashes(start: Path, tmp_path: Path) -> None:
    class BalloonConfig(ShapesConfig):
        NAME = "balloon"
        NUM_CLASSES = 1 + 1

    for subset in ("train", "val"):
        (tmp_path / subset).mkdir()
        picture = np.zeros((60, 80, 3), np.uint8)
        cv2.circle(picture, (40, 30), 15, (0, 0, 255), -1)
        cv2.imwrite(str(tmp_path / subset / "a.png"), picture)
        region = {"name": "polygon", "all_points_x": [25, 40, 55, 40], "all_points_y": [30, 15, 30, 45]}
        file = {"a.png1": {"filename": "a.png", "regions": [{"shape_attributes": region}]}}
        file["b.png1"] = {"filename": "b.png", "regions": []}
        (tmp_path / subset / "via_region_data.json").write_text(json.dumps(file))
    datasets = []
    for subset in ("train", "val"):
        dataset = BalloonDataset()
        dataset.load_balloon(tmp_path, subset)
        dataset.prepare()
        datasets.append(dataset)
    assert datasets[0].image_reference(0).endswith("a.png")
    model = modellib.MaskRCNN(mode="training", config=BalloonConfig(), model_dir=str(tmp_path))
    model.load_weights(str(start / "mask_rcnn_coco.h5"), by_name=True, exclude=HEADS)
    model.train(*datasets, learning_rate=model.config.LEARNING_RATE, epochs=1, layers="heads")

    class InferenceConfig(BalloonConfig):
        IMAGES_PER_GPU = 1

    model = modellib.MaskRCNN(mode="inference", config=InferenceConfig(), model_dir=str(tmp_path))
    model.load_weights(model.find_last(), by_name=True)
    image = datasets[0].load_image(0)
    masks = model.detect([image], verbose=1)[0]["masks"]
    gray = np.stack([image.mean(axis=-1)] * 3, axis=-1)
    splash = gray.astype(np.uint8)
    if masks.shape[-1] > 0:
        splash = np.where(np.sum(masks, -1, keepdims=True) >= 1, image, gray).astype(np.uint8)
    assert splash.shape == image.shape


class CocoDataset(utils.Dataset):
    """What a COCO json says."""

    def load_coco(self, path: Path, folder: Path) -> COCO:
        coco = COCO(str(path))
        for i in sorted(coco.getCatIds()):
            self.add_class("coco", i, coco.loadCats(i)[0]["name"])
        for i in list(coco.imgs.keys()):
            self.add_image(
                "coco",
                image_id=i,
                path=str(folder / coco.imgs[i]["file_name"]),
                width=coco.imgs[i]["width"],
                height=coco.imgs[i]["height"],
                annotations=coco.loadAnns(coco.getAnnIds(imgIds=[i], iscrowd=None)),
            )
        return coco

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        info = self.image_info[image_id]
        masks, class_ids = [], []
        for annotation in info["annotations"]:
            class_id = self.map_source_class_id(f"coco.{annotation['category_id']}")
            polygons = coco_mask.frPyObjects(annotation["segmentation"], info["height"], info["width"])
            mask = coco_mask.decode(coco_mask.merge(polygons))
            if mask.max() < 1:
                continue
            class_ids.append(class_id * (-1 if annotation["iscrowd"] else 1))
            masks.append(mask)
        if not class_ids:
            return super().load_mask(image_id)
        return np.stack(masks, axis=2).astype(bool), np.array(class_ids, dtype=np.int32)


def test_the_coco_script_evaluates_with_pycocotools(detecting: Any, tmp_path: Path) -> None:
    dataset = shapes(2)
    annotations = []
    for image_id in dataset.image_ids:
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), dataset.load_image(image_id)[..., ::-1])
        masks, class_ids = dataset.load_mask(image_id)
        for box, class_id in zip(utils.extract_bboxes(masks), class_ids, strict=True):
            y1, x1, y2, x2 = map(int, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": int(image_id) + 100,
                    "category_id": int(class_id) * 10,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                }
            )
    images = [{"id": i + 100, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(2)]
    categories = [{"id": 10, "name": "square"}, {"id": 20, "name": "circle"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))

    dataset_val = CocoDataset()
    coco = dataset_val.load_coco(path, tmp_path)
    dataset_val.prepare()
    results = []
    for image_id in dataset_val.image_ids:
        r = detecting.detect([dataset_val.load_image(image_id)], verbose=0)[0]
        masks = r["masks"].astype(np.uint8)
        for i in range(r["rois"].shape[0]):
            bbox = np.around(r["rois"][i], 1)
            results.append(
                {
                    "image_id": dataset_val.image_info[image_id]["id"],
                    "category_id": dataset_val.get_source_class_id(r["class_ids"][i], "coco"),
                    "bbox": [bbox[1], bbox[0], bbox[3] - bbox[1], bbox[2] - bbox[0]],
                    "score": r["scores"][i],
                    "segmentation": coco_mask.encode(np.asfortranarray(masks[:, :, i])),
                }
            )
    assert results
    for kind in ("bbox", "segm"):
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.params.imgIds = [dataset_val.image_info[i]["id"] for i in dataset_val.image_ids]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert len(evaluation.stats) == 12


@pytest.mark.usefixtures("eager")
def test_the_nucleus_script_writes_a_submission(start: Path, tmp_path: Path) -> None:
    class NucleusConfig(ShapesConfig):
        NAME = "nucleus"
        NUM_CLASSES = 1 + 2
        IMAGE_RESIZE_MODE = "crop"
        IMAGE_MIN_SCALE = 2.0
        MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
        USE_MINI_MASK = True
        MINI_MASK_SHAPE = (56, 56)

    class NucleusInferenceConfig(NucleusConfig):
        IMAGES_PER_GPU = 1
        IMAGE_RESIZE_MODE = "pad64"
        RPN_NMS_THRESHOLD = 0.7

    dataset = shapes(2)
    model = modellib.MaskRCNN(mode="training", config=NucleusConfig(), model_dir=str(tmp_path))
    model.load_weights(str(start / "mask_rcnn_coco.h5"), by_name=True)
    augmentation = {"flip_left_right": True, "flip_up_down": True}
    model.train(dataset, dataset, learning_rate=0.001, epochs=1, augmentation=augmentation, layers="heads")

    model = modellib.MaskRCNN(mode="inference", config=NucleusInferenceConfig(), model_dir=str(tmp_path))
    model.load_weights(model.find_last(), by_name=True)
    submission = ["ImageId,EncodedPixels"]
    for image_id in dataset.image_ids:
        image = dataset.load_image(image_id)
        r = model.detect([image], verbose=0)[0]
        submission += lines(dataset.image_info[image_id]["id"], r["masks"], r["scores"])
        visualize.display_instances(
            image,
            r["rois"],
            r["masks"],
            r["class_ids"],
            dataset.class_names,
            r["scores"],
            show_bbox=False,
            show_mask=False,
            title="Predictions",
        )
        plt.savefig(tmp_path / f"{image_id}.png")
    assert len(submission) > 2 and (tmp_path / "1.png").stat().st_size > 1000
    # its notebook shows the network what load_image_gt made, with the meta that comes with it
    image, meta, class_ids, boxes, masks = modellib.load_image_gt(dataset, model.config, 0, use_mini_mask=False)
    r = model.detect_molded(np.expand_dims(image, 0), np.expand_dims(meta, 0), verbose=1)[0]
    visualize.display_differences(
        image,
        boxes,
        class_ids,
        masks,
        r["rois"],
        r["class_ids"],
        r["scores"],
        r["masks"],
        dataset.class_names,
        title="Ground Truth and Detections",
        show_box=False,
        show_mask=False,
        iou_threshold=0.5,
        score_threshold=0.9,
    )
    steps = model.run_graph(
        image[np.newaxis], [("masks", model.keras_model.get_layer("mrcnn_mask").output)], image_metas=meta[np.newaxis]
    )
    assert steps["masks"].shape == (1, 8, 28, 28, 3)


def lines(image_id: Any, masks: np.ndarray, scores: np.ndarray) -> list[str]:
    """Run lengths, a line an object, each pixel in the best one only."""
    if masks.shape[-1] == 0:
        return [f"{image_id},"]
    order = np.argsort(scores)[::-1] + 1
    numbered = np.max(masks * np.reshape(order, [1, 1, -1]), -1)
    found = []
    for number in order:
        mask = np.where(numbered == number, 1, 0)
        if mask.sum() > 0:
            bounded = np.concatenate([[0], mask.T.flatten(), [0]])
            starts = np.where(np.diff(bounded))[0].reshape(-1, 2) + 1
            runs = np.stack([starts[:, 0], starts[:, 1] - starts[:, 0]], axis=1)
            found.append(f"{image_id}, {' '.join(map(str, runs.flatten()))}")
    return found


def test_the_demo(detecting: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 70, 3), np.uint8)
    r = detecting.detect([image], verbose=1)[0]
    class_names = ["BG", "square", "circle"]
    visualize.display_instances(image, r["rois"], r["masks"], r["class_ids"], class_names, r["scores"])


def test_the_notebook_that_looks_at_the_data() -> None:
    config, dataset = ShapesConfig(), shapes(4)
    for i, info in enumerate(dataset.class_info):
        print(f"{i:3}. {info['name']:50}")
    image_id = 0
    image = dataset.load_image(image_id)
    mask, class_ids = dataset.load_mask(image_id)
    original_shape = image.shape
    image, window, scale, padding, _ = utils.resize_image(
        image, min_dim=config.IMAGE_MIN_DIM, max_dim=config.IMAGE_MAX_DIM, mode=config.IMAGE_RESIZE_MODE
    )
    mask = utils.resize_mask(mask, scale, padding)
    bbox = utils.extract_bboxes(mask)
    print(dataset.image_reference(image_id), original_shape, window)
    visualize.display_instances(image, bbox, mask, class_ids, dataset.class_names)

    image, meta, class_ids, bbox, mask = modellib.load_image_gt(dataset, config, image_id, use_mini_mask=False)
    visualize.display_images([image] + [mask[:, :, i] for i in range(min(mask.shape[-1], 7))])
    image, meta, class_ids, bbox, mask = modellib.load_image_gt(
        dataset, config, image_id, augment=True, use_mini_mask=True
    )
    mask = utils.expand_mask(bbox, mask, image.shape)
    visualize.display_instances(image, bbox, mask, class_ids, dataset.class_names)

    shapes_of_levels = modellib.compute_backbone_shapes(config, config.IMAGE_SHAPE)
    anchors = utils.generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        shapes_of_levels,
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )
    generator = modellib.data_generator(
        dataset, config, shuffle=True, random_rois=100, batch_size=2, detection_targets=True
    )
    given, (mrcnn_class_ids, mrcnn_bbox, mrcnn_mask) = next(generator)
    normalized_images, image_meta, rpn_match, rpn_bbox, gt_class_ids, gt_boxes, gt_masks, rpn_rois, rois = given
    for name, array in (("rois", rois), ("mrcnn_class_ids", mrcnn_class_ids), ("gt_masks", gt_masks)):
        log(name, array)
    assert modellib.parse_image_meta(image_meta)["image_id"].shape == (2,)
    b = 0
    sample_image = modellib.unmold_image(normalized_images[b], config)
    indices = np.where(rpn_match[b] == 1)[0]
    refined_anchors = utils.apply_box_deltas(anchors[indices], rpn_bbox[b, : len(indices)] * config.RPN_BBOX_STD_DEV)
    visualize.draw_boxes(sample_image, boxes=anchors[indices], refined_boxes=refined_anchors)
    visualize.draw_boxes(sample_image, boxes=anchors[np.where(rpn_match[b] == -1)[0]][:20])
    ids = mrcnn_class_ids[b, :, 0]
    bbox_specific = mrcnn_bbox[b, np.arange(mrcnn_bbox.shape[1]), ids, :]
    refined_rois = utils.apply_box_deltas(
        rois[b].astype(np.float32), bbox_specific[:, :4] * config.BBOX_STD_DEV
    ).astype(np.int32)
    mask_specific = mrcnn_mask[b, np.arange(mrcnn_mask.shape[1]), :, :, ids]
    visualize.draw_rois(sample_image, rois[b], refined_rois, mask_specific, ids, dataset.class_names)
    rows = np.ascontiguousarray(rois[b]).view(np.dtype((np.void, rois.dtype.itemsize * rois.shape[-1])))
    assert len(np.unique(rows)) <= len(rois[b])


def test_the_notebook_that_looks_into_the_model(detecting: Any) -> None:
    model, dataset = detecting, shapes(2)
    config, layer = model.config, model.keras_model.get_layer
    image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(dataset, config, 0, use_mini_mask=False)
    r = model.detect([image], verbose=1)[0]
    precision, precisions, recalls, overlaps = utils.compute_ap(
        gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
    )
    visualize.plot_precision_recall(precision, precisions, recalls)
    visualize.plot_overlaps(gt_class_id, r["class_ids"], r["scores"], overlaps, dataset.class_names)

    target_rpn_match, target_rpn_bbox = modellib.build_rpn_targets(
        image.shape, model.anchors, gt_class_id, gt_bbox, model.config
    )
    positive = model.anchors[np.where(target_rpn_match[:] == 1)[0]]
    refined = utils.apply_box_deltas(positive, target_rpn_bbox[: positive.shape[0]] * model.config.RPN_BBOX_STD_DEV)
    visualize.draw_boxes(image, boxes=positive, refined_boxes=refined)

    pillar = layer("ROI").output
    nms_node = model.ancestor(pillar, "ROI/rpn_non_max_suppression:0")
    if nms_node is None:
        nms_node = model.ancestor(pillar, "ROI/rpn_non_max_suppression/NonMaxSuppressionV2:0")
    rpn = model.run_graph(
        [image],
        [
            ("rpn_class", layer("rpn_class").output),
            ("pre_nms_anchors", model.ancestor(pillar, "ROI/pre_nms_anchors:0")),
            ("refined_anchors", model.ancestor(pillar, "ROI/refined_anchors:0")),
            ("refined_anchors_clipped", model.ancestor(pillar, "ROI/refined_anchors_clipped:0")),
            ("post_nms_anchor_ix", nms_node),
            ("proposals", layer("ROI").output),
        ],
    )
    limit = 10
    best = np.argsort(rpn["rpn_class"][:, :, 1].flatten())[::-1][:limit]
    visualize.draw_boxes(image, boxes=model.anchors[best])
    before = utils.denorm_boxes(rpn["pre_nms_anchors"][0], image.shape[:2])
    after = utils.denorm_boxes(rpn["refined_anchors"][0], image.shape[:2])
    visualize.draw_boxes(image, boxes=before[:limit], refined_boxes=after[:limit])
    kept = rpn["post_nms_anchor_ix"][:limit]
    clipped = utils.denorm_boxes(rpn["refined_anchors_clipped"][0, kept], image.shape[:2])
    visualize.draw_boxes(image, refined_boxes=clipped)
    proposals = utils.denorm_boxes(rpn["proposals"][0], image.shape[:2])
    recall, _ = utils.compute_recall(proposals, gt_bbox, 0.5)
    assert 0 <= recall <= 1

    names = {"proposals": "ROI", "probs": "mrcnn_class", "deltas": "mrcnn_bbox", "masks": "mrcnn_mask"}
    names["detections"] = "mrcnn_detection"
    mrcnn = model.run_graph([image], [(name, layer(of).output) for name, of in names.items()])
    det_class_ids = mrcnn["detections"][0, :, 4].astype(np.int32)
    det_count = np.where(det_class_ids == 0)[0][0] if (det_class_ids == 0).any() else len(det_class_ids)
    det_class_ids = det_class_ids[:det_count]
    proposals = utils.denorm_boxes(mrcnn["proposals"][0], image.shape[:2])
    roi_class_ids = np.argmax(mrcnn["probs"][0], axis=1)
    roi_scores = mrcnn["probs"][0, np.arange(roi_class_ids.shape[0]), roi_class_ids]
    positive_ixs = np.where(roi_class_ids > 0)[0]
    specific = mrcnn["deltas"][0, np.arange(proposals.shape[0]), roi_class_ids]
    refined = utils.apply_box_deltas(proposals, specific * config.BBOX_STD_DEV).astype(np.int32)
    keep = utils.non_max_suppression(refined[positive_ixs], roi_scores[positive_ixs], config.DETECTION_NMS_THRESHOLD)
    visualize.draw_boxes(
        image, boxes=proposals[positive_ixs][keep][:limit], refined_boxes=refined[positive_ixs][keep][:limit]
    )
    det_boxes = utils.denorm_boxes(mrcnn["detections"][0, :, :4], image.shape[:2])
    det_mask_specific = np.array([mrcnn["masks"][0, i, :, :, c] for i, c in enumerate(det_class_ids)])
    assert det_count, "the seed of the weights was chosen such that something is found"
    det_masks = np.array([utils.unmold_mask(m, det_boxes[i], image.shape) for i, m in enumerate(det_mask_specific)])
    assert det_masks.shape == (det_count, 64, 64)
    visualize.display_images(det_mask_specific[:4] * 255, cmap="Blues", interpolation="none")

    names = {name: name for name in ("input_image", "res2c_out", "res3d_out", "res4f_out", "rpn_bbox")}
    activations = model.run_graph([image], [(name, layer(of).output) for name, of in {**names, "roi": "ROI"}.items()])
    shown = modellib.unmold_image(activations["input_image"][0], config)
    np.testing.assert_array_equal(shown, image)
    visualize.display_images(np.transpose(activations["res2c_out"][0, :, :, :4], [2, 0, 1]))
    plt.hist(activations["rpn_bbox"][0, :, 0], 100)


def test_the_notebook_that_looks_at_the_weights(detecting: Any, capsys: pytest.CaptureFixture[str]) -> None:
    visualize.display_weight_stats(detecting)
    assert "mrcnn_mask_deconv/kernel" in capsys.readouterr().out
    layers = [each for each in detecting.get_trainable_layers() if each.__class__.__name__ in ["Conv2D", "Dense"]]
    assert len(layers) == 53 + 8 + 2 + 4 + 1 + 2
    _, ax = plt.subplots(3, 2, figsize=(10, 9))
    for i, layer in enumerate(layers[:3]):
        for w, weight in enumerate(layer.get_weights()):
            ax[i, w].set_title(layers[i].weights[w].name)
            ax[i, w].hist(weight.flatten(), 50)
    assert ax[0, 0].get_title() == "conv1/kernel:0"


@pytest.mark.usefixtures("eager")
def test_a_training_with_an_augmenter_of_imgaugs_kind_callbacks_and_its_history(start: Path, tmp_path: Path) -> None:
    class Fliplr:
        """Mirrors half of the pictures, drawn anew for each."""

        def __init__(self, share: float) -> None:
            self.share, self.turned = share, False

        def to_deterministic(self) -> Fliplr:
            alike = Fliplr(self.share)
            alike.turned = bool(np.random.rand() < self.share)
            return alike

        def augment_image(self, image: np.ndarray, hooks: Any = None) -> np.ndarray:
            return image[:, ::-1].copy() if self.turned else image

    dataset = shapes(3)
    model = modellib.MaskRCNN(mode="training", config=ShapesConfig(), model_dir=str(tmp_path))
    model.load_weights(str(start / "mask_rcnn_coco.h5"), by_name=True)
    modellib.load_image_gt(dataset, model.config, 0, augment=False, augmentation=Fliplr(1.0), use_mini_mask=True)
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=3)
    model.train(
        dataset,
        dataset,
        learning_rate=model.config.LEARNING_RATE,
        epochs=1,
        layers="5+",
        augmentation=Fliplr(0.5),
        custom_callbacks=[stopping],
        no_augmentation_sources=["shapes"],
    )
    history = model.keras_model.history.history
    names = {"loss", "rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"}
    assert names | {f"val_{name}" for name in names} <= set(history)
    plt.plot(range(1, len(history["loss"]) + 1), history["loss"], label="train loss")
