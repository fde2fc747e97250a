"""Prints who is in the picture at every full second, and at the end how many people there were in all.

    python examples/results_loop.py samples/pedestrians.mp4

A second argument is another engine, such as `replay:path=street.jsonl`.
"""

import sys

import streamseg


def main(video: str, engine: str | None = None) -> None:
    second, seen = -1, {}
    for result in streamseg.run(video, engine=engine):
        people = result.instances.of("person")
        if int(result.frame.time) > second:
            second = int(result.frame.time)
            sizes = people.boxes[:, 3] - people.boxes[:, 1]  # heights in pixels: boxes are x1, y1, x2, y2
            tallest = f", the tallest {sizes.max():.0f} pixels high" if len(people) else ""
            print(f"{second} s: {len(people)} people{tallest}")
        seen = result.counts["objects"]
    print(f"in all: {seen.get('person', 0)} people")


if __name__ == "__main__":
    main(*sys.argv[1:])
