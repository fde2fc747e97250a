"""Holds what the page shows: the newest picture of every stream, its state, its numbers and its last events."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import Any, Protocol
from urllib.parse import quote

from streamseg.flow.by_hour import Hours
from streamseg.flow.report import Summary
from streamseg.records import plain
from streamseg.server.history import Column, History
from streamseg.thumbnails import is_shown, of_event
from streamseg.types import RUNNING, OutputError, OutputStatus, Result, SourceState, StreamInfo

STATES = ("connecting", "live", "stalled", "lost", "refused", "ended", "failed")
"""Those of a live source; `ended` and `failed` are streams that no more pictures will come from."""

EVENTS = 500  # that are kept
WAITING = 64  # events whose pictures are kept until their thumbnails are made
SECONDS_OF_FPS = 5.0
FRESH = 0.25  # seconds for which one look at the streams serves everybody who asks

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Is told at once of what is new; called in the pipeline's threads, so it returns at once."""

    def on_picture(self, stream: str) -> None: ...
    def on_event(self, event: Mapping[str, Any]) -> None: ...
    def on_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class _Stream:
    """What is known of one stream.

    since: unix seconds · last: what was counted last · shown: the last one with a picture, which one that is too old
    has not · times: when the last pictures were shown, monotonic
    """

    name: str
    state: str = "connecting"
    cause: str = ""
    since: float = field(default_factory=time.time)
    last: Result | None = None
    gone: bool = False  # nobody knows who is in sight
    shown: Result | None = None
    num_shown: int = 0
    times: deque[float] = field(default_factory=deque)
    history: History = field(default_factory=History)

    def said(self) -> dict[str, Any]:
        return {"name": self.name, "state": self.state, "cause": self.cause, "since": round(self.since, 3)}


