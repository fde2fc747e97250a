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

from streamseg.types import ModelError

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
    ModelError when the file cannot be fetched or is another one; then the target is as it was.
    """
    import pooch
    import requests

    kind, _, digest = checksum.partition(":")

    def promised(file: Path) -> bool:
        return len(digest) >= 8 and bool(pooch.file_hash(str(file), kind).startswith(digest))

    if target.is_file() and promised(target):
        return target
    download = _Download(target.with_name(f"{target.stem}.part{target.suffix}"), progress=progress, report=report)

    def checked() -> Path:
        download.fill(url)
        if not promised(download.part):
            download.part.unlink()
            raise ValueError("another checksum")
        return download.part.replace(target)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return checked()
        except ValueError:  # another checksum
            if not download.resumed:
                raise
            report("what was here before is no part of it; once more from the start")
            return checked()
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if download.connected:
            so_far = f"{_size(download.part) / 1e6:.1f} MB are here, and the same command goes on after them"
            raise ModelError(f"{url}: it broke off; {so_far}") from error
        host = urllib.parse.urlsplit(url).netloc
        raise ModelError(f"{url}: {host} cannot be reached. Without a network, {by_hand}") from error
    except requests.RequestException as error:
        raise ModelError(f"{url}: {error}") from error
    except ValueError as error:
        name = {"md5": "MD5", "sha256": "SHA-256"}[kind]
        raise ModelError(f"{url}: it is not the file that was promised: its {name} is another one") from error
    except OSError as error:
        raise ModelError(f"{url}: cannot be kept in {target.parent}: {error.strerror or error}") from error


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
