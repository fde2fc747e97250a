"""Models are found by name or path, and a download is kept only when it is what was promised."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from streamseg import zoo
from streamseg.fetch import fetch
from streamseg.types import ModelError, UsageError

COCO_MINI = Path(__file__).resolve().parents[2] / "shared" / "data" / "coco-mini" / "annotations"


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


MODEL = zipped(**{"birds/model.yaml": b"class_names: [background, bird]", "birds/model.weights.h5": b"weights"})
NOT_A_MODEL = zipped(**{"birds/model.yaml": b"class_names: [background, bird]"})
LARGE = np.random.default_rng(0).bytes(400_000)
"""What `/large/…` answers with: enough for several packets, so that an answer can break off between them."""


class Server(BaseHTTPRequestHandler):
    """Serves two zips, and a large file in several manners; keeps what it was asked, as (path, Range).

    /large/ranges/… honours Range · /large/whole/… always answers with all of it · /large/breaks/… breaks off
    after 200,000 bytes, unless it was asked for a Range · /large/elsewhere/… answers a Range with another one ·
    /large/slow/… and /large/slow-whole/… take a quarter of a second for what they send
    """

    asked: list[tuple[str, str | None]] = []
    slow = False

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Range"]))
        if self.path.startswith("/large/"):
            return self.answer_large(self.path.split("/")[2])
        content = {"/birds.zip": MODEL, "/empty.zip": NOT_A_MODEL, "/text.zip": b"text"}.get(self.path)
        if content is None:
            return self.send_error(404)
        self.answer(200, content, length=len(content))

    def answer_large(self, manner: str) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked else 0
        self.slow = manner.startswith("slow")
        if manner.endswith("whole") or not asked:
            end = len(LARGE) // 2 if manner == "breaks" else len(LARGE)
            return self.answer(200, LARGE[:end], length=len(LARGE))
        if start >= len(LARGE):
            return self.answer(416, b"", length=0, content_range=f"bytes */{len(LARGE)}")
        if manner == "elsewhere":
            start //= 2
        content_range = f"bytes {start}-{len(LARGE) - 1}/{len(LARGE)}"
        self.answer(206, LARGE[start:], length=len(LARGE) - start, content_range=content_range)

    def answer(self, status: int, content: bytes, *, length: int, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        for start in range(0, len(content), 20_000):
            self.wfile.write(content[start : start + 20_000])
            if self.slow:
                time.sleep(0.0125)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Server.asked.clear()
    return tmp_path / "cache" / "streamseg" / "models"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("class_names: [background, bird]")
    (folder / "model.weights.h5").write_bytes(b"weights")
    return folder


def test_a_downloaded_model_is_found_by_its_name_and_not_fetched_twice(server: str, cache: Path) -> None:
    url = f"{server}/birds.zip#sha256={sha256(MODEL)}"
    folder = zoo.download(url)
    assert folder == cache / "birds" == zoo.resolve("birds")
    assert (folder / "model.weights.h5").read_bytes() == b"weights"
    assert "birds" in zoo.names()
    zoo.download(url)
    assert Server.asked == [("/birds.zip", None)]
    assert list(cache.iterdir()) == [folder]


def test_a_known_name_is_fetched_from_its_address(server: str, cache: Path) -> None:
    known = {"sparrows": zoo.Download(f"{server}/birds.zip", sha256(MODEL))}
    assert zoo.download("sparrows", known=known) == cache / "sparrows"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("birds.zip", b"other", "not the file that was promised"),
        ("absent.zip", MODEL, "404"),
        ("empty.zip", NOT_A_MODEL, "expected one model.weights.h5 in it, found 0"),
        ("text.zip", b"text", "expected a zip"),
    ],
)
def test_what_is_not_as_promised_is_an_error_and_leaves_nothing(
    server: str, cache: Path, file: str, content: bytes, words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        zoo.download(f"{server}/{file}#sha256={sha256(content)}")
    assert list(cache.iterdir()) == []


def test_a_failed_download_keeps_the_model_that_was_there(server: str, cache: Path) -> None:
    folder = zoo.download(f"{server}/birds.zip#sha256={sha256(MODEL)}")
    with pytest.raises(ModelError):
        zoo.download(f"{server}/birds.zip#sha256={sha256(b'another')}")
    assert zoo.resolve("birds") == folder


def test_without_a_network_the_message_names_the_host_and_the_way_round(cache: Path) -> None:
    with pytest.raises(ModelError, match="127.0.0.1:9 cannot be reached.*--model FOLDER"):
        zoo.download(f"http://127.0.0.1:9/birds.zip#sha256={sha256(MODEL)}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://host/birds.zip", "expected its checksum"),
        ("https://host/birds.zip#sha256=12", "64 hexadecimal digits"),
        ("ftp://host/birds.zip#sha256=" + "0" * 64, "expected https://"),
        ("https://host/.zip#sha256=" + "0" * 64, "is no name for a model"),
        ("pepole", "no model to download is called 'pepole'"),
    ],
)
def test_a_download_without_a_promise_or_a_name_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        zoo.download(text)


def test_a_folder_of_a_model_is_found_by_its_path(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "runs" / "birds")
    assert zoo.resolve(str(folder)) == folder


def test_a_wrong_name_is_answered_with_the_nearest(cache: Path) -> None:
    model_folder(cache / "birds")
    with pytest.raises(UsageError, match="no model is called 'bird'; did you mean 'birds'?"):
        zoo.resolve("bird")


def test_a_folder_without_weights_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.yaml").write_text("")
    with pytest.raises(ModelError, match="it holds no model.weights.h5"):
        zoo.resolve(tmp_path / "half")


def test_any_other_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="expected the folder of a model .* or a file of .h5, .pth"):
        zoo.resolve(tmp_path / "weights.bin")


def test_a_weights_file_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "moles.h5").write_bytes(b"")
    assert zoo.resolve(tmp_path / "moles.h5") == tmp_path / "moles.h5"


# --- a file that is fetched as it is


def large(server: str, manner: str) -> dict[str, zoo.Download | zoo.WeightsFile]:
    """`coco`, but the large file of the test's own server."""
    md5 = hashlib.md5(LARGE).hexdigest()
    address = f"{server}/large/{manner}/mask_rcnn_coco.h5"
    return {"coco": zoo.WeightsFile(address, f"md5:{md5}", ("person",))}


