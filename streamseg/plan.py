"""What one run is to do: INPUTs, options and a ready pipeline become an engine and streams, in names and options.

    Request ──► plan ──► Plan ──► job.assemble ──► Pipeline
    a person's words     names and options         the parts, ready made

What can be wrong about a request is found here, before anything is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from streamseg import plugins, rooms
from streamseg.config import (
    Component,
    PipelineConfig,
    StreamConfig,
    YamlFile,
    ready_files,
    setting,
    with_setting,
    with_settings,
    yaml_value,
)
from streamseg.engines._tiled import Tiles
from streamseg.pictures import is_picture
from streamseg.places import line_of, named, zone_of
from streamseg.request import Request
from streamseg.sinks._part_file import being_written, is_taken, part_file_of, part_folder_of
from streamseg.sinks._segments import recorded_as
from streamseg.spelling import (
    NAME,
    Input,
    Output,
    check_placeholders,
    expand,
    inputs_in_words,
    of_source,
    pictures_in_words,
    publisher,
    sink_of_file,
)
from streamseg.types import OutputError, StreamsegError, UsageError
from streamseg.words import nearest, without_credentials, writable

ENCODING = ("codec", "quality", "preset")
"""Options of a run that go to every sink which takes them all: those that encode a video."""

LIVE = ("max_fps", "max_age", "segment", "keep")
"""Options of a run that only live streams have a use for."""

COPY = "copy"
"""What stands in a default name for the effect where nothing is drawn."""

DEFAULT_EFFECTS = (Component(name="overlay"), Component(name="labels"))

PLACES = {"line": ("ends", "lines", line_of), "zone": ("corners", "zones", zone_of)}
"""Counter of a place -> its option that says where, the effect that draws it, and what checks it."""


@dataclass(frozen=True)
class Plan:
    """What will be done, in names and options: the engine, the streams, and the inputs that cannot be done at all.

    notes: what the summary is to say of a stream
    """

    config: PipelineConfig
    streams: Mapping[str, StreamConfig]
    refused: Mapping[str, StreamsegError] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Names:
    """What the streams so far write, and what is to be said of outputs that got another name than usual."""

    taken: set[Path] = field(default_factory=set)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def tell_apart(self, given: Input, made: Callable[[Input], Component]) -> Component:
        """The sink that is made of the input; where its path is another stream's, made of the stream's own name."""
        sink = made(given)
        if given.name == given.stem or _absolute(sink.options["path"]) not in self.taken:
            return sink
        sink = made(replace(given, stem=given.name))
        note = f"{sink.options['path']}: called {given.name}, because another input is {given.stem} too"
        self.notes.setdefault(given.name, []).append(note)
        return sink


def plan(request: Request) -> Plan:
    """The request worked out and checked, nothing opened. Raises UsageError for the first thing that is wrong."""
    config = _read_pipeline(request.pipeline) if request.pipeline is not None else PipelineConfig()
    engines = [text for text in request.settings if setting(text)[0] == ["engine"] and request.engine is None]
    config = with_settings(config, engines)  # before --model, which is an option of it
    config = _with_publishers(_with_engine(config, request), request)
    of_streams = [text for text in request.settings if setting(text)[0][0] in StreamConfig.model_fields]
    config = with_settings(config, [text for text in request.settings if text not in (*of_streams, *engines)])
    names = _Names()
    pairs = [
        (source, _showing_places(_set(stream, of_streams, source)))
        for source, stream in _streams(config, request, names)
    ]
    _check_outputs_differ(pairs)
    streams: dict[str, StreamConfig] = {}
    refused: dict[str, StreamsegError] = {}
    for source, stream in pairs:
        if problem := source.problem or _refusal(stream):
            refused[source.name] = problem
        else:
            streams[source.name] = stream
    _check_components(config, streams)
    _check_publishers(config, streams)
    if config.tiles is not None:
        Tiles.parse(config.tiles)
    _check_live(config, streams, request, is_there=any(is_live(stream.source) for _, stream in pairs))
    return Plan(config, streams, refused, names.notes)


def _set(stream: StreamConfig, texts: Sequence[str], given: Input) -> StreamConfig:
    """The stream with these settings; {stem} and {folder} in the paths that they set are those of its input."""
    if not texts:
        return stream
    before = [sink.options for sink in stream.sinks]
    made: StreamConfig = with_settings(stream, texts)
    sinks = []
    for number, sink in enumerate(made.sinks):
        known = before[number] if number < len(before) else {}
        new = {key: value for key, value in sink.options.items() if isinstance(value, str) and value != known.get(key)}
        for option, value in new.items():
            check_placeholders(value, what=f"--set sinks.{number}.{option}")
        sinks.append(_with(sink, _filled(new, given)) if new else sink)
    return made.model_copy(update={"sinks": tuple(sinks)})


def ready_pipelines() -> dict[str, Path]:
    """The pipelines that ship with the package, by name."""
    return {path.stem: path for path in ready_files("pipelines")}


def parse_component(text: str, *, what: str) -> Component:
    """`splash:classes=person+car,strength=2` as a component; `what` opens the error messages (`--effect`)."""
    name, *rest = text.split(":")
    if rest and rest[0] and "=" not in rest[0]:  # a class outside the package: my_package.blur:FaceBlur
        name, rest = f"{name}:{rest[0]}", rest[1:]
    options: dict[str, Any] = {}
    for part in _parts(":".join(rest)) if rest else ():
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{what} {text}: expected key=value after the colon, got {part!r}")
        if key.strip() in options:
            raise UsageError(f"{what} {text}: expected each option once, got {key.strip()} twice")
        options[key.strip()] = _value(value, what=f"{what} {text}")
    return Component(name=name, options=options)


def _parts(text: str) -> list[str]:
    """`a=1` and `b=[2, 3]` of `a=1,b=[2, 3]`: no comma parts within brackets or quotes that a value begins with."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        begins = parts[-1].endswith("=") or depth > 0
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and parts[-1][-1:] in ("=", "[", "{", ",", " ") and begins:
            quote = letter
        elif letter in "[{" and begins:
            depth += 1
        elif letter in "]}" and depth:
            depth -= 1
        elif letter == "," and not depth:
            parts.append("")
            continue
        parts[-1] += letter
    return parts


