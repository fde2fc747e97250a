"""Every knob of a pipeline: its components by name, and the streams that share its engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field, model_validator

from streamseg.config.knobs import Knobs, Positive, Share


class Component(Knobs):
    """One component by its name and its options; in YAML `splash`, or `splash: {classes: [person]}`."""

    name: str = Field(description="file name in its room, or `my_package.blur:FaceBlur`")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of its constructor")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and not set(value) <= {"name", "options"}:
            if len(value) != 1:
                raise ValueError(f"expected NAME or NAME: {{option: value}}, got the keys {', '.join(map(str, value))}")
            ((name, options),) = value.items()
            if not isinstance(name, str) or not isinstance(options, dict | None):
                raise ValueError(f"expected NAME: {{option: value}}, got {name}: {options!r}")
            return {"name": name, "options": options or {}}
        return value


class StreamConfig(Knobs):
    """What happens to the frames of one stream on their way."""

    source: Component | None = Field(None, description="where the frames come from; INPUTs take its place")
    tracker: Component | None = Field(Component(name="mask_iou"), description="who is who; null: nobody is followed")
    counters: tuple[Component, ...] = Field((Component(name="per_class"),), description="what is counted")
    effects: tuple[Component, ...] = Field((), description="what is drawn, in this order")
    sinks: tuple[Component, ...] = Field((), description="where it goes; {stem} and {folder} are the input's own")


class WebConfig(Knobs):
    """The page of a run; in YAML `127.0.0.1:8080`, or `{address: "0.0.0.0:8080", token: "${STREAMSEG_TOKEN}"}`."""

    address: str = Field(description="HOST:PORT to listen at")
    token: str | None = Field(None, description="what a viewer has to know off loopback; null: one is made up")
    hosts: tuple[str, ...] = Field((), description="further names under which the page is reached")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value


class PipelineConfig(StreamConfig):
    """One engine and the streams that share it: one in the flat form, several under `streams`."""

    engine: Component = Field(Component(name="auto"), description="what finds the objects")
    streams: dict[str, StreamConfig] = Field(default_factory=dict, description="NAME: {source, tracker, …}")
    detect_every: Positive = Field(1, description="the engine looks at every so many-th picture; others are carried")
    tiles: str | None = Field(None, description="auto, 2x2 or SIZE,OVERLAP: look at tiles too; null: at the whole only")
    classes: tuple[str, ...] = Field((), description="every other class is removed before the tracker; none: keep all")
    min_score: Share | None = Field(None, description="score of a firm detection; null: the model's own")
    parallel: Positive = Field(2, description="files open at a time; live streams run all at once")
    batch_wait: float = Field(0.01, ge=0, description="seconds to wait for a fuller batch")
    max_age: float | None = Field(
        0.5, gt=0, description="seconds after which a live picture is dropped instead of shown; null: never"
    )
    max_fps: float | None = Field(None, gt=0, description="pictures a second taken of a live source; null: all")
    segment: float | None = Field(None, ge=1, description="seconds of a live recording's file; null: one file")
    keep: float | None = Field(None, gt=0, description="seconds after which live recordings go; null: never")
    state: str | None = Field(None, description="file in which counters survive a restart; null: none")
    publish: tuple[Component, ...] = Field((), description="who is told of events, totals and states of all streams")
    web: WebConfig | None = Field(None, description="the page of the run; null: none")

    @model_validator(mode="after")
    def _one_form(self) -> PipelineConfig:
        both = sorted(self.model_fields_set & set(StreamConfig.model_fields))
        if self.streams and both:
            raise ValueError(f"expected one stream in the flat form or `streams`, got both: streams and {both[0]}")
        return self

    def components(self) -> Iterator[tuple[tuple[str | int, ...], str, Component]]:
        """Every component as (its place, its room, itself), the engine last: it costs most to make."""
        named: list[tuple[tuple[str, ...], StreamConfig]] = [(("streams", name), s) for name, s in self.streams.items()]
        for place, stream in named or [((), self)]:
            if stream.source:
                yield (*place, "source"), "sources", stream.source
            if stream.tracker:
                yield (*place, "tracker"), "trackers", stream.tracker
            for room in ("counters", "effects", "sinks"):
                for position, component in enumerate(getattr(stream, room)):
                    yield (*place, room, position), room, component
        for position, component in enumerate(self.publish):
            yield ("publish", position), "publishers", component
        yield ("engine",), "engines", self.engine
