"""Publishes states, counts and events of every stream to an MQTT broker; Home Assistant finds them by itself."""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from streamseg.addresses import Address
from streamseg.publishers import _home_assistant as home_assistant
from streamseg.publishers._session import Broker, Post, Session, TlsSocket
from streamseg.types import Message, OutputError, UsageError

PORTS = {"mqtt": 1883, "mqtts": 8883}
TOPIC = "streamseg"


class Mqtt:
    """TOPIC/availability, TOPIC/STREAM/state and TOPIC/STREAM/counts are retained; TOPIC/STREAM/events are not.

    Every message is sent until the broker has it; one may come twice, under the same id.

    address: mqtt:// or, with TLS, mqtts://; of the path comes the topic under which all of it stands, one for each
    program · ca: a file of certificates to trust instead of the system's · discovery: the topic at which Home Assistant
    is told what there is, empty for none · thumbnails: each event carries the picture of its object as a JPEG in
    base64 · spool: the file in which events wait while the broker is away; default: one named after the target in the
    user's state folder · capacity: events that may wait, the oldest go · timeout: seconds for an answer of the broker
    """

    schemes = ("mqtt", "mqtts")
    metavar = "//HOST:PORT/TOPIC"
    argument = "address"
    remote = True

    def __init__(
        self,
        address: str,
        *,
        ca: Path | None = None,
        discovery: str = "homeassistant",
        thumbnails: bool = False,
        spool: Path | None = None,
        capacity: int = 10_000,
        timeout: float = 5.0,
    ) -> None:
        parsed = Address.parse(address, schemes=self.schemes, form="//[USER:PASSWORD@]HOST[:PORT]/TOPIC")
        self.topic = unquote(parsed.path).strip("/") or TOPIC
        _check_topic("the topic", self.topic)
        _check_topic("discovery", discovery)
        if capacity < 1:
            raise UsageError(f"capacity: expected at least 1, got {capacity}")
        if timeout <= 0:
            raise UsageError(f"timeout: expected more than 0 seconds, got {timeout:g}")
        self.broker = Broker(parsed, parsed.port or PORTS[parsed.scheme], _trusted(parsed, ca))
        self.target = f"{parsed.scheme}://{parsed.place}/{self.topic}"
        self.thumbnails = thumbnails
        self.spool = spool
        self.capacity = capacity
        self.timeout = timeout
        self._availability = f"{self.topic}/availability"
        self._site = home_assistant.Site(discovery.strip("/"), self.topic, self._availability)
        self._client_id = f"streamseg-{secrets.token_hex(6)}"  # 23 letters are what every broker takes
        self._session: Session | None = None
        self._announced: dict[str, str] = {}  # what Home Assistant was told, by topic
        self._forgotten = threading.Event()  # all of that, perhaps

    def __enter__(self) -> Self:
        offline = Post(self._availability, "offline", retained=True)
        hears = {f"{self._site.prefix}/status": self._on_birth} if self._site.prefix else {}
        session = Session(
            self.broker, will=offline, farewell=offline, timeout=self.timeout, client_id=self._client_id, hears=hears
        )
        session.open()
        self._session = session
        self._forgotten.set()
        try:
            session.post([Post(self._availability, "online", retained=True)])
        except OutputError:
            self.__exit__(OutputError)
            raise
        return self

    def send(self, messages: Sequence[Message]) -> None:
        """Return once the broker has all of them; without any, it still raises OutputError where the broker is gone."""
        assert self._session is not None, "entering opens the connection"
        self._session.post([*self._announcements(messages), *map(self._post, messages)])

    def interrupt(self) -> None:
        """End what waits for the broker; from any thread."""
        if session := self._session:
            session.interrupt()

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(in_order=exc_type is None)

    def _post(self, message: Message) -> Post:
        topic = {"event": "events"}.get(message.kind, message.kind)
        text = json.dumps(message.body, ensure_ascii=False, separators=(",", ":"))
        return Post(self._of(message.stream, topic), text, retained=message.kind != "event")

    def _of(self, stream: str, topic: str) -> str:
        return f"{self.topic}/{re.sub('[/+#]', '_', stream)}/{topic}"

    def _announcements(self, messages: Sequence[Message]) -> Iterator[Post]:
        """What Home Assistant does not know yet."""
        if not self._site.prefix:
            return
        if self._forgotten.is_set():
            self._forgotten.clear()
            yield from (Post(topic, body, retained=True) for topic, body in self._announced.items())
        for topic, body in (each for message in messages for each in self._entities(message)):
            if topic not in self._announced:
                self._announced[topic] = body
                yield Post(topic, body, retained=True)

    def _entities(self, message: Message) -> Iterator[tuple[str, str]]:
        topic = self._of(message.stream, message.kind)
        if message.kind == "state":
            yield home_assistant.of_state(self._site, message.stream, topic)
        elif message.kind == "counts":
            yield from home_assistant.of_counts(self._site, message.stream, topic, message.body)

    def _on_birth(self, text: str) -> None:
        """Home Assistant has started, and is told everything again with the next message."""
        if text == "online":
            self._forgotten.set()


def _check_topic(what: str, text: str) -> None:
    if re.search(r"[+#\0]", text) or text.startswith("$"):
        raise UsageError(f"{what}: expected one without + and # that does not begin with $, got {text!r}")


def _trusted(address: Address, ca: Path | None) -> ssl.SSLContext | None:
    """What decides about the broker's certificate; None for one that shows none."""
    if address.scheme == "mqtt":
        if ca:
            raise UsageError(f"ca: expected an address that begins with mqtts:, got {address}")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except FileNotFoundError:
        raise UsageError(f"ca: there is no file {ca}") from None
    except OSError as error:
        raise UsageError(f"ca: {ca} holds no certificates ({error.strerror or error})") from None
    context.sslsocket_class = TlsSocket
    return context
