"""One file from the web: kept only when it is what was promised, and gone on with where it broke off."""

from __future__ import annotations

import re
import shutil
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.types import ModelError, UsageError

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 16
TIMEOUT = 30.0
"""Seconds to wait for a connection and for each piece of the answer."""

SECONDS_BETWEEN_LINES = 10.0

Say = Callable[[str], None]


def fetch(
    url: str,
    target: Path,
    *,
    checksum: str,
    by_hand: str,
    progress: bool = False,
    report: Say = lambda line: None,
) -> Path:
    """The file of `url` at `target`; one that is there with that checksum is not fetched again.

    checksum: `sha256:…` or `md5:…`, or how it begins: eight digits or more · by_hand: what to do without a
    network, for the message · progress: a bar on stderr, else `report` gets a line now and then.

    What has come so far lies beside the target, as NAME.part.ENDING, and the next call goes on after it. Raises
    ModelError when the file cannot be fetched or is another one, UsageError when the url is none; then the target is as
    it was. Another process may fetch the same file at the same time: then it is there in the end, whoever was first.
    """
    import pooch

    kind, _, digest = checksum.partition(":")

    def promised(file: Path) -> bool:
        return len(digest) >= 8 and bool(pooch.file_hash(str(file), kind).startswith(digest))

    def here() -> bool:
        return target.is_file() and promised(target)

    if here():
        return target
    download = _Download(target.with_name(f"{target.stem}.part{target.suffix}"), progress=progress, report=report)

    def checked() -> Path:
        download.fill(url)
        if not promised(download.part):
            download.part.unlink()
            raise _AnotherFile
        return download.part.replace(target)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return checked()
        except _AnotherFile:
            if not download.resumed:
                raise
            report("what was here before is no part of it; once more from the start")
            return checked()
    except (_AnotherFile, OSError, ValueError) as error:  # what requests raises is one of the latter two
        if here():  # another process was faster, and took the part file away
            return target
        raise _in_words(error, download, url, target, kind=kind, by_hand=by_hand) from error


def _in_words(
    error: Exception, download: _Download, url: str, target: Path, *, kind: str, by_hand: str
) -> ModelError | UsageError:
    """Why a file could not be fetched."""
    import requests

    if isinstance(error, _AnotherFile):
        name = {"md5": "MD5", "sha256": "SHA-256"}[kind]
        return ModelError(f"{url}: it is not the file that was promised: its {name} is another one")
    if isinstance(error, requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError):
        if download.connected:
            so_far = f"{_size(download.part) / 1e6:.1f} MB are here, and the same command goes on after them"
            return ModelError(f"{url}: it broke off; {so_far}")
        host = urllib.parse.urlsplit(url).netloc
        return ModelError(f"{url}: {host} cannot be reached. Without a network, {by_hand}")
    if isinstance(error, requests.RequestException):
        return ModelError(f"{url}: {error}")
    if isinstance(error, OSError):
        return ModelError(f"{url}: cannot be kept in {target.parent}: {error.strerror or error}")
    return UsageError(f"{url}: is no address of a file ({error})")


class _AnotherFile(Exception):
    """What came has another checksum than was promised."""


class _Download:
    """What has come of a file, in a part file; `fill` asks only for the rest.

    resumed: it was put together from two answers, so a wrong checksum may be the fault of either · connected: the
    server has begun to answer
    """

    def __init__(self, part: Path, *, progress: bool, report: Say) -> None:
        self.part, self.progress, self.report = part, progress, report
        self.resumed = self.connected = False

    def fill(self, url: str) -> None:
        """Fetch what is missing."""
        import requests

        self.resumed = self.connected = False
        start = _size(self.part)
        # a packed answer could not be gone on with
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        self.report(f"downloading {url}" + (f", going on after {start / 1e6:.1f} MB" if start else ""))
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if start and answer.status_code == requests.codes.requested_range_not_satisfiable:
                self.resumed = True  # nothing is missing, or too much is here: the checksum tells
                return
            answer.raise_for_status()
            self.connected = True
            self.resumed = start > 0 and answer.status_code == requests.codes.partial_content
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if self.resumed and not (begins and int(begins[1]) == start):
                self.part.unlink()  # another part than was asked for
                return self.fill(url)
            self._append(answer, start if self.resumed else 0)

    def _append(self, answer: Response, start: int) -> None:
        from tqdm import tqdm

        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        said_at = time.monotonic()
        size = shutil.get_terminal_size()  # 80 × 24 where the terminal does not know it, and tqdm would draw nothing
        bar = tqdm(
            total=total,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=self.part.name.replace(".part", ""),
            ncols=size.columns - 1,
            nrows=size.lines,
            file=sys.stderr,
            leave=False,
            disable=not self.progress,
        )
        done = start
        with bar, open(self.part, "r+b" if start else "wb") as file:
            file.seek(start)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                done += len(chunk)
                if not self.progress and time.monotonic() - said_at >= SECONDS_BETWEEN_LINES:
                    said_at = time.monotonic()
                    self.report(f"{done / 1e6:.0f}{f' of {total / 1e6:.0f}' if total else ''} MB")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