def _read_pipeline(name_or_path: str | Path) -> PipelineConfig:
    ready = ready_pipelines()
    path = ready.get(str(name_or_path), Path(name_or_path).expanduser())
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        hint = nearest(str(name_or_path), ready)
        raise UsageError(f"no pipeline is called {str(name_or_path)!r}{hint} (or a YAML file)")
    try:
        return _checked(YamlFile.read(path))
    except UsageError as error:  # it may quote an address that stands at a wrong place
        raise UsageError(without_credentials(str(error))) from None


def _checked(file: YamlFile) -> PipelineConfig:
    """What stands in the file, every component of it known and with options that it has."""
    config = file.as_a(PipelineConfig)
    for place, room, component in config.components():
        try:
            plugins.check(room, component.name, component.options)
            for option, value in component.options.items():
                if room == "sinks" and isinstance(value, str):
                    check_placeholders(value, what=f"sink {component.name}: {option}")
        except UsageError as error:
            raise UsageError(f"{file.where(place)}: {error}") from None
    return config


def _with_engine(config: PipelineConfig, request: Request) -> PipelineConfig:
    engine = config.engine
    if request.engine is not None:
        engine = parse_component(request.engine, what="--engine")
    if request.model is not None:
        engine = _with_option(engine, "engines", "model", request.model, what="--model")
    if request.class_names:
        engine = _with_option(engine, "engines", "class_names", list(request.class_names), what="--class-names")
    changes = {
        "engine": engine,
        "parallel": request.parallel,
        "min_score": request.min_score,
        "classes": tuple(request.classes) or None,
        **{key: getattr(request, key) for key in (*LIVE, "state", "detect_every", "tiles", "web")},
    }
    for key, value in changes.items():
        if value is not None:
            config = with_setting(config, [key], value)
    return config


def _with_publishers(config: PipelineConfig, request: Request) -> PipelineConfig:
    """Those of the request take the place of the pipeline's own."""
    if not request.publish:
        return config
    return config.model_copy(update={"publish": tuple(map(publisher, request.publish))})


