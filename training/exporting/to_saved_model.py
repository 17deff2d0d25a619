"""A run to a SavedModel as TensorFlow Serving takes it, with two signatures: images, and JPEG or PNG files as bytes.

The folder of version 1 lies inside, so that the export itself is what `--model_base_path` names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from headstart.features import files
from headstart.training.exporting.portable import INPUT, network
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.thresholds import thresholds_of

if TYPE_CHECKING:
    import keras
    import numpy as np

VERSION = "1"
ENCODED, ENCODED_INPUT = "serving_bytes", "image_bytes"


def write(model: keras.Model, run: Run, calibration: Sequence[np.ndarray], folder: str) -> None:
    """Saves the model with its signatures.

    `serving_default`: `image` float32 [B, any, any, 3] of 0..255. `serving_bytes`: `image_bytes` string [B], each a JPEG or
    PNG file. Both give `probabilities` float32 [B, classes] and `classes` string [B, classes], the names in the same order; of
    several labels an image, `thresholds` float32 [B, classes] as well.
    """
    module = tf.Module()
    module.model = model
    resizing, answers = model.get_layer("resizing"), network(model)
    size = (*run.spec.image_size, 3)

    def named(probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        known = {"classes": tf.constant([name.encode("utf-8", "surrogateescape") for name in run.class_names])}
        if run.label_delimiter:
            known["thresholds"] = tf.constant(thresholds_of(run.metrics), tf.float32)
        times = [tf.shape(probabilities)[0], 1]
        return {"probabilities": probabilities, **{name: tf.tile(row[None], times) for name, row in known.items()}}

    def of_file(content: tf.Tensor) -> tf.Tensor:
        return resizing(tf.cast(decoded(content), tf.float32)[None])[0]

    def of_images(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(tf.cast(model(image, training=False), tf.float32))

    def of_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(answers(tf.map_fn(of_file, image_bytes, fn_output_signature=tf.TensorSpec(size, tf.float32))))

    images = tf.function(of_images, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name=INPUT)])
    encoded = tf.function(of_files, input_signature=[tf.TensorSpec((None,), tf.string, name=ENCODED_INPUT)])
    path = os.path.join(folder, VERSION)
    tf.saved_model.save(module, path, signatures={"serving_default": images, ENCODED: encoded})
    fingerprint = os.path.join(path, "fingerprint.pb")  # of the time and a random number
    if os.path.exists(fingerprint):
        os.remove(fingerprint)
    files.sync_tree(path)


def decoded(content: tf.Tensor) -> tf.Tensor:
    """A JPEG or PNG file to uint8 [h, w, 3]; a JPEG to the very pixels that headstart decodes, but never turned by its EXIF.

    TensorFlow's default inverse DCT is a faster and coarser one.
    """
    image = tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))