def test_a_weights_file_is_fetched_once_and_then_is_the_model(server: str, cache: Path) -> None:
    known = large(server, "ranges")
    with pytest.raises(ModelError, match=r"streamseg models download coco .*put mask_rcnn_coco.h5 at "):
        zoo.resolve("coco")
    assert "coco" not in zoo.names()
    assert zoo.download("coco", known=known) == cache / "mask_rcnn_coco.h5" == zoo.resolve("coco")
    assert (cache / "mask_rcnn_coco.h5").read_bytes() == LARGE
    assert "coco" in zoo.names()
    zoo.download("coco", known=known)
    assert len(Server.asked) == 1
    assert list(cache.iterdir()) == [cache / "mask_rcnn_coco.h5"]


def test_a_download_that_broke_off_goes_on_where_it_stopped(server: str, cache: Path) -> None:
    known = large(server, "breaks")
    with pytest.raises(ModelError, match="it broke off; 0.[12] MB are here, and the same command goes on"):
        zoo.download("coco", known=known)
    (part,) = cache.iterdir()
    size = part.stat().st_size
    assert part.name == "mask_rcnn_coco.part.h5" and 0 < size <= 200_000
    said: list[str] = []
    zoo.download("coco", known=known, report=said.append)
    assert Server.asked[1][1] == f"bytes={size}-"
    assert (cache / "mask_rcnn_coco.h5").read_bytes() == LARGE and not part.exists()
    assert "going on after 0." in said[0]


