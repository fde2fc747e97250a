"""What every end-to-end test gets: a folder of its own to run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamseg import zoo
from tests.live.conftest import broker, camera, gst_camera  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def embedded_model() -> str:
    """The name of the model that ships with the package, prepared (once a machine)."""
    if "people" not in zoo.names():
        pytest.skip("no model is embedded in this checkout")
    from streamseg.engines.openvino import cached_export
    from streamseg.model_folder import ModelFolder

    cached_export(ModelFolder.open("people"))
    return "people"