def _check_publishers(config: PipelineConfig, streams: Mapping[str, StreamConfig]) -> None:
    """Each target once: two would tell everything twice, or wait for each other."""
    places = [each.options.get("path", each.options.get("address")) for each in config.publish]
    same = [
        _absolute(place) if "path" in each.options else place
        for each, place in zip(config.publish, places, strict=True)
    ]
    for number, place in enumerate(places):
        if place is not None and same[number] in same[:number]:
            raise UsageError(f"--publish: expected each target once, got {without_credentials(str(place))} twice")
    written = {path for stream in streams.values() for path in _paths(stream)}
    read = {
        _absolute(part.options["path"])
        for part in (config.engine, *(stream.source for stream in streams.values()))
        if part is not None and isinstance(part.options.get("path"), str | Path)
    }
    for what, taken in (("an output", written), ("what is read", read)):
        for place, path in zip(places, same, strict=True):
            if path in taken:
                raise UsageError(f"--publish: expected a file of its own, got {place}, which is {what} too")
    if config.state is not None and _absolute(config.state) in read:
        raise UsageError(f"--state: expected a file of its own, got {config.state}, which is what is read")
    if config.state is not None and _absolute(config.state) in written:
        raise UsageError(f"--state: expected a file of its own, got {config.state}, which is an output too")
    if config.state is not None and _absolute(config.state) in same:
        raise UsageError(f"--state: expected a file of its own, got {config.state}, which is a --publish target too")


def _streams(config: PipelineConfig, request: Request, names: _Names) -> list[tuple[Input, StreamConfig]]:
    """One stream for every input, or the pipeline's own, each with its source and its sinks."""
    if request.inputs:
        if len(config.streams) > 1:
            listed = ", ".join(config.streams)
            raise UsageError(f"the pipeline has streams of its own ({listed}); INPUTs go with a pipeline of one stream")
        template = next(iter(config.streams.values()), config)
        pairs = [(given, template) for given in _without_earlier_outputs(expand(request.inputs), names)]
    else:
        own = config.streams or {"": config}
        if not all(stream.source for stream in own.values()):
            raise UsageError(f"expected an INPUT ({inputs_in_words()}) or a pipeline with a source")
        pairs = [(_own_input(name, stream.source), stream) for name, stream in own.items() if stream.source]
    made: list[tuple[Input, StreamConfig]] = []
    for given, template in pairs:
        stream = _stream(given, template, request, names, num_inputs=len(pairs), web=config.web is not None)
        made.append((given, stream))
        names.taken.update(_paths(stream))
        if _is_video_of_one_picture(given, stream):
            names.notes.setdefault(given.name, []).append(
                f"one picture makes a video of one frame; -o {pictures_in_words()} writes pictures, and INPUT "
                f"{given.folder} is all the pictures there as one stream"
            )
    # What this run would write, in a folder that an earlier one wrote into, is no input of it.
    return [(given, stream) for given, stream in made if not (given.listed and _absolute(given.path) in names.taken)]


def _own_input(name: str, source: Component) -> Input:
    """What a pipeline's own source reads; a camera's outputs are called after its stream, since hosts are shared."""
    if name and not re.fullmatch(NAME, name):
        raise UsageError(f"streams: {name}: expected a name of letters, digits, '.', '_' and '-'")
    given = of_source(source)
    stem = given.stem if given.path or not name else name
    return replace(given, stem=stem, name=name or writable(stem))


def _without_earlier_outputs(found: Sequence[Input], names: _Names) -> list[Input]:
    """The inputs but for those that nobody named and whose name says that a run made them of another one of them.

    `a_blur.mp4` is such a one beside `a.mp4`, whose summary says that it was left out.
    """
    listed = {(given.folder, given.stem): given for given in found if given.listed}
    kept = []
    for given in found:
        before = [(given.folder, stem) for stem in _stems_before(given.stem)]
        original = next((listed[place] for place in reversed(before) if place in listed), None)
        if original is None or not given.listed:
            kept.append(given)
        else:
            note = f"{given.path} was left out: it looks like what was made of {original.path}; named, it is taken"
            names.notes.setdefault(original.name, []).append(note)
    return kept


def _is_video_of_one_picture(given: Input, stream: StreamConfig) -> bool:
    alone = given.path is not None and is_picture(given.path) and given.path.is_file()
    return alone and any(_encodes(sink.name) for sink in stream.sinks)


def _stems_before(stem: str) -> list[str]:
    """`a_overlay` and `a` for `a_overlay_blur`: what it may have been called before an effect was drawn on it."""
    effects, stems = {*rooms.names("effects"), COPY}, []
    while (parts := stem.rpartition("_"))[0] and parts[2] in effects:
        stem = parts[0]
        stems.append(stem)
    return stems


