"""An inspection shows what the network does: its arrays are the engine's, its page walks through them in order."""

from __future__ import annotations

import re
from pathlib import Path

import av
import cv2
import keras
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from streamseg import masks as box_masks
from streamseg.cli import app
from streamseg.config import ModelConfig
from streamseg.datasets.coco import Coco
from streamseg.engines.keras import Keras
from streamseg.inspection.page import _encoded, histogram, page, write_inspection
from streamseg.inspection.pictures import POSITIVE, Drawing, crop, heat, sheet
from streamseg.inspection.sections import Section, Table, sections, verdict
from streamseg.inspection.steps import OpenModel, Steps, WeightStats, inspect, weight_stats
from streamseg.inspection.targets import Rules, Truth, annotated, make_targets
from streamseg.letterbox import normalised
from streamseg.model.mask_rcnn import MaskRCNN
from streamseg.model.matterport_h5 import named_weights, save_matterport
from streamseg.model_folder import ModelFolder
from streamseg.types import Frame, InputError, ModelError, OutputError, UsageError
from tests.tiny_model import make_balls, write_tiny_model

STEPS = (
    "RPN targets",
    "RPN predictions",
    "Proposal classification",
    "Box refinement",
    "Low-confidence filter",
    "Per-class NMS and final detections",
    "Mask targets",
    "Predicted masks",
)

MOLES = ModelConfig.matterport(
    class_names=("background", "benign", "malignant"),
    backbone="resnet50",
    input_sizes=((128, 128),),
    fpn_channels=8,
    rpn_channels=8,
    box_channels=16,
    mask_channels=8,
    proposals_before_nms=400,
    num_proposals=60,
    detection_min_score=0.0,
    max_detections=3,
)


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO json of pictures of two balls each."""
    return make_balls(tmp_path_factory.mktemp("balls") / "data", 2)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    return OpenModel.open(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def moles(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    """A file of random weights in the original's layout."""
    keras.utils.set_random_seed(3)
    network = MaskRCNN(MOLES, name="network")
    network.build()
    # a signal grows on its way through random blocks, and random deltas would throw every box away
    for layer, tensors in named_weights(network).items():
        share = 0.1 if layer.endswith("branch2c") and "gamma" in tensors else 1.0
        share = {"mrcnn_class_logits": 0.02, "mrcnn_bbox_fc": 1e-3}.get(layer, share)
        first = next(iter(tensors.values()))
        first.assign(share * np.asarray(first))
    path = tmp_path_factory.mktemp("models") / "moles.h5"
    save_matterport(network, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump({"model": MOLES.model_dump(mode="json")}))
    return OpenModel.open(path)


@pytest.fixture(scope="module")
def rgb(balls: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(balls.parent / "images" / "1.png")), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module", params=["lite", "moles"])
def steps(request: pytest.FixtureRequest, rgb: np.ndarray) -> Steps:
    return inspect(rgb, request.getfixturevalue(request.param))


# --- the arrays


@pytest.mark.parametrize("name", ["lite", "moles"])
def test_the_detections_are_those_of_the_engine(request: pytest.FixtureRequest, name: str, rgb: np.ndarray) -> None:
    opened: OpenModel = request.getfixturevalue(name)
    found = inspect(rgb, opened).instances
    frame = Frame(av.VideoFrame.from_ndarray(rgb, format="rgb24"), 0, 0.0, 0.0, "ball")
    expected = Keras(model=str(opened.folder.path), precision="f32").predict([frame])[0]
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    np.testing.assert_allclose(found.masks, expected.masks, atol=1e-3)


@pytest.mark.parametrize("name", ["lite", "moles"])
def test_the_detections_are_those_of_the_networks_plain_call(
    request: pytest.FixtureRequest, name: str, rgb: np.ndarray
) -> None:
    opened: OpenModel = request.getfixturevalue(name)
    steps = inspect(rgb, opened)
    called = opened.network(keras.ops.convert_to_tensor(steps.image[None]))["detections"]
    plain = np.array(keras.ops.convert_to_numpy(called))[0]
    own = steps.detections.copy()
    if name == "moles":
        own[steps.found, :4] = normalised(own[steps.found, :4], 128, 128)
    np.testing.assert_allclose(own, plain, atol=1e-3)


