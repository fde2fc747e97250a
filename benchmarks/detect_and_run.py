"""How far `detect` of the original's API and `run` are apart, for one weights file of matterport/Mask_RCNN.

    python benchmarks/detect_and_run.py mask_rcnn_coco.h5 --data instances_val2017.json

`detect` molds a picture to a padded square and cuts masks hard, as the original does; `run` scales in the decoder to an
input of the picture's shape and pastes softly; `evaluate` molds as `detect` does and pastes as `run` does. What
`detect` finds is taken as the truth, and COCO's AP of what the others find is measured against it. 1 would mean that
they find the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from streamseg import outlines
from streamseg.datasets.coco import Coco
from streamseg.engines._molded import Molded
from streamseg.engines.openvino import Openvino
from streamseg.evaluation.coco import coco_average_precision
from streamseg.evaluation.evaluate import read_frame
from streamseg.evaluation.objects import Comparison, Objects, found_objects
from streamseg.matterport import Config, MaskRCNN
from streamseg.model.matterport_h5 import config_of
from streamseg.training.data import read_rgb


def as_truth(result: dict[str, np.ndarray], class_names: tuple[str, ...]) -> Objects:
    """What `detect` returned of one picture, as true objects."""
    count = len(result["rois"])
    masks = outlines.encoded_all(result["masks"])
    return Objects(
        names=tuple(class_names[i] for i in result["class_ids"]),
        boxes=result["rois"][:, [1, 0, 3, 2]].astype(np.float32).reshape(-1, 4),
        masks=tuple(masks),
        scores=np.ones(count, np.float32),
        areas=outlines.areas(masks),
        crowd=np.zeros(count, bool),
        unknown=np.zeros(count, bool),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/coco-mini/annotations/instances_val2017.json")
    )
    parser.add_argument("--limit", type=int, default=None)
    given = parser.parse_args()

    file = config_of(given.weights)

    class OfFile(Config):
        NAME = "file"
        NUM_CLASSES = file.num_classes
        BACKBONE = file.backbone
        IMAGES_PER_GPU = 1

    model = MaskRCNN(mode="inference", config=OfFile(), model_dir="logs")
    model.load_weights(given.weights)
    engine = Openvino(model=str(given.weights), precision="f32")
    dataset = Coco(path=given.data)
    count = len(dataset) if given.limit is None else min(given.limit, len(dataset))
    ways = {"run": engine, "evaluate": Molded(engine, engine.folder.config)}
    comparisons: dict[str, list[Comparison]] = {name: [] for name in ways}
    for index in range(count):
        sample = dataset[index]
        (result,) = model.detect([read_rgb(sample)])
        size = {"width": sample.width, "height": sample.height}
        truth = as_truth(result, file.class_names)
        for name, way in ways.items():
            (instances,) = way.predict([read_frame(sample, index)])
            found = found_objects(instances, **size)
            comparisons[name].append(Comparison(sample.path.stem, truth=truth, found=found, **size))
    num_objects = sum(len(each.truth) for each in comparisons["run"])
    print(f"{count} pictures, {num_objects} objects found by detect, min_score {OfFile.DETECTION_MIN_CONFIDENCE}")
    for name, compared in comparisons.items():
        for kind, what in (("bbox", "box"), ("segm", "mask")):
            figures = coco_average_precision(compared, kind, class_names=file.class_names[1:])
            print(f"{name:9}{what:5}" + "".join(f"{key} {value:6.3f}  " for key, value in figures.items()))


if __name__ == "__main__":
    main()
