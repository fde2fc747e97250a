"""Models are found by name or folder, and a download is kept only when it is what was promised."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamseg import zoo
from streamseg.types import ModelError, UsageError


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


MODEL = zipped(**{"birds/model.yaml": b"class_names: [background, bird]", "birds/model.weights.h5": b"weights"})
NOT_A_MODEL = zipped(**{"birds/model.yaml": b"class_names: [background, bird]"})


class Server(BaseHTTPRequestHandler):
    """Serves the two zips and one answer that breaks off half-way; counts what it was asked."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = {"/birds.zip": MODEL, "/empty.zip": NOT_A_MODEL, "/text.zip": b"text", "/half.zip": MODEL}.get(
            self.path
        )
        if content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path == "/half.zip" else content)

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
    assert Server.asked == ["/birds.zip"]


def test_a_known_name_is_fetched_from_its_address(server: str, cache: Path) -> None:
    known = {"sparrows": zoo.Download(f"{server}/birds.zip", sha256(MODEL))}
    assert zoo.download("sparrows", known=known) == cache / "sparrows"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("birds.zip", b"other", "not the file that was promised"),
        ("half.zip", MODEL, "half.zip"),
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


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(b"")
    with pytest.raises(ModelError, match="expected the folder of a model"):
        zoo.resolve(tmp_path / "weights.h5")
