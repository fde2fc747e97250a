"""A plan becomes the `Pipeline` that does it: every part made and checked before the first frame."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamseg import plugins
from streamseg.config import Component, PipelineConfig, StreamConfig
from streamseg.engines._tiled import Tiled, Tiles
from streamseg.flow.by_hour import Hours
from streamseg.flow.keeping import Keeper
from streamseg.flow.pipeline import Pipeline
from streamseg.flow.publishing import Publishing
from streamseg.flow.report import StreamSummary, Summary
from streamseg.flow.stream import Stream
from streamseg.kept import Stateful
from streamseg.plan import Plan, is_live
from streamseg.sinks._segments import live_sink
from streamseg.types import Listener, UsageError
from streamseg.words import nearest

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]


def assemble(
    planned: Plan,
    *,
    listeners: Sequence[Listener] = (),
    hours: Hours | None = None,
    progress: Progress | None = None,
) -> Pipeline:
    """The pipeline with every part made; the engine last, because it takes longest.

    hours: is told what is counted by hour, and is kept with the counters
    """
    config = planned.config
    if not planned.streams:
        raise next(iter(planned.refused.values()))
    parts = {
        name: {
            "source": plugins.build("sources", stream.source.name, {**stream.source.options, **_name(stream, name)}),
            "counters": [plugins.build("counters", each.name, each.options) for each in stream.counters],
            "effects": [_effect(each, is_first=not number) for each in stream.effects],
            "sinks": [_sink(each, config, live=is_live(stream.source)) for each in stream.sinks],
        }
        for number, (name, stream) in enumerate(planned.streams.items())
        if stream.source
    }
    publishers = [plugins.build("publishers", each.name, each.options) for each in config.publish]
    if publishers:
        listeners = [*listeners, Publishing(publishers)]
    engine = plugins.build("engines", config.engine.name, config.engine.options)
    if config.tiles is not None:
        engine = Tiled(engine, Tiles.parse(config.tiles))
    log.debug("engine %s: %s, batches of %d", config.engine.name, type(engine).__name__, engine.batch_size)
    _check_classes(engine.class_names, config, planned.streams)
    min_score = engine.min_score if config.min_score is None else config.min_score
    streams = [
        Stream(
            name,
            tracker=_tracker(planned.streams[name].tracker, min_score=min_score),
            classes=config.classes or None,
            notes=planned.notes.get(name, ()),
            **made,
        )
        for name, made in parts.items()
    ]
    if config.state is not None:
        hours = hours or Hours(parts)
        kept: dict[str, list[Stateful]] = {stream.name: [*stream.counters, hours.of[stream.name]] for stream in streams}
        listeners = [Keeper(config.state, kept), *listeners]
    if hours is not None:
        listeners = [hours, *listeners]  # first, so that what is kept has this picture's counts
    return Pipeline(
        engine,
        streams,
        parallel=config.parallel,
        batch_wait=config.batch_wait,
        min_score=min_score,
        max_age=config.max_age,
        max_fps=config.max_fps,
        detect_every=config.detect_every,
        listeners=listeners,
        progress=progress,
    )


def run(
    planned: Plan,
    *,
    listeners: Sequence[Listener] = (),
    hours: Hours | None = None,
    progress: Progress | None = None,
    on_ready: Callable[[Pipeline], None] | None = None,
) -> Summary:
    """Do all of it and say how it went; inputs that could not be done at all count as streams that failed.

    on_ready: is given the pipeline before it runs
    """
    summary = Summary({}, seconds=0.0, error=None, exit_code=0)
    if planned.streams:
        pipeline = assemble(planned, listeners=listeners, hours=hours, progress=progress)
        if on_ready:
            on_ready(pipeline)
        summary = _with_problems(pipeline.run(), pipeline.listeners)
    if not planned.refused:
        return summary
    failed = {name: StreamSummary(error=str(error), exception=error) for name, error in planned.refused.items()}
    first = f"{next(iter(failed))}: {next(iter(planned.refused.values()))}"
    return Summary(
        {**summary.streams, **failed},
        seconds=summary.seconds,
        error=summary.error or first,
        exit_code=summary.exit_code or 1,
        problems=summary.problems,
        precision=summary.precision,
    )


def _with_problems(summary: Summary, listeners: Sequence[Listener]) -> Summary:
    """What did not reach those who were to be told is something of the job that was not done."""
    problems = [problem for each in listeners if isinstance(each, Publishing) for problem in each.problems]
    if not problems:
        return summary
    return replace(summary, error=summary.error or problems[0], exit_code=summary.exit_code or 1, problems=problems)


def _name(stream: StreamConfig, name: str) -> dict[str, str]:
    takes = stream.source is not None and "name" in plugins.option_names("sources", stream.source.name)
    return {"name": name} if takes else {}


def _sink(sink: Component, config: PipelineConfig, *, live: bool) -> Any:
    """The sink; what a live stream writes to the disk is recordings."""
    if live:
        return live_sink(sink.name, sink.options, segment=config.segment, keep=config.keep)
    return plugins.build("sinks", sink.name, sink.options)


def _effect(effect: Any, *, is_first: bool) -> Any:
    """An effect of a stream's own: one that came ready made is copied for every stream but the first."""
    if isinstance(effect, Component):
        return plugins.build("effects", effect.name, effect.options)
    try:
        return effect if is_first else copy.deepcopy(effect)
    except Exception as error:
        raise UsageError(
            f"{type(effect).__name__}: expected an effect that can be copied, because each stream has its own ({error})"
        ) from error


def _tracker(tracker: Component | None, *, min_score: float) -> Any:
    """The tracker, with the model's own idea of a firm detection where nothing else was said."""
    if tracker is None:
        return None
    options = dict(tracker.options)
    if "min_score" in plugins.option_names("trackers", tracker.name):
        options.setdefault("min_score", min_score)
    return plugins.build("trackers", tracker.name, options)


def _check_classes(known: Sequence[str], config: PipelineConfig, streams: Mapping[str, StreamConfig]) -> None:
    """Every class that anything names is one that the model knows."""
    if config.engine.name == "replay":
        return  # it knows the classes that it saw; a clip without persons may still be asked for them
    named = [("--classes", name) for name in config.classes]
    for stream in streams.values():
        for component in (*stream.counters, *stream.effects, *stream.sinks):
            classes = component.options.get("classes") if isinstance(component, Component) else None
            classes = [classes] if isinstance(classes, str) else classes
            named += [(component.name, name) for name in classes or () if isinstance(name, str)]
    for where, name in named:
        if name not in known[1:]:
            raise UsageError(f"{where}: the model has no class {name!r}{nearest(name, known[1:])}")