def test_the_steps_follow_from_each_other(steps: Steps) -> None:
    assert (np.diff(steps.pre_nms_scores) <= 1e-6).all()
    np.testing.assert_allclose(steps.pre_nms_anchors, steps.anchors[steps.pre_nms_anchor_ix], atol=1e-3)
    np.testing.assert_allclose(steps.pre_nms_scores, steps.rpn_class[steps.pre_nms_anchor_ix, 1], atol=1e-6)
    kept = steps.refined_anchors_clipped[steps.post_nms_anchor_ix]
    np.testing.assert_allclose(steps.proposals[steps.real], kept, atol=1e-2)
    assert not steps.proposals[~steps.real].any()
    decided = kept if steps.config.family == "lite" else normalised(kept, 128, 128)  # the unit it was decided in
    overlap = box_masks.box_iou(decided, decided) - 2 * np.eye(len(kept))
    assert overlap.max() <= steps.config.rpn_nms_threshold + 1e-3
    np.testing.assert_allclose(steps.probs.sum(axis=-1), 1, atol=1e-5)
    assert steps.firm[steps.kept].all()
    found = steps.detections[steps.found]
    np.testing.assert_allclose(found[:, :4], steps.refined[steps.source[steps.found]], atol=1e-2)
    np.testing.assert_array_equal(found[:, 5], steps.class_ids[steps.source[steps.found]])


def test_anchors_are_in_pixels_of_the_input_in_both_families(
    lite: OpenModel, moles: OpenModel, rgb: np.ndarray
) -> None:
    # the first anchor of the lite model: 16 × 16 around the middle of the first 8 × 8 cell
    np.testing.assert_allclose(inspect(rgb, lite).anchors[0], [-4, -4, 12, 12], atol=1e-4)
    # of the other: 32 √2 high and 32 / √2 wide around the corner of the first cell
    long, short = 16 * 2**0.5, 16 / 2**0.5
    np.testing.assert_allclose(inspect(rgb, moles).anchors[0], [-short, -long, short, long], atol=1e-3)


def test_chosen_layers_say_what_they_put_out(lite: OpenModel, rgb: np.ndarray) -> None:
    steps = inspect(rgb, lite, layers=["rpn/shared", "P3", "mask_head/up", "box_head/first"])
    assert list(steps.activations) == [
        *(f"rpn/shared {i}" for i in (1, 2, 3, 4)),
        "P3",
        *(f"mask_head/up {i}" for i in (1, 2)),  # to fit the boxes, and anew
        "box_head/first",
    ]
    assert steps.activations["P3"].shape == steps.activations["rpn/shared 1"].shape == (12, 16, 16)
    assert steps.activations["mask_head/up 2"].shape == (10, 10, 16)
    assert steps.activations["box_head/first"].shape == (32,)
    assert steps.activations["rpn/shared 1"].min() == 0  # behind a ReLU
    assert "call" not in vars(lite.network.rpn.shared)  # nobody listens any longer


def test_layers_of_the_matterport_family_have_the_originals_names(moles: OpenModel, rgb: np.ndarray) -> None:
    steps = inspect(rgb, moles, layers=["C4", "res4f"])
    np.testing.assert_array_equal(steps.activations["C4"], steps.activations["res4f"])
    assert steps.activations["C4"].shape == (8, 8, 1024)


def test_an_unknown_layer_is_named_with_the_nearest_one(lite: OpenModel, rgb: np.ndarray) -> None:
    with pytest.raises(UsageError, match="no layer is called 'rpn/shard'; did you mean 'rpn/shared'"):
        inspect(rgb, lite, layers=["rpn/shard"])
    with pytest.raises(UsageError, match="no layer is called 'C4'"):
        inspect(rgb, lite, layers=["C4"])


def test_what_is_no_picture_is_refused(lite: OpenModel, tmp_path: Path) -> None:
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    with pytest.raises(InputError, match="notes.jpg: expected a picture"):
        inspect(text, lite)
    with pytest.raises(InputError, match="gone.jpg: no such file"):
        inspect(tmp_path / "gone.jpg", lite)
    with pytest.raises(InputError, match=r"expected a picture \(H, W, 3\) uint8, got \(4, 4\)"):
        inspect(np.zeros((4, 4), np.uint8), lite)


# --- targets


def true_balls(steps: Steps, balls: Path) -> Truth:
    sample, _ = annotated("1.png", balls, ("background", "ball"))
    return Truth.annotations(sample, steps, origin="the annotations")