def _stream(
    given: Input, template: StreamConfig, request: Request, names: _Names, *, num_inputs: int, web: bool
) -> StreamConfig:
    source = _with_range(given.source, request)
    effects = _effects(template, request, web=web)
    sinks = _sinks(given, template, effects, request, names, num_inputs=num_inputs)
    _check_shown(sinks, request, web=web)
    tracker = template.tracker
    if tracker and request.min_score is not None:
        tracker = _with_if_taken(tracker, "trackers", "min_score", request.min_score)
    # Not validated: an effect may be a ready-made object.
    return StreamConfig.model_construct(
        source=source, tracker=tracker, counters=_counters(template, request), effects=effects, sinks=sinks
    )


def _effects(template: StreamConfig, request: Request, *, web: bool) -> tuple[Any, ...]:
    if request.effects is None:
        wanted = [Output.parse(text).sink for text in request.outputs]
        drawn = web or (any(map(_wants_pictures, wanted)) if wanted else request.writes)
        shown = drawn and "effects" not in template.model_fields_set
        return DEFAULT_EFFECTS if shown else template.effects
    made: list[Any] = []
    for each in request.effects:
        if isinstance(each, str):
            made.append(parse_component(each, what="--effect"))
        elif isinstance(each, Mapping):
            made += with_setting(StreamConfig(), ["effects"], [dict(each)]).effects
        elif hasattr(each, "draw"):
            made.append(each)
        else:
            raise UsageError(f"effects: expected a name, {{name: options}} or an object with a draw, got {each!r}")
    return tuple(made)


def _counters(template: StreamConfig, request: Request) -> tuple[Component, ...]:
    """The pipeline's own and one for each line and zone that was asked for."""
    counters = [*template.counters]
    for kind, given in (("line", request.lines), ("zone", request.zones)):
        option, _, check = PLACES[kind]
        pairs = given.items() if isinstance(given, Mapping) else [named(text, kind) for text in given]
        for name, numbers in pairs:
            check(numbers, name=name)
            counters.append(Component(name=kind, options={"name": name, option: list(numbers)}))
    return tuple(counters)


def _showing_places(stream: StreamConfig) -> StreamConfig:
    """The stream with the effects that draw its lines and zones, told where these are.

    They are added, zones below and lines above all others, where the effects are the default or show counts.
    """
    _check_names_differ(stream.counters)
    effects: tuple[Any, ...] = stream.effects
    names = [effect.name for effect in effects if isinstance(effect, Component)]
    adds = effects == DEFAULT_EFFECTS or "counts" in names
    for kind, (option, drawn_by, _) in PLACES.items():
        places = {
            str(each.options["name"]): each.options[option]
            for each in stream.counters
            if each.name == kind and {"name", option} <= set(each.options)
        }
        if places and adds and drawn_by not in names:
            added = (Component(name=drawn_by),)
            effects = (*added, *effects) if kind == "zone" else (*effects, *added)
        if places:
            effects = tuple(_told(effect, drawn_by, {option: places}) for effect in effects)
    return stream.model_copy(update={"effects": effects})


def _check_names_differ(counters: Sequence[Component]) -> None:
    taken = [(each.name, str(each.options.get("name"))) for each in counters if each.name in PLACES]
    for kind, called in taken:
        if taken.count((kind, called)) > 1:
            raise UsageError(f"{kind} {called}: expected a name of its own for each {kind}, got two of this name")


def _told(effect: Any, name: str, options: Mapping[str, Any]) -> Any:
    """The effect, if it is the one of this name, with these options where it has none of its own."""
    if not isinstance(effect, Component) or effect.name != name or effect.options.keys() & options.keys():
        return effect
    return _with(effect, options)


