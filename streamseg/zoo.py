"""Models by name: those embedded in this package, those downloaded before, and any folder that holds one.

A model is a folder with `model.yaml` (its configuration) and `model.weights.h5`. What was downloaded lies in the
platform's cache folder. A download is taken only with the SHA-256 that was promised for it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamseg.config import nearest
from streamseg.types import ModelError, UsageError

CONFIG, WEIGHTS = "model.yaml", "model.weights.h5"
EMBEDDED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Download:
    """A model that can be fetched: a zip of its two files at `url` (http or https) with this `sha256`."""

    url: str
    sha256: str

    @classmethod
    def parse(cls, text: str) -> Download:
        """From `https://host/birds.zip#sha256=…`."""
        url, _, fragment = text.partition("#")
        sha256 = fragment.removeprefix("sha256=").lower()
        if not re.fullmatch(r"https?://[^/]+/.+", url):
            raise UsageError(f"expected https://HOST/NAME.zip#sha256=…, got {text!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise UsageError(f"{url}: expected its checksum after it as #sha256= and 64 hexadecimal digits")
        return cls(url, sha256)

    @property
    def name(self) -> str:
        """The name that the model gets: the file's name without its ending."""
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).stem


KNOWN: Mapping[str, Download] = {}
"""Models that are known by a name of their own and lie elsewhere; none is published yet."""


def names() -> list[str]:
    """The models that `resolve` finds by name on this machine: embedded and downloaded."""
    found = [path for folder in (EMBEDDED, _downloaded()) for path in folder.glob("*/") if _whole(path)]
    return sorted({path.name for path in found})


def resolve(name_or_path: str | Path) -> Path:
    """The folder of a model, with both files in it: a name of `names()`, or a path such as `runs/people`.

    Raises UsageError for a name that nothing has, ModelError for a folder that lacks one of the files.
    """
    text = str(name_or_path)
    for folder in (EMBEDDED / text, _downloaded() / text):
        if re.fullmatch(r"[\w.-]+", text) and _whole(folder):
            return folder
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
        if missing:
            raise ModelError(f"{path}: no model, it holds no {' and no '.join(missing)}")
        return path
    if path.exists():
        raise ModelError(f"{path}: expected the folder of a model ({CONFIG} and {WEIGHTS}), got a file")
    if text in KNOWN:
        raise ModelError(f"the model {text!r} is not here yet; get it with: streamseg models download {text}")
    raise UsageError(f"no model is called {text!r}{nearest(text, [*names(), *KNOWN])} (or the folder of a model)")


def download(
    name_or_url: str,
    *,
    known: Mapping[str, Download] = KNOWN,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch a model and return its folder; one that is there with the same checksum is not fetched again.

    name_or_url: a name in `known`, or `https://host/birds.zip#sha256=…`, which then is the model `birds`.
    progress shows a bar on stderr; `report` gets a line when something is fetched.
    Raises ModelError when it cannot be fetched or is not what was promised; then nothing is kept.
    """
    if "://" in name_or_url:
        wanted = Download.parse(name_or_url)
        name = wanted.name
    elif name_or_url in known:
        name, wanted = name_or_url, known[name_or_url]
    elif (EMBEDDED / name_or_url / CONFIG).is_file():
        return EMBEDDED / name_or_url
    else:
        raise UsageError(f"no model to download is called {name_or_url!r}{nearest(name_or_url, [*known, *names()])}")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(f"{wanted.url}: {name!r} is no name for a model: letters, digits, dots and dashes")
    if (EMBEDDED / name / CONFIG).is_file():
        raise UsageError(f"{wanted.url}: the name {name!r} belongs to an embedded model; rename the file")
    folder = _downloaded() / name
    mark = folder / "sha256"
    if _whole(folder) and mark.is_file() and mark.read_text() == wanted.sha256:
        return folder
    report(f"downloading {wanted.url}")
    _downloaded().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_downloaded(), prefix=".") as scratch:
        archive = _fetch(wanted, Path(scratch), progress=progress)
        unpacked = Path(scratch) / name
        _unpack(archive, unpacked, origin=wanted.url)
        (unpacked / "sha256").write_text(wanted.sha256)
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return folder


def cache_folder() -> Path:
    """The platform's cache folder for streamseg (on Linux ~/.cache/streamseg or in XDG_CACHE_HOME); may not exist."""
    import pooch  # 70 ms, and a run on an embedded model needs it only here

    return Path(pooch.os_cache("streamseg"))


def _downloaded() -> Path:
    return cache_folder() / "models"


def _whole(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def _fetch(wanted: Download, folder: Path, *, progress: bool) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    fetcher: Any = pooch.HTTPDownloader(progressbar=progress, timeout=30)
    try:
        return Path(
            pooch.retrieve(wanted.url, f"sha256:{wanted.sha256}", fname="model.zip", path=folder, downloader=fetcher)
        )
    except (requests.ConnectionError, requests.Timeout) as error:
        host = urllib.parse.urlsplit(wanted.url).netloc
        raise ModelError(
            f"{wanted.url}: {host} cannot be reached. Without a network, fetch the file elsewhere, unzip it and give "
            "its folder: --model FOLDER"
        ) from error
    except requests.RequestException as error:
        raise ModelError(f"{wanted.url}: {error}") from error
    except ValueError as error:
        raise ModelError(f"{wanted.url}: it is not the file that was promised: its SHA-256 is another one") from error
    except OSError as error:
        raise ModelError(f"{wanted.url}: cannot be kept in {folder.parent}: {error.strerror or error}") from error


def _unpack(archive: Path, folder: Path, *, origin: str) -> None:
    """Take the two files of a model out of the zip, wherever in it they lie, and nothing else."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as zipped:
            for file in (CONFIG, WEIGHTS):
                found = [name for name in zipped.namelist() if name.rpartition("/")[2] == file]
                if len(found) != 1:
                    raise ModelError(f"{origin}: expected one {file} in it, found {len(found)}")
                with zipped.open(found[0]) as packed, open(folder / file, "wb") as plain:
                    shutil.copyfileobj(packed, plain)
    except zipfile.BadZipFile as error:
        raise ModelError(f"{origin}: expected a zip of {CONFIG} and {WEIGHTS}") from error
