"""Several cameras, one engine: each gets its share, whatever its rate and size; none pays for another one's fate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import pytest

from streamseg.flow.pipeline import Pipeline
from streamseg.flow.stream import Stream
from streamseg.types import Frame, InputError
from tests.end_to_end.live_parts import Notebook, Scene, SceneCamera, TruthEngine

pytestmark = pytest.mark.real_time

SIZES = [(64, 48), (320, 180), (128, 96), (640, 360)]
RATES = [60.0, 25.0, 30.0, 50.0]
SECONDS = 2.5
SHARE = 8.0
"""Looks a second that each gets where all want more."""


def cameras(number: int, *, rates: Sequence[float] = RATES) -> list[SceneCamera]:
    """As many cameras, their sizes and rates in turn."""
    kinds = islice(zip(cycle(SIZES), cycle(rates), strict=False), number)
    return [
        SceneCamera(Scene(width=width, height=height), name=f"camera {index}", rate=rate, seconds=SECONDS)
        for index, ((width, height), rate) in enumerate(kinds)
    ]


def ran(sources: Sequence[SceneCamera], *, look: float, batch_size: int = 1) -> TruthEngine:
    """The engine, after it has looked at all of them."""
    scenes = {source.info.name: source.scene for source in sources}
    engine = TruthEngine(scenes, seconds=look, batch_size=batch_size)
    summary = Pipeline(engine, [Stream(source.info.name, source) for source in sources]).run()
    assert summary.exit_code == 0
    return engine


def looks(engine: TruthEngine) -> Counter[str]:
    """How often it looked at each stream while all were there."""
    firsts: dict[str, float] = {}
    for at, name in engine.looks:
        firsts.setdefault(name, at)
    all_there, first_gone = max(firsts.values()), min(firsts.values()) + SECONDS - 0.2
    return Counter(name for at, name in engine.looks if all_there <= at < first_gone)


def busy_share(engine: TruthEngine) -> float:
    """The share of the time that it was at work."""
    return engine.busy / (engine.looks[-1][0] - engine.looks[0][0] + engine.seconds)


def fair(numbers: Sequence[int]) -> bool:
    """Within a tenth, but for one more that falls into the time by chance."""
    return max(numbers) - min(numbers) <= 1 + 0.1 * max(numbers)


@pytest.fixture(scope="module")
def alone() -> float:
    """The share of the time that an engine is at work for one busy camera."""
    return busy_share(ran(cameras(1), look=0.04))


@pytest.mark.parametrize(("number", "batch_size"), [(2, 1), (4, 1), (8, 1), (4, 4)])
def test_every_camera_gets_the_same_share_and_the_engine_is_as_busy_as_with_one(
    number: int, batch_size: int, alone: float
) -> None:
    engine = ran(cameras(number), look=1 / (number * SHARE), batch_size=batch_size)
    seen = looks(engine)
    assert len(seen) == number
    assert fair(list(seen.values())), seen
    assert busy_share(engine) >= 0.95 * alone


def test_a_camera_slower_than_its_share_is_seen_whole_and_the_others_have_the_rest() -> None:
    seen = looks(ran(cameras(3, rates=[5.0, 50.0, 50.0]), look=0.04))
    slow, *fast = (seen[f"camera {index}"] for index in range(3))
    assert slow == pytest.approx(5.0 * (SECONDS - 0.2), abs=1.5)
    assert fair(fast)


class Dying(SceneCamera):
    """A camera that breaks for good after a while."""

    def __iter__(self) -> Iterator[Frame]:
        yield from islice(super().__iter__(), 15)
        raise InputError(f"{self.info.name}: broken on purpose")


def test_a_camera_that_dies_or_joins_costs_the_others_no_frame() -> None:
    first, second, newcomer = cameras(3, rates=[30.0])
    dying = Dying(Scene(), name="dying", rate=30.0)
    notebooks = [Notebook(), Notebook()]
    scenes = {source.info.name: source.scene for source in (first, second, newcomer, dying)}
    pipeline = Pipeline(TruthEngine(scenes, seconds=0.002))
    for source, notebook in zip((first, second), notebooks, strict=True):
        pipeline.add(Stream(source.info.name, source, sinks=[notebook]))
    pipeline.add(Stream("dying", dying))
    pipeline.start()
    time.sleep(SECONDS / 2)
    pipeline.add(Stream(newcomer.info.name, newcomer))
    time.sleep(SECONDS / 4)
    assert pipeline.remove(newcomer.info.name).read > 0
    pipeline.close()
    summary = pipeline.wait()
    assert "broken on purpose" in (summary.streams["dying"].error or "")
    for source, notebook in zip((first, second), notebooks, strict=True):
        assert summary.streams[source.info.name].error is None
        assert [shown.index for shown in notebook.shown] == list(range(round(SECONDS * 30)))
