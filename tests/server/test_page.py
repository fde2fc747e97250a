"""The live page in a real browser, before a real server whose cameras are made up."""

from __future__ import annotations

import csv
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest

from streamseg.flow.report import StreamSummary, Summary
from streamseg.server.hub import Hub
from streamseg.server.server import Server
from streamseg.types import OutputStatus, SourceState
from tests.server import fake
from tests.server.browser import chromium, tab

expect = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (the extra `test`)").expect
expect.set_options(timeout=15_000)

# beside busy tests, Chromium and its driver now and then compute for ever, with axe-core for one
pytestmark = pytest.mark.real_time

TOKEN = "open-sesame-1"
FRESH = ".picture:not([data-old])"
DRAWN = "canvas:not([width='16'])"
CANVASES = "[...document.querySelectorAll('#grid canvas')].map(canvas => canvas.toDataURL())"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@contextmanager
def served(*names: str, totals: Any = None, **options: Any) -> Iterator[tuple[Hub, Server]]:
    """A server whose streams are live and have shown one picture, with these totals."""
    hub = Hub(names)
    for name in names:
        hub.on_state(name, SourceState("live"))
        show(hub, name, totals=totals)
    with Server(hub, options.pop("address", "127.0.0.1:0"), **options) as server:
        yield hub, server


def show(hub: Hub, name: str, *, age: float = 0.0, events: tuple[Any, ...] = (), **result: Any) -> None:
    """One picture more of a stream, captured `age` seconds ago."""
    frame = next(fake.frames(name, size="320x180"))
    object.__setattr__(frame, "captured_at", time.monotonic() - age)
    hub.on_result(fake.result(frame, events=events, **result))


def outputs(name: str, *statuses: OutputStatus) -> Callable[[], Summary]:
    """What a pipeline says of a stream with such outputs."""
    return lambda: Summary({name: StreamSummary(sinks=statuses)}, 1.0, None, 0)