@dataclass
class _Event:
    """One event; its result is kept until somebody, first of all the thread for pictures, makes its thumbnail."""

    record: dict[str, Any]
    result: Result | None
    thumbnail: bytes | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Hub:
    """Hears what happens in a pipeline (a `Listener`) and answers whoever asks, from any thread.

    It answers before there is a pipeline: then every stream of `stream_names` is `connecting`. A stream that joins
    later is added when something is heard of it.

    summary: `Pipeline.summary`, for frames, drops and sinks · publishers: how those of the pipeline are doing; both may
    be set later · hours: what is counted by hour, itself a listener of the pipeline
    """

    def __init__(
        self,
        stream_names: Iterable[str] = (),
        *,
        summary: Callable[[], Summary] | None = None,
        publishers: Callable[[], Sequence[OutputStatus]] = tuple,
    ) -> None:
        self.summary, self.publishers = summary, publishers
        self.watchers: tuple[Watcher, ...] = ()
        self._lock = threading.Lock()  # around the streams and their events; nobody waits while holding it
        self._streams = {name: _Stream(name) for name in stream_names}
        self.hours = Hours(self._streams)
        self._events: deque[_Event] = deque(maxlen=EVENTS)
        self._waiting: deque[_Event] = deque()
        self._looking = threading.Lock()
        self._looked = float("-inf")  # monotonic seconds of the last look, and what was seen
        self._seen: list[dict[str, Any]] = []
        self._summary: Summary | None = None

    # What happens in the pipeline.

    def on_open(self, stream: str, info: StreamInfo) -> None:
        with self._lock:
            told = info.live and self._stream(stream).state != "connecting"
        if not told:  # a file has no states of its own
            self._change(stream, SourceState("live"))

    def on_state(self, stream: str, state: SourceState) -> None:
        self._change(stream, state)

    def on_end(self, stream: str, error: str | None) -> None:
        self._change(stream, None, cause=error or "")

    def _change(self, name: str, state: SourceState | None, *, cause: str = "") -> None:
        with self._lock:
            stream = self._stream(name)
            if state is None:
                stream.state, stream.cause, stream.since = "failed" if cause else "ended", cause, time.time()
            else:
                stream.since = time.time() - (time.monotonic() - state.since)
                stream.state, stream.cause = state.name, state.cause
                stream.gone = state.name not in RUNNING
            self._looked = float("-inf")
            said = stream.said()
        for watcher in self.watchers:
            watcher.on_state(said)

    def on_result(self, result: Result) -> None:
        now = time.monotonic()
        with self._lock:
            stream = self._stream(result.frame.stream)
            stream.last, stream.gone = result, False
            if result.picture is not None:
                stream.shown = result
                stream.num_shown += 1
                stream.times.append(now)
                while now - stream.times[0] > SECONDS_OF_FPS:
                    stream.times.popleft()
            events = [self._kept(result, event) for event in result.events]
        if stream.history.due(time.time()):
            stream.history.add(time.time(), _numbers(result))
        for watcher in self.watchers:
            watcher.on_picture(stream.name)
            for event in events:
                watcher.on_event(event.record)

    def _kept(self, result: Result, event: Mapping[str, Any]) -> _Event:
        """The event among the last ones; lock held."""
        record = {"stream": result.frame.stream, **_plain(event)}
        record["id"] = str(record.get("id") or uuid.uuid4().hex)
        shown = is_shown(result, record)
        record["thumbnail"] = f"/api/events/{quote(record['id'], safe='')}/thumbnail.jpg" if shown else None
        kept = _Event(record, result if shown else None)
        self._events.append(kept)
        self._waiting.append(kept)
        if len(self._waiting) > WAITING:
            self._waiting.popleft().result = None
        return kept

    def _stream(self, name: str) -> _Stream:
        return self._streams.setdefault(name, _Stream(name))

    # What somebody asks.

    @property
    def names(self) -> list[str]:
        """The streams in their order."""
        with self._lock:
            return list(self._streams)

    def newest(self, name: str) -> Result | None:
        """The stream's last result with a picture; None before its first, and of a stream that nobody knows."""
        with self._lock:
            stream = self._streams.get(name)
            return stream.shown if stream else None

    def streams(self) -> list[dict[str, Any]]:
        """All streams as `/api/streams` answers; several who ask within a quarter of a second get the same."""
        return self.look()[0]

    def look(self) -> tuple[list[dict[str, Any]], Summary | None]:
        """The streams, and what the pipeline said of them, None before there is one; may wait for a disk."""
        with self._looking:
            if time.monotonic() - self._looked > FRESH:
                self._looked = time.monotonic()
                self._summary = self.summary() if self.summary else None
                self._seen = [self._said(name, self._summary) for name in self.names]
            return self._seen, self._summary

    def _said(self, name: str, summary: Summary | None) -> dict[str, Any]:
        run = summary.streams.get(name) if summary else None
        with self._lock:
            stream = self._streams[name]
            last, shown, num_shown, gone = stream.last, stream.shown, stream.num_shown, stream.gone
            said = stream.said()
            fps = _rate(stream.times, time.monotonic())
        counts = _plain(last.counts if last else run.totals if run else {})  # before the first picture those kept
        in_sight = last.in_sight if last and not gone else {}
        return said | {
            "width": shown.frame.width if shown else None,
            "height": shown.frame.height if shown else None,
            "fps": round(fps, 1),
            "age": round(max(0.0, time.monotonic() - shown.frame.captured_at), 3) if shown else None,
            "read": run.read if run else num_shown,
            "shown": run.written if run else num_shown,
            "dropped": dict(run.dropped) if run else {},
            "now": in_sight,
            "counts": {kind: {} for kind in ("objects", "lines", "zones")} | counts,
            "sinks": [asdict(status) for status in run.sinks] if run else [],
        }

    def events(self, *, stream: str | None = None, limit: int = 50, before: str | None = None) -> list[dict[str, Any]]:
        """The last events, newest first; `before`: only those older than the event of this id.

        An id that is not kept any more has nothing before it.
        """
        with self._lock:
            newest_first = list(reversed(self._events))
        if before is not None:
            at = next((i for i, event in enumerate(newest_first) if event.record["id"] == before), len(newest_first))
            newest_first = newest_first[at + 1 :]
        chosen = [event for event in newest_first if stream in (None, event.record["stream"])][:limit]
        return [_without_lost_thumbnail(event) for event in chosen]

    def events_after(self, event_id: str) -> list[dict[str, Any]]:
        """The events since the one of this id, oldest first; none where it is not known."""
        with self._lock:
            kept = list(self._events)
        at = next((i for i, event in enumerate(kept) if event.record["id"] == event_id), len(kept))
        return [_without_lost_thumbnail(event) for event in kept[at + 1 :]]

    def thumbnail(self, event_id: str) -> bytes | None:
        """The JPEG of an event, made now if need be; None where it has none, or is not known."""
        with self._lock:
            event = next((event for event in self._events if event.record["id"] == event_id), None)
        return _thumbnail(event) if event else None

    def make_waiting_thumbnails(self) -> None:
        """Makes the thumbnails whose pictures wait for it, and lets go of the pictures."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                event = self._waiting.popleft()
            _thumbnail(event)

    def history(self, name: str, *, minutes: float) -> dict[str, Any]:
        """The numbers of a stream over the last minutes, as `/api/history` answers."""
        with self._lock:
            history = self._streams[name].history
        return history.since(time.time() - 60 * minutes)


def _numbers(result: Result) -> dict[Column, int]:
    """What the chart shows of a result: lines and zones over all classes."""
    numbers: Counter[Column] = Counter({("now", name): n for name, n in result.in_sight.items()})
    for kind, shown in (("lines", ("in", "out")), ("zones", ("now",))):
        for name, _, what, number in counted(result.counts.get(kind)):
            if what in shown:
                numbers[kind, f"{name} {what}"] += number
    return dict(numbers)


def counted(totals: Any) -> Iterator[tuple[str, str, str, int]]:
    """Name, class, direction and number of {"gate": {"person": {"in": 6}}}; what is of another shape is left out."""
    for name, classes in _items(totals):
        for class_name, numbers in _items(classes):
            for what, number in _items(numbers):
                if isinstance(number, Integral):
                    yield name, class_name, what, int(number)


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return [(str(key), each) for key, each in value.items()] if isinstance(value, Mapping) else ()


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Totals or an event as JSON can hold them; nothing of what a counter of one's own made otherwise."""
    try:
        return dict(plain(value, "counts"))
    except OutputError:
        return {}


def _rate(times: Sequence[float], now: float) -> float:
    """Pictures a second in the last five, of the times at which they were shown."""
    recent = [at for at in times if now - at <= SECONDS_OF_FPS]
    return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 and now > recent[0] else 0.0


def _thumbnail(event: _Event) -> bytes | None:
    """Made once, from the result, which is let go of afterwards: until then the event is not one without a picture."""
    with event.lock:
        if event.result is not None:
            try:
                event.thumbnail = of_event(event.result, event.record)
            except Exception:  # an event without a picture is still an event
                log.exception("event %s: no thumbnail could be made", event.record["id"])
            event.result = None
        return event.thumbnail


def _without_lost_thumbnail(event: _Event) -> dict[str, Any]:
    lost = event.result is None and event.thumbnail is None
    return event.record | {"thumbnail": None} if lost else event.record
