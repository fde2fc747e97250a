"""A request becomes streams with their parts and outputs, or one clear error before anything is opened."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from streamseg.config import Component, StreamConfig
from streamseg.plan import Plan, Request, parse_component, plan
from streamseg.types import InputError, OutputError, UsageError
from tests.fakes import FakeEffect

DRAW = "tests.fakes:FakeEffect"


@pytest.fixture(autouse=True)
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two files that are videos by their names."""
    monkeypatch.chdir(tmp_path)
    for name in ("street.mp4", "dog.mkv"):
        (tmp_path / name).touch()
    return tmp_path


def outputs(planned: Plan) -> list[str]:
    return [sink.options["path"] for stream in planned.streams.values() for sink in stream.sinks]


def planned(**options: Any) -> Plan:
    return plan(Request(**{"inputs": ["street.mp4"], "effects": [DRAW], **options}))


def only(made: Plan) -> StreamConfig:
    (stream,) = made.streams.values()
    return stream


def test_without_anything_said_overlay_and_labels_are_written_beside_the_input() -> None:
    stream = only(plan(Request(inputs=["street.mp4"])))
    assert [effect.name for effect in stream.effects] == ["overlay", "labels"]
    assert stream.sinks == (Component(name="video_file", options={"path": "street_overlay.mp4"}),)
    assert (stream.tracker, stream.counters) == (Component(name="mask_iou"), (Component(name="per_class"),))


def test_the_default_name_is_the_first_effects_and_matroska_stays_matroska() -> None:
    made = plan(Request(inputs=["street.mp4", "dog.mkv"], effects=["splash", "labels"]))
    assert outputs(made) == ["street_splash.mp4", "dog_splash.mkv"]


def test_an_effect_of_ones_own_gives_its_name_to_the_output() -> None:
    assert outputs(planned()) == ["street_fakeeffect.mp4"]


def test_the_sample_is_written_to_where_one_is() -> None:
    assert outputs(planned(inputs=["sample:"])) == ["pedestrians_fakeeffect.mp4"]


def test_every_output_gets_every_stream() -> None:
    made = planned(inputs=["street.mp4", "dog.mkv"], outputs=["out/", "{folder}/{stem}.jsonl"])
    assert outputs(made) == ["out/street_fakeeffect.mp4", "./street.jsonl", "out/dog_fakeeffect.mkv", "./dog.jsonl"]


def test_only_data_is_written_without_drawing() -> None:
    assert only(plan(Request(inputs=["street.mp4"], outputs=["street.jsonl"]))).effects == ()


def test_several_inputs_need_outputs_that_differ() -> None:
    with pytest.raises(UsageError, match="-o out.mp4: 2 inputs need a folder, or {stem} in the name"):
        planned(inputs=["street.mp4", "dog.mkv"], outputs=["out.mp4"])


@pytest.fixture
def namesakes(clips: Path) -> list[str]:
    """Two more clips called street: one in another folder, one of another kind."""
    (clips / "more").mkdir()
    (clips / "more" / "street.mp4").touch()
    (clips / "street.avi").touch()
    return ["street.mp4", "more/street.mp4", "street.avi"]


def test_inputs_of_one_name_get_outputs_of_several_in_one_folder_and_a_note_says_so(namesakes: list[str]) -> None:
    made = planned(inputs=namesakes, outputs=["out/"])
    paths = ["out/street_fakeeffect.mp4", "out/street-2_fakeeffect.mp4", "out/street-3_fakeeffect.mp4"]
    assert outputs(made) == paths
    assert made.notes == {
        f"street-{number}": [f"{path}: called street-{number}, because another input is street too"]
        for number, path in enumerate(paths[1:], start=2)
    }


def test_a_default_name_is_the_inputs_own_wherever_it_is_free(namesakes: list[str]) -> None:
    made = planned(inputs=namesakes)
    assert outputs(made) == ["street_fakeeffect.mp4", "more/street_fakeeffect.mp4", "street-3_fakeeffect.mp4"]
    assert list(made.notes) == ["street-3"]


