"""The inspection as one self-contained HTML page, and its pictures as PNGs in a folder beside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from streamseg.inspection.pictures import check_page, sheet
from streamseg.inspection.sections import Crops, Figure, Section, Table, sections
from streamseg.inspection.steps import LEVELS, OpenModel, Steps, WeightStats, inspect, read_picture, weight_stats
from streamseg.inspection.targets import Rules, Truth, annotated, make_targets
from streamseg.training.data import read_rgb
from streamseg.types import OutputError

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2128; --soft: #59636e; --line: #d5dae0; --card: #f5f7f9;
  --accent: #0a66c2; --warn: #b42318; --warn-paper: #fdeceb; --note-paper: #fff5da; --note-line: #d9a514; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e8ec; --soft: #9aa5b1; --line: #31373f;
  --card: #1c2026; --accent: #6cb2ff; --warn: #ff8f85; --warn-paper: #3b1d1b; --note-paper: #2f2813;
  --note-line: #a98318; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.25rem 1rem 4rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .5rem; display: flex; gap: .65rem; align-items: baseline; }
h2 b { color: var(--accent); font-variant-numeric: tabular-nums; }
p { margin: 0 0 .9rem; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 0; }
nav a { color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 99px;
  padding: .15rem .7rem; font-size: .85rem; }
nav a:hover { border-color: var(--accent); color: var(--accent); }
section { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
.note { background: var(--note-paper); border-left: 4px solid var(--note-line); padding: .55rem .8rem;
  border-radius: 4px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 0 0 1.2rem; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .45rem .7rem; }
.numbers dt { font-size: .8rem; color: var(--soft); line-height: 1.3; }
.numbers dd { margin: 0; font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem;
  margin: 0 0 1.2rem; align-items: start; }
figure { margin: 0; }
.pictures figure { max-width: 55rem; }
.pictures img { display: block; max-width: 100%; max-height: 42rem; border-radius: 6px; }
figcaption { font-size: .85rem; line-height: 1.4; padding-top: .35rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .5rem; }
.crops { display: flex; flex-wrap: wrap; gap: .9rem .8rem; margin: 0 0 1.4rem; align-items: flex-end; }
.crops div { display: flex; gap: 3px; align-items: flex-end; }
.crops img { display: block; image-rendering: pixelated; border-radius: 3px; max-width: 100%; height: auto; }
.tiles { align-items: flex-start; }
.tiles figure { flex: 1 1 8rem; max-width: 16rem; }
.tiles img { width: 100%; }
.crops figcaption { max-width: 15rem; font-size: .78rem; }
.scroll { overflow: auto; max-height: 30rem; margin: 0 0 1.2rem; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .28rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { position: sticky; top: 0; background: var(--card); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr:last-child td { border-bottom: 0; }
tr.marked td { background: var(--warn-paper); color: var(--warn); }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; padding: .3rem 0; }
svg { display: block; margin-left: auto; fill: currentColor; }
"""

WEBP_SIDE = 16383
"""Pixels; a longer one that format does not hold."""

LONG = 24
"""A table of more rows is folded up."""


def write_inspection(
    picture: str | Path,
    model: str | Path,
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    data: Path | None = None,
    layers: Sequence[str] = LEVELS,
) -> list[Path]:
    """Look at every step of a model on a picture and write the page. Returns all files, the page first.

    picture: a file, or a position in `data` · model, class_names, layers: as in `inspect` · data: a COCO json or a
    training's YAML file that knows the true objects; without it the targets come from the model's own detections. They
    are made by the rules of that training, else by those of the one that made the model.
    Raises UsageError, InputError, ModelError for what it cannot look at, OutputError for a page it cannot write.
    """
    check_page(path)
    rgb = np.zeros(0) if data else read_picture(picture)  # before the model is loaded, which takes longer
    opened = OpenModel.open(model, class_names=class_names)
    sample = training = None
    if data:
        sample, training = annotated(picture, data, opened.folder.config.class_names)
        rgb = read_rgb(sample)
    rules = Rules.of(training) if training else Rules.that_made(opened.folder)
    steps = inspect(rgb, opened, layers=layers)
    if sample:
        truth = Truth.annotations(sample, steps, origin=f"the annotations of {data}", side=rules.mini_mask)
    else:
        truth = Truth.detections(steps, side=rules.mini_mask)
    shown = sections(steps, make_targets(steps, truth, rules), rules, weight_stats(opened.network))
    title = f"{sample.path.name if sample else Path(picture).name}, seen by {opened.folder.name}"
    return write_page(path, list(shown), title=title, about=_about(steps, truth))


def _about(steps: Steps, truth: Truth) -> str:
    config, (height, width) = steps.config, steps.rgb.shape[:2]
    names = config.class_names[1:]
    classes = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return (
        f"A picture of {width} × {height} pixels, seen at {steps.image.shape[1]} × {steps.image.shape[0]} by a Mask "
        f"R-CNN of the {config.family} family on {config.backbone}, classes: {classes}. "
        f"The targets are made from {truth.origin}."
    )


def write_page(path: Path, parts: Sequence[Section], *, title: str, about: str) -> list[Path]:
    """Write the page, and its pictures into a folder of the same name beside it. Returns all files, the page first.

    about: what was looked at, and with which model. Raises OutputError when they cannot be written.
    """
    folder, written = path.with_suffix(""), [path]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, section in enumerate(parts, start=1):
            for name, picture in _pictures(section):
                written.append(folder / f"{number:02}_{name}.png")
                written[-1].write_bytes(_encoded(picture))
        # a picture's name may hold what is no UTF-8
        path.write_text(page(parts, title=title, about=about), encoding="utf-8", errors="xmlcharrefreplace")
    except OSError as error:
        raise OutputError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from error
    return written


