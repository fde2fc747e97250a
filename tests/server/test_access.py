"""Who may look: tokens, tries, host names, and pages of other sites."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from streamseg.server import access
from streamseg.server.access import Gate, Tries, is_loopback, own_names, read_token
from streamseg.types import UsageError
from tests.server.conftest import Client

TOKEN = "correct horse".replace(" ", "-")
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BROWSER = {"Accept": "text/html,*/*"}
CLOSED = ("/", "/docs", "/api/streams", "/api/events", "/metrics", "/healthz", "/openapi.json", "/stream/street.jpg")


def log_in(client: TestClient, token: str = TOKEN, **headers: str) -> int:
    return client.post("/login", data={"token": token}, headers=headers).status_code


def test_on_this_machine_no_token_is_needed(client: Client) -> None:
    browser = client()
    assert {path: browser.get(path).status_code for path in CLOSED[:4]} == dict.fromkeys(CLOSED[:4], 200)


@pytest.mark.parametrize("path", CLOSED)
def test_elsewhere_nothing_is_shown_without_a_token(client: Client, path: str) -> None:
    answer = client(TOKEN).get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_elsewhere_the_process_and_the_way_in_are_open(client: Client) -> None:
    browser = client(TOKEN)
    assert [browser.get(path).status_code for path in ("/livez", "/login", "/page/page.css")] == [200, 200, 200]


def test_a_browser_without_a_login_is_sent_there(client: Client) -> None:
    answer = client(TOKEN).get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_the_token_opens_by_header(client: Client) -> None:
    browser = client(TOKEN)
    assert browser.get("/api/streams", headers=BEARER).status_code == 200
    assert browser.get("/metrics", headers=BEARER).status_code == 200
    assert browser.get("/api/streams", headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401


def test_the_token_opens_by_a_cookie_after_the_login(client: Client) -> None:
    browser = client(TOKEN)
    answer = browser.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and "secure" not in cookie
    assert TOKEN not in cookie
    assert browser.get("/").text == "this is index.html"
    browser.post("/logout")
    assert browser.get("/").status_code == 401


def test_behind_https_the_cookie_is_for_https_alone(client: Client) -> None:
    answer = client(TOKEN).post("/login", data={"token": TOKEN}, headers={"Origin": "https://localhost"})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("cookie", ["", "x", "9999999999.", "9999999999.00", f"9999999999.{TOKEN}", TOKEN])
def test_a_forged_cookie_opens_nothing(client: Client, cookie: str) -> None:
    assert client(TOKEN).get("/api/streams", headers={"Cookie": f"streamseg_80={cookie}"}).status_code == 401


def test_a_login_ends_after_its_time_and_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def gate() -> Gate:
        return Gate(TOKEN, hosts=(), any_address=False, cookie="streamseg")

    one = gate()
    cookie = one.new_cookie()
    assert one.is_cookie(cookie)
    assert not gate().is_cookie(cookie)
    monkeypatch.setattr(access, "SECONDS_OF_A_LOGIN", -1)
    assert not one.is_cookie(one.new_cookie())


def test_a_wrong_token_is_refused_and_slowed_even_when_the_next_one_is_right(client: Client) -> None:
    browser = client(TOKEN)
    assert log_in(browser, "wrong") == 401
    answer = browser.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert browser.get("/api/streams", headers=BEARER).status_code == 429


def test_a_browser_is_told_on_the_login_page(client: Client) -> None:
    browser = client(TOKEN)
    places = [browser.post("/login", data={"token": "wrong"}, headers=BROWSER).headers["location"] for _ in range(2)]
    assert places == ["/login?refused=wrong", "/login?refused=slow"]


def test_someone_elses_wrong_tries_slow_nobody_but_him(client: Client) -> None:
    assert log_in(client(TOKEN), "wrong") == 401
    assert log_in(client(TOKEN, address="10.0.0.8")) == 303


def test_whoever_is_logged_in_stays_so_while_his_neighbour_guesses(client: Client) -> None:
    browser = client(TOKEN)
    log_in(browser)
    assert log_in(browser, "wrong") == 401
    assert browser.get("/api/streams").status_code == 200


def test_each_wrong_try_doubles_the_wait_up_to_a_minute() -> None:
    tries = Tries()
    waits = []
    for _ in range(8):
        tries.wrong("10.0.0.7")
        waits.append(round(tries.seconds_to_wait("10.0.0.7")))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    for _ in range(1100):
        tries.wrong("10.0.0.7")
    assert round(tries.seconds_to_wait("10.0.0.7")) == 60
    tries.right("10.0.0.7")
    assert tries.seconds_to_wait("10.0.0.7") == 0


def test_one_person_with_many_ipv6_addresses_is_one_person() -> None:
    tries = Tries()
    tries.wrong("2001:db8::1")
    assert tries.seconds_to_wait("2001:db8::2") > 0
    assert tries.seconds_to_wait("2001:db8:0:1::1") == 0
    tries.wrong("::ffff:10.0.0.7")
    assert tries.seconds_to_wait("10.0.0.7") > 0


def test_tries_of_many_addresses_take_bounded_memory() -> None:
    tries = Tries()
    for number in range(access.MOST_ADDRESSES + 100):
        tries.wrong(f"10.0.{number // 256}.{number % 256}")
    assert len(tries._wrong) == access.MOST_ADDRESSES


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "10.0.0.7", "", "a b", "[::2]"]
)
def test_on_loopback_a_foreign_host_name_is_refused(client: Client, host: str) -> None:
    assert client().get("/api/streams", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"])
def test_on_loopback_its_own_names_are_known(client: Client, host: str) -> None:
    assert client().get("/api/streams", headers={"Host": host}).status_code == 200


def test_elsewhere_any_address_is_known_but_no_foreign_name(client: Client) -> None:
    browser = client(TOKEN)
    status = {
        host: browser.get("/api/streams", headers={**BEARER, "Host": host}).status_code
        for host in ("10.0.0.5:8080", "[2001:db8::1]:80", "evil.example")
    }
    assert status == {"10.0.0.5:8080": 200, "[2001:db8::1]:80": 200, "evil.example": 403}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    ],
)
def test_a_page_of_another_site_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    browser = client(TOKEN)
    assert browser.post("/logout", headers=headers).status_code == 403
    assert log_in(browser, **headers) == 403
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("ws://localhost/ws", headers=headers | BEARER):
        pass


def test_its_own_page_may(client: Client) -> None:
    browser = client(TOKEN)
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert log_in(browser, **own) == 303
    with browser.websocket_connect("ws://localhost/ws", headers=own) as socket:
        assert "streams" in socket.receive_json()


def test_the_websocket_needs_a_token_too(client: Client) -> None:
    browser = client(TOKEN)
    with pytest.raises(WebSocketDisconnect), browser.websocket_connect("ws://localhost/ws"):
        pass
    with browser.websocket_connect("ws://localhost/ws", headers=BEARER) as socket:
        assert "streams" in socket.receive_json()


@pytest.mark.parametrize(
    "path",
    ["/page/../access.py", "/page/..%2faccess.py", "/page/%2e%2e/access.py", "/page//etc/passwd", "/page/"],
)
def test_no_path_leads_out_of_the_page(client: Client, path: str) -> None:
    answer = client().get(path)
    assert answer.status_code == 404
    assert "Gate" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize("path", ["/", "/api/streams", "/nothing", "/page/page.css", "/login"])
def test_every_answer_has_the_headers_that_keep_others_out(client: Client, path: str) -> None:
    headers = client(TOKEN).get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "same-origin")
    assert "cache-control" in headers and "server" not in headers


def test_a_long_login_is_not_read_to_its_end(client: Client) -> None:
    assert log_in(client(TOKEN), "x" * 10_000) == 413


def test_a_token_may_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "from-the-environment")
    (tmp_path / "token").write_text("from-the-file\n")
    given = [TOKEN, "${WEB_TOKEN}", f"file:{tmp_path / 'token'}"]
    assert [read_token(text) for text in given] == [TOKEN, "from-the-environment", "from-the-file"]


@pytest.mark.parametrize(
    "text", ["short", "has a space in it", "ünsäglich-lang", "${NOT_SET_ANYWHERE}", "file:/nowhere/at/all"]
)
def test_a_token_that_is_none_is_refused_without_being_said(text: str) -> None:
    with pytest.raises(UsageError, match="web token: ") as refused:
        read_token(text)
    assert text not in str(refused.value) or text.startswith("file:")


def test_tokens_are_compared_whole() -> None:
    gate = Gate(TOKEN, hosts=(), any_address=False, cookie="streamseg")
    assert gate.is_token(TOKEN)
    assert not any(map(gate.is_token, ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "ä")))
    assert not Gate(None, hosts=(), any_address=False, cookie="streamseg").is_token("")


def test_loopback_is_this_machine_and_nothing_else() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.7", "camera-box")))
    assert own_names("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}


def test_a_login_takes_its_time_from_the_clock() -> None:
    gate = Gate(TOKEN, hosts=(), any_address=False, cookie="streamseg")
    until = int(gate.new_cookie().partition(".")[0])
    assert until - time.time() == pytest.approx(30 * 24 * 3600, abs=5)
