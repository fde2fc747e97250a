"""What was probably meant by a word that is none of those there are, and words that can be written and shown."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable


def writable(name: str) -> str:
    """A name from the file system as text that every file and peer takes: bytes that are no UTF-8 become `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_plain(text: str) -> bool:
    """Whether every file can hold the text: it has no control character and no half of a character."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def without_credentials(text: str) -> str:
    """The text with user and password taken out of every address in it, also where its slashes are missing."""
    return re.sub(r"\b([A-Za-z][A-Za-z0-9+.-]*:/{0,2})\S*@", r"\1", text)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: what was probably meant, and else what there is."""
    known = list(known)
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.6)
    if close:
        return f"; did you mean {next(each for each in known if each.lower() == close[0])!r}?"
    return f"; there is {', '.join(sorted(known))}" if known else "; there is none"


def known_and_nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about a word of a file: what there is, and what was probably meant."""
    known = list(known)
    meant, there_is = nearest(name, known), nearest("", known)
    return there_is if meant == there_is else there_is + meant
