"""The time of a live picture: when it arrived, with the camera's own distances between pictures."""

from __future__ import annotations

from fractions import Fraction

TIME_BASE = Fraction(1, 90_000)
"""Of every live picture's pts, whatever the camera counts in and however often it comes back."""

LONGEST_STEP = 5.0
"""Seconds; a longer step between two pts, or one back, is a camera setting its clock and says nothing."""

# Seconds that a time may differ from its arrival: networks hand pictures on in bursts of about that.
_MOST_APART = 1.0
# Of a step, how much it may be longer or shorter than the camera says, to come back to the arrival unseen.
_MOST_CORRECTION = 0.1
# Seconds between pictures that arrive in one burst, so that none is at the time of another.
_LEAST_STEP = 0.001


class Arrivals:
    """Gives each picture its time in seconds since the first one; each later than the one before."""

    def __init__(self) -> None:
        self._began = self._arrived_at = self._time = 0.0
        self._pts: float | None = None
        self._any = False

    def reconnected(self) -> None:
        """The next pts have nothing to do with those before."""
        self._pts = None

    def time(self, *, arrived_at: float, pts: float | None) -> float:
        """The time of the next picture; arrived_at: monotonic seconds · pts: seconds on the camera's clock, if any."""
        if not self._any:
            self._any, self._began, self._arrived_at, self._pts = True, arrived_at, arrived_at, pts
            return 0.0
        step, since_last = self._step(arrived_at, pts), arrived_at - self._began - self._time
        late = since_last - step
        if abs(late) > _MOST_APART:
            step = since_last
        else:
            step += max(-_MOST_CORRECTION * step, min(_MOST_CORRECTION * step, late))
        self._time += max(_LEAST_STEP, step)
        self._arrived_at, self._pts = arrived_at, pts
        return self._time

    def _step(self, arrived_at: float, pts: float | None) -> float:
        """Seconds since the picture before, by pts where they can be true, else by arrival."""
        if pts is not None and self._pts is not None and 0 < pts - self._pts <= LONGEST_STEP:
            return pts - self._pts
        return max(0.0, arrived_at - self._arrived_at)