@pytest.mark.parametrize("output", ["{stem}_new.mp4", "out/{stem}/"])
def test_two_inputs_of_one_name_cannot_share_an_output_that_is_spelt_out(namesakes: list[str], output: str) -> None:
    with pytest.raises(UsageError, match="every input.*street.mp4 and for more/street.mp4; {folder} in the name tells"):
        planned(inputs=namesakes[:2], outputs=[output])
    with pytest.raises(UsageError, match="every input.*street.mp4 and for street.avi$"):
        planned(inputs=namesakes[::2], outputs=[output])


@pytest.mark.parametrize("output", ["street.mp4", "./street.mp4", "{folder}/{stem}.mp4"])
def test_an_input_is_never_written_over(output: str) -> None:
    with pytest.raises(UsageError, match="it is an input of this run"):
        planned(outputs=[output], overwrite=True)


def test_what_an_earlier_run_wrote_into_a_folder_is_no_input_of_the_next(clips: Path) -> None:
    (clips / "street_fakeeffect.mp4").touch()
    made = planned(inputs=["."], overwrite=True)
    assert sorted(outputs(made)) == ["dog_fakeeffect.mkv", "street_fakeeffect.mp4"]


@pytest.mark.parametrize("text", [".", "*.mp4"])
def test_what_an_earlier_run_drew_with_another_effect_is_left_out_with_a_note(clips: Path, text: str) -> None:
    for name in ("street_overlay.mp4", "street_overlay_blur.mp4", "street_by_night.mp4", "dog_blur.mp4"):
        (clips / name).touch()
    made = planned(inputs=[text], effects=["splash"])
    expected = {"street", "street_by_night", "dog_blur"} if text == "*.mp4" else {"dog", "street", "street_by_night"}
    assert set(made.streams) == expected
    drawn = "it looks like what was made of street.mp4; named, it is taken"
    assert made.notes["street"] == [
        f"street_overlay.mp4 was left out: {drawn}",
        f"street_overlay_blur.mp4 was left out: {drawn}",
    ]


def test_what_an_earlier_run_drew_is_taken_where_it_is_asked_for(clips: Path) -> None:
    (clips / "street_overlay.mp4").touch()
    assert set(planned(inputs=["street.mp4", "street_overlay.mp4"]).streams) == {"street", "street_overlay"}
    assert set(planned(inputs=["*_overlay.mp4"]).streams) == {"street_overlay"}


def test_a_video_of_one_picture_says_how_pictures_come_out(clips: Path) -> None:
    (clips / "photo.jpg").touch()
    (note,) = planned(inputs=["photo.jpg"]).notes["photo"]
    assert "one picture makes a video of one frame; -o images:FOLDER writes pictures" in note
    assert planned(inputs=["photo.jpg"], outputs=["images:drawn"]).notes == {}


def test_a_name_too_long_for_the_disk_is_refused_before_the_work(clips: Path) -> None:
    stem = "s" * 241  # with .mp4 245 bytes, with .part 250; _blur makes 255 of them, and one more is too many
    for name in (f"{stem}.mp4", f"{stem}s.mp4"):
        (clips / name).touch()
    made = planned(inputs=[f"{stem}.mp4", f"{stem}s.mp4"], effects=["blur"])
    assert set(made.streams) == {stem}
    (problem,) = made.refused.values()
    assert isinstance(problem, OutputError)
    assert str(problem) == f"{stem}s_blur.mp4: a name of 251 bytes, 250 leave room for .part while it is written"


def test_a_file_where_an_output_wants_a_folder_is_told_before_the_work(clips: Path) -> None:
    (problem,) = planned(outputs=["dog.mkv/out.mp4"]).refused.values()
    assert str(problem) == f"dog.mkv/out.mp4: expected a folder, but {clips / 'dog.mkv'} is none"


