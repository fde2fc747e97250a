"""One connection to an MQTT broker: what is handed to it is with the broker when it returns."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from streamseg.addresses import Address
from streamseg.types import OutputError

SECONDS_TO_PART = 1.0
"""For the last words of a session."""

SECONDS_BETWEEN_SIGNS = 10
"""Of life, where there is nothing to say; the broker takes a client for dead after half as much again."""


@dataclass(frozen=True)
class Broker:
    """Where a broker is, and how one comes in; tls: None for a connection that anybody can read."""

    address: Address
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        """Its address without credentials."""
        return f"{self.address.scheme}://{self.address.place}"


class TlsSocket(ssl.SSLSocket):
    """Closed where the other end is not to be trusted; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


@dataclass(frozen=True)
class Post:
    """One text for one topic; a retained one is what the next to ask for the topic gets first."""

    topic: str
    text: str
    retained: bool = False


class Session:
    """Connected while it is entered; it never reconnects, who uses it makes a new one.

    will: what the broker posts in its stead when it breaks off · farewell: what it posts itself before it leaves in
    order · timeout: seconds; a broker that is silent for longer, where an answer is due, is as good as gone · hears:
    topics, and what is called with the text of each message there, in a thread of its own · client_id: the same for all
    sessions of one publisher, so that the broker ends a former one, and posts its will, before the new one begins
    """

    def __init__(
        self,
        broker: Broker,
        *,
        will: Post,
        farewell: Post,
        timeout: float,
        client_id: str,
        hears: Mapping[str, Callable[[str], None]] | None = None,
    ) -> None:
        self.broker = broker
        self.timeout = timeout
        self._farewell = farewell
        self._hears = hears or {}
        self._changed = threading.Condition()
        self._answer: ReasonCode | None = None
        self._lost = ""
        self._arrived: set[int] = set()  # what the broker has, by paho's numbers
        self._client = self._made(will, client_id)

    def _made(self, will: Post, client_id: str) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, reconnect_on_failure=False)
        client.connect_timeout = self.timeout
        client.max_queued_messages_set(0)
        client.will_set(will.topic, will.text, qos=1, retain=will.retained)
        if self.broker.address.user:
            client.username_pw_set(self.broker.address.user, self.broker.address.password)
        if self.broker.tls:
            client.tls_set_context(self.broker.tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def open(self) -> None:
        """Connect. OutputError says why not, without credentials."""
        host = self.broker.address.host.strip("[]")
        try:
            self._client.connect(host, self.broker.port, keepalive=SECONDS_BETWEEN_SIGNS)
        except (OSError, UnicodeError) as error:
            raise OutputError(f"{self.broker} cannot be reached: {self._reason(error)}") from None
        self._client.loop_start()
        try:
            self._await_welcome()
        except OutputError:
            self.close(in_order=False)
            raise
        for topic in self._hears:
            self._client.subscribe(topic, qos=1)

    def post(self, posts: Iterable[Post]) -> None:
        """Return once the broker has all of them; OutputError where it is gone or silent."""
        due = {self._handed(each) for each in posts}
        with self._changed:
            while due - self._arrived and not self._lost:
                known = len(self._arrived)
                if not self._changed.wait_for(lambda: self._lost or len(self._arrived) > known, self.timeout):  # noqa: B023
                    self._lost = self._silent
            self._arrived -= due
            if self._lost:
                raise OutputError(f"{self.broker}: {self._lost}")

    def interrupt(self) -> None:
        """End what waits for the broker at present; from any thread."""
        self._lose("interrupted")

    def close(self, *, in_order: bool) -> None:
        """Leave: in order with its farewell, else without a word, so that the broker posts the will."""
        if in_order and not self._lost:
            with suppress(OutputError):
                self.post([self._farewell])
                self._client.disconnect()
                with self._changed:
                    self._changed.wait_for(lambda: self._lost, SECONDS_TO_PART)
        # A thread of paho's that still has something to send to a silent broker would stay; without a socket it ends.
        with suppress(OSError):
            if isinstance(connection := self._client.socket(), socket.socket):
                connection.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    @property
    def _silent(self) -> str:
        return f"no answer within {self.timeout:g} s"

    def _handed(self, post: Post) -> int:
        info = self._client.publish(post.topic, post.text.encode(), qos=1, retain=post.retained)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lose("the connection was lost")
        return info.mid

    def _await_welcome(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._answer or self._lost, self.timeout)
        if self._answer is None:
            raise OutputError(f"{self.broker}: {self._lost or self._silent}")
        if self._answer.is_failure:
            raise OutputError(f"{self.broker} refuses the connection: {str(self._answer).lower()}")

    def _lose(self, why: str) -> None:
        with self._changed:
            self._lost = self._lost or why
            self._changed.notify_all()

    # In paho's thread.

    def _on_connect(self, client: Client, _data: Any, _flags: Any, answer: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._answer = answer
            self._changed.notify_all()

    def _on_disconnect(self, client: Client, _data: Any, _flags: Any, why: ReasonCode, _properties: Any) -> None:
        known = why.getName().lower()
        self._lose("the connection was lost" + ("" if "unspecified" in known else f" ({known})"))

    def _on_publish(self, client: Client, _data: Any, number: int, _answer: ReasonCode, _properties: Any) -> None:
        with self._changed:
            self._arrived.add(number)
            self._changed.notify_all()

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        self._hears[message.topic](message.payload.decode("utf-8", "replace"))

    def _reason(self, error: OSError | UnicodeError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted, {error.verify_message}; the option ca names a file to trust"
        if isinstance(error, TimeoutError):
            return self._silent
        if isinstance(error, UnicodeError):
            return "no such host name is possible"
        if isinstance(error, ssl.SSLError):
            return f"no TLS there ({(error.reason or str(error)).lower().replace('_', ' ')})"
        return (error.strerror or str(error)).lower()
