"""Make whole pictures of the half pictures of interlaced video: one out for one in, each at its own time."""

from __future__ import annotations

from collections import deque

import av
from av.filter import Graph

from streamseg.sources._upright import tagged_like


class Deinterlacer:
    """FFmpeg's bwdif over the pictures that say they are interlaced; `num_interlaced` counts them.

    Until the first of those, pictures pass straight through; from then on each comes out when its follower goes in,
    and a display matrix is put back by no one: ask for it before.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self.num_interlaced = 0
        self._threads = threads
        self._graph: Graph | None = None
        self._layout: tuple[int, int, str] | None = None
        self._waiting: deque[av.VideoFrame] = deque()

    def push(self, picture: av.VideoFrame) -> list[av.VideoFrame]:
        """The pictures that are whole now, in order."""
        # bwdif refuses pictures of fewer than 3 columns or 4 rows.
        interlaced = picture.interlaced_frame and picture.width >= 3 and picture.height >= 4
        self.num_interlaced += interlaced
        done: list[av.VideoFrame] = []
        layout = (picture.width, picture.height, picture.format.name)
        if self._graph is not None and layout != self._layout:
            done = self.flush()
        if self._graph is None:
            if not interlaced:
                return [*done, picture]
            self._graph, self._layout = self._built(picture), layout
        self._waiting.append(picture)
        self._graph.vpush(picture)
        return done + self._pulled()

    def close(self) -> None:
        """Let go of the pictures still inside."""
        self._graph = self._layout = None
        self._waiting.clear()

    def flush(self) -> list[av.VideoFrame]:
        """The pictures still inside; the next one starts anew."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        done = self._pulled() + list(self._waiting)
        self._waiting.clear()
        self._graph = self._layout = None
        return done

    def _built(self, picture: av.VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = self._threads
        start = graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
        )
        # send_frame: a picture for a picture, not for each of its fields; progressive pictures in between stay whole.
        bwdif = graph.add("bwdif", mode="send_frame", deint="interlaced")
        end = graph.add("buffersink")
        start.link_to(bwdif)
        bwdif.link_to(end)
        graph.configure()
        return graph

    def _pulled(self) -> list[av.VideoFrame]:
        done: list[av.VideoFrame] = []
        while self._graph is not None and self._waiting:
            try:
                picture = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                break
            # The filter halves the time base and may lose tags.
            done.append(tagged_like(picture, self._waiting.popleft()))
        return done
