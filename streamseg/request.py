"""What a person asks of one run: each option declared once, for the command line and for Python.

Nothing heavy is imported here, because `--help` asks too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field of a Request is spelled on the command line.

    help: may hold {outputs}, {targets}, {inputs} and {engines}, filled in with what there is · flags: none for what
    stands alone · kind: of one value · several: it may stand several times · read: makes the value of its text,
    ValueError says what it expected · least, most: bounds of a number
    """

    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None
    kind: type = str
    several: bool = False
    read: Callable[[str], Any] | None = None
    least: float | None = None
    most: float | None = None


def option(*flags: str, default: Any = None, **spelled: Any) -> Any:
    """A field of a request that is spelled as an `Option` of these flags."""
    return spelled_as(Option(flags=flags, **spelled), default=default)


def spelled_as(spelling: Option, *, default: Any = None) -> Any:
    """A field of a request that is spelled like this; several requests may share the spelling."""
    return field(default=default, metadata={"option": spelling})


def seconds(text: str) -> float:
    """Seconds from `90`, `90s`, `1:30` or `1:02:03.5`; ValueError for anything else."""
    shape = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?", text.strip())
    if not shape:
        raise ValueError(f"expected a time such as 90, 90s or 1:30, got {text!r}")
    hours, minutes, rest = shape.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `12h` or `7d`; ValueError for anything else."""
    shape = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if not shape or not float(shape[1]):
        raise ValueError(f"expected a duration such as 90s, 10m, 12h or 7d, got {text!r}")
    return float(shape[1]) * _UNITS[shape[2] or "s"]


def rate(text: str) -> float:
    """Pictures a second, more than 0; ValueError for anything else."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise ValueError(f"expected pictures a second, more than 0, such as 10, got {text!r}")