def test_positive_anchors_are_asked_to_move_onto_their_object(steps: Steps, balls: Path) -> None:
    truth = true_balls(steps, balls)
    targets = make_targets(steps, truth)
    positive, negative = targets.positive, targets.negative
    assert 0 < positive.sum() <= 128 and positive.sum() + negative.sum() <= 256
    assert positive.sum() + negative.sum() + targets.neutral.sum() == len(steps.anchors)
    np.testing.assert_allclose(targets.refined, truth.boxes[targets.anchor_truth[positive]], atol=1e-2)
    overlap = box_masks.box_iou(steps.anchors, truth.boxes)
    assert (overlap[negative] < 0.3).all()
    assert positive[overlap.argmax(axis=0)].all()  # the best anchor of each ball


def test_a_proposal_is_asked_for_the_part_of_the_mask_that_it_sees(steps: Steps, balls: Path) -> None:
    targets = make_targets(steps, true_balls(steps, balls), Rules(roi_samples=40))
    positive = targets.roi_class_ids > 0
    overlap = box_masks.box_iou(targets.rois, targets.truth.boxes)
    assert (overlap[positive].max(axis=1) >= 0.45).all()
    assert (overlap[targets.roi_class_ids == 0].max(axis=1, initial=0) < 0.55).all()
    side = 2 * steps.config.mask_pool
    assert targets.masks.shape == (len(targets.mask_rois), side, side)
    if steps.config.family == "lite":  # where the true boxes are proposals too
        best = overlap[targets.mask_rois].max(axis=1).argmax()
        assert targets.masks[best].mean() == pytest.approx(np.pi / 4, abs=0.03)  # an ellipse in its box


def test_a_picture_without_objects_has_only_negative_anchors(steps: Steps) -> None:
    nothing = np.zeros((0, 4), np.float32)
    none = Truth("nothing", True, nothing, np.zeros(0, np.int32), *[np.zeros(0, bool)] * 2, np.zeros((0, 56, 56)))
    targets = make_targets(steps, none)
    assert not targets.positive.any() and targets.num_negative == len(steps.anchors)
    assert not (targets.roi_class_ids > 0).any() and not len(targets.masks)


def test_the_annotations_of_a_picture_are_found_by_path_name_and_position(balls: Path, tmp_path: Path) -> None:
    expected = Coco(path=balls)[1]
    config = tmp_path / "balls.yaml"
    training = {"train": str(balls), "rpn_samples": 64, "stages": [{"epochs": 1}]}
    config.write_text(yaml.safe_dump({"name": "balls", "training": training}))
    for picture, data in (
        (balls.parent / "images" / "2.png", balls),
        ("2.png", balls),
        ("1", balls),
        ("2.png", config),
    ):
        sample, training = annotated(picture, data, ("background", "cube", "ball"))
        np.testing.assert_array_equal(sample.boxes, expected.boxes)
        assert sample.class_ids.tolist() == [2, 2]  # the model's ids
        assert (Rules.of(training).rpn_samples if training else None) == (64 if data == config else None)
    assert not len(annotated("2.png", balls, ("background", "cube"))[0].boxes)
    with pytest.raises(UsageError, match=r"balls.json: none of its 2 pictures is 7.png"):
        annotated("7.png", balls, ("background", "ball"))


def test_without_a_training_the_thresholds_are_those_that_the_model_was_trained_with(tmp_path: Path) -> None:
    embedded = Rules.that_made(ModelFolder.open("people"))
    assert (embedded.rpn_positive_iou, embedded.rpn_negative_iou) == (0.5, 0.35)
    (tmp_path / "model.weights.h5").touch()
    stated = {"name": "odd", "model": {}, "training": {"roi_samples": 40, "rpn_positive_iou": "high"}}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(stated))
    odd = Rules.that_made(ModelFolder.open(str(tmp_path)))
    assert odd == Rules(roi_samples=40)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {}}))
    assert Rules.that_made(ModelFolder.open(str(tmp_path))) == Rules()


# --- weights


