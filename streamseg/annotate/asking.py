"""What a request means: its videos, its engine, its formats; what is wrong with it is said before all else."""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path, PurePosixPath
from typing import Any

from streamseg import buckets, plugins, rooms
from streamseg.annotate.folder import Folder
from streamseg.annotate.ordering import DRAWN, FOLLOWED
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.selection import Selection
from streamseg.config import Component
from streamseg.engines._tiled import Tiles
from streamseg.labels import Format
from streamseg.plan import parse_component
from streamseg.spelling import expand
from streamseg.types import InputError, UsageError
from streamseg.words import nearest

OWN_TEXTS = {"yolo": ("train", "val"), "labelstudio": ("labelstudio_setup",)}
"""The .txt files that formats write beside those that are called after videos."""

OF_THE_RUN = ("inputs", "finish", "shard", "overwrite", "retry_failed", "parallel", "cluster")
"""Options that say nothing of the labels."""

LONGEST_NAME = 255
"""Bytes of a file's name, on nearly all file systems."""

OF_THE_LABELS = ("formats", "min_score", "label_size", "classes", "pictures", "video")
"""Options that say nothing of the looking."""


def selection_of(request: AnnotateRequest) -> Selection:
    """Which frames have labels."""
    return Selection(request.every, request.stride or 1)


def engine_of(request: AnnotateRequest) -> Component:
    """The engine with its options, checked."""
    component = parse_component(request.engine, what="--engine") if request.engine else Component(name="auto")
    options = dict(component.options)
    if request.model is not None:
        options["model"] = request.model
    if request.class_names:
        options["class_names"] = list(request.class_names)
    plugins.check("engines", component.name, options)
    if request.tiles is not None:
        Tiles.parse(request.tiles)
    return Component(name=component.name, options=options)


def load_engine(request: AnnotateRequest) -> None:
    """Import what the engine of a request needs, such as TensorFlow, which greets while it is imported."""
    if request.finish is None and request.inputs:
        given = engine_of(request)
        engine: Any = plugins.find("engines", given.name)
        getattr(engine, "chosen", lambda **options: engine)(**given.options)


def formats_of(texts: Sequence[str]) -> dict[str, Format]:
    """The formats that a person asks for, made new, by their names."""
    made: dict[str, Format] = {}
    for text in texts:
        component = parse_component(text, what="--format")
        if component.name in made:
            raise UsageError(f"--format: expected each format once, got {component.name} twice")
        made[component.name] = plugins.build("formats", component.name, component.options)
    return made


def check_formats(request: AnnotateRequest) -> None:
    """UsageError where a format is unknown, missing, or cannot do with frames that lie so far apart."""
    if not formats_of(request.formats) and request.shard is None:
        raise UsageError(f"--format: expected one or more of {', '.join(rooms.names('formats'))}")
    if request.every is not None and not request.track_all:
        check_followed(request, request.every)


def check_followed(request: AnnotateRequest, step: float) -> None:
    """UsageError where a format holds tracks and nothing is followed over so many seconds from frame to frame."""
    for name, format in formats_of(request.formats).items():
        if format.tracks_only and step > FOLLOWED:
            skips = not request.track_all and (request.every is not None or request.stride not in (None, 1))
            hint = "; --track-all looks at the frames between too" if skips else ""
            raise UsageError(
                f"--format {name}: it holds tracks, and over {step:.3g} s from frame to frame nothing is followed{hint}"
            )


def check_names(formats: Collection[str], names: Collection[str]) -> None:
    """UsageError where two files would be one: part files, or those of formats (MOTS calls its own after videos)."""
    for name in names:
        if f"{name}.part" in names:
            raise UsageError(f"{name}.part: so the labels of {name} are called until they are whole; rename that video")
    for other, name in ((other, name) for other, taken in OWN_TEXTS.items() for name in taken):
        if "mots" in formats and other in formats and name in names:
            raise UsageError(
                f"--format mots --format {other}: of the video {name} both write {name}.txt; "
                "write one of them into another folder"
            )


def check_length(request: AnnotateRequest, name: str) -> None:
    """UsageError where the files that are called after a video would have names that no file system takes."""
    most = LONGEST_NAME - len(f"{DRAWN}.part.mp4" if request.video else ".part.jsonl")
    if (length := len(os.fsencode(name))) > most:
        raise UsageError(f"a name of {length} bytes, {most} is the most for the files that are called after it")


