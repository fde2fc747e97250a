"""The server beside a real pipeline."""

from __future__ import annotations

from pathlib import Path

import httpx2

from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.server.hub import Hub
from streamseg.server.server import Server
from tests.fakes import FakeCounter, FakeEngine, FakeSource, FakeTracker, Fault
from tests.server.test_server import pictures_of, watching


def test_what_a_pipeline_does_is_seen(page: Path) -> None:
    hub = Hub(["front", "back"])
    front = Stream("front", FakeSource(3, name="front"), tracker=FakeTracker(), counters=[FakeCounter()])
    back = Stream("back", FakeSource(3, name="back", fault=Fault(2)), tracker=FakeTracker())
    pipeline = Pipeline(FakeEngine(), [front, back], listeners=[hub])
    hub.summary = pipeline.summary
    with Server(hub, "127.0.0.1:0", page=page) as server:
        assert [stream["state"] for stream in httpx2.get(f"{server.url}api/streams").json()] == ["connecting"] * 2
        pipeline.start()
        pipeline.close()
        with watching(server, "front") as viewer:
            assert next(pictures_of(viewer))[0] == "front"
        pipeline.wait()
        first, second = httpx2.get(f"{server.url}api/streams").json()
        assert (first["state"], first["read"], first["shown"], first["now"]) == ("ended", 3, 3, {"person": 1})
        assert first["counts"]["objects"] == {"person": 3}
        assert (second["state"], second["shown"]) == ("failed", 2)
        assert "broken on purpose" in second["cause"]
        events = httpx2.get(f"{server.url}api/events").json()
        assert [event["stream"] for event in events] == ["front"] * 3
        assert len({event["id"] for event in events}) == 3
        assert httpx2.get(f"{server.url}healthz").status_code == 503
        assert httpx2.get(f"{server.url}stream/front.jpg").status_code == 200
