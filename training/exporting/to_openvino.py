"""A run to OpenVINO's `model.xml` and `model.bin`: images of any size in, probabilities out; names and thresholds inside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import openvino

from headstart.features import files
from headstart.training.exporting.portable import INPUT, OUTPUT, frozen, metadata, whole
from headstart.training.runs.run_folder import Run

if TYPE_CHECKING:
    import keras
    import numpy as np

FILE = "model.xml"


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Writes the model, its weights in float32; `model_info` in its metadata has JSON lists."""
    graph = frozen(whole(model, run.spec), (None, None, None, 3)).graph.as_graph_def()
    with files.scratch_folder() as scratch:
        path = os.path.join(scratch, "graph.pb")
        files.write_bytes(path, graph.SerializeToString())
        converted = openvino.Core().read_model(path)
    converted.inputs[0].get_tensor().set_names({INPUT})
    converted.outputs[0].get_tensor().set_names({OUTPUT})
    for name, text in metadata(run).items():
        converted.set_rt_info(text, ["model_info", name])
    openvino.save_model(converted, os.path.join(folder, FILE), compress_to_fp16=False)
