"""Annotations as the tests ask for them: a fake engine, short chunks, and what came out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from streamseg.annotate import work
from streamseg.annotate.chunks import Run
from streamseg.annotate.folder import KEPT, Folder
from streamseg.annotate.job import annotate
from streamseg.annotate.manifest import Manifest
from streamseg.annotate.report import AnnotationSummary
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.selection import Selection
from streamseg.annotate.stock import Stock
from streamseg.annotate.work import Looking
from streamseg.config import Component
from tests.clips import make_clip
from tests.end_to_end.parts import MODULE

WALKER = f"{MODULE}:Walker"
CHUNK = 0.39
"""Seconds: a little less than the ten frames of a group of pictures of `clip`."""


def clip(path: Path, *, num_frames: int = 35, **options: Any) -> Path:
    """A clip that can be cut at every tenth frame."""
    return make_clip(path, num_frames=num_frames, gop=10, lossless=False, **options)


def request(*inputs: Path | str, output: Path | str = "labels", **options: Any) -> AnnotateRequest:
    told: dict[str, Any] = {"formats": ("jsonl",), "engine": WALKER, "chunk_seconds": CHUNK}
    return AnnotateRequest(inputs=[str(each) for each in inputs], output=str(output), **{**told, **options})


def run(*inputs: Path | str, output: Path | str = "labels", code: int = 0, **options: Any) -> AnnotationSummary:
    summary = annotate(request(*inputs, output=output, **options))
    assert summary.exit_code == code, summary.error
    return summary


def labels(folder: Path | str) -> dict[str, bytes]:
    """Every file of the labels by its name, without what is kept of the detections."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and KEPT not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def frames(folder: Path | str, video: str) -> list[dict[str, Any]]:
    """The records of a video's labels."""
    text = (Path(folder) / f"{video}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def chunks(folder: Path | str, video: str) -> list[Path]:
    return sorted((Path(folder) / KEPT / "chunks" / video).glob("[0-9][0-9][0-9][0-9][0-9][0-9].jsonl.gz"))


def found(path: Path) -> list[dict[str, Any]]:
    """The records in a chunk."""
    return [json.loads(line) for line in gzip.open(path)][1:-1]


def planned(here: Path, place: Path | str) -> tuple[Looking, list[Run]]:
    """What is asked of a worker where nothing of a video, called a, was looked at by a job that was begun here."""
    component, selection = Component(name=WALKER), Selection()
    pins = work.pins_of(work.build(component, tiles=None), component, selection, tiles=None)
    with Manifest(here / "planned") as manifest:
        stock = Stock(Folder(here / "planned"), manifest, selection=selection, pins=pins)
        stock.add("a", place, seconds=CHUNK, retry=False)
        runs = stock.missing("a", wanted=lambda number: True)
        return Looking(component, None, selection, pins, {}, {"a": stock.job_of("a")}, dict(stock.addresses)), runs