def check_drawn(request: AnnotateRequest, folder: Folder, videos: Mapping[str, Path | str]) -> None:
    """What `--video` draws replaces nothing that this job has not drawn: UsageError or OutputError names the file."""
    if not request.video:
        return
    read = {os.path.realpath(path): path for path in videos.values() if isinstance(path, Path)}
    names = [f"{name}{DRAWN}.mp4" for name in videos]
    for name in names:
        if (path := read.get(os.path.realpath(folder.path / name))) is not None:
            raise UsageError(f"--video: {path} is an INPUT, and would be written over; choose another folder with -o")
    folder.claim(names)


def check_classes(request: AnnotateRequest, known: Sequence[str]) -> None:
    """UsageError for a class that the model does not know; known: the background first."""
    for name in request.classes:
        if name not in known[1:]:
            raise UsageError(f"--classes: the model has no class {name!r}{nearest(name, known[1:])}")


def videos_of(request: AnnotateRequest) -> tuple[dict[str, Path | str], dict[str, str], list[str]]:
    """The videos by their names, those in buckets by their addresses; why others cannot be done; the names of all.

    Those are in the order of the INPUTs: by it the parts of a job are shared out, whatever each of them can read.
    """
    texts = [line for text in request.inputs for line in (_listed(text) if text.startswith("@") else [text])]
    if not texts:
        raise UsageError("expected an INPUT: video files, folders or globs of them, or @list.txt")
    paths: dict[str, Path | str] = {}
    refused: dict[str, str] = {}
    names: list[str] = []
    found = expand([text for text in texts if not buckets.is_address(text)])
    stems = {(given.folder, given.stem) for given in found}
    for given in found:
        if given.listed and (given.folder, given.stem.removesuffix(DRAWN)) in stems and given.stem.endswith(DRAWN):
            continue  # what an earlier job drew beside its videos
        names.append(given.name)
        if given.problem is not None:
            refused[given.name] = str(given.problem)
        elif given.path is None or given.source is None or given.source.name != "video_file":
            raise UsageError(f"{given.stem}: expected a video file; cameras and folders of pictures are not annotated")
        else:
            paths[given.name] = given.path
    for text in filter(buckets.is_address, texts):
        try:
            addresses = _videos_in_bucket(text)
        except InputError as error:
            names.append(_free_name(text, names))
            refused[names[-1]] = str(error)
        else:
            for address in addresses:
                names.append(_free_name(address, names))
                paths[names[-1]] = address
    return paths, refused, names


def _videos_in_bucket(text: str) -> list[str]:
    """The videos that an address stands for; InputError where there is none."""
    found = buckets.listed(text)
    if found == [text]:
        return found
    endings = rooms.said("sources", "video_file").endings
    names = {address: PurePosixPath(address) for address in found}
    stems = {name.stem for name in names.values()}
    videos = [
        address
        for address, name in names.items()
        if name.suffix.lower() in endings
        and not name.name.startswith(".")
        and not (name.stem.endswith(DRAWN) and name.stem.removesuffix(DRAWN) in stems)
    ]
    if not videos:
        raise InputError(f"{text}: holds no videos")
    return videos


def _free_name(address: str, taken: Container[str]) -> str:
    """The name of a video, as one of a file has it: without its ending, numbered where another one is called so."""
    stem = PurePosixPath(address).stem
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    return name


def _listed(text: str) -> list[str]:
    """The lines of `@list.txt` that say something; a relative path is relative to the list."""
    path = Path(os.path.expanduser(text[1:]))
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UsageError(f"{text}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    named = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    return [line if buckets.is_address(line) else str(path.parent / line) for line in named]


def noted(request: AnnotateRequest) -> dict[str, Any]:
    """What of the request is kept for whoever finishes it, as plain data."""
    return {key: value for key, value in asdict(request).items() if key not in OF_THE_RUN}


def finishing(noted_request: Mapping[str, Any], request: AnnotateRequest) -> AnnotateRequest:
    """The request that was kept, with what the one that finishes it says otherwise.

    UsageError for an option that says what is looked at, and how: that is done.
    """
    if unknown := noted_request.keys() - {each.name for each in fields(request)}:
        raise UsageError(f"--finish: the job was asked for {min(unknown)!r}, which this version does not know")
    told = {key: tuple(value) if isinstance(value, list) else value for key, value in noted_request.items()}
    given = {
        each.name: value
        for each in fields(request)
        if (value := getattr(request, each.name)) != each.default and each.name != "finish"
    }
    for name in given:
        if name not in OF_THE_LABELS:
            raise UsageError(f"--finish: expected options of the labels beside it, got --{name.replace('_', '-')}")
    return AnnotateRequest(**{**told, **given})