@pytest.mark.parametrize(
    ("manner", "part", "asked"),
    [
        ("whole", LARGE[:1000], ["bytes=1000-"]),  # the server knows no ranges
        ("elsewhere", LARGE[:1000], ["bytes=1000-", None]),
        ("ranges", LARGE, ["bytes=400000-"]),  # it was killed before the last rename
        ("ranges", b"another" * 100, ["bytes=700-", None]),
        ("ranges", LARGE + b"more", ["bytes=400004-", None]),
    ],
)
def test_whatever_an_earlier_download_left_the_file_is_right_in_the_end(
    server: str, cache: Path, manner: str, part: bytes, asked: list[str | None]
) -> None:
    cache.mkdir(parents=True)
    (cache / "mask_rcnn_coco.part.h5").write_bytes(part)
    path = zoo.download("coco", known=large(server, manner))
    assert path.read_bytes() == LARGE
    assert [header for _, header in Server.asked] == asked
    assert list(cache.iterdir()) == [path]


@pytest.mark.parametrize("part", [b"", LARGE[:1000]])
def test_a_wrong_file_is_never_under_the_final_name(server: str, cache: Path, part: bytes) -> None:
    cache.mkdir(parents=True)
    (cache / "mask_rcnn_coco.part.h5").write_bytes(part)
    (known,) = large(server, "ranges").values()
    assert isinstance(known, zoo.WeightsFile)
    with pytest.raises(ModelError, match="not the file that was promised: its MD5 is another one"):
        zoo.download("coco", known={"coco": replace(known, checksum="md5:" + "0" * 32)})
    assert list(cache.iterdir()) == []


def torchvision_file(server: str, digits: str) -> dict[str, zoo.Download | zoo.WeightsFile]:
    url = f"{server}/large/ranges/maskrcnn_resnet50_fpn_v2_coco-{digits}.pth"
    return {"maskrcnn_resnet50_fpn_v2": zoo.WeightsFile(url, f"sha256:{digits}", zoo.COCO_IDS)}


def test_a_file_of_torchvision_is_kept_if_its_checksum_begins_as_its_name_says(server: str, cache: Path) -> None:
    known = torchvision_file(server, sha256(LARGE)[:8])
    path = zoo.download("maskrcnn_resnet50_fpn_v2", known=known)
    assert path.parent == cache and path.read_bytes() == LARGE
    zoo.download("maskrcnn_resnet50_fpn_v2", known=known)
    assert len(Server.asked) == 1


@pytest.mark.parametrize("digits", ["00000000", sha256(LARGE)[:7]])
def test_a_file_whose_checksum_begins_otherwise_is_refused(server: str, cache: Path, digits: str) -> None:
    with pytest.raises(ModelError, match="not the file that was promised: its SHA-256 is another one"):
        zoo.download("maskrcnn_resnet50_fpn_v2", known=torchvision_file(server, digits))
    assert list(cache.iterdir()) == []


def test_the_models_of_torchvision_are_known_by_the_names_that_they_have_there(cache: Path) -> None:
    for name in ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"):
        known = zoo.KNOWN[name]
        assert isinstance(known, zoo.WeightsFile)
        digits = known.checksum.removeprefix("sha256:")
        assert known.path.parent == cache and known.path.name.endswith(f"-{digits}.pth") and len(digits) == 8
        known.path.parent.mkdir(parents=True, exist_ok=True)
        known.path.write_bytes(b"")
        assert zoo.resolve(name) == known.path and zoo.class_names_of(known.path) == zoo.COCO_IDS


def test_a_checksum_may_be_how_it_begins(server: str, tmp_path: Path) -> None:
    url, target = f"{server}/large/ranges/a.pth", tmp_path / "a.pth"
    assert fetch(url, target, checksum=f"sha256:{sha256(LARGE)[:8]}", by_hand="").read_bytes() == LARGE
    for digits in ("00000000", sha256(LARGE)[:7]):
        with pytest.raises(ModelError, match="its SHA-256 is another one"):
            fetch(url, tmp_path / "b.pth", checksum=f"sha256:{digits}", by_hand="")
    assert list(tmp_path.glob("*.pth")) == [target]


def test_a_zip_goes_on_where_it_stopped_too(server: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "large.part.zip").write_bytes(LARGE[:1000])
    with pytest.raises(ModelError, match="expected a zip"):
        zoo.download(f"{server}/large/ranges/large.zip#sha256={sha256(LARGE)}")
    assert Server.asked == [("/large/ranges/large.zip", "bytes=1000-")]
    assert list(cache.iterdir()) == []


