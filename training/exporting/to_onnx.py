"""A run to `model.onnx`: images of any size in, probabilities out; class names and thresholds in its metadata."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx
import tensorflow as tf
import tf2onnx

from headstart.training.exporting.portable import INPUT, OUTPUT, frozen, metadata, whole
from headstart.training.runs.run_folder import Run

if TYPE_CHECKING:
    import keras
    import numpy as np

FILE, OPSET = "model.onnx", 18


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Writes the model; its metadata has `class_names` and, where there are any, `thresholds`: JSON lists."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    shape = (None, None, None, 3)
    answers = frozen(whole(model, run.spec), shape)  # tf2onnx makes inputs of tensors that a layer holds beside its weights
    signature = [tf.TensorSpec(shape, tf.float32, name=INPUT)]
    function = tf.function(lambda image: {OUTPUT: answers(image)[0]}, input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    for name, text in metadata(run).items():
        converted.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(converted)
    onnx.save(converted, os.path.join(folder, FILE))
