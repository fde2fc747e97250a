"""Files in a bucket, `s3://bucket/folder` or `gs://bucket/folder`: listed, fetched once to this machine, put whole.

The clients are fsspec's. They find credentials, and the address of a service that is not Amazon's or Google's, where
every client of such a service looks for them (`AWS_ENDPOINT_URL`, …). What is put is there whole or not at all: that
is how these services work.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from streamseg import zoo
from streamseg.pictures import natural
from streamseg.types import InputError, OutputError, StreamsegError, UsageError

CLIENTS = {"s3": ("s3fs", "S3FileSystem"), "gs": ("gcsfs", "GCSFileSystem")}
"""By scheme, which is the extra's name too: the package and its class."""

ROOM = 0.05
"""Share of the disk that fetched videos leave free; those that were not used for longest make room."""

AT_A_TIME = 200
"""Files that are fetched in one go: their clients have several under way at once."""

REMOVED_AT_A_TIME = 16

_BEGAN = time.time()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stored:
    """A file of a bucket. modified: whole seconds since 1970, which all services tell · version: changes with it"""

    address: str
    size: int
    modified: int
    version: str


def is_address(text: str) -> bool:
    """Whether this is a place in a bucket."""
    return text.partition("://")[0] in CLIENTS and "://" in text


def client(address: str, **options: Any) -> Any:
    """The client for an address; UsageError where its package is not installed."""
    scheme = address.partition("://")[0]
    package, name = CLIENTS[scheme]
    try:
        made = getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise UsageError(
            f'{address}: {package} is not installed; pip install "streamseg[{scheme}]" brings it'
        ) from error
    return made(use_listings_cache=False, **options)


@contextlib.contextmanager
def named(what: str, done: str, *, error: type[StreamsegError] = InputError) -> Iterator[None]:
    """Turns whatever a client raises, of which there are many kinds, into an error that names the file."""
    try:
        yield
    except StreamsegError:
        raise
    except Exception as cause:
        why = "no such file" if isinstance(cause, FileNotFoundError) else str(cause) or type(cause).__name__
        raise error(f"{what}: cannot be {done} ({why})") from cause


def stored(address: str) -> Stored:
    """What is known of a file; InputError where there is none."""
    files = client(address)
    with named(address, "read"):
        return _stored(files.info(address), address)


def listed(address: str) -> list[str]:
    """The files that an address stands for: itself, those directly in it, or those that match; sorted as in a folder.

    InputError where there is none.
    """
    files, scheme = client(address), address.partition("://")[0]
    with named(address, "listed"):
        if files.isfile(address):  # also one called `film [1080p].mp4`
            return [address]
        if any(sign in address for sign in "*?["):
            found = files.glob(address)
        else:
            found = [each["name"] for each in files.ls(address.rstrip("/"), detail=True) if each["type"] == "file"]
    if not found:
        raise InputError(f"{address}: there is no such file")
    return [f"{scheme}://{name}" for name in sorted(found, key=lambda each: natural(Path(each)))]


def copy_of(address: str) -> Path:
    """Where the copy of a file lies on this machine once it is fetched: another one for every version."""
    return _place(stored(address))


def fetched(address: str, *, needed_since: float = _BEGAN) -> Path:
    """The copy of a file on this machine, fetched if it is not there. Its time is that in the bucket.

    needed_since: in seconds since 1970, the begin of this program by default; copies that were not fetched or asked for
    since then make room for it. InputError where there is no such file, or no room.
    """
    found = stored(address)
    path = _place(found)
    if not path.exists():
        _make_room(found, needed_since)
        log.info("fetching %s, %.2g GB", address, found.size / 1e9)
        with named(address, "fetched"):
            fetch(client(address), [(found, path)])
    with contextlib.suppress(OSError):
        os.utime(path, (time.time(), found.modified))  # used now, changed then
    return path


