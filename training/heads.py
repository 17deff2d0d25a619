"""Heads, and a head joined to its backbone: features or images in, class probabilities out.

Everything is made of Keras's own layers, so a saved model loads anywhere, in safe mode, without this project.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.errors import UserError
from headstart.features.images.decode import resizing_layer
from headstart.features.spec import FeatureSpec, Tap

if TYPE_CHECKING:
    import keras

HIDDEN_UNITS = 256
MIN_DEVIATION = 0.1  # of the mean deviation: a channel that hardly moved in training must not shout later


def build_head(
    kind: str,
    tap: Tap,
    classes: int,
    moments: tuple[np.ndarray, np.ndarray],
    dropout: float = 0.5,
    precision: str = "float32",
    activation: str = "softmax",
) -> keras.Model:
    """A head from nothing.

    Args:
        kind: `linear`, a linear probe: one layer over the tap's pooled feature, standardised (a map that was stored whole is
            averaged first; a grid keeps its places); or `mlp`: Dense 256, ReLU, dropout, and it over all of the feature.
        tap: whose features it takes.
        classes: how many there are.
        moments: each channel's mean and deviation over the training split, float [C].
        dropout: the share of hidden units dropped in training; `mlp` only.
        precision: a Keras dtype policy. The probabilities are float32 under each of them.
        activation: what makes logits probabilities, as the task has it.

    Returns:
        A model from float32 [B, *tap.shape] to float32 [B, classes].
    """
    import keras

    mean, deviation = moments
    deviation = np.maximum(deviation, max(MIN_DEVIATION * float(deviation.mean()), 1e-6))
    inputs = keras.Input(tap.shape, name="feature")
    x = keras.layers.Normalization(axis=-1, mean=mean, variance=deviation**2, name="standardise", dtype="float32")(inputs)
    if kind == "linear" and tap.pool == "none" and len(tap.shape) == 3:
        x = keras.layers.GlobalAveragePooling2D(name="average", dtype=precision)(x)  # [B, C]
    elif len(tap.shape) > 1:
        x = keras.layers.Flatten(name="flatten", dtype=precision)(x)  # [B, K * K * C]
    if kind == "mlp":
        x = keras.layers.Dense(HIDDEN_UNITS, activation="relu", name="hidden", dtype=precision)(x)
        x = keras.layers.Dropout(dropout, name="dropout", dtype=precision)(x)
    # A linear probe starts at zero: noise in directions that training never moves would stay in its answers.
    start = "zeros" if kind == "linear" else "glorot_uniform"
    x = keras.layers.Dense(classes, kernel_initializer=start, name="logits", dtype=precision)(x)
    outputs = keras.layers.Activation(activation, name="probabilities", dtype="float32")(x)  # [B, classes]
    return keras.Model(inputs, outputs, name="head")


def begin_at_shares(head: keras.Model, labels: np.ndarray) -> None:
    """Lets a head of `build_head` that ends in a sigmoid begin with each class's share of the images as its probability.

    From a half, a rare class would take most of a training to come down. A class that no image has is counted as one of half.

    Args:
        head: its last layer's bias is set.
        labels: uint8 [N, classes], 1 for each label of an image.

    Source: Lin et al., "Focal Loss for Dense Object Detection", section 4.1, https://arxiv.org/abs/1708.02002
    """
    share = (labels.sum(0) + 0.5) / (len(labels) + 1)
    layer = head.get_layer("logits")
    kernel, _ = layer.get_weights()
    layer.set_weights([kernel, np.log(share / (1 - share)).astype(np.float32)])


def wrap_head(layer: keras.Layer, tap: Tap, classes: int, from_logits: bool, activation: str = "softmax") -> keras.Model:
    """Any Keras layer or model as a head.

    Args:
        layer: takes [B, *tap.shape], gives [B, classes]: probabilities, or logits when the loss says so.
        tap: whose features it takes.
        classes: how many there are.
        from_logits: whether the activation has to follow.
        activation: what makes logits probabilities, as the task has it.

    Raises:
        UserError: when its output is not [B, classes].
    """
    import keras

    inputs = keras.Input(tap.shape, name="feature")
    outputs = layer(inputs)
    if tuple(outputs.shape[1:]) != (classes,):
        raise UserError(
            "bad-value",
            f"the head gives {tuple(outputs.shape[1:])} for an image; expected ({classes},), a number for each class",
        )
    if from_logits:
        outputs = keras.layers.Activation(activation, name="probabilities", dtype="float32")(outputs)
    return keras.Model(inputs, outputs, name="head")


def attach_head(spec: FeatureSpec, backbone: keras.Model, head: keras.Model) -> keras.Model:
    """The whole way: images [B, any, any, 3] of 0..255 to float32 [B, classes], resizing and preprocessing inside.

    They may be whole numbers or floats. An image of fractions in 0..1 is known as such and scaled; the answer for one with
    negative pixels, which somebody has preprocessed already, is NaN. The input is float32 and not uint8 because Keras would
    cut fractions off before any layer could see them.
    """
    import keras

    images = keras.Input((None, None, 3), name="image")
    frozen = functools.partial(backbone, training=False)  # BatchNorm stays as it was trained
    return keras.Model(images, classify(images, resizing_layer(spec), frozen, head), name="classifier")


def classify(images: Any, resize: Callable[[Any], Any], backbone: Callable[[Any], Any], head: Callable[[Any], Any]) -> Any:
    """What `attach_head` makes of images float32 [B, any, any, 3], given what resizes them to [B, H, W, 3] of 0..255."""
    import keras

    features = backbone(resize(_in_0_to_255(images)))
    feature = features[0] if isinstance(features, (list, tuple)) else features
    negative = keras.ops.min(images, axis=(1, 2, 3)) < 0  # [B]
    return keras.ops.where(negative[:, None], float("nan"), head(feature))


def _in_0_to_255(images: Any) -> Any:
    """Pixels of images some of which may be in 0..1: those of fractions, none of them above 1."""
    import keras

    fractions = keras.ops.any(images != keras.ops.floor(images), axis=(1, 2, 3), keepdims=True)
    within = keras.ops.max(images, axis=(1, 2, 3), keepdims=True) <= 1
    return images * keras.ops.where(keras.ops.logical_and(fractions, within), 255.0, 1.0)


def resolve_precision(precision: str) -> str:
    """`auto` as a dtype policy: what the GPU's tensor cores like best, float32 without one.

    Raises:
        UserError: for a precision that the device lacks.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)) if gpus else (0, 0)
    if precision == "auto":
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    if precision == "mixed_float16" and not gpus:
        raise UserError(
            "not-available", "--precision mixed_float16 needs a GPU, and there is none: take float32, or mixed_bfloat16"
        )
    least = {"mixed_float16": (7, 0), "mixed_bfloat16": (8, 0)}.get(precision, (0, 0))
    if gpus and capability < least:
        raise UserError(
            "not-available",
            f"--precision {precision} needs a GPU of compute capability {least[0]}.{least[1]}, this one has "
            f"{'.'.join(map(str, capability))}: take float32, or --precision auto",
        )
    return precision