def test_a_link_that_leads_round_in_a_circle_refuses_itself_alone(clips: Path) -> None:
    (clips / "round.mp4").symlink_to("round.mp4")
    made = planned(inputs=["round.mp4", "street.mp4"])
    assert (set(made.streams), set(made.refused)) == ({"street"}, {"round"})


def test_an_output_that_exists_refuses_that_input_alone_unless_told_to_overwrite(clips: Path) -> None:
    (clips / "street_fakeeffect.mp4").touch()
    made = planned(inputs=["street.mp4", "dog.mkv"])
    assert list(made.streams) == ["dog"]
    assert isinstance(made.refused["street"], OutputError) and "--overwrite" in str(made.refused["street"])
    made = planned(inputs=["street.mp4", "dog.mkv"], overwrite=True)
    assert list(made.streams) == ["street", "dog"] and made.streams["dog"].sinks[0].options["overwrite"] is True


def test_a_folder_that_holds_something_refuses_pictures_unless_told_to_overwrite(clips: Path) -> None:
    (clips / "full").mkdir()
    (clips / "empty").mkdir()
    (clips / "full" / "000001.png").touch()
    refused = planned(outputs=["images:full"]).refused["street"]
    assert isinstance(refused, OutputError) and "full: the folder is not empty; --overwrite" in str(refused)
    for options in ({"outputs": ["images:full"], "overwrite": True}, {"outputs": ["images:empty"]}):
        assert planned(**options).refused == {}


@pytest.mark.parametrize("sinks", ["[]", "[{jsonl: {path: a.jsonl}}]"])
def test_an_effect_that_nothing_shows_is_wrong_use_where_it_was_asked_for(clips: Path, sinks: str) -> None:
    with pytest.raises(UsageError, match="--effect: expected an output with pictures .* got a.jsonl"):
        planned(outputs=["a.jsonl"])
    pipeline = pipeline_file(clips, f"effects: [splash]\nsinks: {sinks}")
    with pytest.raises(UsageError, match="--effect: expected an output with pictures"):
        planned(pipeline=pipeline)
    assert only(planned(pipeline=pipeline, effects=None)).effects == (Component(name="splash"),)
    for options in ({"outputs": ["a.jsonl", "a.gif"]}, {"writes": False, "outputs": ["a.jsonl"]}, {"writes": False}):
        assert only(planned(**options)).effects == (Component(name=DRAW),)


OUTSIDE = """
from streamseg.sinks.jsonl import Jsonl
from streamseg.sources.test_pattern import TestPattern

class Lines(Jsonl):
    endings = (".jsonl",)

class Variant(Jsonl): ...

class Mute(TestPattern):
    __iter__ = None
"""


