"""The API is asked what its own description allows, and what it forbids; no answer is an error of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from streamseg.server.hub import Hub
from streamseg.server.server import Server
from streamseg.types import SourceState
from tests import fakes
from tests.server.fake import crossing, result

ENDLESS = ["/api/events/stream", "/stream/{name}.mjpg"]  # tested by hand, in test_server.py


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description that a running server gives of itself; its streams are live, and have seen something."""
    page: Path = tmp_path_factory.mktemp("page")
    hub = Hub(["street", "hall/door 2"])
    with Server(hub, "127.0.0.1:0", page=page) as server:
        for name in hub.names:
            hub.on_state(name, SourceState("live"))
            frame = fakes.frame(stream=name, width=64, height=48)
            hub.on_result(result(frame, totals={"objects": {"person": 3}}, events=(crossing(name, 1),)))
        yield schemathesis.openapi.from_url(f"{server.url}openapi.json").exclude(path=ENDLESS)


def fuzzed(description: Any, *, num_questions: int) -> Counter[tuple[str, str]]:
    """Asks each operation that many right questions and as many wrong ones; how many were asked, by path and mode."""
    asked: Counter[tuple[str, str]] = Counter()
    for operation in (found.ok() for found in description.get_all_operations()):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=num_questions, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                asked[case.operation.path, case.meta.generation.mode.value] += 1
                case.call_and_validate()

            with suppress(*[Unsatisfiable] if mode is GenerationMode.NEGATIVE else []):  # where no question is wrong
                ask()
    return asked


def test_no_question_is_answered_by_an_error_of_the_server(description: Any) -> None:
    asked = fuzzed(description, num_questions=6)
    assert len({path for path, mode in asked if mode == "positive"}) == 9
    assert asked["/api/history", "negative"] >= 6


@pytest.mark.thorough
def test_no_question_of_many_is_answered_by_an_error_of_the_server(description: Any) -> None:
    assert fuzzed(description, num_questions=300)["/api/events", "positive"] >= 300
