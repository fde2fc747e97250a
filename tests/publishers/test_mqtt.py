"""A real broker gets states, counts and events, whoever breaks down; what is wrong is said without the password."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamseg import plugins
from streamseg.publishers.mqtt import Mqtt
from streamseg.types import OutputError, UsageError
from tests.live.broker import Broker
from tests.live.needs import program
from tests.publishers.brokers import tls_broker
from tests.publishers.messages import Listening, counts, event, events, ids, listening, state


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


@pytest.fixture
def heard(broker: Broker) -> Iterator[Listening]:
    with listening(broker.port, "site/#", "homeassistant/#") as listener:
        yield listener


def made(broker: Broker, login: str = "", **options: object) -> Mqtt:
    return Mqtt(f"mqtt://{login}127.0.0.1:{broker.port}/site", **{"timeout": 1, **options})  # type: ignore[arg-type]


def test_every_kind_of_message_has_its_topic(broker: Broker, heard: Listening) -> None:
    with made(broker) as mqtt:
        mqtt.send([event(1), counts(), state("live"), event(2, stream="a/b+c")])
    assert heard.until("site/front/events", 1) == [event(1).body]
    assert heard.until("site/front/counts", 1) == [counts().body]
    assert heard.until("site/front/state", 1) == [state("live").body]
    assert heard.until("site/a_b_c/events", 1)[0]["stream"] == "a/b+c"


def test_who_comes_late_gets_what_holds_now_and_no_old_event(broker: Broker) -> None:
    with made(broker) as mqtt:
        mqtt.send([event(1), counts(), state("lost"), state("live")])
        with listening(broker.port, "site/#") as late:
            assert late.until("site/availability", 1) == ["online"]
            assert late.until("site/front/state", 1)[0]["state"] == "live"
            assert late.until("site/front/counts", 1) == [counts().body]
            mqtt.send(events(2, 2))
            assert [each["id"] for each in late.until("site/front/events", 1)] == ["e2"]


def test_availability_is_online_then_offline_at_an_orderly_end(broker: Broker, heard: Listening) -> None:
    with made(broker):
        assert heard.until("site/availability", 1) == ["online"]
    assert heard.until("site/availability", 2) == ["online", "offline"]


def test_the_broker_says_offline_where_the_program_cannot(broker: Broker, heard: Listening) -> None:
    with pytest.raises(ZeroDivisionError), made(broker):
        raise ZeroDivisionError  # is left without a word, as a kill leaves it
    assert heard.until("site/availability", 2) == ["online", "offline"]


def test_the_mosquitto_clients_read_it(broker: Broker) -> None:
    with made(broker) as mqtt:
        mqtt.send([counts()])
    command = [program("mosquitto_sub"), "-p", str(broker.port), "-t", "site/+/counts", "-C", "1", "-W", "10"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert '"person":{"in":4,"out":1}' in ran.stdout


def test_a_broker_that_was_killed_is_noticed_also_where_there_is_nothing_to_say(broker: Broker) -> None:
    with (
        pytest.raises(OutputError, match=f"mqtt://127.0.0.1:{broker.port}: the connection was lost"),
        made(broker) as mqtt,
    ):
        mqtt.send([])
        broker.child.kill()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            mqtt.send([])
    with pytest.raises(OutputError, match="cannot be reached: connection refused"):
        mqtt.__enter__()
    broker.child.start()
    with mqtt:
        mqtt.send(events(1, 1))


def test_a_frozen_broker_costs_the_timeout_and_no_more(broker: Broker, heard: Listening) -> None:
    mqtt = made(broker, timeout=0.3)
    with pytest.raises(OutputError, match=r"no answer within 0.3 s"), mqtt:
        broker.child.freeze()
        mqtt.send(events(1, 3))
    with pytest.raises(OutputError, match=r"no answer within 0.3 s"):
        mqtt.__enter__()
    broker.child.thaw()
    with mqtt:
        mqtt.send(events(1, 3))
    assert [each["id"] for each in heard.until("site/front/events", 3)] == ids(1, 3)


def test_what_waits_for_a_frozen_broker_can_be_interrupted(broker: Broker) -> None:
    from threading import Timer

    with pytest.raises(OutputError, match="interrupted"), made(broker, timeout=60) as mqtt:
        broker.child.freeze()
        Timer(0.1, mqtt.interrupt).start()
        mqtt.send(events(1, 3))
    broker.child.thaw()


@pytest.mark.parametrize("login", ["", "eve:wrong-word@", "adam:open-sesame@"])
def test_a_refusal_is_said_without_user_and_password(login: str, tmp_path: Path) -> None:
    with Broker(tmp_path, user="eve", password="open-sesame") as broker:
        with pytest.raises(OutputError) as error:
            made(broker, login).__enter__()
        assert str(error.value) == f"mqtt://127.0.0.1:{broker.port} refuses the connection: not authorized"


def test_the_right_password_may_hold_any_letter_and_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", "p@ss/w:rd#1%41")
    with (
        Broker(tmp_path, user="eve", password="p@ss/w:rd#1%41") as broker,
        made(broker, "eve:${BROKER_PASSWORD}@") as mqtt,
    ):
        mqtt.send(events(1, 1))
        assert mqtt.target == f"mqtt://127.0.0.1:{broker.port}/site"
        assert "p@ss" not in repr(mqtt.broker) + str(vars(mqtt))


def test_tls_trusts_the_given_authority_and_no_stranger(tmp_path: Path) -> None:
    with tls_broker(tmp_path) as broker:
        address = f"mqtts://localhost:{broker.port}/site"
        with Mqtt(address, ca=tmp_path / "ca.pem", timeout=2) as mqtt:
            mqtt.send(events(1, 3))
        with pytest.raises(OutputError, match="certificate is not trusted, self-signed certificate; the option ca"):
            Mqtt(address, timeout=2).__enter__()
        with pytest.raises(OutputError, match=r"certificate is not trusted, .*(mismatch|not valid for)"):
            Mqtt(f"mqtts://127.0.0.1:{broker.port}/site", ca=tmp_path / "ca.pem", timeout=2).__enter__()
        with pytest.raises(OutputError, match="the connection was lost"):
            Mqtt(f"mqtt://localhost:{broker.port}/site", timeout=2).__enter__()


def test_a_broker_without_tls_is_said(broker: Broker) -> None:
    with pytest.raises(OutputError, match=f"mqtts://127.0.0.1:{broker.port} cannot be reached: (no |connection reset)"):
        Mqtt(f"mqtts://127.0.0.1:{broker.port}/site", timeout=0.5).__enter__()


def test_a_host_that_does_not_exist_is_no_wrong_use() -> None:
    with pytest.raises(OutputError, match="mqtt://broker.invalid cannot be reached: "):
        Mqtt("mqtt://eve:secret@broker.invalid/site").__enter__()


WRONG = {
    "mqtt://": "expected a host, got none",
    "mqtt://eve:sesame@": "expected a host, got none",
    "mqtt://broker:0/x": "expected a port from 1 to 65535, got 0",
    "mqtt://eve:sesame@broker:port/x": "expected a port from 1 to 65535",
    "mqtt://eve:sesame@broker:1883/a/+/b": "the topic: expected one without + and #",
    "mqtt://eve:sesame@broker/$SYS": "the topic: expected one without + and # that does not begin with $",
    "tcp://eve:sesame@broker/x": "expected mqtt://",
}


@pytest.mark.parametrize("address", WRONG)
def test_a_wrong_address_is_wrong_use_and_shows_no_password(address: str) -> None:
    with pytest.raises(UsageError) as error:
        plugins.build("publishers", "mqtt", {"address": address})
    assert WRONG[address] in str(error.value) and "sesame" not in str(error.value)


def test_wrong_options_are_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for options, words in {
        ("ca", tmp_path / "none.pem"): "ca: there is no file",
        ("ca", tmp_path / "no.pem"): "no.pem holds no certificates",
        ("capacity", 0): "capacity: expected at least 1, got 0",
        ("timeout", 0): "timeout: expected more than 0 seconds, got 0",
        ("discovery", "a/#"): "discovery: expected one without",
    }.items():
        with pytest.raises(UsageError, match=words):
            plugins.build("publishers", "mqtt", {"address": "mqtts://broker/x", options[0]: options[1]})
    with pytest.raises(UsageError, match="ca: expected an address that begins with mqtts:, got mqtt://broker/x"):
        plugins.build("publishers", "mqtt", {"address": "mqtt://broker/x", "ca": tmp_path / "no.pem"})


def test_home_assistant_is_told_once_and_again_after_its_birth(broker: Broker, heard: Listening) -> None:
    topic = "homeassistant/sensor/site-front/gate_in/config"
    with made(broker) as mqtt:
        mqtt.send([counts(), state("live")])
        mqtt.send([counts(), state("live")])
        heard.until("homeassistant/binary_sensor/site-front/connection/config", 1)
        assert heard.until(topic, 1)[0]["state_topic"] == "site/front/counts"
        assert len(heard.bodies(topic)) == 1
        command = [program("mosquitto_pub"), "-p", str(broker.port), "-t", "homeassistant/status", "-m", "online"]
        subprocess.run(command, check=True, timeout=20)
        heard.until("homeassistant/status", 1)
        deadline = time.monotonic() + 20
        while len(heard.bodies(topic)) < 2 and time.monotonic() < deadline:
            mqtt.send([])
            mqtt.send(events(1, 1))
            heard.until("site/front/events", 1)
            heard.drain()
    assert len(heard.bodies(topic)) == 2


def test_home_assistant_is_told_nothing_where_it_is_not_wanted(broker: Broker, heard: Listening) -> None:
    with made(broker, discovery="") as mqtt:
        mqtt.send([counts(), state("live"), event(1)])
    heard.until("site/availability", 2)
    assert not [each.topic for each in heard.received if each.topic.startswith("homeassistant")]


def test_a_broker_that_still_holds_the_former_session_does_not_say_offline_after_online(broker: Broker) -> None:
    publisher = made(broker)
    publisher.__enter__()
    former = publisher._session  # the network has lost it, and the broker does not know
    assert former is not None
    publisher.__enter__()
    if (connection := former._client.socket()) is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # now it does
    time.sleep(0.5)
    try:
        with listening(broker.port, "#") as heard:
            assert heard.until(f"{publisher.topic}/availability", 1) == ["online"]
    finally:
        publisher.__exit__(None)