def test_without_a_network_a_weights_file_can_be_put_by_hand_where_the_message_says(cache: Path) -> None:
    with pytest.raises(ModelError) as error:
        zoo.download("coco", known=large("http://127.0.0.1:9", "ranges"))
    said = re.search(r"127.0.0.1:9 cannot be reached.*put it at (\S+)$", str(error.value))
    assert said
    put = Path(said[1])
    put.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(put, "w"):
        pass
    assert zoo.resolve("coco") == put and "coco" in zoo.names()


def test_on_a_terminal_a_bar_shows_how_far_it_is(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checksum = f"sha256:{sha256(LARGE)}"
    fetch(f"{server}/large/ranges/a.h5", tmp_path / "a.h5", checksum=checksum, by_hand="", progress=True)
    assert "a.h5: " in (bar := capsys.readouterr().err) and "400k" in bar
    fetch(f"{server}/large/ranges/b.h5", tmp_path / "b.h5", checksum=checksum, by_hand="")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("manner", ["slow", "slow-whole"])
def test_of_two_downloads_of_one_file_at_once_both_have_it(server: str, tmp_path: Path, manner: str) -> None:
    """They write into one part file, which the first to be done takes away."""
    url, target = f"{server}/large/{manner}/w.h5", tmp_path / "w.h5"

    def one(_: int) -> Path:
        return fetch(url, target, checksum=f"sha256:{sha256(LARGE)}", by_hand="-")

    with ThreadPoolExecutor(2) as both:
        first = both.submit(one, 0)
        while not (tmp_path / "w.part.h5").exists():
            time.sleep(0.01)
        assert both.submit(one, 1).result() == first.result() == target
    assert target.read_bytes() == LARGE


@pytest.mark.parametrize(
    "address", ["https://[foo/x.zip", f"https://{'a' * 70}.de/x.zip", "http://localhost:99999/x.zip"]
)
def test_what_is_no_address_is_not_called_another_file(address: str) -> None:
    with pytest.raises(UsageError, match="is no address of a file"):
        zoo.download(f"{address}#sha256={'0' * 64}")


def test_a_name_that_no_file_can_have_is_that_of_no_model(server: str) -> None:
    long = "a" * 300
    with pytest.raises(UsageError, match="^a+: File name too long$"):
        zoo.resolve(long)
    with pytest.raises(UsageError, match="no model is called"):
        zoo.resolve("a\0b")
    with pytest.raises(UsageError, match="no model to download is called"):
        zoo.download(long)
    with pytest.raises(UsageError, match="is no name for a model"):
        zoo.download(f"{server}/{long}.zip#sha256={sha256(MODEL)}")


def test_a_folder_that_cannot_be_written_is_named(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be kept in .*file/models"):
        fetch(f"{server}/birds.zip", tmp_path / "file" / "models" / "a.zip", checksum=f"sha256:{'0' * 64}", by_hand="")


def test_the_original_of_matterport_is_known_by_its_name(cache: Path) -> None:
    known = zoo.KNOWN["coco"]
    assert isinstance(known, zoo.WeightsFile)
    assert known.path == cache / "mask_rcnn_coco.h5"
    names = zoo.class_names_of(Path("anywhere/mask_rcnn_coco.h5"))
    assert names is not None and len(names) == 80
    assert (names[0], names[-1]) == ("person", "toothbrush")
    assert zoo.class_names_of(Path("mask_rcnn_coco_0160.h5")) is None


@pytest.mark.skipif(not COCO_MINI.is_dir(), reason="COCO's annotations are not here")
def test_its_classes_are_those_of_coco_in_the_order_of_their_ids() -> None:
    (first, *_) = sorted(COCO_MINI.glob("instances_*.json"))
    categories = json.loads(first.read_text())["categories"]
    assert tuple(each["name"] for each in sorted(categories, key=lambda each: each["id"])) == zoo.COCO_CLASSES