def fetch(files: Any, wanted: Sequence[tuple[Stored, Path]]) -> None:
    """Bring files to these paths of the cache folder, several at a time, each under its name once it is whole.

    Their times are those in the bucket.
    """
    cache = zoo.cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as folder:
        for start in range(0, len(wanted), AT_A_TIME):
            batch = wanted[start : start + AT_A_TIME]
            parts = [os.path.join(folder, str(number)) for number in range(len(batch))]
            files.get([found.address for found, _ in batch], parts)
            for part, (found, path) in zip(parts, batch, strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                os.utime(part, (found.modified, found.modified))
                os.replace(part, path)


class BucketFolder:
    """A folder in a bucket; names in it are relative. OutputError, naming the file, for what cannot be written."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._files = client(address)

    def all(self, subfolder: str) -> dict[str, Stored]:
        """Every file below a subfolder, by its name in this folder; InputError where that cannot be told."""
        address = f"{self.address}/{subfolder}"
        with named(address, "listed"):
            found: Mapping[str, Any] = self._files.find(address, detail=True)
        start = len(self.address.partition("://")[2]) + 1
        return {name[start:]: _stored(info, f"{self.address}/{name[start:]}") for name, info in found.items()}

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none."""
        with named(f"{self.address}/{name}", "read"):
            try:
                content: bytes = self._files.cat_file(f"{self.address}/{name}")
            except FileNotFoundError:
                return None
        return content

    def fetch(self, wanted: Sequence[tuple[Stored, Path]]) -> None:
        """Bring files of it to these paths of the cache folder."""
        if wanted:
            with named(wanted[0][0].address if len(wanted) == 1 else self.address, "fetched"):
                fetch(self._files, wanted)

    def put(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        """Files of this machine, by these names; each of them whole or not at all."""
        if not paths:
            return
        addresses = [f"{self.address}/{name}" for name in names]
        with named(addresses[0] if len(addresses) == 1 else self.address, "written", error=OutputError):
            self._files.put([str(path) for path in paths], addresses)

    def modified(self, name: str) -> int:
        """When a file was put, by the bucket's clock."""
        return _stored(self._files.info(f"{self.address}/{name}"), name).modified

    def remove(self, name: str) -> None:
        """Remove a file or all below a subfolder, if it is there."""
        # one by one, because the clients' `rm` takes brackets in a name for a pattern
        address = f"{self.address}/{name}"
        with named(address, "removed", error=OutputError), ThreadPoolExecutor(REMOVED_AT_A_TIME) as threads:
            list(threads.map(self._remove, self._files.find(address)))

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(name)


def _stored(info: Mapping[str, Any], address: str) -> Stored:
    if info.get("type") != "file":
        raise InputError(f"{address}: expected a file, got a folder")
    told = next((info[key] for key in ("LastModified", "updated", "mtime") if info.get(key)), 0)
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    modified = int(told.timestamp() if isinstance(told, datetime) else told)
    mark = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), "")
    return Stored(address, int(info["size"]), modified, f"{info['size']} {modified} {mark}")


def _copies() -> Path:
    return zoo.cache_folder() / "videos"


def _place(found: Stored) -> Path:
    key = hashlib.sha256(f"{found.address} {found.version}".encode()).hexdigest()[:16]
    return _copies() / key / found.address.rpartition("/")[2]


def _make_room(found: Stored, needed_since: float) -> None:
    """Remove copies, those that were not used for longest first, until there is room for this file."""
    folder = _copies()
    folder.mkdir(parents=True, exist_ok=True)
    used = {path: _last_used(path) for path in folder.glob("*/*")}
    unused = sorted((path for path in used if used[path] < needed_since), key=used.__getitem__, reverse=True)
    while (disk := shutil.disk_usage(folder)).free - found.size < ROOM * disk.total:
        if not unused:
            raise InputError(f"{found.address}: no room in {folder} for its {found.size / 1e9:.2g} GB")
        unused.pop().unlink(missing_ok=True)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_atime
    except OSError:  # somebody else has made room
        return 0.0
