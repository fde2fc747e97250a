"""How a run went, as one short table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamseg.flow.report import StreamSummary, Summary


def as_table(summary: Summary) -> str:
    """The summary in a few lines a stream; several streams with their names above."""
    blocks = []
    for name, stream in summary.streams.items():
        lines = [f"  {label:<10}{text}" for label, text in _rows(stream)]
        blocks.append("\n".join([name, *lines] if len(summary.streams) > 1 else [line[2:] for line in lines]))
    if len(summary.streams) > 1:
        written = sum(stream.written for stream in summary.streams.values())
        rate = written / summary.seconds if summary.seconds else 0.0
        blocks.append(f"all: {written} frames in {summary.seconds:.1f} s, {rate:.1f} fps")
    return "\n".join(blocks)


def _rows(stream: StreamSummary) -> Iterable[tuple[str, str]]:
    if stream.error:
        yield "error", stream.error
    if not stream.read:
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
    yield "objects", _counted(stream.totals.get("objects", {})) or "none"
    for note in stream.notes:
        yield "note", note
    for warning, times in stream.warnings.items():
        yield "warning", f"{warning}: {times}"
    for path in stream.outputs:
        yield "output", path


def _counted(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
