"""Addresses with a user and a password in them, which the other end gets and nobody else sees: `rtsp://…@camera/1`.

What stands for `${CAM_PASSWORD}` comes from the environment, for `${file:/run/secrets/camera}` from the first line of
that file. A password may hold `@ : / ? #` as they are, in a variable anything; where an address can be read in two
ways, a character is written as `%40`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from streamseg.types import UsageError
from streamseg.words import nearest, without_credentials

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# a host and perhaps a port, as they stand before the path
_PLACE = re.compile(r"(?P<host>\[[^\[\]@/?#]*\]|[^\[\]@:/?#]*)(?::(?P<port>[^@:/?#]*))?(?=[/?#]|$)")
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
# of the path of some recorders: rtsp://recorder/user=admin_password=secret_channel=1
_SECRET_IN_PATH = re.compile(r"(?i)(user\w*?|pass\w*?|pwd|token|key|auth)=")
# what may stand in a user or a password as it is; the rest is written %40
_PLAIN = "!$&'()*+,;="
_HIDDEN = "…"


@dataclass(frozen=True, repr=False)
class Address:
    """Where somebody else is to be reached; as text, and in every message, without user, password and query.

    path: with its `/`, query and fragment, as it was written · user, password: decoded, None where none was given
    """

    scheme: str
    host: str
    port: int | None = None
    path: str = ""
    user: str | None = None
    password: str | None = None
    secrets: tuple[str, ...] = field(default=(), compare=False)
    """Every spelling of what must not be seen, the longest first."""

    @classmethod
    def parse(cls, text: str, *, schemes: Sequence[str], form: str = "//HOST[:PORT]/PATH") -> Address:
        """The address, its variables filled in; UsageError in one sentence that shows no secret.

        schemes: those that are understood · form: of what stands after the scheme, for the message
        """
        if _VARIABLE.fullmatch(text):  # the whole address
            text = filled(text)
        values: list[str] = []
        text = _VARIABLE.sub(lambda found: _kept(values, _value_of(found[1])), text.strip())
        scheme = _SCHEME.match(text)
        if not scheme or scheme[1].lower() not in schemes:
            expected = " or ".join(f"{each}:{form}" for each in schemes)
            got = f"{scheme[1]}://{_HIDDEN}" if scheme else "an address without a scheme"
            hint = nearest(scheme[1], schemes) if scheme else ""
            raise UsageError(f"expected {expected}, got {got}{hint if 'did you mean' in hint else ''}")
        return _parsed(scheme[1].lower(), text[scheme.end() :], values)

    def __str__(self) -> str:
        path = re.split(r"[?#]", self.path)[0]
        if "@" in path or _SECRET_IN_PATH.search(path):
            path = f"/{_HIDDEN}"
        return f"{self.scheme}://{self.place}{path}"

    def __repr__(self) -> str:
        return f"<Address {self}>"

    @property
    def place(self) -> str:
        """`HOST:PORT`, or the host alone."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address, with what must not be seen: for whoever connects, and for no message."""
        credentials = ""
        if self.user is not None or self.password is not None:
            credentials = f"{quote(self.user or '', safe=_PLAIN)}:{quote(self.password or '', safe=_PLAIN)}@"
        host = self.host if self.host.isascii() else self.host.encode("idna").decode()
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{credentials}{host}{port}{self.path}"

    def without_secrets(self, text: str) -> str:
        """The text of somebody else's error, with what must not be seen taken out."""
        for secret in self.secrets:
            text = text.replace(secret, _HIDDEN)
        return without_credentials(text)


def filled(text: str, written: Callable[[str], str] = str) -> str:
    """The text with the values of its `${VARIABLES}`; UsageError names one that is missing.

    written: how a value is spelled there
    """
    return _VARIABLE.sub(lambda found: written(_value_of(found[1])), text)


def shown(text: str) -> str:
    """A text that is an address, perhaps a wrong one, without user, password and query; another one as it is."""
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    return without_credentials(f"{scheme}://{rest.rpartition('@')[2]}").partition("?")[0]  # a password may hold blanks


def _value_of(name: str, environment: Mapping[str, str] = os.environ) -> str:
    if name.startswith("file:"):
        return _first_line(Path(name.removeprefix("file:")).expanduser())
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise UsageError(f"expected ${{VARIABLE}} or ${{file:/PATH}}, got ${{{name}}}")
    if name not in environment:
        raise UsageError(f"the environment variable {name} is not set")
    return environment[name]


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'no text'}") from None
    if not lines:
        raise UsageError(f"{path}: expected a value in its first line, got an empty file")
    return lines[0]


# Values wait outside the text until it is taken apart, so that nothing in them is taken for a part of the address.


def _kept(values: list[str], value: str) -> str:
    values.append(value)
    return f"\ue000{len(values) - 1}\ue001"


def _put_back(text: str, values: Sequence[str]) -> str:
    return re.sub("\ue000(\\d+)\ue001", lambda found: values[int(found[1])], text)


def _decoded(text: str, values: Sequence[str]) -> str:
    """A user or a password as it is meant; what came from a variable is meant as it is."""
    parts = re.split("(\ue000\\d+\ue001)", text)
    return "".join(_put_back(part, values) if part[:1] == "\ue000" else unquote(part) for part in parts)


