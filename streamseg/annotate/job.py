"""A whole annotation: what was asked is checked, what is missing is looked at, and labels are made of all of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamseg.annotate import cluster, ordering, work
from streamseg.annotate.asking import (
    check_classes,
    check_drawn,
    check_followed,
    check_formats,
    check_length,
    check_names,
    engine_of,
    finishing,
    formats_of,
    noted,
    selection_of,
    videos_of,
)
from streamseg.annotate.chunks import Run
from streamseg.annotate.folder import JOB_VERSION, Folder
from streamseg.annotate.manifest import Manifest
from streamseg.annotate.ordering import Order, Passed, Video
from streamseg.annotate.report import AnnotationSummary, VideoSummary
from streamseg.annotate.request import AnnotateRequest
from streamseg.annotate.selection import Selection
from streamseg.annotate.stock import Stock
from streamseg.annotate.work import Looking
from streamseg.annotate.writing import Labels
from streamseg.buckets import is_address
from streamseg.config import Component
from streamseg.flow.report import said
from streamseg.types import Engine, InputError, OutputError, UsageError

log = logging.getLogger(__name__)

Progress = Callable[[str, str, int, int | None], None]
"""Hears what is done ("looking", "writing"), the video, its frames that are done and those expected."""

CHANGED = "it has changed or gone while it was looked at"
STOPPED = "stopped before its end; the same command goes on from here"


def annotate(request: AnnotateRequest, *, progress: Progress | None = None) -> AnnotationSummary:
    """Do all of it. UsageError for what is wrong with the request; of a video its error stands in the summary."""
    if request.finish is not None:
        return _finish(request, progress)
    if not request.output:
        raise UsageError("-o: expected the FOLDER for the labels")
    folder, component, selection = Folder(request.output), engine_of(request), _looked_at(request)
    check_formats(request)
    if request.cluster is not None:
        cluster.check(request.cluster, shard=request.shard)
    if request.overwrite and request.shard is not None:
        raise UsageError(
            "--overwrite: with --shard it would forget what the other parts have found; "
            "remove the folder before the parts begin"
        )
    paths, refused, names = videos_of(request)
    check_names(formats_of(request.formats), paths)
    with folder.taken(shard=request.shard), Manifest(folder.path) as manifest:
        engine = work.build(component, tiles=request.tiles)
        check_classes(request, engine.class_names)
        if request.shard is None:  # what a format cannot do with these classes or this folder is said before all else
            with Labels(folder.path, formats_of(request.formats), engine.class_names[1:], pictures=False) as labels:
                labels.discard()
            check_drawn(request, folder, paths)
        if request.overwrite:
            folder.clear()
            manifest.clear()
        pins = work.pins_of(engine, component, selection, tiles=request.tiles)
        stock = Stock(folder, manifest, selection=selection, pins=pins)
        videos = {name: path if isinstance(path, str) else str(path.absolute()) for name, path in paths.items()}
        asked = {"version": JOB_VERSION, "videos": videos, "refused": refused, "pins": pins, "request": noted(request)}
        folder.ask(asked)
        job = _Job(request, stock, progress, names=names, errors=refused)
        job.find(paths)
        job.look(engine, component)
        if request.shard is None:
            job.write()
        else:
            stock.notes.append(f"streamseg annotate --finish {folder} writes the labels when all parts are done")
        return job.summary()


def _finish(request: AnnotateRequest, progress: Progress | None) -> AnnotationSummary:
    """The labels of what the parts of a job have found, as that job was asked for them."""
    if request.inputs or request.output or request.shard:
        raise UsageError("--finish: expected no INPUT, no -o and no --shard beside it")
    folder = Folder(request.finish or "")
    asked = folder.asked
    if asked is None:
        raise UsageError(f"--finish {folder}: no annotation was begun in this folder")
    again = finishing(asked["request"], request)
    check_formats(again)
    check_names(formats_of(again.formats), asked["videos"])
    check_classes(again, asked["pins"]["classes"])
    with folder.taken(), Manifest(folder.path) as manifest:
        stock = Stock(folder, manifest, selection=_looked_at(again), pins=asked["pins"])
        videos = {name: text if is_address(text) else Path(text) for name, text in asked["videos"].items()}
        check_drawn(again, folder, videos)
        refused = asked.get("refused", {})
        job = _Job(again, stock, progress, names=[*videos, *refused], errors=refused)
        job.find(videos)
        job.leave_out_unfinished()
        job.write()
        return job.summary()


def _looked_at(request: AnnotateRequest) -> Selection:
    """Which frames are looked at."""
    return Selection() if request.track_all else selection_of(request)


class _Job:
    """One annotation under way. names: of all videos in order · errors: of those that cannot be done"""

    def __init__(
        self,
        request: AnnotateRequest,
        stock: Stock,
        progress: Progress | None,
        *,
        names: Sequence[str],
        errors: Mapping[str, str],
    ) -> None:
        self.request, self.stock = request, stock
        self.progress = progress or (lambda *_: None)
        self.errors: dict[str, str] = dict(errors)
        self.names = names
        self.passed: Passed | None = None
        self.left_out: Mapping[str, Mapping[str, int]] = {}
        self.exit_code = 0
        self._engine: tuple[Engine, Component] | None = None
        self._seen: dict[str, int] = {}  # frames that were looked at, ever
        self._new: dict[str, int] = {}  # and by this job
        self._began = time.monotonic()

    def find(self, paths: Mapping[str, Path | str]) -> None:
        """Find out what is done of these videos and what is not."""
        for name, path in paths.items():
            try:
                check_length(self.request, name)
                self.stock.add(name, path, seconds=self.request.chunk_seconds, retry=self.request.retry_failed)
                check_followed(self.request, self.stock.selection.step(float(self.stock.cuts[name].rate)))
            except (InputError, UsageError) as error:
                self._fail(name, str(error))

    def leave_out_unfinished(self) -> None:
        """No labels of a video of which something is missing."""
        for name in list(self.stock.cuts):
            if missing := self.stock.num_missing(name):
                total = len(self.stock.cuts[name].chunks)
                self._fail(name, f"{missing} of {total} chunks are missing; are all its --shard jobs done?")

    # Looking

    def look(self, engine: Engine, component: Component) -> None:
        """Look at what was not looked at; at a video whose packets lie, once more as a whole."""
        self._engine = engine, component
        for name, made in self.stock.cuts.items():
            self._seen[name] = self.stock.num_frames(name)
            self.progress("looking", name, self._seen[name], made.num_selected)
        while runs := [run for name in self.stock.cuts for run in self._missing(name)]:
            outcome = self._looked(runs, engine, component)
            self.stock.notes += outcome.notes
            if outcome.exit_code:
                self.exit_code = outcome.exit_code
                return
            for run, error in outcome.errors:
                self._judge(run, error)
        for name in list(self.stock.cuts):
            if self.stock.has_changed(name):
                self._fail(name, f"{self.stock.paths[name]}: {CHANGED}")
            elif self.request.shard is None and not self.stock.is_joined(name):
                self._fail(name, f"{self.stock.paths[name]}: its chunks do not join; --overwrite starts anew")

    def _looked(self, runs: Sequence[Run], engine: Engine, component: Component) -> work.Outcome:
        stock = self.stock
        store = {name: stock.folder.chunks_of(name) for name in stock.cuts}
        jobs = {name: stock.job_of(name) for name in stock.cuts}
        looking = Looking(
            component, self.request.tiles, stock.selection, stock.pins, store, jobs, dict(stock.addresses)
        )
        told: dict[str, Any] = {"ended": stock.done, "told": self._told}
        if self.request.cluster is not None:
            return cluster.look_on_cluster(self.request.cluster, runs, looking, most=self.request.parallel, **told)
        if (count := self.request.parallel or 1) > 1:
            return work.look_in_processes(count, runs, looking, **told)
        return work.look(engine, runs, looking, **told)

    def _missing(self, name: str) -> list[Run]:
        return self.stock.missing(name, wanted=lambda number: self._is_mine(name, number))

    def _is_mine(self, name: str, number: int) -> bool:
        """Whether a chunk is this part's: each video is shared out in stretches, and the short ones in turn."""
        if self.request.shard is None:
            return True
        which, of = self.request.shard
        stretch = number * of // len(self.stock.cuts[name].chunks)
        return (self.names.index(name) + stretch) % of == which - 1

    def _judge(self, run: Run, error: BaseException) -> None:
        """What becomes of a video after an error in a run of its chunks."""
        name = run.video
        if name not in self.stock.cuts:
            return
        made, begin = self.stock.cuts[name], self.stock.first_missing(run)
        if isinstance(error, OutputError):
            raise error
        if self.stock.has_changed(name):
            self._fail(name, f"{self.stock.paths[name]}: {CHANGED}")
        elif not isinstance(error, InputError):
            self._fail(name, said(error))
        elif made.num_frames is None and run.cut == made and begin == len(made.chunks) - 1:
            self._fail(name, str(error), again=False)
        elif self.request.shard is not None and len(made.chunks) > 1:
            self._fail(name, f"{error}; without --shard it is looked at in one go")
        elif begin < len(made.chunks):  # else that part is to be looked at anew already
            part = f" from {made.chunks[begin].time:g} s on" if begin else ""
            log.info("%s: looked at in one go%s, because its packets do not say where its pictures are", name, part)
            self.stock.uncut(name, begin)

    def _told(self, name: str, frames: int) -> None:
        self._seen[name] = self._seen.get(name, 0) + frames
        self._new[name] = self._new.get(name, 0) + frames
        self.progress("looking", name, self._seen[name], self.stock.cuts[name].num_selected)

    # Writing

    def write(self) -> None:
        """Make the labels of all that was looked at, without the videos that fail; the formats know no half ones."""
        while not self.exit_code and (videos := [self.stock.video(name) for name in self.stock.cuts]):
            if not (errors := self._pass(videos)):
                return
            self._recover(errors)

    def _pass(self, videos: Sequence[Video]) -> Mapping[str, BaseException]:
        """One pass, and what went wrong in it; then nothing of it has a final name."""
        stock, request = self.stock, self.request
        formats, classes = formats_of(request.formats), tuple(stock.pins["classes"])
        order = Order(
            classes,
            stock.pins["min_score"] if request.min_score is None else request.min_score,
            stock.selection,
            selection_of(request) if request.track_all else Selection(),
            tuple(request.classes),
            request.label_size,
            stock.folder.path if request.video else None,
        )
        with Labels(stock.folder.path, formats, classes[1:], pictures=request.pictures) as labels:
            passed = ordering.run(videos, order, labels, progress=lambda *now: self.progress("writing", *now))
            self.exit_code = passed.exit_code
            if passed.errors or passed.exit_code:
                labels.discard()
                return passed.errors
            self.left_out = labels.close()
            stock.folder.publish()
        self.passed = passed
        for name, warnings in passed.warnings.items():
            stock.notes += [f"{name}: {what}: {times}" for what, times in warnings.items()]
        for name, written in passed.written.items():
            for refusing, why in written.refused.items():
                self.errors[name] = f"{refusing}: {why}"
        return {}

    def _recover(self, errors: Mapping[str, BaseException]) -> None:
        """Get ready for another pass: a chunk that is not whole is looked at again, a video that fails left out."""
        if self.exit_code:
            return
        if damaged := ordering.damaged(errors):
            self.stock.drop(damaged)
            if self._engine:
                self.look(*self._engine)
            else:
                self.leave_out_unfinished()
            return
        for name, error in errors.items():
            if not isinstance(error, InputError):
                raise error
            self._fail(name, str(error))

    # How it went

    def summary(self) -> AnnotationSummary:
        written = self.passed.written if self.passed else {}
        videos = {
            name: VideoSummary(looked_at=self._new.get(name, 0), error=self.errors.get(name)) for name in self.names
        }
        for name, each in written.items():
            videos[name] = VideoSummary(
                each.frames, each.objects, len(each.tracks), self._new.get(name, 0), self.errors.get(name)
            )
        first = next((f"{name}: {error}" for name, error in self.errors.items()), None)
        return AnnotationSummary(
            videos,
            (str(self.stock.folder), *map(self.stock.folder.called, self.passed.outputs)) if self.passed else (),
            self.left_out,
            tuple(dict.fromkeys(self.stock.notes)),
            round(time.monotonic() - self._began, 3),
            STOPPED if self.exit_code else first,
            self.exit_code or (1 if self.errors else 0),
        )

    def _fail(self, name: str, error: str, *, again: bool = True) -> None:
        """A video cannot be done; again: it is tried the next time without being asked to."""
        self.errors[name] = self.stock.called(name, error)
        self.stock.fail(name, "" if again else error)
