"""What a decoded picture carries beside its pixels, though PyAV has no name for some of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import SideDataContainer, Type

_all: Any = SideDataContainer  # PyAV's stubs do not tell what it takes
# Kinds of side data that PyAV has no name for; FFmpeg 8.1 has 33 in all, of which EXIF is the 32nd.
_NAMELESS = sorted(set(range(64)) - {kind.value for kind in Type})


def side_data_of(picture: av.VideoFrame) -> dict[str, Any]:
    """The picture's side data by FFmpeg's names ("DISPLAYMATRIX"), as buffers; of those that PyAV has a name for."""
    # not `picture.side_data`: the picture would hold what holds it, until Python looks for circles of references
    try:
        found = _all(picture)
    except ValueError:  # it refuses all of them for one without a name, such as the EXIF of a photo
        found = _all(_without_nameless(picture))
    return {each.type.name: each for each in found}


def _without_nameless(picture: av.VideoFrame) -> av.VideoFrame:
    """A second frame on the same planes that holds only side data which PyAV knows."""
    graph = av.filter.Graph()
    last = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
    )
    for number in _NAMELESS:
        following = graph.add("sidedata", mode="delete", type=str(number))
        last.link_to(following)
        last = following
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(picture)
    return graph.vpull()