def test_dead_and_exploding_weights_are_marked() -> None:
    def marked(values: np.ndarray, name: str = "kernel") -> str:
        return verdict(WeightStats.of("layer", name, np.asarray(values, np.float32)))

    assert marked([[1, 2], [3, 4]]) == ""
    assert marked([[2, 2], [2, 2]]) == "dead?"
    assert marked([0, 0, 0], "bias") == ""  # where a bias may still stand as it began
    assert marked([1, 1, 1], "gamma") == "dead?"
    assert marked([[1, 0], [2, 0]]) == "1 dead channel"
    assert marked([0, 1000.5]) == "exploding?"
    assert marked([0.0, np.nan]) == "exploding?"
    depthwise = np.ones((3, 3, 2, 1))
    depthwise[:, :, 1] = 0
    assert marked(depthwise) == "1 dead channel"


def test_every_tensor_of_both_families_is_in_the_table(lite: OpenModel, moles: OpenModel) -> None:
    for opened in (lite, moles):
        stats = weight_stats(opened.network)
        assert sum(np.prod(each.shape) for each in stats) == opened.network.count_params()
        assert all(each.counts.sum() == np.prod(each.shape) for each in stats)
    names = [f"{each.layer}/{each.name}" for each in weight_stats(moles.network)]
    assert {"conv1/kernel", "bn_conv1/gamma", "mrcnn_mask_deconv/bias"} <= set(names)


# --- pictures


def test_small_pictures_are_enlarged_by_whole_steps_and_boxes_with_them() -> None:
    drawing = Drawing.on(np.full((128, 128, 3), 255, np.uint8), light=0.5)
    assert drawing.zoom == 9 and drawing.canvas.shape == (1152, 1152, 3) and (drawing.canvas == 128).all()
    drawing.boxes(np.float32([[10, 20, 30, 40]]), POSITIVE)
    assert tuple(drawing.canvas[300, 90]) == POSITIVE  # on the left edge, x = 10 · 9
    assert (drawing.canvas[300, 150] == 128).all()  # inside


def test_labels_never_cover_each_other() -> None:
    drawing = Drawing.on(np.zeros((1000, 1000, 3), np.uint8))
    box = np.float32([[300, 300, 340, 340]])
    once = (drawing.labels(box, ["first"], [(255, 0, 0)]).canvas[..., 0] == 255).sum()
    drawing = Drawing.on(np.zeros((1000, 1000, 3), np.uint8))
    drawing.labels(np.repeat(box, 9, axis=0), ["first"] * 9, [(255, 0, 0)] * 8 + [(0, 0, 255)])
    assert (drawing.canvas[..., 0] == 255).sum() % once == 0
    assert not (drawing.canvas == (0, 0, 255)).all(axis=-1).any()  # no place was left for the last


def test_boxes_far_outside_or_not_finite_do_no_harm() -> None:
    boxes = np.float32([[-1e9, -1e9, 1e9, 1e9], [np.nan, 0, np.inf, 5]])
    Drawing.on(np.zeros((50, 60, 3), np.uint8)).boxes(boxes, POSITIVE).boxes(boxes, POSITIVE, dashed=True)


def test_a_crop_is_what_the_box_holds() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[10:20, 20:40] = 200
    assert (crop(picture, np.float32([20, 10, 40, 20]), side=30)[1:-1, 1:-1] == 200).all()
    assert (crop(picture, np.float32([50, 50, 60, 60])) == 127).all()  # beyond the picture


def test_heat_shows_each_value_as_a_block_and_a_sheet_keeps_every_picture() -> None:
    colours = heat(np.float32([[0, 1]]), side=6)
    assert colours.shape == (6, 12, 3)
    assert (colours[:, :6] == colours[0, 0]).all() and (colours[:, 6:] == colours[0, 6]).all()
    assert int(colours[0, 6].sum()) > int(colours[0, 0].sum())
    together = sheet([np.full((5, 7, 3), value, np.uint8) for value in (1, 2, 3)], columns=2, gap=1)
    assert together.shape == (13, 17, 3)
    assert [int((together == value).sum()) for value in (1, 2, 3)] == [105, 105, 105]


def test_a_histogram_draws_its_tallest_bar_full() -> None:
    drawn = histogram(np.array([1, 0, 4]), width=30, height=20)
    assert re.findall(r"M([\d.]+) 20h10.0v-([\d.]+)", drawn) == [("0.0", "5.0"), ("20.0", "20.0")]


# --- the page


def headings(text: str) -> list[str]:
    return re.findall(r"<h2><b>\d+</b> ([^<]+)</h2>", text)


