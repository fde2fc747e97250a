"""Answers every request: the page, its WebSocket, the JSON API, pictures for other programs, metrics and health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from email.utils import formatdate
from pathlib import Path as FilePath
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import Depends, FastAPI, Header, HTTPException, Path, Query, Request, Response, WebSocket
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool

from streamseg import __version__
from streamseg.flow.by_hour import Every
from streamseg.server import shapes
from streamseg.server.access import SECONDS_OF_A_LOGIN, Gate, Guard, address_of, checked
from streamseg.server.audience import Audience, News
from streamseg.server.hub import EVENTS, Hub
from streamseg.server.metrics import Metrics
from streamseg.server.pictures import Pictures, width_for
from streamseg.server.viewer import Viewer, next_picture
from streamseg.words import nearest

PAGE = FilePath(__file__).parent / "page"
DEFAULT_WIDTH = 1280  # of pictures for other programs
SECONDS_TO_ENCODE = 5.0
LONGEST_FORM = 4096  # bytes of a login
BOUNDARY = "picture"

NameInPath = Annotated[str, Path(description="the stream's name")]
Width = Annotated[int, Query(ge=1, le=8192, description="pixels wide; the nearest width that is encoded is taken")]
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "a JPEG"}}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": shapes.Problem, "description": "not known, or not yet"}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": shapes.Problem, "description": "a token is needed"},
    403: {"model": shapes.Problem, "description": "a host name that is not known, or another site's page"},
    429: {"model": shapes.Problem, "description": "too many wrong tokens"},
}


def application(hub: Hub, pictures: Pictures, audience: Audience, gate: Gate, *, page: FilePath = PAGE) -> FastAPI:
    """The web application; `page` is the folder of the page's files, all of which anybody may read."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with audience.open():
            yield

    app = FastAPI(
        title="streamseg",
        version=__version__,
        summary="What the cameras see and what was counted.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=REFUSALS,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if gate.token else [],
    )
    app.add_middleware(Guard, gate=gate)
    _add_numbers(app, hub)
    _add_pictures(app, hub, pictures, audience)
    _add_news(app, hub, pictures, audience)
    _add_health(app, hub, pictures, audience)
    _add_pages(app, gate, page)
    return app


def _known(hub: Hub, name: str) -> str:
    if name not in hub.names:
        raise HTTPException(404, f"no stream is called {name!r}{nearest(name, hub.names)}")
    return name


def _add_numbers(app: FastAPI, hub: Hub) -> None:
    # Plain functions run in a thread of their own, so a disk that `Pipeline.summary` looks at holds up no picture.

    @app.get("/api/streams", response_model=list[shapes.StreamStatus], tags=["numbers"])
    def streams() -> Any:
        """Every stream: its state, its frames, and what was counted."""
        return hub.streams()

    @app.get("/api/events", response_model=list[shapes.Event], responses=UNKNOWN, tags=["numbers"])
    def events(
        stream: Annotated[str | None, Query(description="of this stream alone")] = None,
        limit: Annotated[int, Query(ge=1, le=EVENTS)] = 50,
        before: Annotated[str | None, Query(description="only events older than the one of this id")] = None,
    ) -> Any:
        """The last events, newest first; the last 500 are kept."""
        return hub.events(stream=None if stream is None else _known(hub, stream), limit=limit, before=before)

    @app.get(
        "/api/events/{event_id:path}/thumbnail.jpg",
        response_class=Response,
        responses={**JPEG, **UNKNOWN},
        tags=["numbers"],
    )
    def thumbnail(event_id: str) -> Response:
        """The picture of an event."""
        jpeg = hub.thumbnail(event_id)
        if jpeg is None:
            raise HTTPException(404, "no event of this id is kept, or it has no picture")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400, immutable"})

    @app.get("/api/history", response_model=shapes.HistoryOfStream, responses=UNKNOWN, tags=["numbers"])
    def history(
        stream: Annotated[str, Query(description="the stream's name")],
        minutes: Annotated[int, Query(ge=1, le=1440, description="how far back")] = 60,
    ) -> Any:
        """What was in sight and what was counted over the last minutes; a day is kept."""
        return hub.history(_known(hub, stream), minutes=minutes)

    @app.get(
        "/api/counts.csv",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}, "description": "a row an hour or day"}, **UNKNOWN},
        tags=["numbers"],
    )
    def counts(
        stream: Annotated[str, Query(description="the stream's name")],
        every: Annotated[Every, Query(description="what a row is of")] = "hour",
    ) -> Response:
        """What a live stream counted in each hour or on each local day, as a table; with `--state` over restarts."""
        table = hub.hours.csv(_known(hub, stream), every)
        said = {"Content-Disposition": f'attachment; filename="counts-by-{every}.csv"'}
        return Response(table, media_type="text/csv", headers=said)


