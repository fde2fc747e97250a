"""Models by name: those embedded in this package, those downloaded before, and any folder that holds one.

A model is a folder with `model.yaml` (its configuration) and `model.weights.h5`, or one weights file: `.h5` of
matterport/Mask_RCNN, `.pth`, `.safetensors` or `.pkl` of torchvision or detectron2. What was downloaded lies in the
platform's cache folder. A download is taken only with the checksum that was promised for it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamseg.fetch import fetch
from streamseg.types import ModelError, UsageError
from streamseg.words import nearest

CONFIG, WEIGHTS = "model.yaml", "model.weights.h5"
GRAPHS, INT8 = "graphs", "int8"
"""In the folder of a model, the folders with its networks' graphs and with its networks in int8; it may lack them."""
EMBEDDED = Path(__file__).parent / "weights"

TORCH_ENDINGS = (".pth", ".pt", ".safetensors", ".pkl")
"""Of the weights files of torchvision and detectron2."""

ENDINGS = (".h5", *TORCH_ENDINGS)
"""Of the weights files that are models by themselves."""


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
        try:
            _ = urllib.parse.urlsplit(url).port
        except ValueError as error:
            raise UsageError(f"{url}: is no address of a file ({error})") from error
        return cls(url, sha256)

    @property
    def name(self) -> str:
        """The name that the model gets: the file's name without its ending."""
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).stem


@dataclass(frozen=True)
class WeightsFile:
    """A model of matterport/Mask_RCNN or torchvision that can be fetched: its weights file as it is.

    checksum: `md5:…` or `sha256:…`, or how it begins: eight digits or more · class_names: of its classes, without the
    background
    """

    url: str
    checksum: str
    class_names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Where the file lies once it is downloaded, or is put by hand; it may not be there."""
        return downloaded() / self.url.rpartition("/")[2]


_COCO = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, "
    "laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, "
    "scissors, teddy bear, hair drier, toothbrush"
)
COCO_CLASSES = tuple(_COCO.split(", "))
"""The 80 classes of COCO in the order of their ids there, which is that of matterport's networks from 1 on."""

_GAPS = {12: "street sign", 26: "hat", 29: "shoe", 30: "eye glasses", 45: "plate", 66: "mirror", 68: "window"}
_GAPS |= {69: "desk", 71: "door", 83: "blender"}


def _by_id() -> Iterator[str]:
    """The names of the category ids 1 to 90, the unused ones among them."""
    used = iter(COCO_CLASSES)
    return (_GAPS[i] if i in _GAPS else next(used) for i in range(1, 91))


COCO_IDS = tuple(_by_id())
"""The names of COCO's category ids from 1 to 90, which torchvision's networks have; ten of them never occur."""

KNOWN: Mapping[str, Download | WeightsFile] = {
    "coco": WeightsFile(
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        "md5:e98aaff6f99e307b5e2a8a3ff741a518",
        COCO_CLASSES,
    ),
    "maskrcnn_resnet50_fpn": WeightsFile(
        "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "sha256:bf2d0c1e", COCO_IDS
    ),
    "maskrcnn_resnet50_fpn_v2": WeightsFile(
        "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "sha256:73cbd019", COCO_IDS
    ),
}
"""Models that are known by a name of their own and lie elsewhere."""


def names() -> list[str]:
    """The models that `resolve` finds by name on this machine: embedded and downloaded."""
    found = [path for folder in (EMBEDDED, downloaded()) for path in folder.glob("*/") if _whole(path)]
    files = [name for name, known in KNOWN.items() if isinstance(known, WeightsFile) and known.path.is_file()]
    return sorted({path.name for path in found} | set(files))


def resolve(name_or_path: str | Path) -> Path:
    """The folder of a model, with both files in it: a name of `names()`, or a path such as `runs/people`.

    For weights of matterport/Mask_RCNN, torchvision or detectron2 (`coco`, or the path of a file with one of ENDINGS)
    it is the file itself, which says what it is. Raises UsageError for a name that nothing has, ModelError for a model
    that is not here or lacks one of the files.
    """
    text = str(name_or_path)
    for folder in (EMBEDDED / text, downloaded() / text):
        if re.fullmatch(r"[\w.-]+", text) and _whole(folder):
            return folder
    known = KNOWN.get(text)
    if isinstance(known, WeightsFile) and known.path.is_file():
        return known.path
    path = Path(name_or_path).expanduser()
    try:
        path.exists()
    except OSError as error:  # no file can have such a name, or nobody may look there
        raise UsageError(f"{text}: {error.strerror or error}") from error
    if path.is_dir():
        missing = [file for file in (CONFIG, WEIGHTS) if not (path / file).is_file()]
        if missing:
            raise ModelError(f"{path}: no model, it holds no {' and no '.join(missing)}")
        return path
    if path.is_file() and path.suffix in ENDINGS:
        return path
    if is_onnx(path) and path.is_file():
        raise ModelError(f"{path}: expected the folder of a model; an ONNX file only runs, in the engine onnx")
    if path.exists():
        raise ModelError(
            f"{path}: expected the folder of a model ({CONFIG} and {WEIGHTS}) or a file of {', '.join(ENDINGS)}"
        )
    if known:
        by_hand = f" (or put {known.path.name} at {known.path})" if isinstance(known, WeightsFile) else ""
        raise ModelError(f"the model {text!r} is not here yet; get it with: streamseg models download {text}{by_hand}")
    raise UsageError(f"no model is called {text!r}{nearest(text, [*names(), *KNOWN])} (or the folder of a model)")


