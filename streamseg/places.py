"""Where frames come from and where they go, as a person spells it: `street.mp4`, `clips/`, `sample:`, `images:out`."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from streamseg.config import Component, nearest
from streamseg.pictures import is_picture
from streamseg.types import InputError, StreamsegError, UsageError

VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".wmv", ".flv")
    + (".3gp", ".ogv", ".vob", ".mxf", ".y4m", ".h264", ".h265", ".hevc", ".ivf", ".asf")
)
SINK_OF_ENDING = {
    ".mp4": "video_file",
    ".mkv": "video_file",
    ".webm": "video_file",
    ".mov": "video_file",
    ".gif": "gif",
    ".jsonl": "jsonl",
}
PLACEHOLDERS = ("folder", "stem")
TEST_SECONDS = 10.0  # `test:` would never end by itself


@dataclass(frozen=True)
class Input:
    """One stream to be: where its frames come from, and how its outputs are called.

    folder, stem: what `{folder}` and `{stem}` stand for · path: the file or folder itself · ending: of a video made of
    it · listed: found in a folder or by a glob, not named itself · problem: why there is no such input.
    """

    stem: str
    folder: Path
    source: Component | None = None
    path: Path | None = None
    ending: str = ".mp4"
    listed: bool = False
    problem: StreamsegError | None = None
    name: str = ""

    def fill(self, text: str) -> str:
        """The text with this input's `{folder}` and `{stem}` put in."""
        words = {"folder": str(self.folder), "stem": self.stem}
        return re.sub(r"\{(\w*)\}", lambda found: words.get(found[1], found[0]), text)


@dataclass(frozen=True)
class Output:
    """One `-o`: the sink that it asks for and its path, which may hold `{folder}` and `{stem}`.

    is_folder: a plain folder, which takes the default names.
    """

    text: str
    sink: str = "video_file"
    path: str = ""
    is_folder: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Output:
        """Raises UsageError for an ending that no sink writes, and for a placeholder that stands for nothing."""
        check_placeholders(text, what=f"-o {text}")
        if text.startswith("images:"):
            folder = text.removeprefix("images:")
            if not folder:
                raise UsageError(f"-o {text}: expected images:FOLDER")
            return cls(text, "image_folder", folder)
        if not text or re.match(r"[a-z][a-z0-9]+:", text):
            raise UsageError(f"-o {text}: expected a file, a folder or images:FOLDER")
        ending = Path(text).suffix.lower()
        if ending in SINK_OF_ENDING and not Path(text).is_dir():
            return cls(text, SINK_OF_ENDING[ending], text)
        if not ending or text.endswith("/") or Path(text).is_dir():
            return cls(text, path=text, is_folder=True)
        raise UsageError(f"-o {text}: no sink writes {ending!r} files{nearest(ending, SINK_OF_ENDING)}")

    def of(self, given: Input, *, default_name: str) -> Component:
        """The sink of one input."""
        path = f"{self.path.rstrip('/') or '/'}/{default_name}" if self.is_folder else self.path
        return Component(name=self.sink, options={"path": given.fill(path)})

    @property
    def differs_by_input(self) -> bool:
        return self.is_folder or "{stem}" in self.path or "{folder}" in self.path


def check_placeholders(text: str, *, what: str) -> None:
    """Raise UsageError for a `{word}` in an output's path that no input fills; `what` opens the message."""
    for word in re.findall(r"\{(\w*)\}", text):
        if word not in PLACEHOLDERS:
            raise UsageError(f"{what}: no placeholder is called {word!r}{nearest(word, PLACEHOLDERS)}")


def expand(texts: Sequence[str]) -> list[Input]:
    """Every INPUT as the streams that it stands for, each with a name of its own.

    A file that is absent or a folder with nothing in it comes back with its `problem`, because the others can go on.
    Raises UsageError for what cannot be an input at all.
    """
    found: list[Input] = []
    taken: set[str] = set()
    for given in (given for text in texts for given in _expand(text)):
        if given.listed and any(given.path == other.path for other in found):
            continue
        name, number = given.stem, 2
        while name in taken:
            name, number = f"{given.stem}-{number}", number + 1
        taken.add(name)
        found.append(replace(given, name=name))
    return found


def of_source(source: Component) -> Input:
    """The input that a pipeline's own source reads, so that its sinks can be called after it."""
    if source.name == "test_pattern":
        return Input("test", Path(), source)
    path = Path(str(source.options.get("path", source.name)))
    return Input(path.stem, path.parent, source, path=path, ending=_ending(path))


