"""Cut the ten seconds of pedestrians that the quick start runs on out of OpenCV's `vtest.avi`.

`vtest.avi` comes with Debian's package opencv-doc (gunzip it where it is compressed).

    python benchmarks/make_sample.py vtest.avi samples/pedestrians.mp4
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av

START = 52.0  # seconds: from here people in coloured jackets cross close to the camera
SECONDS = 10.0


def cut(source: Path, target: Path, *, start: float = START, seconds: float = SECONDS) -> int:
    """Write the part of `source` from `start` as H.264 and return the number of its pictures."""
    num_frames = 0
    with av.open(str(source)) as read, av.open(str(target), "w", options={"movflags": "+faststart"}) as write:
        video = read.streams.video[0]
        rate = Fraction(video.average_rate or 10)
        out = write.add_stream("libx264", rate=rate, options={"crf": "21", "preset": "veryslow", "g": "50"})
        out.width, out.height, out.pix_fmt = video.width, video.height, "yuv420p"
        out.codec_context.time_base = 1 / rate
        for picture in read.decode(video):
            time = float(picture.pts * picture.time_base)
            if time < start:
                continue
            if time >= start + seconds:
                break
            picture.pts, picture.time_base, picture.pict_type = num_frames, 1 / rate, 0
            write.mux(out.encode(picture))
            num_frames += 1
        write.mux(out.encode())
    return num_frames


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    frames = cut(arguments.source, arguments.target)
    print(f"{arguments.target}: {frames} frames, {arguments.target.stat().st_size / 1e6:.2f} MB")
