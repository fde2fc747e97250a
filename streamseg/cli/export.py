"""`streamseg export`: a model as one file that other programs run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import typer

from streamseg.cli.arguments import a_path

_HELP = """Write a model as one network that runs without streamseg, in ONNX, OpenVINO or as a TensorFlow SavedModel.

The network takes one letterboxed picture and gives boxes, scores, classes and masks; docs/export.md says how to call
it. The file is written only if it finds on real pictures what the model itself finds there.

\b
Examples:
  streamseg export --model people --format onnx -o people.onnx
  streamseg export --model runs/nuclei --format openvino --size 512x512 --pictures slides -o nuclei.xml
  streamseg export --model mask_rcnn_balloon.h5 --class-names balloon --format savedmodel -o balloon
"""


def export(
    model: str = typer.Option("people", "--model", metavar="NAME|FOLDER|H5", help="See `streamseg models`."),
    class_names: str = typer.Option(
        None, "--class-names", metavar="A,B", help="What the classes of a foreign .h5 file are called, in its order."
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
        ..., "-o", "--output", parser=a_path, metavar="PATH", help="NAME.onnx, NAME.xml or, for savedmodel, a folder."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace what is there."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Say nothing but errors."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Say more."),
) -> None:
    from streamseg.cli.progress import greetings_hidden, log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose)
    wanted = _size(size) if size else None
    from streamseg.model.portable import check

    check(output, format=format, size=wanted, pictures=pictures, overwrite=overwrite)  # before TensorFlow is loaded
    # whatever else this machine trains on: the network is traced by TensorFlow and compared in exact float32
    os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")
    with greetings_hidden():
        from streamseg.evaluation.export import export as write

    names = [name.strip() for name in class_names.split(",") if name.strip()] if class_names else None
    done = write(model, output, format=format, size=wanted, class_names=names, pictures=pictures, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{done.path}: input {done.width}x{done.height}; as the model: {done.agreement}")


def _size(text: str) -> tuple[int, int]:
    from streamseg.types import UsageError

    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    if not sides:
        raise UsageError(f"--size: expected WIDTHxHEIGHT such as 576x320, got {text!r}")
    return int(sides[1]), int(sides[2])


export.__doc__ = _HELP
