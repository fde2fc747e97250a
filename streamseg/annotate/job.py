"""A whole annotation: what was asked is checked, what is missing is looked at, and labels are made of all of it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from streamseg import plugins, rooms
from streamseg.annotate import ordering, work
from streamseg.annotate.chunks import Cut, Run, cut
from streamseg.annotate.folder import Folder
from streamseg.annotate.manifest import Entry, Identity, Manifest
from streamseg.annotate.ordering import Order, Video
from streamseg.annotate.recordings import Damaged, Ended, checked, file_of, head, head_in, join, numbers_in
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.selection import Selection
from streamseg.annotate.work import Looking
from streamseg.annotate.writing import Labels, Written
from streamseg.config import Component
from streamseg.flow.report import said
from streamseg.labels import Format
from streamseg.plan import parse_component
from streamseg.spelling import expand
from streamseg.types import InputError, OutputError, UsageError
from streamseg.words import nearest

log = logging.getLogger(__name__)

Progress = Callable[[str, str, int, int | None], None]
"""Hears what is done ("looking", "writing"), the video, its frames that are done and those expected."""


@dataclass(frozen=True)
class VideoSummary:
    """How one video went. looked_at: its frames that this job looked at · the others: of its labels"""

    frames: int = 0
    objects: int = 0
    tracks: int = 0
    looked_at: int = 0
    error: str | None = None


@dataclass(frozen=True)
class AnnotationSummary:
    """How an annotation went. left_out: by format, what it does not know · notes: what its user should know"""

    videos: Mapping[str, VideoSummary]
    outputs: Sequence[str] = ()
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """As `annotate --json` prints it."""
        return asdict(self)


def annotate(request: AnnotateRequest, *, progress: Progress | None = None) -> AnnotationSummary:
    """Do all of it. UsageError for what is wrong with the request; of a video its error stands in the summary."""
    if request.finish is not None:
        return _finish(request, progress)
    folder = Folder(_output(request))
    formats, selection = formats_of(request.formats), _selection(request)
    if not formats and request.shard is None:
        raise UsageError(f"--format: expected one or more of {', '.join(rooms.names('formats'))}")
    _check_apart(formats, selection, request)
    paths, refused = _inputs(request)
    with folder.taken(shard=request.shard), Manifest(folder.path) as manifest:
        job = _Job(request, folder, manifest, progress)
        job.begin(paths, refused)
        job.look()
        if request.shard is None:
            job.write()
        else:
            job.notes.append(f"streamseg annotate --finish {folder.path} writes the labels when all parts are done")
        return job.summary()


def _finish(request: AnnotateRequest, progress: Progress | None) -> AnnotationSummary:
    """The labels of what the parts of a job have found, as that job was asked for them."""
    if request.inputs or request.output or request.shard:
        raise UsageError("--finish: expected no INPUT, no -o and no --shard beside it")
    folder = Folder(request.finish or "")
    asked = folder.asked
    if asked is None:
        raise UsageError(f"--finish {folder.path}: no annotation was begun in this folder")
    told = {key: tuple(value) if isinstance(value, list) else value for key, value in asked["request"].items()}
    given = {key: getattr(request, key) for key in ("formats", "min_score", "label_size", "classes")}
    given |= {"pictures": request.pictures or None, "video": request.video or None}
    again = AnnotateRequest(**{**told, **{key: value for key, value in given.items() if value}, "shard": None})
    formats = formats_of(again.formats)
    if not formats:
        raise UsageError(f"--format: expected one or more of {', '.join(rooms.names('formats'))}")
    _check_apart(formats, _selection(again), again)
    with folder.taken(), Manifest(folder.path) as manifest:
        job = _Job(again, folder, manifest, progress)
        job.find({name: Path(path) for name, path in asked["videos"].items()}, pins=asked["pins"])
        job.write()
        return job.summary()


class _Job:
    """One annotation under way."""

    def __init__(self, request: AnnotateRequest, folder: Folder, manifest: Manifest, progress: Progress | None) -> None:
        self.request, self.folder, self.manifest = request, folder, manifest
        self.progress = progress or (lambda *_: None)
        self.selection = _selection(request)
        self.looked_at = Selection() if request.track_all else self.selection
        self.errors: dict[str, str] = {}
        self.notes: list[str] = []
        self.outputs: list[str] = []
        self.left_out: dict[str, Mapping[str, int]] = {}
        self.written: dict[str, Written] = {}
        self.exit_code = 0
        self.names: list[str] = []
        self._paths: dict[str, Path] = {}
        self._cuts: dict[str, Cut] = {}
        self._identities: dict[str, Identity] = {}
        self._pins: Mapping[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._new: dict[str, int] = {}
        self._began = time.monotonic()

    # What is there

    def begin(self, paths: Mapping[str, Path], refused: Mapping[str, str]) -> None:
        """Find out what is done already and what is not; refuse what does not fit to that."""
        self.names = [*paths, *refused]
        self.errors.update(refused)
        if self.request.overwrite:
            self.folder.clear()
            self.manifest.clear()
        self._engine_component = _engine(self.request)
        self._engine = work.build(self._engine_component, threads=None)
        self._check_classes(self._engine.class_names)
        pins = work.pins_of(self._engine, self._engine_component, self.looked_at)
        self._take_pins(pins)
        videos = {name: str(path.absolute()) for name, path in paths.items()}
        self.folder.ask({"version": 1, "videos": videos, "pins": pins, "request": _plain(self.request)})
        self._find(paths)

    def find(self, paths: Mapping[str, Path], *, pins: Mapping[str, Any]) -> None:
        """The same for a job whose chunks others have made."""
        self.names = list(paths)
        self._check_classes(pins["classes"])
        self._take_pins(pins)
        self._find(paths)
        for name in list(self._cuts):
            if missing := len(self._cuts[name].chunks) - len(self.manifest.chunks(name)):
                total = len(self._cuts[name].chunks)
                self._fail(name, f"{missing} of {total} chunks are missing; are all its --shard jobs done?")

    def _find(self, paths: Mapping[str, Path]) -> None:
        if self.manifest.rebuilt:
            self.notes.append(f"the index of the job was made again from what was found: {self.manifest.rebuilt}")
        for name, path in paths.items():
            try:
                self._know(name, path)
            except (InputError, OutputError) as error:
                self._fail(name, str(error))
        for name in self._cuts:
            self._take_stock(name)

    def _take_pins(self, pins: Mapping[str, Any]) -> None:
        before = self.manifest.pins or self._pins_in_chunks()
        if before is not None and (difference := work.unmet(before, pins)):
            raise UsageError(
                f"{self.folder.path}: what was found there was made otherwise ({difference}); "
                "--overwrite starts anew, or choose another folder"
            )
        self.manifest.pin(pins)
        self._pins = pins

    def _pins_in_chunks(self) -> Mapping[str, Any] | None:
        for video in self.folder.videos:
            for number in numbers_in(self.folder.chunks_of(video)):
                try:
                    pins: Mapping[str, Any] = head_in(file_of(self.folder.chunks_of(video), number))["pins"]
                except (Damaged, KeyError):
                    continue
                return pins
        return None

    def _know(self, name: str, path: Path) -> None:
        """What a video is, and how it is cut; InputError where it cannot be done, or is another one than before."""
        self._paths[name] = path
        identity, entry = Identity.of(path), self.manifest.entry(name)
        found = self._identity_in_chunks(name) or (entry.identity if entry and self.manifest.chunks(name) else None)
        if found is not None and found != identity:
            raise InputError(
                f"{path}: another file than the one that was looked at in {self.folder.path} as {name}; "
                "rename it, or --overwrite starts anew"
            )
        if entry and entry.identity == identity and entry.error and not self.request.retry_failed:
            raise InputError(f"{entry.error} (as before; --retry-failed tries again)")
        self._identities[name] = identity
        known = entry.cut if entry and entry.identity == identity and not entry.error else None
        try:
            self._cuts[name] = known or cut(path, self.looked_at, seconds=self.request.chunk_seconds)
        except InputError as error:
            self.manifest.put(name, Entry(identity, None, str(error)))
            raise
        self.manifest.put(name, Entry(identity, self._cuts[name], ""))

    def _identity_in_chunks(self, name: str) -> Identity | None:
        for number in numbers_in(self.folder.chunks_of(name)):
            try:
                return Identity(**head_in(file_of(self.folder.chunks_of(name), number))["identity"])
            except (Damaged, KeyError, TypeError):
                continue
        return None

    def _take_stock(self, name: str) -> None:
        """Let the index say what the chunks' files say; a file that is not whole, or not of this cut, goes."""
        folder, known = self.folder.chunks_of(name), self.manifest.chunks(name)
        there = numbers_in(folder)
        whole = Run(name, self._paths[name], self._cuts[name], 0, len(self._cuts[name].chunks))
        for number in there:
            path = file_of(folder, number)
            if number in known and known[number].num_bytes == path.stat().st_size:
                continue
            try:
                if number >= whole.last or head_in(path) != head(whole, number, self._job(name)):
                    raise Damaged(path, "it is of another cut of the video")
                self.manifest.add(checked(path, name))
            except Damaged as error:
                self._drop(name, number, error)
        for number in set(known) - set(there):
            self.manifest.forget(name, number)

    def _drop(self, name: str, number: int, error: Damaged) -> None:
        self.notes.append(f"{error}; it is done again")
        error.path.unlink(missing_ok=True)
        self.manifest.forget(name, number)

    # Looking

    def look(self) -> None:
        """Look at what was not looked at; a video whose packets lie is looked at once more as a whole."""
        for name in list(self._cuts):
            self._counts[name] = sum(each.num_frames for each in self.manifest.chunks(name).values())
            self.progress("looking", name, self._counts[name], self._cuts[name].num_selected)
        while runs := [run for name in self._cuts for run in self._missing(name)]:
            outcome = self._looked(runs)
            self.exit_code = self.exit_code or outcome.exit_code
            if self.exit_code:
                break
            for run, error in outcome.errors:
                self._judge(run, error)
        for name in list(self._cuts) if not self.exit_code else ():
            if self._has_changed(name):
                self._fail(name, f"{self._paths[name]}: it has changed or gone while it was looked at")
            else:
                self._check_joined(name)

    def _looked(self, runs: Sequence[Run]) -> work.Outcome:
        looking = Looking(
            self._engine_component,
            self.looked_at,
            self._pins,
            {name: self.folder.chunks_of(name) for name in self._cuts},
            {name: self._job(name) for name in self._cuts},
        )
        count = self.request.parallel or 1
        if count > 1:
            return work.look_in_processes(count, runs, looking, ended=self._ended, told=self._told)
        return work.look(self._engine, runs, looking, ended=self._ended, told=self._told)

    def _missing(self, name: str) -> list[Run]:
        """The chunks that are missing, those that follow each other in one run."""
        chunks, done = self._cuts[name].chunks, self.manifest.chunks(name)
        missing = [number for number in range(len(chunks)) if number not in done and self._is_mine(name, number)]
        runs: list[Run] = []
        for number in missing:
            if runs and runs[-1].last == number:
                runs[-1] = replace(runs[-1], last=number + 1)
            else:
                runs.append(Run(name, self._paths[name], self._cuts[name], number, number + 1))
        return runs

    def _is_mine(self, name: str, number: int) -> bool:
        """Whether a chunk is this part's: each video is shared out in stretches, and the short ones in turn."""
        if self.request.shard is None:
            return True
        which, of = self.request.shard
        stretch = number * of // len(self._cuts[name].chunks)
        return (self.names.index(name) + stretch) % of == which - 1

    def _judge(self, run: Run, error: BaseException) -> None:
        """What becomes of a video after an error."""
        name = run.video
        if name not in self._cuts:
            return
        if isinstance(error, OutputError):
            raise error
        if self._has_changed(name):
            self._fail(name, f"{self._paths[name]}: it has changed or gone while it was looked at")
        elif isinstance(error, InputError) and self._cuts[name].num_frames is not None:
            self._do_whole(name, error)
        elif isinstance(error, InputError):
            self.manifest.put(name, Entry(self._identities[name], self._cuts[name], str(error)))
            self._fail(name, str(error))
        else:
            self._fail(name, said(error))

    def _has_changed(self, name: str) -> bool:
        try:
            return Identity.of(self._paths[name]) != self._identities[name]
        except InputError:
            return True

    def _do_whole(self, name: str, error: InputError) -> None:
        """Look at a video anew in one go: where its pictures are is not where its packets said."""
        if self.request.shard is not None and len(self._cuts[name].chunks) > 1:
            self._fail(name, f"{error}; without --shard it is looked at in one go")
            return
        log.info("%s: is looked at in one go, because its packets do not say where its pictures are", name)
        for number in numbers_in(self.folder.chunks_of(name)):
            file_of(self.folder.chunks_of(name), number).unlink()
        self.manifest.forget(name)
        self._cuts[name] = self._cuts[name].uncut()
        self.manifest.put(name, Entry(self._identities[name], self._cuts[name], ""))

    def _check_joined(self, name: str) -> None:
        done, chunks = self.manifest.chunks(name), self._cuts[name].chunks
        if self.request.shard is None and not join([done[number] for number in sorted(done)], chunks):
            self._fail(name, f"{self._paths[name]}: the chunks do not join; --overwrite starts anew")

    def _ended(self, ended: Ended) -> None:
        self.manifest.add(ended)

    def _told(self, name: str, frames: int) -> None:
        self._counts[name] = self._counts.get(name, 0) + frames
        self._new[name] = self._new.get(name, 0) + frames
        self.progress("looking", name, self._counts[name], self._cuts[name].num_selected)

    # Writing

    def write(self) -> None:
        """Make the labels of all that was looked at; where a chunk turns out to be damaged, after looking again."""
        while not self.exit_code:
            videos = [self._video(name) for name in self._cuts]
            if not videos:
                return
            if not self._pass(videos):
                return

    def _pass(self, videos: Sequence[Video]) -> bool:
        """One pass; whether another one is needed, without a video that failed or with a chunk that was redone."""
        order = Order(
            tuple(self._pins["classes"]),
            self._pins["min_score"] if self.request.min_score is None else self.request.min_score,
            self.looked_at,
            self.selection if self.request.track_all else Selection(),
            tuple(self.request.classes),
            self.request.label_size,
            self.folder.path if self.request.video else None,
        )
        formats = formats_of(self.request.formats)
        labels = Labels(self.folder.path, formats, self._pins["classes"][1:], pictures=self.request.pictures)
        with labels:
            passed = ordering.run(videos, order, labels, progress=lambda *now: self.progress("writing", *now))
            self.exit_code = passed.exit_code
            if passed.errors or self.exit_code:
                for format in formats.values():
                    format.discard()
                return self._after(passed.errors)
            self.left_out = labels.close()
        self.written = dict(passed.written)
        self.outputs = [str(self.folder.path), *passed.outputs]
        for name, written in self.written.items():
            for refusing, why in written.refused.items():
                self.errors[name] = f"{refusing}: {why}"
        return False

    def _after(self, errors: Mapping[str, BaseException]) -> bool:
        """What becomes of a pass with errors; whether another one is worth it."""
        if self.exit_code:
            return False
        if error := ordering.damaged(errors):
            name = error.path.parent.name
            self._drop(name, int(error.path.name.split(".")[0]), error)
            if self.request.finish is None and hasattr(self, "_engine"):
                self.look()
            else:
                self._fail(name, str(error))
            return True
        for each in errors.values():
            if isinstance(each, OutputError):
                raise each
        for name, each in errors.items():
            if isinstance(each, InputError):
                self._fail(name, str(each))
                return True
        raise next(iter(errors.values()))

    def _video(self, name: str) -> Video:
        done, folder = self.manifest.chunks(name), self.folder.chunks_of(name)
        numbers = sorted(done)
        files = tuple(file_of(folder, number) for number in numbers)
        return Video(name, self._paths[name], self._cuts[name], files, done[numbers[-1]].next_index)

    # How it went

    def summary(self) -> AnnotationSummary:
        videos = {}
        for name in self.names:
            written = self.written.get(name, Written())
            videos[name] = VideoSummary(
                written.frames, written.objects, len(written.tracks), self._new.get(name, 0), self.errors.get(name)
            )
        first = next((f"{name}: {error}" for name, error in self.errors.items()), None)
        stopped = "stopped before its end; the same command goes on from here" if self.exit_code else None
        return AnnotationSummary(
            videos,
            tuple(self.outputs),
            self.left_out,
            tuple(dict.fromkeys(self.notes)),
            round(time.monotonic() - self._began, 3),
            stopped or first,
            self.exit_code or (1 if self.errors else 0),
        )

    def _fail(self, name: str, error: str) -> None:
        self.errors[name] = error
        self._cuts.pop(name, None)

    def _job(self, name: str) -> dict[str, Any]:
        return {"identity": self._identities[name].to_json(), "pins": dict(self._pins)}

    def _check_classes(self, known: Sequence[str]) -> None:
        for name in self.request.classes:
            if name not in known[1:]:
                raise UsageError(f"--classes: the model has no class {name!r}{nearest(name, known[1:])}")


