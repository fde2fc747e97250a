"""One page on the pictures of a training: how many, how large, how balanced, what is wrong, and how they look."""

from __future__ import annotations

import base64
import colorsys
import functools
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from streamseg import outlines
from streamseg.config import ExperimentConfig
from streamseg.inspection.census import Census, Problem, shared_pictures, take_census
from streamseg.training.data import Joined, open_datasets, read_rgb
from streamseg.types import InputError, Sample, UsageError

SHARED = "pictures that are in train too"
NOWHERE = "classes of the model that no picture shows"
LONGEST_SIDE = 360
"""Pixels of a picture on the page."""

SIDES = (0, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
"""Where the bars of the objects' sizes begin, in pixels; COCO's bands end at 32 and 96."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2430; background: #f6f7f9; margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 28px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 34px 0 10px; } p { margin: 4px 0; }
.sub, .sizes, figcaption, td.dim { color: #667085; }
table { border-collapse: collapse; background: #fff; border: 1px solid #e2e6ec; border-radius: 6px; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid #edf0f4; white-space: nowrap; }
th { font-weight: 600; background: #fafbfc; } th:first-child, td:first-child, .text { text-align: left; }
td.bar { width: 240px; text-align: left; } td.bar i { display: block; height: 11px; border-radius: 2px; }
td.text { white-space: normal; }
.columns { display: flex; flex-wrap: wrap; gap: 26px; align-items: flex-start; }
.fine { color: #18794e; font-weight: 600; } .problem { color: #b42318; font-weight: 600; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; }
figure { margin: 0; max-width: 360px; } figure img { display: block; max-width: 100%; border-radius: 4px; }
figcaption { font-size: 13px; margin-top: 3px; overflow-wrap: anywhere; }
"""


def report(
    experiment: ExperimentConfig,
    *,
    num_samples: int = 12,
    limit: int | None = None,
    progress: Callable[[str, int, int], None] = lambda part, done, total: None,
) -> tuple[str, dict[str, Census]]:
    """The page on a configuration's datasets as HTML, and what was counted for it: {"train": …, "val": …}.

    num_samples: pictures shown of each part, beside those with problems · limit: read so many pictures of each part at
    most, drawn at random. Raises UsageError when the configuration has no training, InputError for a broken dataset.
    """
    training = experiment.training
    if training is None:
        raise UsageError(f"the configuration of {experiment.name} has no `training` section")
    parts = {"train": training.train, "val": training.val or ()}
    datasets = {name: open_datasets(each, experiment.model.class_names) for name, each in parts.items() if each}
    rng = np.random.default_rng(training.seed)
    census: dict[str, Census] = {}
    for name, dataset in datasets.items():
        indices = np.arange(len(dataset))
        if limit is not None and limit < len(dataset):
            indices = np.sort(rng.choice(indices, limit, replace=False))
        census[name] = take_census(
            dataset,
            [int(i) for i in indices],
            max_objects=training.max_objects if name == "train" else None,
            progress=functools.partial(progress, name),
        )
    _compare(census)
    shown = {name: _choice(dataset, census[name], num_samples, rng) for name, dataset in datasets.items()}
    sections = [_overview(census), _problems(census, datasets), _classes(census), _sizes(census)]
    sections += [_pictures(name, datasets[name], chosen) for name, chosen in shown.items()]
    note = f"{limit} pictures of each part at most were read, drawn at random." if limit is not None else ""
    return page(f"The data of {experiment.name}", note=note, sections=sections), census


def _compare(census: Mapping[str, Census]) -> None:
    """Note what only shows when the parts are seen together."""
    train = census["train"]
    for class_id, class_name in enumerate(train.class_names[1:], start=1):
        if not train.objects[class_id]:
            train.problems.setdefault(NOWHERE, Problem()).count += 1
            train.problems[NOWHERE].examples.append((-1, class_name))
    if "val" in census and (shared := shared_pictures(train, census["val"])).count:
        census["val"].problems[SHARED] = shared


def page(title: str, *, note: str, sections: Sequence[str]) -> str:
    """A whole HTML document of sections that are HTML already; it needs no other file."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><main>'
        f'<h1>{escape(title)}</h1><p class="sub">{escape(note)}</p>' + "".join(sections) + "</main></body></html>\n"
    )


# --- numbers --------------------------------------------------------------------------------------------------------


def _overview(census: Mapping[str, Census]) -> str:
    def of(counts: Sequence[int]) -> str:
        return f"{min(counts)} · {np.median(counts):g} · {max(counts)}" if counts else "-"

    rows = {
        "pictures": [f"{each.num_pictures:,}" for each in census.values()],
        "objects": [f"{each.num_objects:,}" for each in census.values()],
        "objects a picture: fewest · median · most": [of(each.per_picture) for each in census.values()],
        "objects whose mask is unknown": [f"{each.num_unknown_masks:,}" for each in census.values()],
        "crowd regions": [f"{each.num_crowds:,}" for each in census.values()],
    }
    return _table(["", *census], [[name, *cells] for name, cells in rows.items()])


def _problems(census: Mapping[str, Census], datasets: Mapping[str, Joined]) -> str:
    rows = []
    for part, each in census.items():
        for kind, problem in each.problems.items():
            named = [(_name(datasets[part], index), text) for index, text in problem.examples]
            examples = "; ".join(": ".join(filter(None, pair)) for pair in named)
            more = "; …" if problem.count > len(problem.examples) else ""
            rows.append([part, _text(kind), f"{problem.count:,}", _text(examples + more)])
        rows += [[part, _text(warning), f"{times:,}", ""] for warning, times in each.warnings.items()]
    body = (
        _table(["", _text("what", cell="th"), "how many", _text("where", cell="th")], rows)
        if rows
        else '<p class="fine">Nothing was found.</p>'
    )
    return f"<h2>What may be wrong</h2>{body}"


def _classes(census: Mapping[str, Census]) -> str:
    tables = []
    for part, each in census.items():
        most = max(each.objects.values(), default=1)
        rows = []
        for class_id, name in enumerate(each.class_names[1:], start=1):
            count, sides = each.objects[class_id], each.sides.get(class_id, [])
            cells = [f"{count:,}", f"{count / max(1, each.num_objects):.1%}", f"{each.pictures[class_id]:,}"]
            size = f"{np.median(sides):.0f} px" if sides else "-"
            rows.append([name, *cells, size, _bar(count / most, colour_of(class_id))])
        tables.append(_table([part, "objects", "share", "pictures", "median side", ""], rows))
    return f'<h2>Classes</h2><div class="columns">{"".join(tables)}</div>'


def _sizes(census: Mapping[str, Census]) -> str:
    tables = []
    for part, each in census.items():
        common = each.sizes.most_common(12)
        rows = [
            [f"{w} × {h}", f"{n:,}", _bar(n / common[0][1], "#7a8aa0")]
            for (w, h), n in common  # the rest in one row
        ]
        rest = sum(each.sizes.values()) - sum(n for _, n in common)
        if rest:
            rows.append([f"{len(each.sizes) - len(common)} other sizes", f"{rest:,}", ""])
        tables.append(_table([f"{part}: pictures of", "", ""], rows))
    for part, each in census.items():
        sides = np.concatenate([np.zeros(0), *map(np.array, each.sides.values())])
        counts = np.histogram(sides, bins=[*SIDES, np.inf])[0]
        ends = [f"{a} to {b} px" for a, b in zip(SIDES, SIDES[1:], strict=False)] + [f"{SIDES[-1]} px and more"]
        rows = [[end, f"{n:,}", _bar(n / max(1, counts.max()), "#3f7cc4")] for end, n in zip(ends, counts, strict=True)]
        tables.append(_table([f"{part}: objects of", "", ""], rows))
    hint = '<p class="sizes">The size of an object is the square root of its box\'s area.</p>'
    return f'<h2>Sizes</h2>{hint}<div class="columns">{"".join(tables)}</div>'


class _Cell(str):
    """A whole cell in HTML; other texts are not."""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a cell that is whole already stays as it is."""

    def row(cells: Sequence[str], kind: str) -> str:
        whole = (each if isinstance(each, _Cell) else f"<{kind}>{escape(each)}</{kind}>" for each in cells)
        return f"<tr>{''.join(whole)}</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(each, 'td') for each in rows)}</table>"


def _bar(share: float, colour: str) -> str:
    width = max(share, 0.004) if share else 0
    return _Cell(f'<td class="bar"><i style="width:{width:.1%};background:{colour}"></i></td>')


def _text(text: str, cell: str = "td") -> str:
    return _Cell(f'<{cell} class="text">{escape(text)}</{cell}>')


def _name(dataset: Joined, index: int) -> str:
    """The name of a picture; of one that cannot be opened the position. The error names the file."""
    if index < 0:
        return ""
    try:
        return dataset[index].path.name
    except InputError:
        return f"picture {index}"


# --- pictures -------------------------------------------------------------------------------------------------------


def _choice(dataset: Joined, census: Census, count: int, rng: np.random.Generator) -> dict[int, str]:
    """Positions of pictures to show, with a caption: some at random, and the first two of each problem."""
    chosen = {int(i): "" for i in np.sort(rng.permutation(sorted(census.contents.values()))[:count])}
    for kind, problem in census.problems.items():
        for index, text in problem.examples[:2]:
            if index in census.readable:
                chosen[index] = "; ".join(filter(None, [chosen.get(index, ""), f"{kind}: {text}" if text else kind]))
    return chosen


def _pictures(part: str, dataset: Joined, chosen: Mapping[int, str]) -> str:
    figures = []
    for index, problem in chosen.items():
        sample = dataset[index]
        url = base64.b64encode(
            cv2.imencode(".jpg", drawn(sample, dataset.class_names)[:, :, ::-1])[1].tobytes()
        ).decode("ascii")
        names = [dataset.class_names[i] for i in sample.class_ids]
        shown = ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names))) or "no object"
        size = f"{sample.width} × {sample.height}"
        caption = f"{escape(sample.path.name)} · {size} · {escape(shown)}"
        caption += f'<br><span class="problem">{escape(problem)}</span>' if problem else ""
        figures.append(
            f'<figure><img src="data:image/jpeg;base64,{url}" alt="{escape(sample.path.name)}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f'<h2>Pictures of {escape(part)}</h2><div class="pictures">{"".join(figures)}</div>'


def drawn(sample: Sample, class_names: Sequence[str]) -> np.ndarray:
    """A sample's picture with its masks, boxes and class names drawn in: (h, w, 3) uint8, small enough for a page.

    Where there is one class only, each object has a colour of its own, and no name.
    """
    rgb = read_rgb(sample)
    scale = LONGEST_SIDE / max(sample.width, sample.height)
    size = (max(1, round(sample.width * scale)), max(1, round(sample.height * scale)))
    small: np.ndarray = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    several = len(class_names) > 2
    for i, (box, class_id) in enumerate(zip(sample.boxes, sample.class_ids, strict=True)):
        crowd = bool(sample.crowd[i])
        colour = (128, 128, 128) if crowd else _rgb_of(int(class_id) if several else i + 1)
        if sample.masks[i] is not None:
            full = outlines.decoded(sample.masks[i], width=sample.width, height=sample.height)
            inside = cv2.resize(full, size, interpolation=cv2.INTER_NEAREST).astype(bool)
            small[inside] = (0.5 * small[inside] + 0.5 * np.array(colour)).astype(np.uint8)
        x1, y1, x2, y2 = (round(float(v) * scale) for v in box)
        cv2.rectangle(small, (x1, y1), (x2 - 1, y2 - 1), colour, 1)
        if several or crowd:
            _label(small, "crowd" if crowd else class_names[class_id], (x1, y1), colour)
    return small


def _label(rgb: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a name above a corner, or below where there is no room, on ground of the colour."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.38
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    x = min(max(corner[0], 0), max(rgb.shape[1] - width - 4, 0))
    y = max(corner[1], height + 5)
    cv2.rectangle(rgb, (x, y - height - 5), (x + width + 3, y), colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
    cv2.putText(rgb, text, (x + 2, y - 3), font, scale, ink, 1, cv2.LINE_AA)


def _rgb_of(number: int) -> tuple[int, int, int]:
    """A colour for every number; neighbours differ most (steps of the golden ratio around the circle of hues)."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def colour_of(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_rgb_of(number))


def write_report(path: Path, html: str) -> None:
    """Raises OSError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding="utf-8", errors="xmlcharrefreplace")  # a name may hold what is no UTF-8
