"""Where frames come from and where they go, as a person spells it: `street.mp4`, `clips/`, `sample:`, `images:out`."""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamseg import plugins, rooms
from streamseg.addresses import Address, shown
from streamseg.config import Component
from streamseg.pictures import is_picture, natural, pictures_in, split_numbering, why_no_stream
from streamseg.types import InputError, StreamsegError, UsageError
from streamseg.words import nearest, without_credentials, writable

CLIPS = frozenset((".gif",))  # videos, but in a folder often pictures beside the real ones, or what a run made of them
KEPT = frozenset((".mkv",))  # endings of an input that its output takes over
SCHEME = re.compile(f"{rooms.SHAPES['schemes']}:")
PLACEHOLDERS = ("folder", "stem")
PLACEHOLDER = re.compile(r"(?<!\$)\{(\w*)\}")
"""`{stem}` in an output; `${PASSWORD}` is a variable of its address."""
NAME = r"[\w.-]+"
"""What a stream can be called by whoever starts it: its name keys files, topics and pages."""


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
    ending: str = rooms.DEFAULT_ENDING
    listed: bool = False
    problem: StreamsegError | None = None
    name: str = ""

    def fill(self, text: str) -> str:
        """The text with this input's `{folder}` and `{stem}` put in."""
        words = {"folder": str(self.folder), "stem": self.stem}
        return PLACEHOLDER.sub(lambda found: words.get(found[1], found[0]), text)


@dataclass(frozen=True)
class Output:
    """One `-o`: the sink that it asks for and what stands for it, which may hold `{folder}` and `{stem}`.

    path: of the file or folder; of a sink that writes to neither, what stands after its scheme, or the whole address
    · is_folder: a plain folder, which takes the default names
    """

    text: str
    sink: str
    path: str
    is_folder: bool = False

    @classmethod
    def parse(cls, text: str) -> Output:
        """Raises UsageError for an ending that no sink writes, and for a placeholder that stands for nothing."""
        check_placeholders(text, what=f"-o {_shown_output(text)}")
        served = rooms.served("sinks")
        text = _with_small_scheme(text)
        if scheme := SCHEME.match(text):
            if scheme[0] not in served:
                raise UsageError(f"-o {_shown_output(text)}: expected {_outputs_in_words()}")
            return cls._of_scheme(text, served[scheme[0]])
        if text == "-":
            raise UsageError(f"-o -: expected {_outputs_in_words()}; nothing is written to stdout")
        if not text:
            raise UsageError(f"-o: expected {_outputs_in_words()}")
        path = os.path.expanduser(text)
        ending = Path(path).suffix.lower()
        if not ending or path.endswith("/") or Path(path).is_dir():
            _check_can_be_folder(path, text)
            return cls(text, served[rooms.DEFAULT_ENDING], path, is_folder=True)
        if ending in served:
            return cls(text, served[ending], path)
        if is_picture(Path(path)):
            raise UsageError(f"-o {text}: no sink writes one picture; -o {pictures_in_words()} writes all, numbered")
        endings = [claim for claim in served if claim[0] == "."]
        raise UsageError(f"-o {text}: no sink writes {ending!r} files{nearest(ending, endings)}")

    @classmethod
    def _of_scheme(cls, text: str, sink: str) -> Output:
        said = rooms.said("sinks", sink)
        path = _after_scheme(text)
        if said.on_disk:
            path = os.path.expanduser(path)
            if not path:
                raise UsageError(f"-o {text}: expected {text}{said.metavar}")
        if said.folder:
            _check_can_be_folder(path, text)
        return cls(_shown_output(text), sink, path)

    def of(self, given: Input, *, default_name: str) -> Component:
        """The sink of one input."""
        if self.is_folder:
            return sink_of_file(given.fill(f"{self.path.rstrip('/') or '/'}/{default_name}"))
        path = given.fill(self.path)
        on_disk = rooms.said("sinks", self.sink).on_disk
        return Component(
            name=self.sink, options={"path": path} if on_disk else _spelled("sinks", self.sink, path, self.text)
        )

    @property
    def differs_by_input(self) -> bool:
        return self.is_folder or "{stem}" in self.path or "{folder}" in self.path


