"""What a job has already: its videos, how each is cut, which chunks are whole and which are missing.

The chunks' files are what counts. The index only saves reading all of them at each start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamseg import buckets
from streamseg.annotate import work
from streamseg.annotate.chunks import Cut, Run, cut
from streamseg.annotate.folder import Folder
from streamseg.annotate.manifest import Entry, Identity, Manifest
from streamseg.annotate.ordering import Video
from streamseg.annotate.recordings import Damaged, Ended, checked, file_of, head, head_in, join, numbers_in
from streamseg.annotate.selection import Selection
from streamseg.types import InputError, UsageError


class Stock:
    """The videos of a job and their chunks.

    cuts: of the videos that can be done · paths: where they lie on this machine · addresses: of those in buckets ·
    notes: what its user should know
    """

    def __init__(self, folder: Folder, manifest: Manifest, *, selection: Selection, pins: Mapping[str, Any]) -> None:
        self.folder, self.selection, self.pins = folder, selection, pins
        self.cuts: dict[str, Cut] = {}
        self.paths: dict[str, Path] = {}
        self.addresses: dict[str, str] = {}
        self.notes: list[str] = []
        self.manifest = manifest
        self._identities: dict[str, Identity] = {}
        if manifest.rebuilt:
            self.notes.append(f"the index of the job was made again from what was found: {manifest.rebuilt}")
        self._check_pins()

    def add(self, name: str, place: Path | str, *, seconds: float, retry: bool) -> None:
        """A video more; InputError where it cannot be done, or is another one than before.

        place: its path, or its address in a bucket · seconds: of a chunk, at least · retry: one that could not be read
        before is read again
        """
        if isinstance(place, str):
            self.addresses[name] = place
        path = self.paths[name] = buckets.fetched(place) if isinstance(place, str) else place
        identity, entry = Identity.of(path), self.manifest.entry(name)
        if (found := self._identity_of_chunks(name, entry)) is not None and found != identity:
            raise InputError(
                f"{path}: another file than the one that was looked at in {self.folder} as {name}; "
                "rename it, or --overwrite starts anew"
            )
        if entry is None or entry.identity != identity or (entry.error and retry):
            entry = Entry(identity, None, "")
        if entry.cut is not None and entry.selection != str(self.selection):
            entry = replace(entry, cut=None)
        if entry.cut is None:
            self.manifest.forget(name)  # what is there is read again, to see whether it is of the new cut
        if entry.error:
            raise InputError(f"{entry.error} (as before; --retry-failed tries again)")
        self._identities[name] = identity
        try:
            self._put_cut(name, entry.cut or cut(path, self.selection, seconds=seconds))
        except InputError as error:
            self.manifest.put(name, Entry(identity, None, str(error)))
            raise
        try:
            self._take_stock(name)
        except InputError:
            del self.cuts[name]
            raise

    def fail(self, name: str, error: str = "") -> None:
        """A video cannot be done; error: why it need not be tried again the next time, "" where it is to be."""
        if error:
            self.manifest.put(name, self._entry(name, error))
        self.cuts.pop(name, None)

    def job_of(self, name: str) -> dict[str, Any]:
        """What each chunk of a video says of its job."""
        return {"identity": self._identities[name].to_json(), "pins": dict(self.pins)}

    def num_frames(self, name: str) -> int:
        """Frames of a video that were looked at."""
        return sum(each.num_frames for each in self.manifest.chunks(name).values())

    def num_missing(self, name: str) -> int:
        """Chunks of a video that are not there."""
        return len(self.cuts[name].chunks) - len(self.manifest.chunks(name))

    def missing(self, name: str, *, wanted: Callable[[int], bool]) -> list[Run]:
        """The wanted chunks that are not there, those that follow each other in one run."""
        chunks, done = self.cuts[name].chunks, self.manifest.chunks(name)
        runs: list[Run] = []
        for number in (each for each in range(len(chunks)) if each not in done and wanted(each)):
            if runs and runs[-1].last == number:
                runs[-1] = replace(runs[-1], last=number + 1)
            else:
                runs.append(Run(name, self.paths[name], self.cuts[name], number, number + 1))
        return runs

    def first_missing(self, run: Run) -> int:
        """The first chunk of a run that is not there."""
        done = self.manifest.chunks(run.video)
        return next((each for each in range(run.first, run.last) if each not in done), run.last)

    def has_changed(self, name: str) -> bool:
        """Whether a video's file is another one than when the job began, or gone."""
        try:
            if (address := self.addresses.get(name)) and buckets.copy_of(address) != self.paths[name]:
                return True
            return Identity.of(self.paths[name]) != self._identities[name]
        except InputError:
            return True

    def called(self, name: str, text: str) -> str:
        """A text about a video, in which it is called as a person calls it."""
        address, path = self.addresses.get(name), self.paths.get(name)
        return text if address is None or path is None else text.replace(str(path), address)

    def done(self, ended: Ended) -> None:
        """A chunk is there and whole."""
        self.folder.share(file_of(self.folder.chunks_of(ended.video), ended.number))
        self.manifest.add(ended)

    def is_joined(self, name: str) -> bool:
        """Whether every frame of a video is in exactly one of its chunks."""
        done = self.manifest.chunks(name)
        return join([done[number] for number in sorted(done)], self.cuts[name].chunks)

    def uncut(self, name: str, begin: int) -> None:
        """Forget what was found in a video from a chunk on: the rest is looked at in one go from now on."""
        for number in numbers_in(self.folder.chunks_of(name)):
            if number >= begin:
                self.folder.remove(file_of(self.folder.chunks_of(name), number))
                self.manifest.forget(name, number)
        self._put_cut(name, self.cuts[name].uncut(begin))

    def drop(self, error: Damaged) -> None:
        """Forget a chunk that is not whole."""
        name, number = error.path.parent.name, int(error.path.name.partition(".")[0])
        self.notes.append(f"{error}; it is done again")
        self.folder.remove(error.path)
        self.manifest.forget(name, number)

    def video(self, name: str) -> Video:
        """A video of which every chunk is there."""
        done, folder = self.manifest.chunks(name), self.folder.chunks_of(name)
        numbers = sorted(done)
        files = tuple(file_of(folder, number) for number in numbers)
        return Video(name, self.paths[name], self.cuts[name], files, done[numbers[-1]].next_index)

    def _put_cut(self, name: str, made: Cut) -> None:
        self.cuts[name] = made
        self.manifest.put(name, self._entry(name))

    def _entry(self, name: str, error: str = "") -> Entry:
        return Entry(self._identities[name], self.cuts[name], error, str(self.selection))

    def _check_pins(self) -> None:
        """UsageError where what is there was made otherwise."""
        found = [name for name in self.folder.videos if numbers_in(self.folder.chunks_of(name))]
        before = (self._first_said("pins", of=found) or self.manifest.pins) if found else None
        if before is not None and (difference := work.unmet(before, self.pins)):
            raise UsageError(
                f"{self.folder}: what was found there was made otherwise ({difference}); "
                "--overwrite starts anew, or choose another folder"
            )
        self.manifest.pin(self.pins)

    def _identity_of_chunks(self, name: str, entry: Entry | None) -> Identity | None:
        """Of the file whose chunks are there, None where there are none."""
        said = self._first_said("identity", of=[name])
        if said is not None:
            return Identity(**said)
        return entry.identity if entry and numbers_in(self.folder.chunks_of(name)) else None

    def _first_said(self, what: str, *, of: list[str]) -> Mapping[str, Any] | None:
        """What the first whole chunk of these videos says of its job."""
        for name in of:
            for number in numbers_in(self.folder.chunks_of(name)):
                try:
                    said: Mapping[str, Any] = head_in(file_of(self.folder.chunks_of(name), number))[what]
                except (Damaged, KeyError):
                    continue
                return said
        return None

    def _take_stock(self, name: str) -> None:
        """Let the index say what the chunks' files say; a file that is not whole, or not of this cut, goes."""
        folder, known = self.folder.chunks_of(name), self.manifest.chunks(name)
        there = numbers_in(folder)
        whole = Run(name, self.paths[name], self.cuts[name], 0, len(self.cuts[name].chunks))
        for number in there:
            path = file_of(folder, number)
            if number in known and known[number].num_bytes == path.stat().st_size:
                continue
            try:
                said = head_in(path)
                if difference := work.unmet(self.pins, said.get("pins", {})):
                    called = self.folder.called(str(path))
                    raise InputError(
                        f"{called}: made otherwise than the rest ({difference}); remove it, and it is done again"
                    )
                if number >= whole.last or said != head(whole, number, self.job_of(name)):
                    raise Damaged(path, "it is of another cut of the video")
                ended = checked(path, name)
                if ended.is_last and number < whole.last - 1:  # the packets of the rest do not say what decoding does
                    self._put_cut(name, self.cuts[name].uncut(number))
                    whole = replace(whole, cut=self.cuts[name], last=number + 1)
                elif number < whole.last - 1 and ended.next_index != whole.cut.chunks[number + 1].index:
                    raise Damaged(path, "it is of another cut of the video")
                self.manifest.add(ended)
            except Damaged as error:
                self.drop(error)
        for number in set(known) - set(there):
            self.manifest.forget(name, number)
