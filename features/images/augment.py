"""Augmentation: pixels and a seed in, the same photograph seen a little differently out.

All randomness of an image comes from its seed alone, so the same seed gives the same pixels, in whatever order, batch or
thread. Flip, rotation, zoom and shift are one warp: an image is interpolated once, and what comes in from outside is its own
mirror image.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from headstart.features.augmentation import Augmentation
from headstart.features.images.warp import warp
from headstart.features.keras_internals import augmented, randaugment_layers

RANDAUGMENT_OPERATIONS, RANDAUGMENT_FACTOR = 2, 0.5  # Keras's defaults
RANDAUGMENT_LAYERS = (  # what each of its layers is, for the switches
    ("RandomShear", "rotation"),
    ("RandomRotation", "rotation"),
    ("RandomTranslation", "shift"),
    ("RandomBrightness", "colour"),
    ("RandomContrast", "colour"),
    ("RandomColorDegeneration", "colour"),
    ("RandomSharpness", "colour"),
    ("RandomPosterization", "colour"),
    ("Solarization", "colour"),
    ("AutoContrast", "colour"),
    ("Equalization", "colour"),
)
LUMA = (0.299, 0.587, 0.114)

Augmenter = Callable[[Any, Any], Any]  # (float32 [H, W, 3] in 0..255, int64 [2]) -> float32 [H, W, 3] in 0..255


def view_seed(augmentation: Augmentation, digest: str, draw: int) -> np.ndarray:
    """The seed of one view of an image, int64 [2]: of its content digest, the policy's seed, and which view it is."""
    found = hashlib.sha256(f"{augmentation.seed}:{digest}:{draw}".encode()).digest()
    return np.frombuffer(found[:16], "<i8").astype(np.int64)


def augmenter(augmentation: Augmentation) -> Augmenter:
    """A policy as a function of TensorFlow tensors: float32 [H, W, 3] in 0..255 and a seed, int64 [2], to the like.

    It does not change values beyond rounding when every operation is off.
    """
    steps = [(number, make(augmentation)) for number, make in enumerate((_warping, _colouring, _randaugment))]

    def augment(pixels: Any, seed: Any) -> Any:
        import tensorflow as tf

        for number, step in steps:  # one that is switched off leaves the draws of the others as they are
            if step is not None:
                pixels = step(pixels, tf.random.fold_in(seed, number))
        return tf.clip_by_value(pixels, 0.0, 255.0)

    return augment


@functools.cache  # a policy is small, and tracing it takes a second
def array_augmenter(augmentation: Augmentation) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The same for numpy images, float32 [H, W, 3], one by one, and seeds, int64 [2]; safe in several threads."""
    import tensorflow as tf

    with tf.device("CPU"):
        signature = [tf.TensorSpec((None, None, 3), tf.float32), tf.TensorSpec((2,), tf.int64)]
        traced = tf.function(augmenter(augmentation), input_signature=signature).get_concrete_function()

    def augment(pixels: np.ndarray, seed: np.ndarray) -> np.ndarray:
        with tf.device("CPU"):
            return traced(tf.constant(pixels), tf.constant(seed, tf.int64)).numpy()

    return augment


def _warping(augmentation: Augmentation) -> Augmenter | None:
    """Flip, rotation, zoom and shift as one projective transform around the image's middle."""
    flip, turn, zoom, shift = map(augmentation.amount, ("flip", "rotation", "zoom", "shift"))
    if not any((flip, turn, zoom, shift)):
        return None

    def move(pixels: Any, seed: Any) -> Any:
        import tensorflow as tf

        draw = tf.random.stateless_uniform((6,), seed, -1.0, 1.0)
        height, width = tf.unstack(tf.cast(tf.shape(pixels)[:2], tf.float32))
        angle = draw[0] * turn * 2 * math.pi
        across, down = 1 + draw[1] * zoom, 1 + draw[1] * zoom
        mirror = tf.where(draw[2] * flip > 0, -1.0, 1.0)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        a, b, d, e = mirror * across * cosine, -mirror * across * sine, down * sine, down * cosine
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        c = middle_x + draw[3] * shift * width - a * middle_x - b * middle_y
        f = middle_y + draw[4] * shift * height - d * middle_x - e * middle_y
        warped = tf.numpy_function(warp, [pixels, tf.stack([a, b, c, d, e, f])], tf.float32, stateful=False)
        return tf.ensure_shape(warped, pixels.shape)

    return move


def _colouring(augmentation: Augmentation) -> Augmenter | None:
    """Brightness, contrast and saturation, in this order."""
    amount = augmentation.amount("colour")
    if not amount:
        return None

    def colour(pixels: Any, seed: Any) -> Any:
        import tensorflow as tf

        draw = tf.random.stateless_uniform((3,), seed, -amount, amount)
        pixels = pixels + draw[0] * 127.5
        mean = tf.reduce_mean(pixels)
        pixels = mean + (1 + draw[1]) * (pixels - mean)
        grey = tf.tensordot(pixels, tf.constant(LUMA), 1)[..., None]
        return grey + (1 + draw[2]) * (pixels - grey)

    return colour


def _randaugment(augmentation: Augmentation) -> Augmenter | None:
    """Two operations of RandAugment's, drawn for each image: Keras's own layer computes all eleven, twice, and keeps two."""
    chosen = [name for name, operation in RANDAUGMENT_LAYERS if operation not in augmentation.without]
    if augmentation.policy != "strong" or not chosen:
        return None
    layers = randaugment_layers(RANDAUGMENT_FACTOR)

    def augment(pixels: Any, seed: Any) -> Any:
        import tensorflow as tf

        picked = tf.random.stateless_uniform((RANDAUGMENT_OPERATIONS,), seed, 0, len(chosen), tf.int32)
        for number in range(RANDAUGMENT_OPERATIONS):
            own = tf.random.fold_in(seed, number + 1)
            branches = [functools.partial(augmented, layers[name], pixels[None], own) for name in chosen]
            pixels = tf.ensure_shape(tf.switch_case(picked[number], branches)[0], pixels.shape)
        return pixels

    return augment