def _parsed(scheme: str, rest: str, values: Sequence[str]) -> Address:
    at = _end_of_credentials(rest, values)
    credentials, rest = (rest[:at], rest[at + 1 :]) if at >= 0 else (None, rest)
    place = _PLACE.match(rest)
    if not place:
        raise UsageError(f"{scheme}://{_HIDDEN}: expected HOST or HOST:PORT before the path")
    host, port = _put_back(place["host"], values), _put_back(place["port"] or "", values)
    if ":" in host and host[0] != "[":  # a variable that holds both
        host, _, port = host.rpartition(":")
    path = _put_back(rest[place.end() :], values)
    user = password = None
    if credentials is not None:
        user, password = _user_and_password(credentials, values)
    _check_host(scheme, host, secret="@" in rest)
    _check_path(scheme, path)
    number = _port(f"{scheme}://{host}", port, written=place["port"] is not None, secret="@" in rest)
    secrets = _spellings(user, password, _put_back(credentials or "", values), path)
    return Address(scheme, host, number, path, user, password, secrets)


def _end_of_credentials(rest: str, values: Sequence[str]) -> int:
    """Where the `@` stands that ends user and password, -1 for none.

    That is the last one before the path, unless the host after it is doubtful and there is a later one with a better:
    in `admin:p@ss/word@camera/1` and in `admin:pass/word@camera/1` the password holds a slash.
    """
    path = re.search(r"[/?#]|$", rest)
    assert path
    usual = rest.rfind("@", 0, path.start())
    if usual < 0 and (_is_place(rest[: path.start()], values) or ":" not in rest[: path.start()]):
        return -1
    if usual >= 0 and _is_sure(rest[usual + 1 :], values):
        return usual
    end = rest.find("?", usual + 1) if usual >= 0 else -1
    later = [found.start() for found in re.finditer("@", rest[: end if end >= 0 else len(rest)])]
    later = [at for at in later if at >= usual and _PLACE.match(rest[at + 1 :]) and rest[at + 1 : at + 2] not in "/?#"]
    sure = [at for at in later if _is_sure(rest[at + 1 :], values)]
    return (sure or later or [usual])[-1]


def _is_place(text: str, values: Sequence[str]) -> bool:
    """Whether it is a host with or without a port, so that no password begins there."""
    found = _PLACE.fullmatch(text)
    return found is not None and re.fullmatch(r"\d*", _put_back(found["port"] or "", values)) is not None


def _is_sure(text: str, values: Sequence[str]) -> bool:
    """Whether a host begins there that looks like nothing else: with a port, a number, or a dot in it."""
    found = _PLACE.match(text)
    if not found or not found["host"]:
        return False
    host = _put_back(found["host"], values)
    has_port = bool(re.fullmatch(r"\d+", _put_back(found["port"] or "", values)))
    return has_port or host == "localhost" or host[0] == "[" or bool(re.fullmatch(r"[\w-]+(\.[\w-]+)+", host))


def _user_and_password(credentials: str, values: Sequence[str]) -> tuple[str, str | None]:
    if ":" not in credentials and len(values) and re.fullmatch("\ue000\\d+\ue001", credentials):
        user, colon, password = _put_back(credentials, values).partition(":")  # a variable that holds both
        return user, password if colon else None
    user, colon, password = credentials.partition(":")
    return _decoded(user, values), _decoded(password, values) if colon else None


def _spellings(user: str | None, password: str | None, written: str, path: str) -> tuple[str, ...]:
    """The spellings of user and password, and the query, that might turn up in a text; the longest first."""
    before, query = re.split(r"[?#]", path + "?", maxsplit=1)
    found = {written, query.rstrip("?"), before if _SECRET_IN_PATH.search(before) else ""}
    for part in (password, None if user is None else f"{user}:{password or ''}"):
        found |= {part, quote(part, safe=_PLAIN + ":"), quote(part, safe="")} if part else set()
    # a password of three letters is a part of many words, and goes only where an address stands around it
    return tuple(sorted((each for each in found if len(each) > 3), key=len, reverse=True))


def _check_host(scheme: str, host: str, *, secret: bool) -> None:
    got = _HIDDEN if secret else repr(host)
    if not host:
        raise UsageError(f"{scheme}://: expected a host, got none")
    if host[0] == "[":
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise UsageError(f"{scheme}://: expected an IPv6 address in the brackets, got {got}") from None
    elif re.fullmatch(r"[\d.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise UsageError(f"{scheme}://: expected an IPv4 address such as 192.168.1.20, got {got}") from None
    elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.removesuffix(".").split(".")):
        raise UsageError(f"{scheme}://: expected a host of letters, digits, dots and hyphens, got {got}")


def _check_path(scheme: str, path: str) -> None:
    if any(letter.isspace() or not letter.isprintable() for letter in path):
        raise UsageError(f"{scheme}://: expected a path without spaces; a space is written %20")


def _port(where: str, text: str, *, written: bool, secret: bool) -> int | None:
    if not text and not written:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        where = f"{where.split('://')[0]}://" if secret else where
        raise UsageError(f"{where}: expected a port from 1 to 65535, got {_HIDDEN if secret else text or 'none'}")
    return int(text)