def publisher(text: str) -> Component:
    """What `--publish TARGET` asks for; UsageError shows no user and no password."""
    served = rooms.served("publishers")
    expected = f"--publish: expected {targets_in_words()}"
    text = _with_small_scheme(text)
    if scheme := SCHEME.match(text):
        if scheme[0] not in served:
            raise UsageError(f"{expected}, got {scheme[0]}…")
        name = served[scheme[0]]
        return Component(name=name, options=_spelled("publishers", name, _after_scheme(text), f"--publish {scheme[0]}"))
    path = os.path.expanduser(text)
    if (ending := Path(path).suffix.lower()) not in served:
        raise UsageError(f"{expected}, got {text!r}")
    return Component(name=served[ending], options={"path": path})


def targets_in_words() -> str:
    """What can be told: `.csv, .jsonl, mqtt://HOST:PORT/TOPIC or .sqlite`."""
    *kinds, last = rooms.spellings("publishers")
    return f"{', '.join(kinds)} or {last}"


def sink_of_file(path: str) -> Component:
    """The sink that writes a file of this ending, of which there is one."""
    return Component(name=rooms.served("sinks")[Path(path).suffix.lower()], options={"path": path})


def pictures_in_words() -> str:
    """How a person asks for a folder of pictures as the output: `images:FOLDER`."""
    sinks = [name for name in rooms.names("sinks") if rooms.said("sinks", name).folder == rooms.PICTURES]
    return " or ".join(rooms.spellings("sinks", of=sinks))


def _shown_output(text: str) -> str:
    """An output for a message, without user, password and the key that is the path of RTMP."""
    return re.sub(r"^(rtmps?://[^/]*/).*", r"\1…", shown(text))