@pytest.fixture
def outside(clips: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of parts outside the package."""
    (clips / "outside_parts.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(clips)
    yield "outside_parts"
    sys.modules.pop("outside_parts", None)


def test_an_outside_sink_that_claims_a_taken_ending_is_refused_at_the_start(clips: Path, outside: str) -> None:
    pipeline = pipeline_file(clips, f"sinks: [{{'{outside}:Lines': {{path: a.jsonl}}}}]")
    with pytest.raises(UsageError, match=f"'.jsonl' is claimed twice, by jsonl and {outside}:Lines"):
        planned(pipeline=pipeline, effects=None)


def test_an_outside_source_without_frames_is_refused_at_the_start(clips: Path, outside: str) -> None:
    pipeline = pipeline_file(clips, f"source: {outside}:Mute")
    with pytest.raises(UsageError, match=f"source {outside}:Mute: Mute is no source, it has no method '__iter__'"):
        planned(pipeline=pipeline, inputs=[])


def test_an_outside_sink_is_asked_whether_its_file_exists_and_whether_it_shows_pictures(
    clips: Path, outside: str
) -> None:
    pipeline = pipeline_file(clips, f"sinks: [{{'{outside}:Variant': {{path: a.jsonl}}}}]")
    assert planned(pipeline=pipeline, effects=None).refused == {}
    with pytest.raises(UsageError, match="--effect: expected an output with pictures"):
        planned(pipeline=pipeline)
    (clips / "a.jsonl").touch()
    (problem,) = planned(pipeline=pipeline, effects=None).refused.values()
    assert "a.jsonl: the file exists; --overwrite" in str(problem)


def test_a_missing_file_refuses_itself_alone() -> None:
    made = planned(inputs=["stret.mp4", "dog.mkv"])
    assert list(made.streams) == ["dog"]
    assert isinstance(made.refused["stret"], InputError) and "did you mean 'street.mp4'?" in str(made.refused["stret"])


def test_ranges_go_to_the_source_and_encoding_to_the_video() -> None:
    stream = only(
        planned(start=90.0, end=120.0, stride=2, codec="h265", quality="lossless", outputs=["a.mp4", "a.jsonl"])
    )
    assert stream.source == Component(
        name="video_file", options={"path": "street.mp4", "start": 90.0, "end": 120.0, "stride": 2}
    )
    assert stream.sinks[0].options == {"path": "a.mp4", "codec": "h265", "quality": "lossless"}
    assert stream.sinks[1].options == {"path": "a.jsonl"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"effects": ["splsh"]}, "no effect is called 'splsh'; did you mean 'splash'?"),
        ({"effects": [f"{DRAW}:falt=1"]}, "no option is called 'falt'; did you mean 'fault'?"),
        ({"effects": [f"{DRAW}:fault"]}, "fault"),
        ({"effects": [3]}, "expected a name, {name: options} or an object with a draw, got 3"),
        ({"effects": [{"a": {}, "b": {}}]}, "expected NAME or NAME: {option: value}"),
        ({"engine": "opnvino"}, "no engine is called 'opnvino'; did you mean 'openvino'?"),
        ({"engine": "replay", "model": "people"}, "--model: the engine replay takes no 'model'"),
        ({"outputs": ["a.jsonl"], "codec": "h265"}, "--codec: expected a video output"),
        ({"settings": ["effects.1.x=1"]}, "--set effects.1.x=1: expected a position from 0 to 0"),
        ({"settings": ["trackr.max_missed=1"]}, "no setting is called 'trackr'; did you mean 'tracker'?"),
        ({"settings": ["tracker.max_misst=1"]}, "no option is called 'max_misst'; did you mean 'max_missed'?"),
        ({"settings": ["tracker.max_missed=often"]}, "max_missed: expected"),
        ({"pipeline": "splsh"}, "no pipeline is called 'splsh'; did you mean 'splash'?"),
        ({"inputs": []}, "expected an INPUT"),
        ({"min_score": 2.0}, "min_score: expected less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_what_was_probably_meant(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        planned(**options)
    assert words in str(error.value)


def test_an_unknown_field_of_a_request_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no option is called 'overwrit'; did you mean 'overwrite'?"):
        Request.of(overwrit=True)


def test_settings_reach_engine_and_streams() -> None:
    made = planned(model="runs/people", settings=["engine.batch_size=8", "tracker.max_missed=3", "sinks.0.codec=av1"])
    assert made.config.engine.options == {"model": "runs/people", "batch_size": 8}
    assert only(made).tracker == Component(name="mask_iou", options={"max_missed": 3})
    assert only(made).sinks[0].options["codec"] == "av1"


def test_min_score_wins_over_the_pipelines_tracker(clips: Path) -> None:
    (clips / "p.yaml").write_text("tracker: {mask_iou: {min_score: 0.9}}")
    assert only(planned(pipeline="p.yaml", min_score=0.3)).tracker.options == {"min_score": 0.3}


def test_an_object_that_draws_is_an_effect() -> None:
    effect = FakeEffect()
    assert only(planned(effects=[effect, {DRAW: {}}])).effects == (effect, Component(name=DRAW))


# --- ready pipelines


def pipeline_file(folder: Path, text: str) -> str:
    (folder / "p.yaml").write_text(text)
    return str(folder / "p.yaml")


def test_inputs_take_the_place_of_a_pipelines_source_and_the_command_line_of_its_effects(clips: Path) -> None:
    text = """
        source: {video_file: {path: other.mp4}}
        tracker: null
        effects: [splash]
        sinks: [{video_file: {path: "{folder}/{stem}_new.mp4"}}, {jsonl: {path: "{stem}.jsonl"}}]
    """
    made = planned(pipeline=pipeline_file(clips, text), inputs=["street.mp4", "dog.mkv"])
    assert outputs(made) == ["./street_new.mp4", "street.jsonl", "./dog_new.mp4", "dog.jsonl"]
    assert all(stream.effects == (Component(name=DRAW),) for stream in made.streams.values())
    assert made.streams["dog"].source.options == {"path": "dog.mkv"}
    assert made.streams["dog"].tracker is None


def test_a_pipeline_with_sources_of_its_own_needs_no_input(clips: Path) -> None:
    text = """
        streams:
          gate: {source: {video_file: {path: street.mp4}}, sinks: [{jsonl: {path: "{stem}-{folder}.jsonl"}}]}
          pond: {source: {test_pattern: {end: 1}}, sinks: [{jsonl: {path: pond.jsonl}}]}
    """
    made = plan(Request(pipeline=pipeline_file(clips, text)))
    assert list(made.streams) == ["gate", "pond"]
    assert outputs(made) == ["street-..jsonl", "pond.jsonl"]


def test_recordings_of_a_pipelines_cameras_are_called_after_their_streams(clips: Path) -> None:
    text = """
        streams:
          front: {source: {rtsp: {url: "rtsp://recorder/1"}}, sinks: [{video_file: {path: "{stem}.mp4"}}]}
          yard: {source: {rtsp: {url: "rtsp://recorder/2"}}, sinks: [{video_file: {path: "{stem}.mp4"}}]}
    """
    made = plan(Request(pipeline=pipeline_file(clips, text)))
    assert outputs(made) == ["front.mp4", "yard.mp4"] and not made.notes


def test_a_pipeline_of_several_streams_takes_no_inputs(clips: Path) -> None:
    text = "streams: {a: {source: test_pattern}, b: {source: test_pattern}}"
    with pytest.raises(UsageError, match=r"streams of its own \(a, b\)"):
        planned(pipeline=pipeline_file(clips, text))


def test_a_pipeline_without_source_asks_for_an_input(clips: Path) -> None:
    with pytest.raises(UsageError, match="expected an INPUT"):
        plan(Request(pipeline=pipeline_file(clips, "sinks: []")))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("effects:\n  - splash\n  - labls\n", 3, "no effect is called 'labls'; did you mean 'labels'?"),
        ("tracker:\n  mask_iou:\n    max_misst: 3\n", 1, "no option is called 'max_misst'"),
        ("streams:\n  a:\n    sinks:\n      - jsonl: {}\n", 4, "the option 'path' is missing"),
        ("sinks:\n  - jsonl: {path: '{stm}.jsonl'}\n", 2, "sink jsonl: path: no placeholder is called 'stm'; did you"),
    ],
)
def test_a_wrong_component_is_said_with_the_line_of_the_file(clips: Path, text: str, line: int, words: str) -> None:
    path = pipeline_file(clips, text)
    with pytest.raises(UsageError) as error:
        planned(pipeline=path)
    assert str(error.value).startswith(f"{path}:{line}: ") and words in str(error.value)


@pytest.mark.parametrize("source", ['"rtsp://eve:sesame@h/s"', '{rtsp: "rtsp://eve:sesame@h/s"}'])
def test_an_address_at_a_wrong_place_of_a_file_is_refused_without_its_password(clips: Path, source: str) -> None:
    path = pipeline_file(clips, f"streams: {{front: {{source: {source}}}}}")
    with pytest.raises(UsageError) as error:
        plan(Request(pipeline=path))
    assert "rtsp://h/s" in str(error.value) and "sesame" not in str(error.value)


def test_a_stream_of_a_file_has_a_name_that_topics_and_files_can_have(clips: Path) -> None:
    path = pipeline_file(clips, "streams: {'front door/': {source: test_pattern}}")
    with pytest.raises(UsageError, match=r"streams: front door/: expected a name of letters, digits"):
        plan(Request(pipeline=path))


# --- NAME:key=value


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("splash", "splash", {}),
        ("splash:classes=person+car", "splash", {"classes": ["person", "car"]}),
        ("splash:classes=[person, car],strength=2", "splash", {"classes": ["person", "car"], "strength": 2}),
        ("my.blur:Faces", "my.blur:Faces", {}),
        ("my.blur:Faces:strength=2.5,soft=true", "my.blur:Faces", {"strength": 2.5, "soft": True}),
        ("cutout:background=c:/a.png", "cutout", {"background": "c:/a.png"}),
        ("labels:text='a+b'", "labels", {"text": "a+b"}),
    ],
)
def test_a_component_in_short(text: str, name: str, options: dict[str, Any]) -> None:
    assert parse_component(text, what="--effect") == Component(name=name, options=options)


@pytest.mark.parametrize("text", ["splash:classes=person,car", "splash:=3", "splash:classes=[person", "splash:x="])
def test_a_component_misspelt_is_wrong_use(text: str) -> None:
    if text.endswith("x="):
        assert parse_component(text, what="--effect").options == {"x": None}
    else:
        with pytest.raises(UsageError, match="--effect splash"):
            parse_component(text, what="--effect")


GATE = {"name": "gate", "ends": [0.72, 0, 0.72, 1]}
SHOP = {"name": "shop", "corners": [0, 0, 1, 0, 1, 1]}


@pytest.mark.parametrize("lines", [["gate=0.72,0,0.72,1"], {"gate": [0.72, 0, 0.72, 1]}])
def test_every_line_and_zone_becomes_a_counter_of_every_stream(lines: Any) -> None:
    made = planned(inputs=["street.mp4", "dog.mkv"], lines=lines, zones=["shop=0,0,1,0,1,1"])
    counters = [Component(name="per_class"), Component(name="line", options=GATE), Component(name="zone", options=SHOP)]
    assert [list(stream.counters) for stream in made.streams.values()] == [counters, counters]


@pytest.mark.parametrize("asked", [None, ["counts"], ["blur", "counts"]])
def test_lines_and_zones_are_drawn_around_the_default_effects_and_around_counts(asked: list[str] | None) -> None:
    stream = only(planned(effects=asked, lines=["gate=0.72,0,0.72,1"], zones=["shop=0,0,1,0,1,1"]))
    assert [effect.name for effect in stream.effects] == ["zones", *(asked or ["overlay", "labels"]), "lines"]
    assert stream.effects[0].options == {"corners": {"shop": SHOP["corners"]}}
    assert stream.effects[-1].options == {"ends": {"gate": GATE["ends"]}}
    assert outputs(planned(effects=asked, zones=["shop=0,0,1,0,1,1"])) == [f"street_{(asked or ['overlay'])[0]}.mp4"]


def test_lines_are_drawn_where_they_are_asked_for_and_nothing_is_added_to_other_effects() -> None:
    line = ["gate=0.72,0,0.72,1"]
    assert [effect.name for effect in only(planned(effects=["blur"], lines=line)).effects] == ["blur"]
    (lines, labels) = only(planned(effects=["lines", "labels"], lines=line)).effects
    assert lines.options == {"ends": {"gate": GATE["ends"]}} and labels.options == {}
    own = planned(effects=["lines:ends={door: [0, 0, 1, 1]}"], lines=line)
    assert only(own).effects[0].options == {"ends": {"door": [0, 0, 1, 1]}}
    assert only(planned(effects=None, outputs=["street.jsonl"], lines=line)).effects == ()


def test_lines_of_a_pipeline_are_drawn_and_counted_beside_those_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("counters: [{line: {name: door, ends: [0, 0, 0, 1]}}]\neffects: [counts]\n")
    stream = only(planned(pipeline=file, effects=None, lines=["gate=0.72,0,0.72,1"]))
    assert [each.options["name"] for each in stream.counters] == ["door", "gate"]
    assert stream.effects[1].options == {"ends": {"door": [0, 0, 0, 1], "gate": GATE["ends"]}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lines": ["gate=0,0,1,1", "gate=0,0,0,1"]}, "line gate: expected a name of its own for each line, got two"),
        ({"zones": ["a=0,0,1,0,1,1", "a=0,0,1,0,0,1"]}, "zone a: expected a name of its own for each zone, got two"),
        ({"lines": ["gate=0,0,1,2"]}, "line gate: expected shares of the picture from 0 to 1, got 2"),
        ({"lines": ["gate"]}, "--line gate: expected NAME=X1,Y1,X2,Y2"),
        ({"zones": ["=0,0,1,0,1,1"]}, "zone: expected a name, got none"),
        ({"zones": {"shop": [0, 0, 1, 1, 1, 0, 0, 1]}}, "zone shop: expected an outline that does not cross itself"),
    ],
)
def test_a_wrong_line_or_zone_is_refused_before_anything_is_opened(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planned(**wrong)


def test_a_line_that_is_set_elsewhere_is_drawn_there() -> None:
    stream = only(planned(effects=["counts"], lines=["gate=0,0,1,1"], settings=["counters.1.ends=[0.5, 0, 0.5, 1]"]))
    assert stream.counters[1].options == {"name": "gate", "ends": [0.5, 0, 0.5, 1]}
    assert stream.effects[1].options == {"ends": {"gate": [0.5, 0, 0.5, 1]}}


def test_a_line_and_a_zone_may_have_one_name() -> None:
    assert len(only(planned(lines=["a=0,0,1,1"], zones=["a=0,0,1,0,1,1"])).counters) == 3


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("lines:ends={a: [0,0,1,1], b: [0,1,1,0]}", {"ends": {"a": [0, 0, 1, 1], "b": [0, 1, 1, 0]}}),
        ('cutout:picture="a,b.jpg",background=#00ff00', {"picture": "a,b.jpg", "background": "#00ff00"}),
        ("cutout:picture=o'brien.png,background=a[1.png", {"picture": "o'brien.png", "background": "a[1.png"}),
    ],
)
def test_commas_within_brackets_and_quotes_part_nothing(text: str, options: dict[str, Any]) -> None:
    assert parse_component(text, what="--effect").options == options


def test_an_option_that_stands_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="expected each option once, got classes twice"):
        parse_component("splash:classes=a,classes=b", what="--effect")


def test_placeholders_that_a_setting_brings_are_filled_and_checked(clips: Path) -> None:
    settings = ["sinks.0.path=out/{stem}_z.mp4"]
    made = planned(inputs=["street.mp4", "dog.mkv"], settings=settings)
    assert outputs(made) == ["out/street_z.mp4", "out/dog_z.mp4"]
    with pytest.raises(UsageError, match="--set sinks.0.path: no placeholder is called 'stm'"):
        planned(settings=["sinks.0.path=out/{stm}_z.mp4"])


def test_another_engine_by_a_setting_keeps_the_model_that_was_asked_for() -> None:
    engine = planned(inputs=["sample:"], model="nuclei", settings=["engine=openvino"]).config.engine
    assert (engine.name, engine.options) == ("openvino", {"model": "nuclei"})


def test_a_camera_whose_output_is_refused_is_one_all_the_same(clips: Path) -> None:
    (clips / "file").write_text("")
    made = planned(inputs=["yard=rtsp://127.0.0.1/x"], outputs=["file/{stem}.mp4"], segment=600.0)
    assert "expected a folder" in str(made.refused["yard"])


def test_a_name_may_stand_before_a_glob_of_one_file(clips: Path) -> None:
    assert [*planned(inputs=["yard=d*.mkv"]).streams] == ["yard"]
    (clips / "yard=dog.mp4").touch()
    assert [*planned(inputs=["yard=d*.mp4"]).streams] == ["yard=dog"]
