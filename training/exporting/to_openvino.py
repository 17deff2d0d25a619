"""A run to OpenVINO's `model.xml` and `model.bin`: images of any size in, probabilities out; class names in its metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import openvino

from headstart.features import files
from headstart.training.exporting.portable import INPUT, OUTPUT, frozen, whole
from headstart.training.runs.run_folder import Run

if TYPE_CHECKING:
    import keras
    import numpy as np

FILE = "model.xml"


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Writes the model, its weights in float32; `model_info/class_names` of its metadata is a JSON list."""
    graph = frozen(whole(model, run.spec), (None, None, None, 3)).graph.as_graph_def()
    with files.scratch_folder() as scratch:
        path = os.path.join(scratch, "graph.pb")
        files.write_bytes(path, graph.SerializeToString())
        converted = openvino.Core().read_model(path)
    converted.inputs[0].get_tensor().set_names({INPUT})
    converted.outputs[0].get_tensor().set_names({OUTPUT})
    converted.set_rt_info(json.dumps(run.class_names), ["model_info", "class_names"])
    openvino.save_model(converted, os.path.join(folder, FILE), compress_to_fp16=False)