def formats_of(texts: Sequence[str]) -> dict[str, Format]:
    """The formats that a person asks for, by their names; UsageError for what is wrong with one."""
    made: dict[str, Format] = {}
    for text in texts:
        component = parse_component(text, what="--format")
        if component.name in made:
            raise UsageError(f"--format: expected each format once, got {component.name} twice")
        made[component.name] = plugins.build("formats", component.name, component.options)
    return made


def _check_apart(formats: Mapping[str, Format], selection: Selection, request: AnnotateRequest) -> None:
    """Formats of tracks need frames that lie near each other."""
    far = selection.every is not None and selection.every > ordering.FOLLOWED and not request.track_all
    for name, format in formats.items():
        if far and format.tracks_only:
            raise UsageError(
                f"--format {name}: it holds tracks, and over {selection.every:g} s from frame to frame nothing is "
                "followed; --track-all looks at the frames between too"
            )


def _output(request: AnnotateRequest) -> str:
    if not request.output:
        raise UsageError("-o: expected the FOLDER for the labels")
    return request.output


def _selection(request: AnnotateRequest) -> Selection:
    return Selection(request.every, request.stride or 1)


def _engine(request: AnnotateRequest) -> Component:
    component = parse_component(request.engine, what="--engine") if request.engine else Component(name="auto")
    options = dict(component.options)
    if request.model is not None:
        options["model"] = request.model
    if request.class_names:
        options["class_names"] = list(request.class_names)
    plugins.check("engines", component.name, options)
    return Component(name=component.name, options=options)