def is_onnx(model: str | Path) -> bool:
    """Whether a model is given as an ONNX file, which the engine `onnx` runs."""
    return Path(model).suffix.lower() == ".onnx"


def class_names_of(path: Path) -> tuple[str, ...] | None:
    """The classes of a known weights file, without the background, by the file's name; None for any other."""
    files = (known for known in KNOWN.values() if isinstance(known, WeightsFile))
    return next((known.class_names for known in files if known.path.name == path.name), None)


def download(
    name_or_url: str,
    *,
    known: Mapping[str, Download | WeightsFile] = KNOWN,
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch a model and return its folder or file; one that is there with the same checksum is not fetched again.

    name_or_url: a name in `known`, or `https://host/birds.zip#sha256=…`, which then is the model `birds`.
    progress shows a bar on stderr; `report` gets a line when something is fetched.
    Raises ModelError when it cannot be fetched or is not what was promised; then the model that was here before, if
    any, is still here. A download that broke off goes on in the next call.
    """
    wanted: Download | WeightsFile
    if "://" in name_or_url:
        wanted = Download.parse(name_or_url)
        name = wanted.name
    elif name_or_url in known:
        name, wanted = name_or_url, known[name_or_url]
    elif _whole(EMBEDDED / name_or_url):
        return EMBEDDED / name_or_url
    else:
        raise UsageError(f"no model to download is called {name_or_url!r}{nearest(name_or_url, [*known, *names()])}")
    if isinstance(wanted, WeightsFile):
        by_hand = f"fetch the file elsewhere and put it at {wanted.path}"
        return fetch(
            wanted.url, wanted.path, checksum=wanted.checksum, by_hand=by_hand, progress=progress, report=report
        )
    if not re.fullmatch(r"\w[\w.-]{,99}", name):
        raise UsageError(
            f"{wanted.url}: {name!r} is no name for a model: letters, digits, dots and dashes, a hundred at most"
        )
    if (EMBEDDED / name / CONFIG).is_file():
        raise UsageError(f"{wanted.url}: the name {name!r} belongs to an embedded model; rename the file")
    folder = downloaded() / name
    mark = folder / "sha256"
    if _whole(folder) and mark.is_file() and mark.read_text() == wanted.sha256:
        return folder
    archive = fetch(
        wanted.url,
        downloaded() / f"{name}.zip",
        checksum=f"sha256:{wanted.sha256}",
        by_hand="fetch the file elsewhere, unzip it and give its folder: --model FOLDER",
        progress=progress,
        report=report,
    )
    try:
        with tempfile.TemporaryDirectory(dir=downloaded(), prefix=".") as scratch:
            unpacked = Path(scratch) / name
            _unpack(archive, unpacked, origin=wanted.url)
            (unpacked / "sha256").write_text(wanted.sha256)
            shutil.rmtree(folder, ignore_errors=True)
            unpacked.rename(folder)
    finally:
        archive.unlink()
    return folder


def cache_folder() -> Path:
    """The platform's cache folder for streamseg (on Linux ~/.cache/streamseg or in XDG_CACHE_HOME); may not exist."""
    import pooch  # 70 ms, and a run on an embedded model needs it only here

    return Path(pooch.os_cache("streamseg"))


def downloaded() -> Path:
    """The folder in the cache that holds what was downloaded; may not exist."""
    return cache_folder() / "models"


def _whole(folder: Path) -> bool:
    # unlike Path's own, these answer what no file can be called, too
    return all(os.path.isfile(folder / file) for file in (CONFIG, WEIGHTS))


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
    # a password, a way of packing that is not known, bytes that are damaged
    except (zipfile.BadZipFile, RuntimeError, zlib.error) as error:
        raise ModelError(f"{origin}: expected a zip of {CONFIG} and {WEIGHTS}") from error
