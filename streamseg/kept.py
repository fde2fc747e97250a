"""What trackers and counters know of a stream, kept over a restart: plain data in a file, whole or not at all.

Plain data are dicts with texts for keys, lists, texts, numbers, booleans and None, so that JSON gives back exactly the
same. The state of a component says whose it is:

    {"of": "counter per_class", "version": 1, …}

and the file of a run holds those of each stream's components under names that their owner gives them:

    {"version": 1, "streams": {"door": {"per_class": {…}, "line gate": {…}}}}
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from streamseg.types import InputError, OutputError, State, UsageError

VERSION = 1
"""Of the file around the states; each component counts its own."""


class Stateful(Protocol):
    """What can be kept: every tracker, every counter."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


# A component's state.


def labelled(of: str, *, version: int, **fields: Any) -> dict[str, Any]:
    """The state of one component: its fields, after whose they are and in which version of its format."""
    return {"of": of, "version": version, **fields}


@contextmanager
def reading(state: State, *, of: str, version: int) -> Iterator[State]:
    """The fields of a state, to be turned into what the component holds; UsageError where it is another component's.

    What goes wrong inside (a field that is missing or of another form) becomes a UsageError too. So a component first
    makes all that it needs from the fields and takes it over afterwards.
    """
    got = _label(state)
    if got != (of, version):
        raise UsageError(f"expected a state of {of}, version {version}, got {_said(got)}")
    try:
        yield state
    except KeyError as error:
        raise UsageError(f"the state of {of} is damaged: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UsageError(f"the state of {of} is damaged: {error}") from error


def packed(array: np.ndarray) -> dict[str, Any]:
    """An array of any shape and of a numeric or boolean dtype as plain data."""
    values = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "values": values}


def unpacked(plain: Mapping[str, Any]) -> np.ndarray:
    """The array that `packed` packed, free to be written to; KeyError, TypeError or ValueError where it is none."""
    values = np.frombuffer(base64.b64decode(plain["values"], validate=True), np.dtype(plain["dtype"]))
    return values.reshape(plain["shape"]).copy()


# A run's.


def save(path: str | os.PathLike[str], streams: Mapping[str, Mapping[str, State]]) -> None:
    """Write the states by stream and component; what was there stays whole until they are, also at a loss of power."""
    path = Path(path)
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        text = json.dumps({"version": VERSION, "streams": streams}, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} cannot be written: the state is not plain data ({error})") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else the name may reach the disk before the text does
        os.replace(part, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise OutputError(f"{path} cannot be written: {_reason(error)}") from error


def load(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The states in a file, by stream and component; InputError for another file, UsageError for another version."""
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {_reason(error)}") from error
    except ValueError as error:
        raise InputError(f"{path}: expected the kept state of a run, got no whole JSON ({error})") from error
    streams = document.get("streams") if isinstance(document, dict) else None
    if not isinstance(streams, dict) or "version" not in document:
        raise InputError(f"{path}: expected the kept state of a run, got other JSON")
    if document["version"] != VERSION:
        raise UsageError(f"{path}: expected kept state of version {VERSION}, got version {document['version']!r}")
    if not all(isinstance(states, dict) for states in streams.values()):
        raise InputError(f"{path}: expected the kept state of a run, got other JSON")
    return streams


def _sync_folder(folder: Path) -> None:
    """Bring the folder's new names to the disk, where a folder can be opened at all."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _label(state: Any) -> tuple[Any, Any] | None:
    return (state.get("of"), state.get("version")) if isinstance(state, Mapping) else None


def _said(label: tuple[Any, Any] | None) -> str:
    return "no state at all" if label is None or label[0] is None else f"one of {label[0]}, version {label[1]}"