@contextmanager
def moving(hub: Hub, name: str) -> Iterator[None]:
    """Meanwhile the stream shows ten pictures a second."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [show(hub, name) for _ in iter(lambda: stop.wait(0.1), True)])
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def filmed(num: int) -> Iterator[tuple[Hub, Server]]:
    """A server before `num` cameras that move."""
    hub, stop = Hub(), threading.Event()
    films = [threading.Thread(target=camera.run, args=(stop,)) for camera in fake.cameras(hub, num)]
    with Server(hub, "127.0.0.1:0") as server:
        for film in films:
            film.start()
        try:
            yield hub, server
        finally:
            stop.set()
            for film in films:
                film.join()


def tile(page: Any, name: str) -> Any:
    return page.locator("#grid > li").filter(has=page.get_by_role("link", name=name, exact=True))


def until(page: Any, holds: Any) -> None:
    """Waits, and lets the browser tell what happens in it."""
    for _ in range(300):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never held")


def no_sideways_scroll(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_eight_cameras_move_on_one_page_and_the_api_answers_meanwhile(browser: Any) -> None:
    with filmed(8) as (_, server), tab(browser) as page:
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(server.url)
        expect(page.locator(f"#grid {FRESH}")).to_have_count(8)
        before = page.evaluate(CANVASES)
        until(page, lambda: all(a != b for a, b in zip(before, page.evaluate(CANVASES), strict=True)))
        took = page.evaluate("""async () => {
            const times = [];
            for (let i = 0; i < 20; i++) {
                const began = performance.now();
                await (await fetch('api/streams')).json();
                times.push((performance.now() - began) / 1000);
            }
            return times;
        }""")
        assert len(sockets) == 1
        # what waits behind eight endless answers never comes; a busy machine makes some of them slow, not all
        assert min(took) < 0.1, f"median {statistics.median(took):.3f} s"
        assert page.locator("#summary").inner_text() == "8 of 8 streams live"


def test_only_what_is_in_view_is_watched_and_as_wide_as_it_is_shown(browser: Any) -> None:
    with served(*fake.NAMES) as (_, server), tab(browser, width=360, height=640, device_scale_factor=2) as page:
        asked: list[dict[str, Any]] = []
        page.on("websocket", lambda socket: socket.on("framesent", lambda text: asked.append(json.loads(text))))
        page.goto(server.url)
        until(page, lambda: asked and asked[-1]["watch"] == ["front", "back"])
        assert asked[-1]["width"] == 800  # 334 pixels of the page are 668 of the screen; in steps of 160
        page.get_by_role("link", name="roof").scroll_into_view_if_needed()
        until(page, lambda: "roof" in asked[-1]["watch"] and "front" not in asked[-1]["watch"])
        page.get_by_role("link", name="roof").click()
        until(page, lambda: asked[-1]["watch"] == ["roof"])


def test_a_change_of_state_is_shown_with_its_cause_and_read_out(browser: Any) -> None:
    with served("front", "back") as (hub, server), tab(browser, server.url) as page:
        state = tile(page, "back").locator(".state")
        expect(state).to_have_text("live")
        assert state.locator("svg").count() == 1
        hub.on_state("back", SourceState("lost", "no answer for 5 s"))
        expect(page.locator("#announcer")).to_have_text("back is lost: no answer for 5 s.")
        assert state.inner_text() == "lost"
        assert tile(page, "back").locator(".since").inner_text().startswith("no answer for 5 s, since ")
        assert tile(page, "back").locator(".facts dd").first.inner_text() == "–"  # nobody knows who is in view
        assert tile(page, "front").locator(".facts dd").first.inner_text() == "person 1, dog 1"
        assert page.locator("#summary").inner_text() == "1 of 2 streams live"


def test_a_picture_older_than_two_seconds_is_greyed_and_says_its_age(browser: Any) -> None:
    with served("front", "back") as (hub, server), moving(hub, "front"), tab(browser, server.url) as page:
        expect(tile(page, "front").locator(FRESH)).to_have_count(1)
        expect(tile(page, "back").locator(".picture[data-old] .note")).to_have_text(re.compile(r"picture is \d+ s old"))
        picture = tile(page, "back").locator(DRAWN)
        assert "grayscale" in picture.evaluate("picture => getComputedStyle(picture).filter")
        expect(tile(page, "front").locator(FRESH)).to_have_count(1)


def test_a_viewers_wrong_clock_makes_no_picture_look_old_or_fresh(browser: Any) -> None:
    with served("front", "back") as (hub, server), moving(hub, "front"), tab(browser) as page:
        page.add_init_script("const now = Date.now; Date.now = () => now() - 3600000")
        show(hub, "back", age=30)
        page.goto(server.url)
        expect(tile(page, "front").locator(FRESH)).to_have_count(1)
        expect(tile(page, "back").locator(".note")).to_have_text(re.compile("picture is [345]. s old"))


def test_an_event_comes_to_the_head_of_the_list_with_its_picture(browser: Any) -> None:
    with served("front", "back") as (hub, server), tab(browser, f"{server.url}#/front") as page:
        page.locator("#events").get_by_text("Nothing has happened yet.").wait_for()
        expect(page.locator("body")).to_have_attribute("data-connection", "open")
        show(hub, "front", events=(fake.crossing("front", 1),))
        show(hub, "back", events=(fake.crossing("back", 2),))
        show(hub, "front", events=(fake.crossing("front", 3, direction="out"),))
        said = page.locator("#events li p:first-child")
        expect(said).to_have_text(["person crossed gate, out", "person crossed gate, in"])
        until(page, lambda: page.locator("#events img").first.evaluate("picture => picture.naturalWidth > 0"))
        expect(page.locator("#announcer")).to_have_text("person crossed gate, in.")
        page.keyboard.press("Escape")
        expect(page.locator("#all-events li")).to_have_count(3)


def test_earlier_events_are_shown_when_asked_for(browser: Any) -> None:
    with served("front", "back") as (hub, server):
        for number in range(30):
            show(hub, "front", events=(fake.crossing("front", number),))
        with tab(browser, server.url) as page:
            items = page.locator("#all-events li")
            page.get_by_role("button", name="Show earlier").click()
            expect(items).to_have_count(30)
            assert items.first.get_attribute("data-id") == "front-29"
            assert items.last.get_attribute("data-id") == "front-0"
            assert not page.get_by_role("button", name="Show earlier").is_visible()


def test_the_keyboard_walks_the_grid_and_opens_and_closes_a_stream(browser: Any) -> None:
    with served(*fake.NAMES) as (_, server), tab(browser, server.url) as page:
        page.get_by_role("link", name="front").wait_for()
        focused = "document.activeElement.textContent"
        for _ in range(3):  # the way past the header, the name of the program
            page.keyboard.press("Tab")
        assert page.evaluate(focused) == "front"
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")  # four stand in a row
        assert page.evaluate(focused) == "lift"
        assert tile(page, "lift").evaluate("tile => getComputedStyle(tile).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="lift").wait_for()
        assert page.evaluate(focused) == "lift"
        expect(page).to_have_title("lift · streamseg live")
        assert not page.locator("#grid").is_visible()
        page.keyboard.press("Escape")
        page.get_by_role("link", name="lift").wait_for()
        assert page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent") == "A lift"


def test_a_single_stream_is_large_from_the_start(browser: Any) -> None:
    with served("front") as (_, server), tab(browser, server.url) as page:
        page.get_by_role("heading", name="front").wait_for()
        page.locator(f"#stream-picture {DRAWN}").wait_for()
        assert not page.locator("#grid").is_visible()
        assert not page.get_by_role("link", name="All streams").is_visible()


def test_the_counts_of_a_stream_stand_in_tables_and_its_outputs_with_their_states(browser: Any) -> None:
    totals = {"objects": {"person": 7}, "lines": {"gate": {"person": {"in": 6, "out": 1}, "dog": {"in": 1, "out": 0}}},
              "zones": {"shop": {"person": {"now": 2, "entered": 9, "left": 7}}}}  # fmt: skip
    with served("front", "back") as (hub, server):
        hub.summary = outputs("front", OutputStatus("a.mp4", "failed", "disk full", dropped=3))
        hub.publishers = lambda: [OutputStatus("mqtt://broker/shop", "retrying", "no answer", waiting=4)]
        show(hub, "front", totals=totals)
        with tab(browser, server.url) as page:
            tallies = tile(page, "front").locator(".tallies li")
            expect(tallies).to_have_text(["gate in 7 out 1", "shop now 2 entered 9 left 7"], use_inner_text=True)
            page.get_by_role("link", name="front").click()
            expect(page.locator("#counts tbody tr")).to_have_count(3)
            rows = [row.split() for row in page.locator("#counts tbody tr").all_inner_texts()]
            assert rows == [["gate", "person", "6", "1"], ["gate", "dog", "1", "0"], ["shop", "person", "2", "9", "7"]]
            rows = page.locator("#outputs tbody tr")
            expect(rows).to_have_count(2)
            assert rows.nth(0).inner_text().split() == ["a.mp4", "failed", "disk", "full", "3"]
            assert " ".join(rows.nth(1).inner_text().split()) == "mqtt://broker/shop retrying no answer, 4 waiting 0"


def test_counts_over_time_are_drawn_and_saved_as_csv(browser: Any) -> None:
    totals = {"lines": {"gate": {"person": {"in": 6, "out": 1}}}, "zones": {'a, "b"': {"person": {"now": 2}}}}
    with served("front", totals=totals) as (_, server), tab(browser, server.url) as page:
        page.locator("#now-chart canvas").wait_for()
        page.locator("#lines-chart canvas").wait_for()
        label = page.locator("#now-chart").get_attribute("aria-label")
        assert label == 'In view over time: dog at most 1, person at most 1, a, "b" now at most 2'
        expect(page.locator("#lines-title")).to_have_text("Crossings of gate, five minutes each")
        page.get_by_label("Range").select_option("24 hours")
        expect(page.locator("#lines-title")).to_have_text("Crossings of gate, an hour each")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save CSV").click()
        assert download.value.suggested_filename == "front_counts.csv"
        with open(download.value.path(), newline="", encoding="utf-8") as file:
            head, row = csv.reader(file)
        assert head == ["time", "dog", "person", "gate in", "gate out", 'a, "b" now']
        assert row[1:] == ["1", "1", "6", "1", "2"]
        assert abs(datetime.fromisoformat(row[0]).timestamp() - time.time()) < 60


def test_parts_of_an_hour_hold_the_steps_of_a_total_and_one_that_falls_began_anew(browser: Any) -> None:
    with tab(browser) as page, served("front") as (_, server):
        page.goto(server.url)
        times, totals = [0, 100, 310, 320, 650, 660], [5, 6, 8, None, 2, 3]
        parts = page.evaluate(
            "([times, totals]) => perPart(times, [totals], { from: 0, size: 300, num: 3 })", [times, totals]
        )
        assert parts == [[150, 450, 750], [1, 2, 3]]


def test_names_are_text_whatever_they_hold(browser: Any) -> None:
    name = "<img src=x onerror=document.title='owned'> a/b?c#d %41 ä"
    with served(name, "back") as (_, server), tab(browser, server.url) as page:
        page.get_by_role("link", name=name, exact=True).click()
        page.locator(f"#stream-picture {DRAWN}").wait_for()
        assert page.locator("#stream-name").inner_text() == name
        expect(page).to_have_title(f"{name} · streamseg live")
        page.reload()
        page.get_by_role("heading", name=name).wait_for()


def test_a_lost_connection_is_said_and_comes_back_by_itself(browser: Any) -> None:
    with tab(browser) as page:
        with served("front", "back") as (_, server):
            page.goto(server.url)
            tile(page, "front").locator(".state").wait_for()
            address = server.address.replace(":0", f":{server.port}")
        page.get_by_text("Connection lost").wait_for()
        shown = "getComputedStyle(document.querySelector('#grid .state'), '::after').content"
        assert page.evaluate(shown) == '"(last known)"'
        expect(page.locator("#summary")).to_be_empty()
        with served("front", "back", address=address) as (hub, _):
            show(hub, "front", events=(fake.crossing("front", 1),))
            expect(page.locator("#connection")).to_be_empty()
            expect(page.locator("#all-events li")).to_have_count(1)  # what happened meanwhile is there too


def test_the_page_asks_for_the_token_and_refuses_a_wrong_one(browser: Any) -> None:
    with served("front", "back", token=TOKEN) as (_, server), tab(browser, server.url) as page:
        page.get_by_label("Token").fill("something-else")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("That token is not right.")
        time.sleep(1.1)  # the server makes the next try wait for a second
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(tile(page, "front").locator(".state")).to_have_text("live")
        assert TOKEN not in page.content()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        assert page.request.get(f"{server.url}api/streams").status == 401


def test_a_phone_scrolls_no_page_sideways(browser: Any) -> None:
    with served(*fake.NAMES) as (hub, server), tab(browser, server.url, width=360, height=640) as page:
        hub.summary = outputs("front", OutputStatus("rtsp://10.0.0.9/" + "a" * 90))
        show(hub, "front", events=(fake.crossing("front", 1),), totals={"zones": {"a" * 60: {"person": {"now": 1}}}})
        page.locator("#all-events li").wait_for()
        assert no_sideways_scroll(page)
        page.get_by_role("link", name="front").click()
        page.locator("#now-chart canvas").wait_for()
        assert no_sideways_scroll(page)
        page.goto(f"{server.url}docs")
        page.get_by_role("heading", name="GET /api/streams").wait_for()
        assert no_sideways_scroll(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    totals = {"lines": {"gate": {"person": {"in": 1, "out": 0}}}, "zones": {"shop": {"person": {"now": 1}}}}
    made = served(*fake.NAMES, totals=totals, token=TOKEN)
    with made as (hub, server), tab(browser, server.url, color_scheme=scheme) as page:
        for name, state in zip(fake.NAMES, ("connecting", "live", "stalled", "lost", "refused"), strict=False):
            hub.on_state(name, SourceState(state, "a cause"))
        show(hub, "back", events=(fake.crossing("back", 1),), totals=totals)
        assert faults(axe, page) == []
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.locator("#all-events li").wait_for()
        assert faults(axe, page) == []
        page.get_by_role("link", name="back").click()
        page.locator("#lines-chart canvas").wait_for()
        assert faults(axe, page) == []
        page.goto(f"{server.url}docs")
        page.get_by_role("heading", name="GET /api/streams").wait_for()
        assert faults(axe, page) == []


def faults(axe: Any, page: Any) -> list[str]:
    """Serious and critical ones, each with the first element that has it."""
    found = axe.run(page).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]


def test_a_server_that_falls_silent_is_a_lost_connection(browser: Any) -> None:
    with served("front", "back") as (_, server), tab(browser) as page:
        # not Playwright's clock, which on a busy machine never catches up with the timers that it owes
        page.add_init_script(
            "let ahead = 0; const now = performance.now.bind(performance);"
            "performance.now = () => now() + ahead; window.later = seconds => { ahead += seconds * 1000 }"
        )
        page.route_web_socket(re.compile("/ws$"), lambda socket: None)  # opens, and says nothing
        page.goto(server.url)
        tile(page, "front").locator(".state").wait_for()
        assert not page.get_by_text("Connection lost").is_visible()
        page.evaluate("later(8)")
        page.get_by_text("Connection lost").wait_for()
