"""An address takes user and password to the other end, and shows them to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.addresses import Address, filled, shown
from streamseg.types import UsageError
from streamseg.words import without_credentials

SCHEMES = ("rtsp", "rtsps", "http")


def parse(text: str) -> Address:
    return Address.parse(text, schemes=SCHEMES)


@pytest.mark.parametrize(
    ("text", "user", "password", "place", "path"),
    [
        ("rtsp://camera", None, None, "camera", ""),
        ("RTSP://camera:8554/live/1?channel=2#x", None, None, "camera:8554", "/live/1?channel=2#x"),
        ("rtsp://admin@camera/1", "admin", None, "camera", "/1"),
        ("rtsp://admin:secret@camera/1", "admin", "secret", "camera", "/1"),
        ("rtsp://:secret@camera/1", "", "secret", "camera", "/1"),
        ("rtsp://admin:p%40ss%2Fword@[::1]:554/1", "admin", "p@ss/word", "[::1]:554", "/1"),
        ("rtsp://admin:100%@camera/1", "admin", "100%", "camera", "/1"),
        # raw, as people paste them
        ("rtsp://admin:p@ss@camera/1", "admin", "p@ss", "camera", "/1"),
        ("rtsp://admin:p:a:s@camera/1", "admin", "p:a:s", "camera", "/1"),
        ("rtsp://admin:pa/ss@camera/1", "admin", "pa/ss", "camera", "/1"),
        ("rtsp://admin:p@s:s/w@camera/1", "admin", "p@s:s/w", "camera", "/1"),
        ("rtsp://admin:p@ss/w:rd@127.0.0.1:8554/1", "admin", "p@ss/w:rd", "127.0.0.1:8554", "/1"),
        ("rtsp://admin:p#s?s@camera/1", "admin", "p#s?s", "camera", "/1"),
        # an @ after the host is none of them
        ("rtsp://camera/live@hd", None, None, "camera", "/live@hd"),
        ("rtsp://camera:554/live@hd", None, None, "camera:554", "/live@hd"),
        ("rtsp://admin:secret@camera.local/live@hd", "admin", "secret", "camera.local", "/live@hd"),
        ("rtsp://admin:secret@camera/1?mail=me@home.net", "admin", "secret", "camera", "/1?mail=me@home.net"),
    ],
)
def test_an_address_is_taken_apart(text: str, user: str, password: str, place: str, path: str) -> None:
    address = parse(text)
    assert (address.user, address.password, address.place, address.path) == (user, password, place, path)


letters = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Co")), min_size=1)


@given(user=letters.filter(lambda text: ":" not in text), password=letters)
def test_what_the_other_end_gets_is_what_was_meant_and_what_others_see_has_none_of_it(user: str, password: str) -> None:
    made = Address("rtsp", "camera", 554, "/1?key=abc", user, password)
    assert parse(made.url) == made
    assert str(made) == "rtsp://camera:554/1" and "key" not in repr(made)


@given(password=letters)
def test_what_stands_in_a_variable_is_meant_as_it_is(password: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAM_PASSWORD", password)
        address = parse("rtsp://admin:${CAM_PASSWORD}@camera/1")
    assert (address.user, address.password, address.host) == ("admin", password, "camera")


def test_variables_may_hold_any_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss/${word}\nnot this\n")
    for name, value in {"WHO": "admin:a:b@c", "WHERE": "camera:8554", "ALL": "rtsp://a:b@camera/1"}.items():
        monkeypatch.setenv(name, value)
    address = parse("rtsp://${WHO}@${WHERE}/1")
    assert (address.user, address.password, address.place) == ("admin", "a:b@c", "camera:8554")
    assert parse(f"rtsp://admin:${{file:{tmp_path}/secret}}@camera/1").password == "p@ss/${word}"
    assert parse("${ALL}") == parse("rtsp://a:b@camera/1")
    assert filled("x${WHERE}y") == "xcamera:8554y"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rtsp://a:${NOT_SET}@camera", "the environment variable NOT_SET is not set"),
        ("rtsp://a:${file:/not/there}@camera", "/not/there: cannot be read: No such file or directory"),
        ("rtsp://a:${file:/dev/null}@camera", "/dev/null: expected a value in its first line, got an empty file"),
        ("rtsp://a:${two words}@camera", "expected ${VARIABLE} or ${file:/PATH}, got ${two words}"),
        ("camera/1", "expected rtsp://HOST[:PORT]/PATH or rtsps:"),
        ("rtpsa://a:sesame@camera/1", "got rtpsa://…; did you mean 'rtsps'?"),
        ("rtsp://", "rtsp://: expected a host, got none"),
        ("rtsp:///1", "rtsp://: expected a host, got none"),
        ("rtsp://a:sesame@/1", "rtsp://: expected a host, got none"),
        ("rtsp://camera:0/1", "rtsp://camera: expected a port from 1 to 65535, got 0"),
        ("rtsp://camera:65536/1", "expected a port from 1 to 65535, got 65536"),
        ("rtsp://camera:/1", "expected a port from 1 to 65535, got none"),
        ("rtsp://a:sesame@camera:http/1", "expected a port from 1 to 65535, got http"),
        ("rtsp://192.168.1.256/1", "expected an IPv4 address such as 192.168.1.20, got '192.168.1.256'"),
        ("rtsp://[::g]/1", "expected an IPv6 address in the brackets, got '[::g]'"),
        ("rtsp://front door/1", "expected a host of letters, digits, dots and hyphens, got 'front door'"),
        ("rtsp://-camera/1", "expected a host of letters, digits, dots and hyphens, got '-camera'"),
        ("rtsp://camera/a b", "expected a path without spaces; a space is written %20"),
    ],
)
def test_a_wrong_address_is_named_in_one_sentence_without_its_password(text: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert words in str(error.value) and "sesame" not in str(error.value)


def test_every_spelling_of_a_password_is_taken_out_of_a_foreign_error() -> None:
    address = parse("http://admin:se/same@camera/user=admin_password=se_channel=1?token=abcd")
    for said in (address.url, "user admin:se/same", "se%2Fsame", "GET /user=admin_password=se_channel=1", "token=abcd"):
        clean = address.without_secrets(f"no luck: {said}")
        assert clean.startswith("no luck: ")
        assert not any(secret in clean for secret in ("se/same", "se%2Fsame", "password=se", "abcd"))
    assert str(address) == "http://camera/…"
    assert without_credentials("at 'rtsp://a:b@c/1', rtsp://d/1") == "at 'rtsp://c/1', rtsp://d/1"


def test_a_wrong_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("rtps://a:b?c@camera/1?token=abcd") == "rtps://camera/1"
    assert shown("what?.mp4") == "what?.mp4"


def test_a_host_in_letters_of_its_own_is_found_by_its_other_name() -> None:
    address = parse("rtsp://kamera.müller.example/1")
    assert address.url == "rtsp://kamera.xn--mller-kva.example/1" and "müller" in str(address)