@pytest.mark.parametrize("name", ["lite", "moles"])
def test_the_page_walks_through_the_steps_in_order_and_needs_nothing_else(
    request: pytest.FixtureRequest, name: str, balls: Path, tmp_path: Path
) -> None:
    opened: OpenModel = request.getfixturevalue(name)
    path = tmp_path / "out" / "page.html"
    written = write_inspection(balls.parent / "images" / "1.png", opened.folder.path, path)
    text = path.read_text()
    assert headings(text) == [*STEPS, "Activations", "Weight histograms"]
    assert "://" not in text and "<script" not in text and "<link" not in text
    sources = re.findall(r'src="([^"]{10})', text)
    assert len(sources) > 20 and all(source.startswith("data:image") for source in sources)
    assert "No ground truth was given (--data)" in text
    assert written[0] == path and sorted(written[1:]) == sorted((tmp_path / "out" / "page").glob("*.png"))
    for number in range(1, 11):
        pictures = [path for path in written[1:] if path.name.startswith(f"{number:02}_")]
        assert pictures and all(cv2.imread(str(path)) is not None for path in pictures)


def test_with_ground_truth_the_page_shows_it(lite: OpenModel, balls: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    command = ["inspect", "1.png", "--data", str(balls), "--model", str(lite.folder.path), "-o", str(path)]
    ran = CliRunner().invoke(app, [*command, "--layers", "P3,P4"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith(f"page: {path}, and ") and f"pictures in {tmp_path / 'page'}" in ran.stdout
    text = path.read_text()
    assert "No ground truth" not in text and f"the annotations of {balls}" in text
    assert "<dt>true objects</dt><dd>2</dd>" in text
    assert "P4: the channels that vary most" in text and "P5: the channels" not in text


def test_a_model_that_ran_away_can_be_looked_at(moles: OpenModel, rgb: np.ndarray) -> None:
    kernel = named_weights(moles.network)["res4f_branch2c"]["kernel"]
    before = np.array(keras.ops.convert_to_numpy(kernel.value))
    kernel.assign(before + np.float32(1e38))
    try:
        with np.errstate(all="ignore"):
            steps = inspect(rgb, moles)
            targets = make_targets(steps, Truth.detections(steps))
            text = page(list(sections(steps, targets, Rules(), weight_stats(moles.network))), title="", about="")
    finally:
        kernel.assign(before)
    assert headings(text)[:8] == list(STEPS)
    assert re.search(r"<tr class=marked><td>res4f_branch2c/kernel</td>.*?exploding\?", text)


def test_names_in_the_page_cannot_break_it() -> None:
    table = Table("<i>", ("<b>class</b>",), [("<b>ball</b>", 1200)])
    text = page([Section("A & B", "<script>", {"<b>": "<b>"}, tables=[table])], title="<b>", about="<b>")
    assert "<script" not in text and "<i>" not in text and text.count("<b>") == 1  # the step's number
    assert "&lt;b&gt;ball&lt;/b&gt;" in text and "<td>1,200</td>" in text


def test_wrong_use_is_one_clear_error(lite: OpenModel, balls: Path, tmp_path: Path) -> None:
    picture, path = balls.parent / "images" / "1.png", tmp_path / "page.html"
    with pytest.raises(UsageError, match="expected the name of an HTML page"):
        write_inspection(picture, lite.folder.path, tmp_path / "page.pdf")
    with pytest.raises(UsageError, match="no model is called 'peple'; did you mean 'people'"):
        write_inspection(picture, "peple", path)
    with pytest.raises(ModelError):
        write_inspection(picture, picture, path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_inspection(picture, lite.folder.path, tmp_path / "file" / "page.html")
    assert not path.exists()


def test_options_of_the_other_form_are_refused(tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        ran = CliRunner().invoke(app, ["inspect", *arguments, "-o", str(tmp_path / "page.html")])
        assert ran.exit_code == 2
        return ran.output

    assert "--limit belongs to `inspect data CONFIG`" in said("a.jpg", "--limit", "3")
    assert "--layers belongs to `inspect IMAGE`" in said("data", "a.yaml", "--layers", "P3")
    assert "or `streamseg inspect IMAGE -o PAGE.html`, got `inspect a.jpg b.jpg`" in said("a.jpg", "b.jpg")


def test_a_picture_wider_than_webp_is_shown_smaller() -> None:
    shown = cv2.imdecode(np.frombuffer(_encoded(np.zeros((50, 17000, 3), np.uint8), ".webp"), np.uint8), 1)
    assert shown.shape[1] == 16383