def _inputs(request: AnnotateRequest) -> tuple[dict[str, Path], dict[str, str]]:
    """The videos by their names, and why others cannot be done."""
    texts = [line for text in request.inputs for line in (_listed(text) if text.startswith("@") else [text])]
    if not texts:
        raise UsageError("expected an INPUT: video files, folders or globs of them, or @list.txt")
    paths: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for given in expand(texts):
        if given.problem is not None:
            refused[given.name] = str(given.problem)
        elif given.path is None or given.source is None or given.source.name != "video_file":
            raise UsageError(f"{given.stem}: expected a video file; cameras and folders of pictures are not annotated")
        else:
            paths[given.name] = given.path
    return paths, refused


def _listed(text: str) -> list[str]:
    """The lines of `@list.txt` that say something; a relative path is relative to the list."""
    path = Path(os.path.expanduser(text[1:]))
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise UsageError(f"{text}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    named = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [str(path.parent / line) for line in named]


def _plain(request: AnnotateRequest) -> dict[str, Any]:
    """What `--finish` needs to know of the request."""
    left_out = ("inputs", "finish", "shard", "overwrite", "retry_failed", "parallel")
    return {key: value for key, value in asdict(request).items() if key not in left_out}


def load(request: AnnotateRequest) -> None:
    """Import what the engine of a request needs, such as TensorFlow, which greets while it is imported."""
    if request.finish is None and request.inputs:
        engine: Any = plugins.find("engines", _engine(request).name)
        getattr(engine, "chosen", lambda: engine)()
