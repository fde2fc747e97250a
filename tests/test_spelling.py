"""INPUTs become streams and `-o` becomes sinks, as the help of `streamseg run` promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg.config import Component
from streamseg.pictures import ENDINGS
from streamseg.spelling import Input, Output, expand, of_source, publisher, sample_path
from streamseg.types import InputError, UsageError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two clips, a folder of pictures, a folder of clips and an empty one."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "clip10.mp4",
        "clip2.mkv",
        "frames/1.png",
        "frames/2.png",
        "mixed/a.mp4",
        "mixed/notes.txt",
        "cars/a.MOV",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_file_is_one_stream_whose_outputs_lie_beside_it(folder: Path) -> None:
    (given,) = expand(["mixed/a.mp4"])
    assert (given.name, given.stem, given.folder, given.ending) == ("a", "a", Path("mixed"), ".mp4")
    assert given.source == Component(name="video_file", options={"path": "mixed/a.mp4"})


def test_a_matroska_file_stays_one(folder: Path) -> None:
    assert expand(["clip2.mkv"])[0].ending == ".mkv"


def test_a_glob_is_sorted_as_people_count(folder: Path) -> None:
    assert [given.stem for given in expand(["clip*"])] == ["clip2", "clip10"]


def test_a_folder_of_pictures_is_one_stream_beside_the_folder(folder: Path) -> None:
    (given,) = expand(["frames"])
    assert given.source == Component(name="image_folder", options={"path": "frames"})
    assert (given.stem, given.folder) == ("frames", Path("."))


def test_the_current_folder_has_a_name_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "frames")
    (given,) = expand(["."])
    assert (given.stem, given.folder.resolve()) == ("frames", folder.resolve())


def test_a_folder_without_pictures_is_one_stream_a_video(folder: Path) -> None:
    (folder / "mixed" / "b.part.mp4").touch()  # what another run is writing
    assert [given.path for given in expand(["mixed", "cars"])] == [Path("mixed/a.mp4"), Path("cars/a.MOV")]


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_every_ending_of_a_picture_makes_a_folder_one_of_pictures(folder: Path, ending: str) -> None:
    (folder / "cars" / f"a{ending.upper()}").touch()
    assert [given.path for given in expand(["cars"])] == [Path("cars")]


def test_hidden_files_in_a_folder_are_left_out(folder: Path) -> None:
    for name in ("._a.jpg", "._a.MOV"):
        (folder / "cars" / name).touch()
    assert [given.path for given in expand(["cars"])] == [Path("cars/a.MOV")]


def test_a_gif_in_a_folder_is_a_video_where_there_is_nothing_else(folder: Path) -> None:
    for name in ("cars/a.gif", "empty/b.gif", "empty/a.gif"):
        (folder / name).touch()
    assert [given.path for given in expand(["cars", "empty"])] == [
        Path("cars/a.MOV"),
        Path("empty/a.gif"),
        Path("empty/b.gif"),
    ]


def test_a_numbering_is_one_stream_of_its_pictures_called_after_it(folder: Path) -> None:
    for name in ("left_0001.png", "left_0002.png", "right_0001.png"):
        (folder / "frames" / name).touch()
    left, plain = expand(["frames/left_%04d.png", "frames/%d.png"])
    options = {"path": "frames", "names": "left_%04d.png"}
    assert left.source == Component(name="image_folder", options=options)
    assert (left.stem, left.folder, left.problem) == ("left", Path("frames"), None)
    assert (plain.stem, plain.folder, plain.problem) == ("frames", Path("."), None)


def test_a_file_and_a_folder_are_found_by_the_brackets_in_their_names(folder: Path) -> None:
    for name in ("my [dQw4].d/a [1].mp4", "d/a.mp4"):
        (folder / name).parent.mkdir()
        (folder / name).touch()
    clip = Path("my [dQw4].d/a [1].mp4")
    for text in ("my [dQw4].d/*.mp4", "my [dQw4].d/a [1].mp4", "my [dQw4].d", "my*/a*"):
        assert [given.path for given in expand([text])] == [clip]
    assert [given.path for given in expand(["[cd]/*.mp4"])] == [Path("d/a.mp4")]


@pytest.mark.parametrize("text", ["lost.mp4", "l*.mp4"])
def test_a_link_that_leads_nowhere_is_told_with_its_target(folder: Path, text: str) -> None:
    (folder / "lost.mp4").symlink_to("gone.mp4")
    (given,) = expand([text])
    assert str(given.problem) == "lost.mp4: a link to gone.mp4, which does not exist"


def test_a_link_that_leads_round_in_a_circle_is_told_with_its_target(folder: Path) -> None:
    (folder / "round.mp4").symlink_to("round.mp4")
    (given,) = expand(["round.mp4"])
    assert str(given.problem) == "round.mp4: a link to round.mp4: too many levels of symbolic links"


def test_a_tilde_is_the_home_folder_in_inputs_and_outputs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    one, two, three = expand(["~/clip10.mp4", "~/cars", "~/clip2*"])
    assert [one.path, two.path, three.path] == [folder / "clip10.mp4", folder / "cars/a.MOV", folder / "clip2.mkv"]
    outputs = [Output.parse(text) for text in ("~/out.mp4", "images:~/out", "~/cars")]
    assert [output.path for output in outputs] == [f"{folder}/out.mp4", f"{folder}/out", f"{folder}/cars"]


def test_streams_of_one_name_are_told_apart(folder: Path) -> None:
    assert [given.name for given in expand(["mixed", "cars"])] == ["a", "a-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("empty", "the folder holds no pictures and no videos"),
        ("clip3.mkv", "no such file; did you mean 'clip2.mkv'?"),
        ("nowhere/a.mp4", "there is no folder nowhere"),
        ("*.webm", "no file matches"),
        ("frames/%04d.png", "frames/%04d.png: the folder frames holds no picture of such a name"),
        ("nowhere/%04d.png", "there is no folder nowhere"),
    ],
)
def test_what_is_not_there_is_a_problem_of_that_input_alone(folder: Path, text: str, words: str) -> None:
    bad, good = expand([text, "clip10.mp4"])
    assert isinstance(bad.problem, InputError) and words in str(bad.problem)
    assert good.problem is None


@pytest.mark.parametrize("text", ["-", "sampel:", "test:big", "test:1280x720@", "gopher://host/a.mp4"])
def test_what_cannot_be_an_input_is_wrong_use(folder: Path, text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        expand([text])


def test_the_sample_ships_with_the_package_and_is_written_to_the_current_folder() -> None:
    (given,) = expand(["sample:"])
    assert sample_path().is_file()
    assert (given.stem, given.folder) == ("pedestrians", Path("."))


def test_what_stands_after_a_scheme_is_read_by_the_source_itself() -> None:
    (plain, shaped) = expand(["test:", "test:640x360@25"])
    assert plain.source == Component(name="test_pattern")
    assert shaped.source == Component(name="test_pattern", options={"size": "640x360", "fps": 25})


@pytest.mark.parametrize(
    ("text", "name", "source", "options"),
    [
        ("yard=rtsp://admin:p@s/s@camera/1", "yard", "rtsp", {"url": "rtsp://admin:p@s/s@camera/1"}),
        (
            "rtsp://admin:p@s/s@camera.lan:554/1?a=b",
            "camera.lan",
            "rtsp",
            {"url": "rtsp://admin:p@s/s@camera.lan:554/1?a=b"},
        ),
        ("http://[fe80::1]/1", "fe80-1", "rtsp", {"url": "http://[fe80::1]/1"}),
        ("desk.2=camera:0", "desk.2", "camera", {"device": 0}),
        ("camera:", "camera", "camera", {}),
        ("left=test:64x48", "left", "test_pattern", {"size": "64x48"}),
        ("left=clip2.mkv", "left", "video_file", {"path": "clip2.mkv"}),
        ("left=frames", "left", "image_folder", {"path": "frames"}),
    ],
)
def test_a_stream_is_called_as_it_is_named_or_after_its_place(
    folder: Path, text: str, name: str, source: str, options: dict
) -> None:
    (given,) = expand([text])
    assert (given.name, given.stem, given.source) == (name, name, Component(name=source, options=options))


def test_a_scheme_in_capitals_is_the_one_in_small_letters() -> None:
    for text in ("RTSP://camera/Stream1", "rtsp://camera/Stream1"):
        assert expand([text])[0].source == expand(["Rtsp://camera/Stream1"])[0].source
        assert Output.parse(text) == Output.parse("rtsp://camera/Stream1")
    assert publisher("MQTT://broker/Shop") == publisher("mqtt://broker/Shop")


def test_a_camera_of_a_pipeline_is_called_by_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_URL", "rtsp://admin:secret@front-door/1")
    for url in ("rtsp://front-door/1", "${CAM_URL}"):
        given = of_source(Component(name="rtsp", options={"url": url}))
        assert given.stem == "front-door" and given.source and given.source.options == {"url": url}
    assert of_source(Component(name="camera")).stem == "camera"


def test_a_file_with_an_equals_sign_in_its_name_is_that_file(folder: Path) -> None:
    for name in ("a=clip2.mkv", "a=b.mp4"):
        (folder / name).touch()
    assert [given.path for given in expand(["a=b.mp4", "a=clip2.mkv"])] == [Path("a=b.mp4"), Path("a=clip2.mkv")]
    (absent,) = expand(["a=c.mp4"])
    assert "a=c.mp4: no such file" in str(absent.problem)


def test_names_that_were_not_given_make_room_for_those_that_were(folder: Path) -> None:
    assert [given.name for given in expand(["mixed/a.mp4", "a=cars/a.MOV", "cars/a.MOV"])] == ["a-2", "a", "a-3"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["yard=test:", "yard=sample:"], "yard=: expected a name of its own for each input, got it twice"),
        (["back yard=test:"], "back yard=: expected a name of letters, digits, '.', '_' and '-'"),
        (["=test:"], "=: expected a name of letters"),
        (["yard=."], "yard=.: expected one stream for the name, got 2"),
        (["yard=rtps://admin:sesame@camera/1"], "rtps://camera/1: expected a file, a folder"),
        (["admin:sesame@camera/1"], "…@camera/1: expected a scheme before it, such as rtsp://"),
        (["rtsp://admin:sesame@camera:0/1"], "rtsp://camera: expected a port from 1 to 65535"),
        (["rtsp://admin:${NO_SUCH_WORD}@camera/1"], "the environment variable NO_SUCH_WORD is not set"),
    ],
)
def test_a_name_or_an_address_that_cannot_be_is_wrong_use(folder: Path, texts: list[str], words: str) -> None:
    with pytest.raises(UsageError) as error:
        expand(texts)
    assert words in str(error.value) and "sesame" not in str(error.value)


def test_a_variable_of_an_address_is_no_placeholder() -> None:
    with pytest.raises(UsageError) as error:
        Output.parse("gopher://admin:${PASSWORD}@host/{stem}")
    assert "placeholder" not in str(error.value) and "PASSWORD" not in str(error.value)
    assert Input("street", Path()).fill("rtsp://a:${stem}@host/{stem}") == "rtsp://a:${stem}@host/street"


@pytest.mark.parametrize(
    ("text", "sink", "path"),
    [
        ("out.mp4", "video_file", "out.mp4"),
        ("out.WEBM", "video_file", "out.WEBM"),
        ("out.gif", "gif", "out.gif"),
        ("{folder}/{stem}.jsonl", "jsonl", "clips/street.jsonl"),
        ("images:frames/{stem}", "image_folder", "frames/street"),
        ("results", "video_file", "results/street_splash.mp4"),
        ("results/", "video_file", "results/street_splash.mp4"),
        ("v1.2/", "video_file", "v1.2/street_splash.mp4"),
        ("out.mp4/", "video_file", "out.mp4/street_splash.mp4"),
    ],
)
def test_the_ending_of_an_output_picks_its_sink(text: str, sink: str, path: str) -> None:
    given = Input("street", Path("clips"))
    made = Output.parse(text).of(given, default_name="{stem}_splash.mp4")
    assert made == Component(name=sink, options={"path": path})


def test_braces_in_the_name_of_a_folder_are_its_own() -> None:
    assert Input("street", Path("{stem}")).fill("{folder}/{stem}-{stm}.mp4") == "{stem}/street-{stm}.mp4"


OUTPUTS = (
    "a file, a folder, hls:FOLDER, images:FOLDER, rtsp://HOST/PATH, rtsps://HOST/PATH, rtmp://HOST/PATH or "
    "rtmps://HOST/PATH"
)


@pytest.mark.parametrize(
    "text",
    [
        "a/b=rtsp://u:sesame@camera/1",
        " rtsp://u:sesame@camera/1",
        "x= rtsp://u:sesame@camera/1",
        "rtsp:/u:sesame@camera/1",
        "x=rtsp:u:sesame@camera/1",
        "x=rtsp//u:sesame@camera/1",
    ],
)
def test_a_slip_in_an_address_is_said_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as error:
        [given for given in expand([text]) if given.problem]
    assert "sesame" not in str(error.value) and "camera/1" in str(error.value)


def test_of_an_output_by_rtmp_its_key_is_not_shown() -> None:
    output = Output.parse("rtmp://user:secret@host/live/key")
    assert output.text == "rtmp://host/…" and output.path == "rtmp://user:secret@host/live/key"


def test_an_output_elsewhere_keeps_its_variables_and_shows_no_password() -> None:
    output = Output.parse("rtsp://user:${PASSWORD}@host/{stem}")
    assert output.path == "rtsp://user:${PASSWORD}@host/{stem}"
    assert output.text == "rtsp://host/{stem}"
    assert Input("hall", Path()).fill(output.path) == "rtsp://user:${PASSWORD}@host/hall"
    for wrong in ("rtsp://user:secret@host/{stam}", "gopher://user:secret@host/out"):
        with pytest.raises(UsageError) as error:
            Output.parse(wrong)
        assert "host" in str(error.value) and "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("out.mp5", "no sink writes '.mp5' files; did you mean '.mp4'?"),
        ("images:", "expected images:FOLDER"),
        ("gopher://host/out", f"expected {OUTPUTS}"),
        ("{stm}.mp4", "-o {stm}.mp4: no placeholder is called 'stm'; did you mean 'stem'?"),
        ("images:{folder}/{}", "no placeholder is called ''; there is folder, stem"),
        ("-", f"-o -: expected {OUTPUTS}; nothing is written to stdout"),
        ("plain", "-o plain: expected a folder, or a file ending in .mp4"),
        ("plain/", "-o plain/: expected a folder"),
        ("images:plain", "-o images:plain: expected a folder"),
        ("/dev/null", "got a device; --set sinks=[] writes nothing"),
        ("lost", "-o lost: lost: a link to gone, which does not exist"),
        ("out.png", "-o out.png: no sink writes one picture; -o images:FOLDER writes all, numbered"),
    ],
)
def test_an_output_that_nothing_writes_is_wrong_use(folder: Path, text: str, words: str) -> None:
    (folder / "plain").touch()
    (folder / "lost").symlink_to("gone")
    with pytest.raises(UsageError) as error:
        Output.parse(text)
    assert words in str(error.value)
