"""Draws a black bar over the eyes of everybody, with an effect of its own, and writes `eyes.mp4`.

    python examples/own_effect.py samples/pedestrians.mp4

The command line takes the class as well, where Python finds its module:

    PYTHONPATH=examples streamseg run samples/pedestrians.mp4 --effect own_effect:EyeBar:height=0.1 -o eyes.mp4
"""

import sys

import streamseg
from streamseg.canvas import Canvas


class EyeBar:
    """A bar where the eyes of a standing person are. height: as a share of the person's."""

    def __init__(self, *, height: float = 0.06) -> None:
        if not 0 < height <= 1:
            raise ValueError(f"height: expected a share of the person, above 0 to 1, got {height}")
        self.height = height

    def draw(self, canvas: Canvas, result: streamseg.Result) -> None:
        for x1, y1, x2, y2 in result.instances.of("person").boxes:
            high = round((y2 - y1) * self.height)
            canvas.rectangle(round(x1), round(y1 + (y2 - y1) * 0.05), round(x2 - x1), high, (0, 0, 0))


def main(video: str, engine: str | None = None) -> None:
    for _ in streamseg.run(video, effects=[EyeBar()], output="eyes.mp4", engine=engine):
        pass  # every result is written when it comes by here


if __name__ == "__main__":
    main(*sys.argv[1:])
