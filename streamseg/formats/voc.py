"""Pascal VOC: a picture of classes, a picture of objects and a text of boxes for each frame, in a folder `voc`."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree as xml

import numpy as np
from PIL import Image

from streamseg import outlines
from streamseg.formats._classes import check_classes
from streamseg.formats._part_folder import PartFolder
from streamseg.formats._part_text import PartText
from streamseg.labels import EMPTY, Label, LabelledFrame, LabelledVideo
from streamseg.types import UsageError

MOST = 254
"""Objects, and classes, that a picture of bytes can tell apart: 0 is the background, 255 what is not judged."""

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

TOO_MANY = f"objects beyond the {MOST} of a picture"


class Voc:
    """`voc/SegmentationObject/STEM/frame_000041.png`, the same under `SegmentationClass` and `Annotations`, the list
    of all in `ImageSets/Segmentation/default.txt` and the classes in `labelmap.txt`.

    Where objects overlap, a pixel is the surer one's.
    """

    wants_pictures = True
    tracks_only = False

    def __init__(self) -> None:
        self._left_out = {EMPTY: 0, TOO_MANY: 0}

    def open(self, folder: Path, class_names: Sequence[str]) -> None:
        if len(class_names) > MOST:
            raise UsageError(f"voc: expected at most {MOST} classes, got {len(class_names)}")
        if unfit := [name for name in class_names if ":" in name or name.startswith("#")]:
            raise UsageError(f"voc: expected names of classes without a colon and not with # first, got {unfit[0]!r}")
        self._class_names = list(class_names)
        self._files = PartFolder(folder / "voc", folder / "voc.part")
        self._names = PartText(folder / "voc.part" / "ImageSets" / "Segmentation" / "default.txt")
        self._files.write("labelmap.txt", _label_map(class_names).encode())

    def begin(self, video: LabelledVideo) -> None:
        if _NOT_XML.search(video.name):
            raise UsageError(f"voc: {video.name!r} has characters that XML cannot hold; rename the video")
        self._video = video

    def write(self, frame: LabelledFrame) -> None:
        if frame.picture is None:
            raise UsageError(f"voc: frame {frame.index} has no saved picture, which its labels are of")
        check_classes(frame, self._class_names)
        name = os.path.splitext(frame.picture)[0]
        labels = self._kept(frame.labels)
        objects = self._drawn(labels)
        classes = np.array([0, *(self._class_names.index(label.class_name) + 1 for label in labels)], np.uint8)[objects]
        self._files.write(f"SegmentationObject/{name}.png", _png(objects))
        self._files.write(f"SegmentationClass/{name}.png", _png(classes))
        self._files.write(f"Annotations/{name}.xml", self._described(frame.picture, labels))
        self._names.write(f"{name}\n")

    def _kept(self, labels: Sequence[Label]) -> list[Label]:
        areas = outlines.areas([label.mask for label in labels])
        seen = [label for label, area in zip(labels, areas, strict=True) if area]
        self._left_out[EMPTY] += len(labels) - len(seen)
        self._left_out[TOO_MANY] += max(len(seen) - MOST, 0)
        return seen[:MOST]

    def _drawn(self, labels: Sequence[Label]) -> np.ndarray:
        """The number of the object in each pixel, (H, W) uint8, from 1 in the order of the labels."""
        objects = np.zeros((self._video.height, self._video.width), np.uint8)
        for number in sorted(range(len(labels)), key=lambda i: labels[i].score):
            left, _, right, _ = outlines.boxes([labels[number].mask])[0].astype(int)
            columns = slice(left, right)
            objects[:, columns][outlines.decoded_columns(labels[number].mask, columns)] = number + 1
        return objects

    def _described(self, picture: str, labels: Sequence[Label]) -> bytes:
        """The text of a frame: its size and the box of each object, whose first pixel is 1 and whose last belongs."""
        path = PurePosixPath(picture)
        sizes = [("width", self._video.width), ("height", self._video.height), ("depth", 3)]
        root = xml.Element("annotation")
        _add(root, [("folder", path.parent.name), ("filename", path.name)])
        _add(xml.SubElement(root, "size"), sizes)
        _add(root, [("segmented", 1)])
        for label, box in zip(labels, outlines.boxes([label.mask for label in labels]).astype(int), strict=True):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (box + [1, 1, 0, 0]).tolist(), strict=True)
            found = xml.SubElement(root, "object")
            _add(found, [("name", label.class_name), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)])
            _add(xml.SubElement(found, "bndbox"), list(corners))
        xml.indent(root)
        content: bytes = xml.tostring(root, encoding="utf-8")
        return content

    def end(self) -> None:
        pass

    def close(self) -> Mapping[str, int]:
        self._names.finish()
        self._files.finish()
        return {reason: number for reason, number in self._left_out.items() if number}

    def discard(self) -> None:
        self._names.discard()
        self._files.discard()


def colours(count: int) -> np.ndarray:
    """VOC's colours of the first numbers, (count, 3) uint8 RGB.

    A number's bits 0, 1 and 2 are the highest bits of red, green and blue, its bits 3, 4 and 5 the next ones, ….
    """
    bits = np.arange(count)[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1  # (count, 8, 3)
    return np.asarray((bits << np.arange(7, -1, -1)[:, None]).sum(axis=1), np.uint8)


def _png(numbers: np.ndarray) -> bytes:
    picture = Image.fromarray(numbers)
    picture.putpalette(colours(256).ravel().tolist())
    content = io.BytesIO()
    picture.save(content, "png")
    return content.getvalue()


def _label_map(class_names: Sequence[str]) -> str:
    """The classes with their colours, as CVAT and Datumaro read them: `person:128,0,0::`."""
    named = zip(["background", *class_names], colours(len(class_names) + 1).tolist(), strict=True)
    lines = [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in named]
    return "\n".join(["# label:color_rgb:parts:actions", *lines]) + "\n"


def _add(to: xml.Element, values: Sequence[tuple[str, object]]) -> None:
    for tag, value in values:
        xml.SubElement(to, tag).text = str(value)