def names_of(text: str | None) -> tuple[str, ...]:
    """The names in `person, car`."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def some_names(text: str) -> tuple[str, ...]:
    """The same; ValueError where there is none, as where a variable of the shell is empty."""
    if not (names := names_of(text)):
        raise ValueError(f"expected names such as person,car, got {text!r}")
    return names


def quality_of(text: str) -> str | float:
    """A number where it is one."""
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else text


# What `run` and `annotate` are asked in the same words.

CLASSES = Option(flags=("--classes",), read=some_names, metavar="A,B", help="Keep only these classes.")
MODEL = Option(flags=("--model",), metavar="NAME|FOLDER|FILE", help="Default: people. See `streamseg models`.")
CLASS_NAMES = Option(
    flags=("--class-names",),
    read=some_names,
    metavar="A,B",
    help="What the classes of a foreign file are called, in its order.",
)
TILES = Option(
    flags=("--tiles",),
    metavar="auto|2x2|SIZE,OVERLAP",
    help="Look at tiles of each picture too, for small objects in large pictures; slower.",
)
MIN_SCORE = Option(
    flags=("--min-score",),
    kind=float,
    least=0,
    most=1,
    help="Score that makes an object certain. Default: the model's own.",
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asks of one run. From Python the values are what the texts of the command line mean.

    effects may be `{"splash": {"classes": ["person"]}}` or objects with a `draw` too; None: the pipeline's, or overlay
    and labels · lines, zones may be `{"gate": [0.72, 0, 0.72, 1]}` too · start, end, max_age, segment, keep: seconds ·
    outputs: none: the pipeline's, or `STEM_EFFECT.mp4` beside the input
    """

    inputs: Sequence[str] = option(default=(), several=True, metavar="INPUT", help="What to work on.")
    outputs: Sequence[str] = option(
        "-o",
        "--output",
        default=(),
        several=True,
        metavar="OUTPUT",
        help="{outputs}, or a folder for the default names; {stem} and {folder} are the input's own. May stand several "
        "times. Default: STEM_EFFECT.mp4 beside the input.",
    )
    effects: Sequence[Any] | None = option(
        "--effect",
        several=True,
        metavar="NAME[:KEY=VALUE,...]",
        help="Draw this; several are drawn in their order; lists with plus. Default: overlay and labels. See "
        "`streamseg list effects`.",
    )
    pipeline: str | Path | None = option("--pipeline", metavar="NAME|FILE", help="A ready pipeline or a YAML file.")
    classes: Sequence[str] = spelled_as(CLASSES, default=())
    lines: Sequence[str] | Mapping[str, Sequence[float]] = option(
        "--line",
        default=(),
        several=True,
        metavar="NAME=X1,Y1,X2,Y2",
        help="Count who crosses this line, in and out; shares of the picture, 0 to 1. May stand several times.",
    )
    zones: Sequence[str] | Mapping[str, Sequence[float]] = option(
        "--zone",
        default=(),
        several=True,
        metavar="NAME=X1,Y1,X2,Y2,X3,Y3,...",
        help="Count who is in this zone, enters and leaves it. May stand several times.",
    )
    model: str | None = spelled_as(MODEL)
    class_names: Sequence[str] = spelled_as(CLASS_NAMES, default=())
    engine: str | None = option(
        "--engine", metavar="NAME[:KEY=VALUE,...]", help="{engines}; options as in replay:path=LABELS.jsonl."
    )
    detect_every: int | None = option(
        "--detect-every",
        kind=int,
        least=1,
        metavar="N",
        help="Look at every Nth picture, and carry the objects over the others. Default: 1; a camera's by load.",
    )
    tiles: str | None = spelled_as(TILES)
    min_score: float | None = spelled_as(MIN_SCORE)
    start: float | None = option("--start", read=seconds, metavar="TIME", help="Begin here: 90, 90s or 1:30.")
    end: float | None = option("--end", read=seconds, metavar="TIME", help="End here.")
    stride: int | None = option(
        "--stride", kind=int, least=1, metavar="N", help="Keep every Nth frame, at its own time."
    )
    max_fps: float | None = option(
        "--fps", read=rate, metavar="N", help="Live: take at most so many pictures a second."
    )
    max_age: float | None = option(
        "--max-age",
        read=duration,
        metavar="SECONDS",
        help="Live: drop a picture that is older when it could be shown. Default: 0.5.",
    )
    segment: float | None = option(
        "--segment", read=duration, metavar="TIME", help="Live: begin a new file every 10m, 1h, ..."
    )
    keep: float | None = option(
        "--keep", read=duration, metavar="TIME", help="Live: remove recordings that are older than 7d, ..."
    )
    state: str | None = option(
        "--state", metavar="FILE", help="Keep what was counted here, and go on from it after a restart."
    )
    publish: Sequence[str] = option(
        "--publish",
        default=(),
        several=True,
        metavar="TARGET",
        help="Tell of each event, and of totals and states: {targets}. A file grows from run to run, a line an event "
        "(-o x.jsonl is another thing: a line a picture). May stand several times.",
    )
    web: str | None = option(
        "--web", metavar="HOST:PORT", help="A page with the pictures and counts, and an API: 127.0.0.1:8080"
    )
    show: bool = option("--show", default=False, kind=bool, help="Open that page in the browser.")
    codec: str | None = option("--codec", help="h264 (default), h265, av1, vp9, ...")
    quality: str | float | None = option(
        "--quality", read=quality_of, metavar="CRF", help="The encoder's CRF, or lossless."
    )
    preset: str | None = option("--preset", help="The encoder's preset.")
    overwrite: bool = option("--overwrite", default=False, kind=bool, help="Replace outputs that exist.")
    parallel: int | None = option(
        "--parallel",
        kind=int,
        least=1,
        metavar="N",
        help="Files open at a time. Default: 2. They share the engine, so on two cores it is no faster than 1.",
    )
    settings: Sequence[str] = option(
        "--set",
        default=(),
        several=True,
        metavar="PATH=VALUE",
        help="Any option of the pipeline: effects.0.classes=[person]",
    )
    writes: bool = True
    """Whether a request without an output takes the default one."""

    @classmethod
    def of(cls, **options: Any) -> Request:
        """The request with these fields; UsageError with the nearest spelling for one that does not exist."""
        from streamseg.types import UsageError  # it loads PyAV, which the help does without
        from streamseg.words import nearest

        known = [each.name for each in fields(cls)]
        for name in options:
            if name not in known:
                raise UsageError(f"no option is called {name!r}{nearest(name, known)}")
        several = ("effects", *(each.name for each in fields(cls) if each.default == ()))
        for name in several:
            if isinstance(options.get(name), str):  # else it would be taken letter by letter
                options[name] = (options[name],)
        return cls(**options)
