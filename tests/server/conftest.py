"""What the tests of the web server share: a hub that has heard of a street, and its application behind a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from streamseg.server.access import Gate
from streamseg.server.api import application
from streamseg.server.audience import Audience
from streamseg.server.hub import Hub
from streamseg.server.pictures import Pictures

Client = Callable[..., TestClient]


@pytest.fixture
def hub() -> Hub:
    return Hub(["street"])


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder of a page: what is in it does not matter here."""
    for name in ("index.html", "login.html", "docs.html", "page.css"):
        (tmp_path / name).write_text(f"this is {name}")
    return tmp_path


@pytest.fixture
def client(hub: Hub, page: Path) -> Iterator[Client]:
    """Makes a client of the hub's application: with a token it asks from another machine, else from this one."""
    with ExitStack() as leaving:

        def make(token: str | None = None, *, address: str = "10.0.0.7", host: str = "localhost") -> TestClient:
            pictures = leaving.enter_context(Pictures(hub))
            gate = Gate(token, hosts=("localhost", "127.0.0.1", "::1"), any_address=bool(token), cookie="streamseg_80")
            app = application(hub, pictures, Audience(hub), gate, page=page)
            who = (address if token else "127.0.0.1", 50000)
            return leaving.enter_context(TestClient(app, f"http://{host}", client=who, follow_redirects=False))

        yield make
