"""What a person asks of an annotation and of a conversion: each option declared once, for the command line and Python.

Nothing heavy is imported here, because `--help` asks too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from streamseg.request import CLASS_NAMES, CLASSES, MIN_SCORE, MODEL, TILES, duration, option, spelled_as

CHUNK_SECONDS = 20.0
"""Of video that a chunk holds at least: what a kill costs at most, for each process."""


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of `1920x1080`; ValueError for anything else."""
    shape = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if not shape:
        raise ValueError(f"expected WIDTHxHEIGHT such as 1920x1080, got {text!r}")
    return int(shape[1]), int(shape[2])


def shard_of(text: str) -> tuple[int, int]:
    """(which, of how many) of `2/4`, from 1; ValueError for anything else."""
    shape = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text.strip())
    if not shape or int(shape[1]) > int(shape[2]):
        raise ValueError(f"expected I/N such as 1/4, the first of four, got {text!r}")
    return int(shape[1]), int(shape[2])


def cluster_of(text: str) -> str:
    """`auto` or HOST:PORT as it is; ValueError for anything else."""
    if text != "auto" and not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+):\d{1,5}", text):
        raise ValueError(f"expected auto or HOST:PORT, got {text!r}")
    return text


@dataclass(frozen=True, kw_only=True)
class AnnotateRequest:
    """What a person asks of one annotation. From Python the values are what the texts of the command line mean.

    every: seconds · label_size: width and height · shard: which, of how many · chunk_seconds: of video that a chunk
    holds at least
    """

    inputs: Sequence[str] = option(
        default=(),
        several=True,
        metavar="INPUT",
        help="Video files, folders or globs of them, also s3:// and gs://, or @list.txt, one a line.",
    )
    formats: Sequence[str] = option(
        "--format",
        default=(),
        several=True,
        metavar="NAME[:KEY=VALUE,...]",
        help="Write the labels like this: {formats}. May stand several times. See `streamseg list formats`.",
    )
    output: str | None = option("-o", "--output", metavar="FOLDER", help="Where the labels go; s3:// and gs:// too.")
    finish: str | None = option(
        "--finish", metavar="FOLDER", help="Write the labels of what all --shard jobs of this folder have found."
    )
    every: float | None = option(
        "--every", read=duration, metavar="TIME", help="Only the picture nearest to each multiple: 2s, 0.5s, ..."
    )
    stride: int | None = option("--stride", kind=int, least=1, metavar="N", help="Only every Nth picture.")
    track_all: bool = option(
        "--track-all", default=False, kind=bool, help="Look at the pictures between too, so that objects are followed."
    )
    classes: Sequence[str] = spelled_as(CLASSES, default=())
    min_score: float | None = spelled_as(MIN_SCORE)
    model: str | None = spelled_as(MODEL)
    class_names: Sequence[str] = spelled_as(CLASS_NAMES, default=())
    engine: str | None = option("--engine", metavar="NAME[:KEY=VALUE,...]", help="{engines}; default: auto.")
    tiles: str | None = spelled_as(TILES)
    label_size: tuple[int, int] | None = option(
        "--label-size",
        read=size_of,
        metavar="WxH",
        help="Labels and saved pictures at most this large: 1920x1080. Their shape stays.",
    )
    pictures: bool = option(
        "--pictures", default=False, kind=bool, help="Save the pictures too: STEM/frame_000041.jpg."
    )
    video: bool = option("--video", default=False, kind=bool, help="Write each video with its objects drawn, too.")
    parallel: int | None = option("--parallel", kind=int, least=1, metavar="N", help="Processes that look. Default: 1.")
    cluster: str | None = option(
        "--cluster",
        read=cluster_of,
        metavar="auto|HOST:PORT",
        help="Look on the machines of this Ray cluster; --parallel: workers at most.",
    )
    shard: tuple[int, int] | None = option(
        "--shard", read=shard_of, metavar="I/N", help="Do the Ith of N parts of the looking, for --finish."
    )
    retry_failed: bool = option(
        "--retry-failed", default=False, kind=bool, help="Try videos again that could not be read before."
    )
    overwrite: bool = option(
        "--overwrite", default=False, kind=bool, help="Forget what was found before in this folder and start anew."
    )
    chunk_seconds: float = CHUNK_SECONDS


@dataclass(frozen=True, kw_only=True)
class ConvertRequest:
    """What a person asks of one conversion of labels."""

    labels: str = option(default="", metavar="LABELS.jsonl", help="As `run -o x.jsonl` or `annotate --format jsonl`.")
    format: str | None = option(
        "--format", metavar="NAME[:KEY=VALUE,...]", help="{formats}. See `streamseg list formats`."
    )
    output: str | None = option("-o", "--output", metavar="FOLDER", help="Where the files go.")
    video: str | None = option(
        "--video", metavar="FILE", help="The video that the labels are of: its rate, its pictures."
    )
