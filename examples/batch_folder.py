"""Makes the people in every video of a folder unrecognisable, into a second folder, two files at a time.

    python examples/batch_folder.py samples blurred

A file that cannot be read ends nothing but itself; its error is raised when the others are done.
"""

import sys
from collections import Counter

import streamseg


def main(folder: str, output: str, engine: str | None = None) -> None:
    frames = Counter()
    try:
        for result in streamseg.run(folder, effects=["blur"], output=f"{output}/", parallel=2, engine=engine):
            frames[result.frame.stream] += 1
    finally:
        for stream, num_frames in frames.items():
            print(f"{stream}: {num_frames} frames")


if __name__ == "__main__":
    main(*sys.argv[1:])
