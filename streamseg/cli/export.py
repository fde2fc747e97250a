"""`streamseg export`: a model as one file that other programs run."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamseg.cli.arguments import a_path

if TYPE_CHECKING:
    from streamseg.evaluation.quantise import Quantised

_HELP = """Write a model as one network that runs without streamseg, in ONNX, OpenVINO or as a TensorFlow SavedModel.

The network takes one letterboxed picture and gives boxes, scores, classes and masks; docs/export.md says how to call
it. The file is written only if it finds on real pictures what the model itself finds there.

With --precision int8 the networks that streamseg itself runs are rounded to 8 bit and put beside the model, where
`run` takes them on a CPU that is quick at it: only if they lose at most 0.005 of COCO's AP on the pictures of --data.

\b
Examples:
  streamseg export --model people --format onnx -o people.onnx
  streamseg export --model runs/nuclei --format openvino --size 512x512 --pictures slides -o nuclei.xml
  streamseg export --model mask_rcnn_balloon.h5 --class-names balloon --format savedmodel -o balloon
  streamseg export --model runs/people --format openvino --precision int8 --data configs/people.yaml
"""


def export(
    model: str = typer.Option("people", "--model", metavar="NAME|FOLDER|FILE", help="See `streamseg models`."),
    class_names: str = typer.Option(
        None,
        "--class-names",
        metavar="A,B",
        help="What the classes of a foreign weights file are called, in its order.",
    ),
    format: str = typer.Option(..., "--format", metavar="NAME", help="onnx, openvino or savedmodel."),
    size: str = typer.Option(
        None, "--size", metavar="WxH", help="The input in pixels, multiples of 32. Default: the model's first."
    ),
    pictures: Path = typer.Option(
        None,
        "--pictures",
        parser=a_path,
        metavar="FOLDER",
        help="Compare on these, too, beside pictures of the sample clip.",
    ),
    output: Path = typer.Option(
        None,
        "-o",
        "--output",
        parser=a_path,
        metavar="PATH",
        help="NAME.onnx, NAME.xml or, for savedmodel, a folder; for int8 a folder, by default the model's own.",
    ),
    precision: str = typer.Option("f32", "--precision", metavar="NAME", help="f32, or int8 for streamseg's own use."),
    data: Path = typer.Option(
        None,
        "--data",
        parser=a_path,
        metavar="JSON|CONFIG",
        help="For int8: COCO's json with the pictures in or beside its folder, to round by and to measure on; or a "
        "training's YAML file, for its `train` and its `val`.",
    ),
    settings: list[str] = typer.Option([], "--set", metavar="PATH=VALUE", help="Any setting of --data's YAML file."),
    limit: int = typer.Option(None, "--limit", min=1, metavar="N", help="For int8: measure on the first N pictures."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is there."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import greetings_hidden, log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose)
    wanted = _size(size) if size else None
    names = [name.strip() for name in class_names.split(",") if name.strip()] if class_names else None
    from streamseg.types import UsageError

    if precision == "int8":
        if size or pictures:
            raise UsageError("--precision int8: --size and --pictures are for a file for other programs")
        done = _in_int8(
            model, output, format=format, names=names, data=data, settings=settings, limit=limit, overwrite=overwrite
        )
        if not quiet:
            typer.echo(f"{done.path}: {done}")
        return
    if precision != "f32":
        raise UsageError(f"--precision: expected f32 or int8, got {precision!r}")
    if data or settings or limit:
        raise UsageError("--data, --set and --limit are for --precision int8; --pictures names a folder to compare on")
    if output is None:
        raise UsageError(f"--format {format}: expected -o with the path to write to")
    from streamseg.model.portable import check

    check(output, format=format, size=wanted, pictures=pictures, overwrite=overwrite)  # before TensorFlow is loaded
    # whatever else this machine trains on: the network is traced by TensorFlow and compared in exact float32
    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")
    with greetings_hidden():
        from streamseg.evaluation.export import export as write

    written = write(
        model, output, format=format, size=wanted, class_names=names, pictures=pictures, overwrite=overwrite
    )
    if not quiet:
        typer.echo(f"{written.path}: input {written.width}x{written.height}; as the model: {written.agreement}")


def _in_int8(
    model: str,
    output: Path | None,
    *,
    format: str,
    names: Sequence[str] | None,
    data: Path | None,
    settings: Sequence[str],
    limit: int | None,
    overwrite: bool,
) -> Quantised:
    """The model's networks rounded to 8 bit and written. Raises UsageError for what is wrong, ModelError."""
    from streamseg.config import ExperimentConfig, config_file, read_config, with_settings
    from streamseg.types import UsageError

    if format != "openvino":
        raise UsageError(f"--precision int8: expected --format openvino, got {format!r}")
    if data is None:
        raise UsageError("--precision int8: expected --data, pictures with known objects to round by and to measure on")
    learn_from: Any = data
    judge_on: Any = data
    if data.suffix == ".json":
        if settings:
            raise UsageError(f"--set {settings[0]}: expected a training's YAML file as --data, got {data}")
    else:
        training = with_settings(read_config(config_file(str(data)), ExperimentConfig), settings).training
        if training is None or not training.train or not training.val:
            raise UsageError(f"{data}: expected `train` and `val` in its `training` section")
        learn_from, judge_on = training.train, training.val
    from streamseg.cli.progress import greetings_hidden

    with greetings_hidden():
        from streamseg.evaluation.quantise import quantise

    return quantise(
        model, output, learn_from=learn_from, judge_on=judge_on, class_names=names, limit=limit, overwrite=overwrite
    )


def _size(text: str) -> tuple[int, int]:
    from streamseg.types import UsageError

    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    if not sides:
        raise UsageError(f"--size: expected WIDTHxHEIGHT such as 576x320, got {text!r}")
    return int(sides[1]), int(sides[2])


export.__doc__ = _HELP
