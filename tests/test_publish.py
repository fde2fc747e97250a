"""`--publish` finds its publisher by ending or scheme, is checked before the first frame, and shows no password."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamseg import job
from streamseg.plan import plan
from streamseg.request import Request
from streamseg.types import UsageError


def published(*targets: str, **more: object) -> list[tuple[str, dict[str, object]]]:
    config = plan(Request.of(inputs=["sample:"], publish=targets, settings=more.pop("settings", ()), **more)).config
    return [(each.name, each.options) for each in config.publish]


def test_a_target_is_found_by_its_ending_or_its_scheme() -> None:
    address = "mqtts://eve:p@ss/word@broker.local:8884/shop/front"
    assert published("a/events.jsonl", "events.CSV", "events.sqlite", address) == [
        ("jsonl", {"path": "a/events.jsonl"}),
        ("csv", {"path": "events.CSV"}),
        ("sqlite", {"path": "events.sqlite"}),
        ("mqtt", {"address": address}),
    ]


def test_options_of_a_publisher_are_set_by_its_position() -> None:
    found = published("events.csv", "mqtts://broker/x", settings=["publish.1.ca=ca.pem", "publish.1.thumbnails=true"])
    assert found[1][1] == {"address": "mqtts://broker/x", "ca": "ca.pem", "thumbnails": True}


def test_a_pipeline_may_have_its_own_publishers_and_targets_take_their_place(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("publish: [{jsonl: {path: events.jsonl, thumbnails: true}}]\n")
    assert published(pipeline=file) == [("jsonl", {"path": "events.jsonl", "thumbnails": True})]
    assert published("events.csv", pipeline=file) == [("csv", {"path": "events.csv"})]
    file.write_text("publish:\n  - jsonl: {path: events.jsonl, thumbnail: true}\n")
    with pytest.raises(UsageError, match=r"shop.yaml.*did you mean 'thumbnails'"):
        published(pipeline=file)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (
            ["events.txt"],
            "--publish: expected .csv, .jsonl, mqtt://HOST:PORT/TOPIC, mqtts://HOST:PORT/TOPIC or .sqlite",
        ),
        (["amqp://eve:sesame@broker/x"], "--publish: expected .csv"),
        (["a.csv", "a.csv"], "--publish: expected each target once, got a.csv twice"),
        (["a.csv", "./a.csv"], "--publish: expected each target once, got ./a.csv twice"),
        (["mqtt://eve:sesame@broker/x"] * 2, "--publish: expected each target once, got mqtt://broker/x twice"),
    ],
)
def test_a_wrong_target_is_wrong_use_and_shows_no_password(targets: list[str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        published(*targets)
    assert words in str(error.value) and "sesame" not in str(error.value)


def test_events_and_kept_counts_need_two_files(tmp_path: Path) -> None:
    file = str(tmp_path / "shop.jsonl")
    with pytest.raises(UsageError, match=r"--state: expected a file of its own, got .*shop\.jsonl"):
        plan(Request.of(inputs=["sample:"], publish=[file], state=file))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Of a clip in which nothing is."""
    record = {"stream": "test", "width": 64, "height": 48, "objects": [], "lines": {}, "zones": {}}
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({**record, "index": number, "time": number / 10}) + "\n" for number in range(5)))
    return path


def ran(labels: Path, *targets: str, settings: tuple[str, ...] = ()) -> job.Summary:
    request = Request.of(
        inputs=["test:64x48@10"],
        end=0.5,
        engine=f"replay:path={labels}",
        outputs=[str(labels.parent / "out.jsonl")],
        publish=targets,
        settings=settings,
    )
    return job.run(plan(request))


def test_a_job_tells_its_publishers(labels: Path, tmp_path: Path) -> None:
    summary = ran(labels, str(tmp_path / "events.csv"))
    assert (summary.exit_code, summary.problems) == (0, ())
    assert (tmp_path / "events.csv").read_text().startswith("id,at,stream,event,")


def test_what_cannot_be_told_at_all_is_said_before_the_first_frame(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("item,price\n")
    with pytest.raises(UsageError, match="events.csv: expected a file that streamseg's events can be added to"):
        ran(labels, str(tmp_path / "events.csv"))
    with pytest.raises(UsageError, match="expected a port from 1 to 65535") as error:
        ran(labels, "mqtt://eve:sesame@broker:99999/x")
    assert "sesame" not in str(error.value) and not (tmp_path / "out.jsonl").exists()


def test_a_file_of_events_is_no_output_of_pictures() -> None:
    with pytest.raises(UsageError, match="--publish: expected a file of its own, got a.jsonl, which is an output too"):
        published("a.jsonl", outputs=["a.jsonl"])


@pytest.mark.parametrize("option", ["publish", "state"])
def test_what_is_read_is_not_written(tmp_path: Path, option: str) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text("")
    with pytest.raises(UsageError, match=f"--{option}: expected a file of its own, got .*labels.jsonl, which is what"):
        plan(Request.of(inputs=["sample:"], engine=f"replay:path={labels}", **{option: str(labels)}))
    assert labels.read_text() == ""