def _sinks(
    given: Input, template: StreamConfig, effects: Sequence[Any], request: Request, names: _Names, *, num_inputs: int
) -> tuple[Component, ...]:
    default_name = _default_name(given, effects)
    if request.outputs:
        outputs = [Output.parse(text) for text in request.outputs]
        for output in outputs:
            if num_inputs > 1 and not output.differs_by_input:
                raise UsageError(f"-o {output.text}: {num_inputs} inputs need a folder, or {{stem}} in the name")
        sinks = [
            names.tell_apart(given, partial(output.of, default_name=default_name))
            if output.is_folder and "{stem}" not in output.path
            else output.of(given, default_name=default_name)
            for output in outputs
        ]
    elif "sinks" in template.model_fields_set or not request.writes or is_live(given.source):
        sinks = [Component(name=each.name, options=_filled(each.options, given)) for each in template.sinks]
    else:

        def beside(given: Input) -> Component:
            return sink_of_file(str(given.folder / given.fill(default_name)))

        sinks = [names.tell_apart(given, beside)]
    encoding = {option: value for option in ENCODING if (value := getattr(request, option)) is not None}
    if encoding and not any(_encodes(sink.name) for sink in sinks):
        raise UsageError(f"--{next(iter(encoding))}: expected a video output ({_outputs_of(_encodes)})")
    sinks = [_with(sink, encoding) if _encodes(sink.name) else sink for sink in sinks]
    return tuple(_with_if_taken(sink, "sinks", "overwrite", True) if request.overwrite else sink for sink in sinks)


def is_live(source: Component | None) -> bool:
    """Whether the pictures of this source come when they come."""
    return source is not None and plugins.said("sources", source.name).live


def _check_shown(sinks: Sequence[Component], request: Request, *, web: bool) -> None:
    """What is drawn is shown somewhere; from Python, where nothing needs to be written, the results do."""
    if request.effects and request.writes and not web and not any(_wants_pictures(sink.name) for sink in sinks):
        given_paths = ", ".join(str(sink.options.get("path", sink.name)) for sink in sinks) or "none"
        expected = f"expected an output with pictures ({_outputs_of(_wants_pictures)}) or --web"
        raise UsageError(f"--effect: {expected}, got {given_paths}")


def _check_live(
    config: PipelineConfig, streams: Mapping[str, StreamConfig], request: Request, *, is_there: bool
) -> None:
    """A camera has no end: what it gives goes somewhere, and not into one file that grows a line with each picture.

    is_there: whether there is a live INPUT at all, be it refused
    """
    if request.show and config.web is None:
        raise UsageError("--show: expected a page to show, --web HOST:PORT")
    live = {name: stream for name, stream in streams.items() if is_live(stream.source)}
    for option in LIVE:
        if getattr(request, option) is not None and not is_there:
            flag = {"max_fps": "--fps"}.get(option, f"--{option.replace('_', '-')}")
            raise UsageError(f"{flag}: expected a live INPUT ({', '.join(_live_inputs())}), got none")
    for name, stream in live.items():
        if request.writes and not (stream.sinks or config.web or config.publish):
            raise UsageError(f"{name}: a live INPUT needs an -o OUTPUT, a --publish TARGET or a --web HOST:PORT")
        for sink in stream.sinks:
            said = plugins.said("sinks", sink.name)
            if config.segment is None and said.on_disk and not said.wants_pictures:
                path = sink.options.get("path", sink.name)
                raise UsageError(f"{path}: a record for each picture of a live INPUT needs --segment, such as 10m")


def _live_inputs() -> list[str]:
    live = [name for name in rooms.names("sources") if rooms.said("sources", name).live]
    return rooms.spellings("sources", of=live)


def _encodes(sink: str) -> bool:
    return set(ENCODING) <= set(plugins.option_names("sinks", sink))


def _wants_pictures(sink: str) -> bool:
    return plugins.said("sinks", sink).wants_pictures


def _outputs_of(fits: Callable[[str], bool]) -> str:
    """How a person asks for the sinks that fit: `.mp4, .gif, images:FOLDER`."""
    return ", ".join(rooms.spellings("sinks", of=[name for name in rooms.names("sinks") if fits(name)]))


def _default_name(given: Input, effects: Sequence[Any]) -> str:
    first = effects[0] if effects else None
    word = first.name if isinstance(first, Component) else type(first).__name__ if first is not None else COPY
    return f"{{stem}}_{word.rpartition(':')[2].lower()}{given.ending}"


def _with_range(source: Component | None, request: Request) -> Component | None:
    for option in ("start", "end", "stride"):
        value = getattr(request, option)
        if value is not None and source is not None:
            source = _with_option(source, "sources", option, value, what=f"--{option}")
    return source