def _add_pictures(app: FastAPI, hub: Hub, pictures: Pictures, audience: Audience) -> None:
    @app.get("/stream/{name:path}.jpg", response_class=Response, responses={**JPEG, **UNKNOWN}, tags=["pictures"])
    async def still(name: NameInPath, width: Width = DEFAULT_WIDTH) -> Response:
        """The stream's newest picture."""
        if hub.newest(_known(hub, name)) is None:
            raise HTTPException(404, f"stream {name} has shown no picture yet")
        try:
            async with asyncio.timeout(SECONDS_TO_ENCODE):
                picture = await next_picture(pictures, name, width_for(width), after=0)
        except TimeoutError:
            raise HTTPException(404, f"the picture of stream {name} could not be encoded") from None
        captured = formatdate(picture.captured_at, usegmt=True)
        return Response(picture.jpeg, media_type="image/jpeg", headers={"Last-Modified": captured})

    @app.get(
        "/stream/{name:path}.mjpg",
        response_class=StreamingResponse,
        responses={200: {"content": {"multipart/x-mixed-replace": {}}, "description": "JPEGs without end"}, **UNKNOWN},
        tags=["pictures"],
    )
    async def mjpeg(name: NameInPath, width: Width = DEFAULT_WIDTH) -> StreamingResponse:
        """The stream's pictures one after the other, for programs that show nothing else. It does not end."""
        _known(hub, name)
        return StreamingResponse(
            _parts(pictures, audience, name, width_for(width)),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
        )


async def _parts(pictures: Pictures, audience: Audience, name: str, width: int) -> AsyncIterator[bytes]:
    """The parts of a multipart answer; each ends with the next one's boundary, or browsers show it a part late."""
    yield f"--{BOUNDARY}\r\n".encode()
    number = 0
    while picture := await audience.unless_closed(next_picture(pictures, name, width, after=number)):
        number = picture.number
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
        yield head.encode() + picture.jpeg + f"\r\n--{BOUNDARY}\r\n".encode()


def _add_news(app: FastAPI, hub: Hub, pictures: Pictures, audience: Audience) -> None:
    @app.get(
        "/api/events/stream",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "server-sent events without end"}},
        tags=["numbers"],
    )
    async def news(last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """What is new, as server-sent events: `event`, `state`, and all `streams` once a second. It does not end."""
        return StreamingResponse(_told(hub, audience, last_event_id), media_type="text/event-stream")

    @app.websocket("/ws")
    async def watch(socket: WebSocket) -> None:
        await socket.accept()
        with audience.ear() as ear:
            ear.put(News.of("streams", await run_in_threadpool(hub.streams)))
            await Viewer(socket, hub, pictures, ear).serve()


async def _told(hub: Hub, audience: Audience, last_event_id: str | None) -> AsyncIterator[str]:
    """The news as text; first the events since the last one that was heard, if that is still kept."""
    with audience.ear() as ear:
        for event in hub.events_after(last_event_id) if last_event_id else ():
            yield _as_sent(News.of("event", event))
        yield _as_sent(News.of("streams", await run_in_threadpool(hub.streams)))
        async for news in ear:
            yield _as_sent(news)


def _as_sent(news: News) -> str:
    return f"event: {news.kind}\n" + (f"id: {news.event_id}\n" if news.event_id else "") + f"data: {news.text}\n\n"


def _add_health(app: FastAPI, hub: Hub, pictures: Pictures, audience: Audience) -> None:
    metrics = Metrics(hub, pictures, audience)

    @app.get("/livez", tags=["health"])
    async def livez() -> shapes.Alive:
        """Whether the process answers; needs no token."""
        return shapes.Alive()

    @app.get(
        "/healthz",
        response_model=shapes.Health,
        responses={503: {"model": shapes.Health, "description": "a stream is not live"}},
        tags=["health"],
    )
    def healthz(response: Response) -> Any:
        """Whether every stream is live, or has ended in order."""
        states = {stream["name"]: stream["state"] for stream in hub.streams()}
        healthy = all(state in ("live", "ended") for state in states.values())
        response.status_code = 200 if healthy else 503
        return {"healthy": healthy, "streams": states, "publishers": [asdict(status) for status in hub.publishers()]}

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
        tags=["health"],
    )
    def prometheus(accept: Annotated[str, Header()] = "") -> Response:
        """All numbers, for Prometheus to scrape."""
        content, media_type = metrics.text(accept)
        return Response(content, headers={"Content-Type": media_type})


def _add_pages(app: FastAPI, gate: Gate, page: FilePath) -> None:
    files = {path.name: path for path in sorted(page.iterdir()) if path.is_file()} if page.is_dir() else {}
    fresh = {"Cache-Control": "no-cache"}

    def sent(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, f"there is no {name}")
        return FileResponse(files[name], headers=fresh)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return sent("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return sent("docs.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        return sent(name)

    @app.get("/login", include_in_schema=False)
    async def login_page() -> Response:
        return sent("login.html") if gate.token else RedirectResponse("/", 303)

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        given = parse_qs(await _form(request)).get("token", [""])[0]
        refused = checked(gate, given.strip(), address_of(request))
        if refused is not None and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"/login?refused={'slow' if refused.status_code == 429 else 'wrong'}", 303)
        if refused is not None:
            return refused
        answer = RedirectResponse("/", 303)
        secure = request.headers.get("origin", "").startswith("https:")
        answer.set_cookie(
            gate.cookie, gate.new_cookie(), SECONDS_OF_A_LOGIN, httponly=True, samesite="strict", secure=secure
        )
        return answer

    @app.post("/logout", include_in_schema=False)
    async def logout() -> Response:
        answer = RedirectResponse("/login" if gate.token else "/", 303)
        answer.delete_cookie(gate.cookie, httponly=True, samesite="strict")
        return answer


async def _form(request: Request) -> str:
    """The body of a small form; longer ones are not read to their end."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise HTTPException(413, "a login is shorter")
    return body.decode("utf-8", "replace")
