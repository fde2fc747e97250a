"""A folder of a dataset, on this machine or in a bucket: list it, read its files, have one of them at hand."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from streamseg import buckets, zoo
from streamseg.types import InputError, UsageError


class Storage(Protocol):
    """Files in subfolders. Every method raises InputError, naming the file, when it cannot be read.

    versions: the files of a subfolder, each with a text that changes when the file does · read: the content of several
    files · local: a path of this machine with the file's content
    """

    def versions(self, subfolder: str) -> dict[str, str]: ...
    def read(self, names: Sequence[str]) -> list[bytes]: ...
    def local(self, name: str) -> Path: ...


def open_storage(folder: str | Path, *, endpoint: str | None) -> Storage:
    """The folder at a path or at `s3://bucket/folder`; endpoint: the URL of an S3 service that is not Amazon's."""
    if str(folder).startswith("s3://"):
        return Bucket(str(folder).rstrip("/"), endpoint=endpoint)
    if "://" in str(folder):
        raise UsageError(f"{folder}: expected a folder or s3://bucket/folder")
    if endpoint is not None:
        raise UsageError(f"endpoint: expected only with s3://bucket/folder, got the folder {folder}")
    return LocalFolder(Path(folder))


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self, subfolder: str) -> dict[str, str]:
        try:
            with os.scandir(self.folder / subfolder) as entries:
                facts = {entry.name: entry.stat() for entry in entries if entry.is_file()}
        except OSError as error:
            raise InputError(f"{self.folder / subfolder}: cannot be listed ({error.strerror})") from error
        return {name: f"{fact.st_size} {fact.st_mtime_ns}" for name, fact in sorted(facts.items())}

    def read(self, names: Sequence[str]) -> list[bytes]:
        contents = []
        for name in names:
            try:
                contents.append((self.folder / name).read_bytes())
            except OSError as error:
                raise InputError(f"{self.folder / name}: cannot be read ({error.strerror})") from error
        return contents

    def local(self, name: str) -> Path:
        return self.folder / name


class Bucket:
    """A folder in a bucket; a file that is needed here is fetched once into the cache folder.

    Credentials are found where every S3 client looks for them.
    """

    def __init__(self, url: str, *, endpoint: str | None) -> None:
        self.url = url
        self._files: Any = buckets.client(url, endpoint_url=endpoint)
        key = hashlib.sha256(f"{endpoint or ''} {url}".encode()).hexdigest()[:16]
        self._fetched = zoo.cache_folder() / "datasets" / key
        self._versions: dict[str, str] = {}

    def versions(self, subfolder: str) -> dict[str, str]:
        with buckets.named(f"{self.url}/{subfolder}", "listed"):
            found = [each for each in self._files.ls(f"{self.url}/{subfolder}", detail=True) if each["type"] == "file"]
        versions = {each["name"].rpartition("/")[2]: f"{each['size']} {each['ETag'].strip(chr(34))}" for each in found}
        self._versions.update({f"{subfolder}/{name}": version for name, version in versions.items()})
        return dict(sorted(versions.items()))

    def read(self, names: Sequence[str]) -> list[bytes]:
        if not names:
            return []
        paths = [f"{self.url}/{name}".removeprefix("s3://") for name in names]
        with buckets.named(f"{self.url}/{names[0]}" + (f" … {names[-1]}" if len(names) > 1 else ""), "read"):
            contents = self._files.cat(paths)  # of one path, the bytes themselves where older versions do so
        return [contents] if isinstance(contents, bytes) else [contents[path] for path in paths]

    def local(self, name: str) -> Path:
        # what is in the bucket may be replaced under its name
        version = hashlib.sha256(self._versions.get(name, "").encode()).hexdigest()[:8]
        path = self._fetched / version / Path(name).name
        if not path.exists():
            (content,) = self.read([name])
            write_whole(path, content)
        return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of the cache so that it is never seen half done, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as part:
        part.write(content)
    Path(part.name).replace(path)