def _outputs_in_words() -> str:
    kinds = ["a file", "a folder", *rooms.addresses("sinks")]
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _with_small_scheme(text: str) -> str:
    """`RTSP://camera`, as labels on cameras have it, is `rtsp://camera`."""
    return re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*(?=://)", lambda scheme: scheme[0].lower(), text)


def _after_scheme(text: str) -> str:
    """What stands after `images:`; of an address, `foo://host/path`, all of it."""
    rest = text.partition(":")[2]
    return text if rest.startswith("//") else rest


def _spelled(room: str, name: str, text: str, whole: str) -> dict[str, Any]:
    """The options of a component from what stands after its scheme; `whole` opens the error message.

    An address may hold a secret, so of that the message repeats what the component says alone.
    """
    try:
        return plugins.spelled(room, name, text)
    except (UsageError, ValueError) as error:
        opening = f"{without_credentials(whole)}: " if "://" not in whole else ""
        raise UsageError(f"{opening}{error}") from None


def _check_can_be_folder(path: str, text: str) -> None:
    """Raise UsageError for an output's folder that is there already and is none; text: as it was given."""
    if problem := _dangling(Path(path)):
        raise UsageError(f"-o {text}: {problem}")
    if not Path(path).exists() or Path(path).is_dir():
        return
    if not Path(path).is_file():
        raise UsageError(f"-o {text}: expected a file or a folder, got a device; --set sinks=[] writes nothing")
    endings = " ".join(text for text in rooms.spellings("sinks") if text[0] == ".")
    raise UsageError(f"-o {text}: expected a folder, or a file ending in {endings}, got a file that is there already")


def check_placeholders(text: str, *, what: str) -> None:
    """Raise UsageError for a `{word}` in an output's path that no input fills; `what` opens the message."""
    for word in PLACEHOLDER.findall(text):
        if word not in PLACEHOLDERS:
            raise UsageError(f"{what}: no placeholder is called {word!r}{nearest(word, PLACEHOLDERS)}")


def expand(texts: Sequence[str]) -> list[Input]:
    """Every INPUT as the streams that it stands for, each with a name of its own.

    A file that is absent or a folder with nothing in it comes back with its `problem`, because the others can go on.
    Raises UsageError for what cannot be an input at all.
    """
    found: list[Input] = []
    expanded = [given for text in texts for given in _named(text)]
    taken = {given.name for given in expanded if given.name}
    for given in expanded:
        if given.name:
            if any(given.name == other.name for other in found):
                raise UsageError(f"{given.name}=: expected a name of its own for each input, got it twice")
            found.append(given)
            continue
        if given.listed and any(given.path == other.path for other in found):
            continue
        called = writable(given.stem)
        name, number = called, 2
        while name in taken:
            name, number = f"{called}-{number}", number + 1
        taken.add(name)
        found.append(replace(given, name=name))
    return found


def of_source(source: Component) -> Input:
    """The input that a pipeline's own source reads, so that its sinks can be called after it."""
    if "path" not in source.options:
        said = plugins.said("sources", source.name)
        usual = said.schemes[0] if said.schemes else source.name.rpartition(":")[2].lower()
        return Input(_host(str(source.options.get(said.argument, "")), said.schemes) or usual, Path(), source)
    path = Path(str(source.options["path"]))
    return Input(path.stem, path.parent, source, path=path, ending=_ending(path))


def inputs_in_words() -> str:
    """What an INPUT can be: `a file, a folder, a glob, sample: or test:1280x720@30`."""
    kinds = ["a file", "a folder", "a glob", "sample:", *rooms.addresses("sources")]
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def sample_path() -> Path:
    """The clip that ships with the package."""
    spec = importlib.util.find_spec("streamseg.samples")
    folder = Path(spec.origin).parent if spec and spec.origin else Path(__file__).parent / "samples"
    return folder / "pedestrians.mp4"


def _named(text: str) -> Iterator[Input]:
    """The streams of `yard=rtsp://camera/1`, of which there must be one then, or of an INPUT without a name.

    A file that is called `a=b.mp4` is that file.
    """
    name, equals, rest = text.partition("=")
    follows = (
        re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", rest)
        or _scheme_of(rest)
        or os.path.exists(os.path.expanduser(rest))
        or (("%" in rest or glob.has_magic(rest)) and not glob.glob(os.path.expanduser(text)))
    )
    if not equals or "/" in name or ":" in name or not follows or os.path.lexists(os.path.expanduser(text)):
        yield from _expand(text)
        return
    if not re.fullmatch(NAME, name):
        raise UsageError(f"{name}=: expected a name of letters, digits, '.', '_' and '-'")
    found = list(_expand(rest))
    if len(found) != 1:
        raise UsageError(f"{name}={rest}: expected one stream for the name, got {len(found)}")
    yield replace(found[0], stem=name, name=name, listed=False)


def _scheme_of(text: str) -> str | None:
    """The `scheme:` that it begins with, if it is one of an INPUT."""
    scheme = SCHEME.match(text)
    return scheme[0] if scheme and (scheme[0] in rooms.served("sources") or text == "sample:") else None


def _expand(text: str) -> Iterator[Input]:
    if not text:
        raise UsageError("expected an INPUT, got an empty text")
    text = _with_small_scheme(os.path.expanduser(text))
    path = Path(text)
    if text == "-":
        raise UsageError("-: expected a file, a folder or a glob; nothing is read from stdin")
    if text == "sample:":
        sample = sample_path()
        yield replace(_file(sample), folder=Path())
    elif scheme := _scheme_of(text):
        yield _of_scheme(text, rooms.served("sources")[scheme])
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(//|\d*$)", text) and not os.path.lexists(text):
        raise UsageError(f"{shown(text)}: expected {inputs_in_words()}")
    elif without_credentials(text) != text and not os.path.lexists(text):  # an address with a slip
        raise UsageError(_slip(text))
    elif problem := _dangling(path) or _unreachable(text):
        yield replace(_file(path), problem=problem)
    elif path.is_dir():
        yield from _in_folder(path)
    elif path.exists():
        yield _file(path)
    elif glob.has_magic(text):
        yield from _matching(text)
    elif is_picture(path) and (numbering := split_numbering(path.name)):
        yield _sequence(path, before=numbering[0])
    else:
        yield replace(_file(path), problem=InputError(_no_such_file(text)))


def _slip(text: str) -> str:
    """What is wrong with a text that holds a password and is no address; no message may quote it."""
    if re.match(r"[^/\s:@]+:[^\s@]*@\S", text):
        return f"…@{text.rpartition('@')[2]}: expected a scheme before it, such as rtsp://"
    expected = "expected [NAME=]SCHEME://USER:PASSWORD@HOST/PATH, without blanks, with both slashes"
    return f"{without_credentials(text)}: {expected}"


def _matching(text: str) -> Iterator[Input]:
    """The files that a glob stands for, and what is in the folders that it stands for."""
    found = False
    for path in sorted(map(Path, glob.glob(_literal_where_possible(text), recursive=True)), key=natural):
        if path.is_dir() and "**" not in text:
            found = True
            yield from _in_folder(path)
        elif not path.is_dir() and not _is_part(path):
            found = True
            given = _file(path)
            yield replace(given, listed=True, problem=_dangling(path) or given.problem)
    if not found:
        yield Input(text, Path(), problem=InputError(f"{text}: no file matches"))


def _literal_where_possible(text: str) -> str:
    """The glob with the folders that it begins with escaped where they exist as they are spelled: `my [take 2]/*`."""
    parts = Path(text).parts
    for number in range(len(parts) - 1, 0, -1):
        folder = Path(*parts[:number])
        if folder.is_dir():
            return str(Path(glob.escape(str(folder)), *parts[number:]))
    return text


def _file(path: Path) -> Input:
    readers = rooms.served("sources")
    reader = readers.get(path.suffix.lower(), readers[rooms.DEFAULT_ENDING])
    source = Component(name=reader, options={"path": str(path)})
    problem = InputError(f"{path}: {why}") if is_picture(path) and (why := why_no_stream(path)) else None
    return Input(path.stem, path.parent, source, path=path, ending=_ending(path), problem=problem)


def _in_folder(folder: Path) -> Iterator[Input]:
    """One stream of its pictures; without pictures, one for each of its videos; without videos, for each .gif."""
    try:
        shown = [path for path in folder.iterdir() if not path.name.startswith(".") and not _is_part(path)]
        files = sorted(filter(Path.is_file, shown), key=natural)
    except OSError as error:
        yield Input(folder.name, folder.parent, problem=InputError(f"{folder}: {error.strerror}"))
        return
    stem = folder.resolve().name or "root"
    videos = [path for path in files if path.suffix.lower() in rooms.served("sources")]
    videos = [path for path in videos if path.suffix.lower() not in CLIPS] or videos
    if any(map(is_picture, files)):
        yield Input(stem, _beside(folder), _player_of(folder), path=folder)
    elif videos:
        for path in videos:
            yield replace(_file(path), listed=True)
    else:
        yield Input(stem, folder.parent, problem=InputError(f"{folder}: the folder holds no pictures and no videos"))


def _sequence(path: Path, *, before: str) -> Input:
    """The pictures of a numbering, `frames/left_%04d.png`, as one stream called after what stands before the number."""
    folder, stem = path.parent, before.rstrip("_-. ")
    source = _player_of(folder, names=path.name)
    problem = None
    if not folder.is_dir():
        problem = InputError(f"{path}: there is no folder {folder}")
    elif not pictures_in(folder, names=path.name):
        problem = InputError(f"{path}: the folder {folder} holds no picture of such a name")
    if stem:
        return Input(stem, folder, source, path=path, problem=problem)
    return Input(folder.resolve().name or "root", _beside(folder), source, path=path, problem=problem)


def _beside(folder: Path) -> Path:
    """Where a folder lies; of `.` and `..`, whose parent is another folder in disguise, the real parent."""
    return folder.parent if folder.name not in ("", "..") else folder.resolve().parent


def _player_of(folder: Path, **options: Any) -> Component:
    """The source that plays a folder of pictures."""
    return Component(name=rooms.served("sources")[rooms.PICTURES], options={"path": str(folder), **options})


def _of_scheme(text: str, source: str) -> Input:
    """The input of a source that is asked for by its scheme, and called after that, or after the host of an address."""
    options = _spelled("sources", source, _after_scheme(text), text)
    scheme = text.partition(":")[0]
    return Input(_host(text, [scheme]) or scheme, Path(), Component(name=source, options=options))


def _host(text: str, schemes: Sequence[str]) -> str:
    """The host of an address as a name, "" for what is none."""
    try:
        host = Address.parse(text, schemes=schemes).host
    except UsageError:
        return ""
    return re.sub(r"[^\w.-]+", "-", host).strip("-")


def _unreachable(text: str) -> InputError | None:
    """Why it cannot even be told whether there is such a file; an absent one is no such case."""
    try:
        os.stat(text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # a folder on the way that may not be entered, a name that is too long
        return InputError(f"{text}: {getattr(error, 'strerror', None) or error}")
    return None


def _dangling(path: Path) -> InputError | None:
    """What is wrong with a link that leads nowhere."""
    if not path.is_symlink() or path.exists():
        return None
    to = os.readlink(path)
    try:
        os.stat(path)
    except FileNotFoundError:
        return InputError(f"{path}: a link to {to}, which does not exist")
    except OSError as error:
        return InputError(f"{path}: a link to {to}: {(error.strerror or str(error)).lower()}")
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
    return path.suffix.lower() if path.suffix.lower() in KEPT else rooms.DEFAULT_ENDING


def _is_part(path: Path) -> bool:
    """Whether it is an output that another run is writing, or left behind unfinished."""
    return Path(path.stem).suffix == ".part"
