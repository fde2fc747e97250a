"""How a run went, as one short table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamseg.flow.report import StreamSummary, Summary
from streamseg.types import Totals


def as_table(summary: Summary) -> str:
    """The summary in a few lines a stream; several streams with their names above."""
    blocks = []
    for name, stream in summary.streams.items():
        lines = [f"  {label:<9} {text}" for label, text in _rows(stream, summary.precision)]
        blocks.append("\n".join([name, *lines] if len(summary.streams) > 1 else [line[2:] for line in lines]))
    if len(summary.streams) > 1:
        written = sum(stream.written for stream in summary.streams.values())
        rate = written / summary.seconds if summary.seconds else 0.0
        blocks.append(f"all: {written} frames in {summary.seconds:.1f} s, {rate:.1f} fps")
    return "\n".join(blocks)


def _rows(stream: StreamSummary, precision: str) -> Iterable[tuple[str, str]]:
    if stream.error:
        yield "error", stream.error
    if not stream.read:
        if not stream.error:
            yield "frames", "none"
        return
    read = "" if stream.read == stream.written else f" of {stream.read} read"
    yield "frames", f"{stream.written}{read} in {stream.seconds:.1f} s, {stream.fps:.1f} fps"
    if stream.dropped:
        yield "dropped", _counted(stream.dropped)
    slowest = stream.slowest
    yield (
        "stages",
        ", ".join(f"{name} {s:.1f} s{' (slowest)' if name == slowest else ''}" for name, s in stream.stages.items()),
    )
    if precision:
        yield "engine", f"computed in {precision}"
    yield from rows_of_totals(stream.totals)
    for note in stream.notes:
        yield "note", note
    for warning, times in stream.warnings.items():
        yield "warning", f"{warning}: {times}"
    for path in stream.outputs:
        yield "output", path


def rows_of_totals(totals: Totals) -> Iterator[tuple[str, str]]:
    """A row (kind, text) for the objects, "none" if there are none, and for every other kind that counted something.

    The text names each number by its keys from outside to inside: {"gate": {"in": 6}} is "gate in 6".
    """
    yield "objects", _counted(totals.get("objects", {})) or "none"
    for kind, numbers in totals.items():
        if kind != "objects" and (text := _counted(numbers)):
            yield kind, text


def _counted(numbers: Any) -> str:
    return ", ".join(_leaves(numbers))


def _leaves(value: Any) -> Iterator[str]:
    """Every number or text in nested mappings, after the keys that lead to it."""
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield from (f"{name} {text}" for text in _leaves(inside))
    elif isinstance(value, (list, tuple)):
        yield " ".join(text for inside in value for text in _leaves(inside)) or "none"
    else:
        yield f"{value:.6g}" if isinstance(value, float) else str(value)
