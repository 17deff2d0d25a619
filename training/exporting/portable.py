"""A run's model in operations that every runtime has: a function of TensorFlow in, a graph with its weights inside out.

Keras resizes by an operation of TensorFlow's own (ScaleAndTranslate), which ONNX, OpenVINO and TFLite lack. Antialiased
resizing is linear along each axis, so it is written here as two matrix products, the matrices computed from the image's size:
what `features/images/resize.py` does with sparse ones, and to rounding the same pixels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from headstart.features.spec import FeatureSpec
from headstart.training.heads import classify
from headstart.training.runs.run_folder import Run
from headstart.training.scoring.thresholds import thresholds_of

if TYPE_CHECKING:
    import keras

INPUT, OUTPUT = "image", "probabilities"


def network(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """From pixels float32 [B, H, W, 3] of 0..255, of the network's own size, to probabilities [B, classes]."""
    backbone, head = model.get_layer("backbone"), model.get_layer("head")

    def answers(pixels: tf.Tensor) -> tf.Tensor:
        feature = tf.nest.flatten(backbone(pixels, training=False))[0]
        return tf.cast(head(feature, training=False), tf.float32)

    return answers


def whole(model: keras.Model, spec: FeatureSpec) -> Callable[[tf.Tensor], tf.Tensor]:
    """From images float32 [B, any, any, 3] to probabilities [B, classes], as `heads.attach_head` has it."""
    backbone, head = (functools.partial(model.get_layer(name), training=False) for name in ("backbone", "head"))
    resize = functools.partial(resized, spec=spec)
    return lambda images: tf.cast(classify(images, resize, backbone, head), tf.float32)


def metadata(run: Run) -> dict[str, str]:
    """What a file says of its outputs, in JSON: the class names; of several labels an image, the thresholds as well."""
    thresholds = {"thresholds": json.dumps(thresholds_of(run.metrics).tolist())} if run.label_delimiter else {}
    return {"class_names": json.dumps(run.class_names), **thresholds}


def frozen(function: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int | None, ...]) -> Any:
    """A concrete function of one image batch, float32 of a shape, in which the weights are constants."""
    named = tf.function(lambda image: tf.identity(function(image), name=OUTPUT))
    return convert_variables_to_constants_v2(named.get_concrete_function(tf.TensorSpec(shape, tf.float32, name=INPUT)))


def resized(images: tf.Tensor, spec: FeatureSpec) -> tf.Tensor:
    """Resizes float32 [B, h, w, 3], of any size, to the spec's [B, H, W, 3]."""
    height, width = spec.image_size
    if spec.resize_mode == "crop":
        images = _cropped(images, height, width)
    elif spec.resize_mode == "pad":
        images = _padded(images, height, width)
    shape = tf.shape(images)
    batch, rows, columns = shape[0], shape[1], shape[2]
    down, across = (_weights(of, to, spec.interpolation) for of, to in ((rows, height), (columns, width)))
    images = tf.matmul(down, tf.reshape(images, [batch, rows, columns * 3]))  # [B, H, w * 3]
    images = tf.transpose(tf.reshape(images, [batch, height, columns, 3]), [0, 1, 3, 2])  # [B, H, 3, w]
    return tf.transpose(tf.matmul(images, tf.transpose(across)), [0, 1, 3, 2])  # [B, H, W, 3]


def _weights(of: tf.Tensor, to: int, interpolation: str) -> tf.Tensor:
    """What each of `to` pixels along an axis takes from each of `of`: `resize.axis_weights` as a graph, float32 [to, of]."""
    pixels = tf.cast(tf.range(of), tf.float32)[None, :]
    inverse = tf.cast(of, tf.float32) / to
    targets = tf.range(to, dtype=tf.float32)[:, None]
    if interpolation == "area":
        start, stop = targets * inverse, (targets + 1) * inverse
        return tf.maximum(tf.minimum(pixels + 1, stop) - tf.maximum(pixels, start), 0.0) / inverse
    distance = tf.abs(pixels + 0.5 - (targets + 0.5) * inverse) / tf.maximum(inverse, 1.0)
    weights = tf.maximum(1.0 - distance, 0.0) if interpolation == "bilinear" else _cubic(distance)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _cubic(distance: tf.Tensor) -> tf.Tensor:
    """Keys' cubic kernel with a = -0.5."""
    near = ((1.5 * distance - 2.5) * distance) * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return tf.where(distance < 1, near, tf.where(distance < 2, far, tf.zeros_like(far)))


def _share(extent: tf.Tensor, target: int, other: int) -> tf.Tensor:
    """The extent that has an image's other extent in the target's proportion, rounded as Keras does."""
    return tf.cast(tf.cast(extent * target, tf.float32) / float(other), tf.int32)


def _cropped(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The largest part of the target's proportions, from the middle."""
    shape = tf.shape(images)
    rows = tf.maximum(tf.minimum(shape[1], _share(shape[2], height, width)), 1)
    columns = tf.maximum(tf.minimum(shape[2], _share(shape[1], width, height)), 1)
    top, left = (shape[1] - rows) // 2, (shape[2] - columns) // 2
    return images[:, top : top + rows, left : left + columns]


def _padded(images: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Black borders, equal on both sides, up to the target's proportions."""
    shape = tf.shape(images)
    top = (tf.maximum(_share(shape[2], height, width), shape[1]) - shape[1]) // 2
    left = (tf.maximum(_share(shape[1], width, height), shape[2]) - shape[2]) // 2
    return tf.pad(images, [[0, 0], [top, top], [left, left], [0, 0]])
