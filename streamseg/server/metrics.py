"""All numbers in Prometheus' form, made when they are scraped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, get_args

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from streamseg.server.audience import Audience
from streamseg.server.hub import STATES, Hub, counted
from streamseg.server.pictures import Pictures
from streamseg.types import OutputState

Row = tuple[Sequence[str], float]
"""The values of the labels, and the number."""


class Metrics:
    """A registry of its own, so that nothing but streamseg's numbers and the process' stands in it."""

    def __init__(self, hub: Hub, pictures: Pictures, audience: Audience) -> None:
        self._hub, self._pictures, self._audience = hub, pictures, audience
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """The numbers in the form that the scraper accepts, and the name of that form."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def collect(self) -> Iterator[Metric]:
        streams, summary = self._hub.look()
        yield from _of_frames(streams)
        yield from _of_counts(streams)
        yield from _of_outputs(streams, map(asdict, self._hub.publishers()))
        stages = [
            ((name, stage), seconds)
            for name, run in (summary.streams.items() if summary else ())
            for stage, seconds in run.stages.items()
        ]
        yield _counter("stage_seconds", "Seconds that a stage was busy, without waiting.", ("stream", "stage"), stages)
        yield _gauge("viewers", "Browsers and programs that listen.", (), [((), len(self._audience))])
        yield _counter("pictures_encoded", "Pictures encoded for viewers.", (), [((), self._pictures.num_encoded)])


def _of_frames(streams: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    by_name = {stream["name"]: stream for stream in streams}
    for key, words in (("read", "read from the source"), ("shown", "shown, on their way to the sinks")):
        rows: list[Row] = [((name,), stream[key]) for name, stream in by_name.items()]
        yield _counter(f"frames_{key}", f"Frames {words}.", ("stream",), rows)
    dropped = [((name, cause), n) for name, stream in by_name.items() for cause, n in stream["dropped"].items()]
    yield _counter("frames_dropped", "Frames dropped, by cause.", ("stream", "cause"), dropped)
    ages: list[Row] = [((name,), stream["age"]) for name, stream in by_name.items() if stream["age"] is not None]
    yield _gauge("picture_age_seconds", "Time since the newest picture was captured.", ("stream",), ages)
    rates: list[Row] = [((name,), stream["fps"]) for name, stream in by_name.items()]
    yield _gauge("frames_per_second", "Frames shown a second, over the last seconds.", ("stream",), rates)
    states = [((name, state), stream["state"] == state) for name, stream in by_name.items() for state in STATES]
    yield _gauge("stream_state", "1 for the state that the stream is in.", ("stream", "state"), states)
    since: list[Row] = [((name,), stream["since"]) for name, stream in by_name.items()]
    yield _gauge("stream_state_since_seconds", "Unix time of the last change of state.", ("stream",), since)


def _of_counts(streams: Iterable[dict[str, Any]]) -> Iterator[Metric]:
    now: list[Row] = []
    seen: list[Row] = []
    crossings: list[Row] = []
    inside: list[Row] = []
    moved: list[Row] = []
    for stream in streams:
        name, counts = stream["name"], stream["counts"]
        now += [((name, kind), n) for kind, n in stream["now"].items()]
        objects = counts["objects"].items() if isinstance(counts["objects"], dict) else ()
        seen += [((name, str(kind)), n) for kind, n in objects if isinstance(n, int)]
        crossings += [((name, line, kind, way), n) for line, kind, way, n in counted(counts["lines"])]
        for zone, kind, what, n in counted(counts["zones"]):
            if what == "now":
                inside.append(((name, zone, kind), n))
            else:
                moved.append(((name, zone, kind, what), n))
    yield _gauge("objects", "Objects in sight.", ("stream", "class"), now)
    yield _counter("objects_seen", "Objects seen in all.", ("stream", "class"), seen)
    yield _counter("crossings", "Crossings of a line.", ("stream", "line", "class", "direction"), crossings)
    yield _gauge("zone_objects", "Objects inside a zone.", ("stream", "zone", "class"), inside)
    yield _counter("zone_passages", "Objects that entered or left.", ("stream", "zone", "class", "direction"), moved)


def _of_outputs(streams: Iterable[dict[str, Any]], publishers: Iterable[Any]) -> Iterator[Metric]:
    outputs = [((stream["name"], sink["name"]), sink) for stream in streams for sink in stream["sinks"]]
    outputs += [(("", publisher["name"]), publisher) for publisher in publishers]
    dropped = [(labels, output["dropped"]) for labels, output in outputs]
    yield _counter("output_dropped", "What a sink or publisher had to drop.", ("stream", "output"), dropped)
    waiting = [(labels, output["waiting"]) for labels, output in outputs]
    yield _gauge("output_waiting", "What waits for a sink or publisher.", ("stream", "output"), waiting)
    states = [
        ((*labels, state), output["state"] == state) for labels, output in outputs for state in get_args(OutputState)
    ]
    yield _gauge("output_state", "1 for the state of the output.", ("stream", "output", "state"), states)


def _counter(name: str, words: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = CounterMetricFamily(f"streamseg_{name}", words, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _gauge(name: str, words: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    family = GaugeMetricFamily(f"streamseg_{name}", words, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