def _value(text: str, *, what: str, plus: bool = True) -> Any:
    """YAML, in which `person+car` is a list of two as well, and `#00ff00` no comment but a colour."""
    try:
        value = yaml_value(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{what}: {text!r} is no YAML value: {getattr(error, 'problem', error)}") from None
    if plus and isinstance(value, str) and "+" in value and text[:1] not in "'\"":
        return [_value(part, what=what, plus=False) for part in value.split("+")]
    return value


def _with_option(component: Component, room: str, option: str, value: Any, *, what: str) -> Component:
    known = plugins.option_names(room, component.name)
    if option not in known:
        raise UsageError(f"{what}: the {rooms.ROOMS[room]} {component.name} takes no {option!r}")
    return _with(component, {option: value})


def _with_if_taken(component: Component, room: str, option: str, value: Any) -> Component:
    if option not in plugins.option_names(room, component.name):
        return component
    return _with(component, {option: value})


def _with(component: Component, options: Mapping[str, Any]) -> Component:
    return Component(name=component.name, options={**component.options, **options})


def _filled(options: Mapping[str, Any], given: Input) -> dict[str, Any]:
    return {key: given.fill(value) if isinstance(value, str) else value for key, value in options.items()}


def _paths(stream: StreamConfig) -> list[Path]:
    paths = [sink.options.get("path") for sink in stream.sinks if isinstance(sink, Component)]
    return [path for each in paths if (path := _absolute(each)) is not None]


def _absolute(path: Any) -> Path | None:
    # Path.resolve would break off at a link that leads round in a circle
    return Path(os.path.realpath(path)) if isinstance(path, str | Path) else None


def _check_outputs_differ(pairs: Sequence[tuple[Input, StreamConfig]]) -> None:
    read = {_absolute(given.path): given for given, _ in pairs if given.path is not None}
    written: dict[Path, Input] = {}
    for given, stream in pairs:
        for path in _paths(stream):
            if path in read:
                raise UsageError(f"{path}: it is an input of this run, so it cannot be an output of it")
            if other := written.get(path):
                hint = "; {folder} in the name tells them apart" if other.folder != given.folder else ""
                raise UsageError(
                    f"{path}: expected an output of its own for every input, got this one for "
                    f"{other.path or other.name} and for {given.path or given.name}{hint}"
                )
            written[path] = given


def _refusal(stream: StreamConfig) -> OutputError | None:
    """An output that is there already, in the making or cannot be, said before an engine is loaded for it."""
    live = is_live(stream.source)  # whose files carry the time at which they begin in their names
    for sink in stream.sinks:
        said = plugins.said("sinks", sink.name)
        if "path" not in sink.options or not said.on_disk:
            continue
        path = Path(str(sink.options["path"]))
        if problem := _impossible(recorded_as(path) if live else path):
            return problem
        if live:
            continue
        if is_taken(part_folder_of(path) if said.folder else part_file_of(path)):
            return OutputError(being_written(path))
        if sink.options.get("overwrite"):
            continue
        if said.endings and path.is_file():
            return OutputError(f"{path}: the file exists; --overwrite replaces it, -o names another")
        if said.folder and _holds_something(path):
            return OutputError(f"{path}: the folder is not empty; --overwrite replaces the {said.folder} in it")
    return None


def _impossible(path: Path) -> OutputError | None:
    """Why no file system takes a file of this name at this place."""
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not there.is_dir():
        return OutputError(f"{path}: expected a folder, but {there} is none")
    most = os.pathconf(there, "PC_NAME_MAX")
    *folders, name = (len(os.fsencode(part)) for part in path.parts)
    if (room := most - len(".part")) < name:
        return OutputError(f"{path}: a name of {name} bytes, {room} leave room for .part while it is written")
    if max(folders, default=0) > most:
        return OutputError(f"{path}: a folder's name of {max(folders)} bytes, {most} is the most here")
    return None


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:  # none, or none that may be looked into: the sink says what is wrong
        return False


def _check_components(config: PipelineConfig, streams: Mapping[str, StreamConfig]) -> None:
    whole = PipelineConfig.model_construct(**{**dict(config), "streams": dict(streams)})
    used: dict[str, list[str]] = {room: [] for room in rooms.SPEAKING}
    for _, room, component in whole.components():
        if isinstance(component, Component):
            plugins.check(room, component.name, component.options)
            used.setdefault(room, []).append(component.name)
    for room in rooms.SPEAKING:
        plugins.check_claims(room, used[room])