def sample_path() -> Path:
    """The clip that ships with the package."""
    spec = importlib.util.find_spec("streamseg.samples")
    folder = Path(spec.origin).parent if spec and spec.origin else Path(__file__).parent / "samples"
    return folder / "pedestrians.mp4"


def _expand(text: str) -> Iterator[Input]:
    if not text:
        raise UsageError("expected an INPUT, got an empty text")
    if text == "sample:":
        path = sample_path()
        yield Input(path.stem, Path(), Component(name="video_file", options={"path": str(path)}), path=path)
    elif text.startswith("test:"):
        yield Input("test", Path(), _test_pattern(text))
    elif (unreachable := _unreachable(text)) is not None:
        yield replace(_file(Path(text)), problem=unreachable)
    elif Path(text).is_dir():
        yield from _in_folder(Path(text))
    elif Path(text).exists():
        yield _file(Path(text))
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(//|\d*$)", text):
        raise UsageError(f"{text}: expected a file, a folder, a glob, sample: or test:1280x720@30")
    elif glob.has_magic(text):
        paths = [Path(path) for path in glob.glob(str(Path(text).expanduser()), recursive=True)]
        for path in sorted(paths, key=_natural):
            if path.is_file() and not _is_part(path):
                yield replace(_file(path), listed=True)
            elif path.is_dir() and "**" not in text:
                yield from _in_folder(path)
        if not paths:
            yield Input(text, Path(), problem=InputError(f"{text}: no file matches"))
    else:
        yield replace(_file(Path(text)), problem=InputError(_no_such_file(text)))


def _file(path: Path) -> Input:
    source = Component(name="video_file", options={"path": str(path)})
    return Input(path.stem, path.parent, source, path=path, ending=_ending(path))


def _in_folder(folder: Path) -> Iterator[Input]:
    """One stream of its pictures; without pictures, one for each of its videos."""
    try:
        files = [path for path in sorted(folder.iterdir(), key=_natural) if path.is_file() and not _is_part(path)]
    except OSError as error:
        yield Input(folder.name, folder.parent, problem=InputError(f"{folder}: {error.strerror}"))
        return
    stem = folder.resolve().name or "root"
    videos = [path for path in files if path.suffix.lower() in VIDEOS]
    if any(map(is_picture, files)):
        source = Component(name="image_folder", options={"path": str(folder)})
        # Beside the folder; of `.` and `..`, whose parent is another folder in disguise, the real parent.
        beside = folder.parent if folder.name not in ("", "..") else folder.resolve().parent
        yield Input(stem, beside, source, path=folder)
    elif videos:
        for path in videos:
            yield replace(_file(path), listed=True)
    else:
        yield Input(stem, folder.parent, problem=InputError(f"{folder}: the folder holds no pictures and no videos"))


def _test_pattern(text: str) -> Component:
    shape = re.fullmatch(r"test:(?:(\d+x\d+))?(?:@(\d+(?:\.\d+)?))?", text)
    if not shape:
        raise UsageError(f"{text}: expected test:WIDTHxHEIGHT@FPS, such as test:1280x720@30")
    size, fps = shape.groups()
    options: dict[str, Any] = {"end": TEST_SECONDS}
    if size:
        options["size"] = size
    if fps:
        options["fps"] = float(fps) if "." in fps else int(fps)
    return Component(name="test_pattern", options=options)


def _unreachable(text: str) -> InputError | None:
    """Why it cannot even be told whether there is such a file; an absent one is no such case."""
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a folder on the way that may not be entered, a name that is too long
        return InputError(f"{text}: {getattr(error, 'strerror', None) or error}")
    return None


def _no_such_file(text: str) -> str:
    folder = Path(text).parent
    if not folder.is_dir():
        return f"{text}: there is no folder {folder}"
    try:
        others = [path.name for path in folder.iterdir()]
    except OSError as error:
        return f"{text}: {error.strerror}"
    hint = nearest(Path(text).name, others)
    return f"{text}: no such file{hint if 'did you mean' in hint else ''}"


def _ending(path: Path) -> str:
    return ".mkv" if path.suffix.lower() == ".mkv" else ".mp4"


def _is_part(path: Path) -> bool:
    """Whether it is an output that another run is writing, or left behind unfinished."""
    return Path(path.stem).suffix == ".part"


def _natural(path: Path) -> list[Any]:
    """`clip2` before `clip10`."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", str(path))]