def page(parts: Sequence[Section], *, title: str, about: str) -> str:
    """The whole page as text: style and pictures are in it."""
    links = "".join(f'<a href="#step{i}">{i} {_text(each.title)}</a>' for i, each in enumerate(parts, start=1))
    body = "\n".join(_section(number, section) for number, section in enumerate(parts, start=1))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{_text(title)}</h1><p class="soft">{_text(about)}</p><nav>{links}</nav></header>\n'
        f"{body}\n</body>\n</html>\n"
    )


def _section(number: int, section: Section) -> str:
    numbers = "".join(f"<div><dt>{_text(k)}</dt><dd>{_text(v)}</dd></div>" for k, v in section.numbers.items())
    parts = [
        f'<section id="step{number}">\n<h2><b>{number}</b> {_text(section.title)}</h2>\n<p>{_text(section.text)}</p>',
        *(f'<p class="note">{_text(note)}</p>' for note in section.notes),
        f'<dl class="numbers">{numbers}</dl>',
    ]
    # a small table fills the place beside the last picture
    beside = [table for table in section.tables if len(table.heads) <= 5 and len(table.rows) <= LONG]
    shown = [*map(_figure, section.figures), *map(_table, beside)]
    if shown:
        parts.append(f'<div class="pictures">{"".join(shown)}</div>')
    parts += map(_crops, section.crops)
    parts += [_table(table) for table in section.tables if table not in beside]
    return "\n".join([*parts, "</section>"])


def _figure(figure: Figure) -> str:
    caption = _text(figure.caption)
    # the PNG of such a picture has half a megabyte, and it lies beside the page for whoever wants every pixel
    data = base64.b64encode(_encoded(figure.picture, ".webp", [cv2.IMWRITE_WEBP_QUALITY, 85])).decode("ascii")
    image = f'<img src="data:image/webp;base64,{data}" alt="{caption}" loading="lazy">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _crops(crops: Crops) -> str:
    if not crops.items:
        return f'<h3>{_text(crops.caption)}</h3><p class="soft">None.</p>'
    items = []
    for pictures, text in crops.items:
        shown = "".join(
            f'<img src="{_uri(each)}" width="{each.shape[1]}" height="{each.shape[0]}" alt="">' for each in pictures
        )
        items.append(f"<figure><div>{shown}</div><figcaption>{_text(text)}</figcaption></figure>")
    kind = "crops" if any(len(pictures) > 1 for pictures, _ in crops.items) else "crops tiles"
    return f'<h3>{_text(crops.caption)}</h3><div class="{kind}">{"".join(items)}</div>'


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in table.heads)
    rows = "".join(
        f"<tr{' class=marked' if i in table.marked else ''}>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>"
        for i, row in enumerate(table.rows)
    )
    inside = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    if len(table.rows) > LONG:
        return f"<details><summary>{_text(table.caption)}, {len(table.rows)} rows</summary>{inside}</details>"
    return f"<div><h3>{_text(table.caption)}</h3>{inside}</div>"


def _cell(value: object) -> str:
    return histogram(value.counts) if isinstance(value, WeightStats) else _text(value)


def histogram(counts: np.ndarray, *, width: int = 120, height: int = 22) -> str:
    """Counts as bars, the tallest `height` pixels high: a picture in the page's own text."""
    step, tallest = width / len(counts), max(1, int(counts.max()))
    bars = (
        f"M{i * step:.1f} {height}h{step:.1f}v-{max(count / tallest * height, 0.7):.1f}h-{step:.1f}z"
        for i, count in enumerate(counts)
        if count
    )
    return f'<svg width="{width}" height="{height}" role="img" aria-label="histogram"><path d="{"".join(bars)}"/></svg>'


def _pictures(section: Section) -> Iterable[tuple[str, np.ndarray]]:
    """Every picture of a section with the name of its file; small ones together on a sheet."""
    for figure in section.figures:
        yield figure.name, figure.picture
    for crops in section.crops:
        if crops.items:
            each = [picture for pictures, _ in crops.items for picture in pictures]
            yield crops.name, sheet(each, columns=8)
    for table in section.tables:
        stats = [cell for row in table.rows for cell in row if isinstance(cell, WeightStats)]
        if stats:
            yield table.caption.lower().replace(" ", "_"), sheet(list(map(_bars, stats)), columns=8)


def _bars(stats: WeightStats, *, width: int = 200, height: int = 70) -> np.ndarray:
    """A histogram with its name above it, red where it is marked."""
    picture = np.full((height, width, 3), 255, np.uint8)
    bad = stats.dead or stats.exploding
    step, tallest = width / len(stats.counts), max(1, int(stats.counts.max()))
    for i, count in enumerate(stats.counts):
        top = height - round(count / tallest * (height - 18))
        colour = (208, 48, 48) if bad else (40, 96, 168)
        cv2.rectangle(picture, (round(i * step), top), (round((i + 1) * step) - 2, height), colour, -1)
    name = f"{stats.layer.rpartition('/')[2]}/{stats.name}"
    cv2.putText(picture, name, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (16, 16, 16), 1, cv2.LINE_AA)
    return picture


def _encoded(picture: np.ndarray, ending: str = ".png", options: Sequence[int] = ()) -> bytes:
    if ending == ".webp" and (share := WEBP_SIDE / max(picture.shape[:2])) < 1:
        size = [max(1, int(side * share)) for side in picture.shape[1::-1]]
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(ending, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _uri(picture: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(_encoded(picture)).decode('ascii')}"


def _text(value: object) -> str:
    return html.escape(f"{value:,}" if isinstance(value, int) else str(value))
