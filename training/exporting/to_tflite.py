"""A run to `model.tflite`, one image of the network's own size at a time: the caller resizes. In float32 or in 8 bits.

TFLite has no antialiased resizing, and its delegates want sizes that are known; so its input are pixels as they are after
resizing. What other resizings than headstart's change is measured, and told in the model card.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from headstart.features import files
from headstart.features.runtime import stderr_to_null
from headstart.training.exporting.model_card import LABELS, labels_of
from headstart.training.exporting.portable import INPUT, OUTPUT, frozen, metadata, network
from headstart.training.exporting.tflite_metadata import with_metadata
from headstart.training.runs.run_folder import Run

if TYPE_CHECKING:
    import keras

FILE = "model.tflite"


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Writes the model: `image` float32 [1, H, W, 3] of 0..255 to `probabilities` float32 [1, classes].

    With calibration, pixels float32 [H, W, 3] of real images, it computes in integers of 8 bits and `image` is uint8. The
    file carries the names of the classes.
    """
    shape = (1, *run.spec.image_size, 3)
    constant = frozen(network(model), shape)
    module = tf.Module()
    module.answers = tf.function(
        lambda image: {OUTPUT: tf.ensure_shape(constant(image)[0], (1, len(run.class_names)))},
        input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT)],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.answers.get_concrete_function()], module)
    if calibration:
        _quantize(converter, calibration)
    with stderr_to_null():
        converted = converter.convert()
    labels = labels_of(run.class_names)
    files.write_bytes(os.path.join(folder, FILE), with_metadata(converted, labels, LABELS, metadata(run)))


def _quantize(converter: Any, calibration: Sequence[np.ndarray]) -> None:
    """Has all arithmetic done in integers. Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization"""

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for number, pixels in enumerate(calibration):
            image = np.clip(pixels, 0, 255)
            if number == 0:  # the input's range is then 0..255 exactly, and bytes go in as they are
                image[0, 0], image[-1, -1] = 0, 255
            yield {INPUT: image[None]}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
