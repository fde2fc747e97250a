"""Trace the graphs of the embedded models' networks, which a first run fills with their weights without TensorFlow.

    python benchmarks/make_graphs.py [people nuclei ...]

To be run when the configuration of an embedded model changes what its networks are made of, or `VERSION` in
`streamseg/model/export.py` was raised; a test says so. New weights alone need no new graphs.
"""

from __future__ import annotations

import os
import sys

os.environ.update(KERAS_BACKEND="tensorflow", CUDA_VISIBLE_DEVICES="", TF_CPP_MIN_LOG_LEVEL="3")

from streamseg import zoo
from streamseg.model.export import export_graphs
from streamseg.model_folder import ModelFolder


def main() -> None:
    for name in sys.argv[1:] or sorted(path.parent.name for path in zoo.EMBEDDED.glob(f"*/{zoo.CONFIG}")):
        folder = ModelFolder.open(zoo.EMBEDDED / name)
        export_graphs(folder.config, folder.graphs)
        size = sum(path.stat().st_size for path in folder.graphs.iterdir())
        print(f"{folder.graphs}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
