"""Where a network looks: its saved model and pixels in, a map of what spoke for a class out.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
https://arxiv.org/abs/1610.02391
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from headstart.features.backbones.feature_maps import last_map, maps_and_tensors
from headstart.features.backbones.pooling import pooled
from headstart.features.errors import UserError
from headstart.features.keras_internals import in_fresh_thread
from headstart.features.spec import Tap


def grad_cam(model: keras.Model, tap: Tap, pixels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """What of each image raised the score of a class: the last map, its channels weighted by the score's mean gradient.

    The map is the last one that every path leads through, up to the tap. The score is the class's logit where the head ends in
    a softmax, else the logarithm of its probability.

    Args:
        model: a run's, of `attach_head`.
        tap: that its head stands on.
        pixels: of the network's size, float32 [N, H, W, 3], 0..255.
        classes: N numbers, 0..C-1.

    Returns:
        float32 [N, h, w] of the map's size, 0..1: 1 is the strongest place of an image; all 0 where nothing spoke for it.

    Raises:
        UserError: for a network without a feature map, or Keras on another backend than TensorFlow.
    """
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise UserError("not-available", "gradients are taken with Keras on TensorFlow")
    explained = in_fresh_thread(lambda: _map_and_scores(model, tap))
    found = []
    for image, number in zip(pixels, classes):  # one by one: memory stays small
        with tf.GradientTape() as tape:
            seen = tf.constant(image[None])
            tape.watch(seen)
            features, scores = explained(seen, training=False)  # [1, h, w, K], [1, C]
            score = scores[0, number]
        slope = tape.gradient(score, features)
        if slope is None:
            raise UserError("bad-model", "the network's file holds no gradients")
        weights = tf.reduce_mean(slope, (1, 2), keepdims=True)  # [1, 1, 1, K]
        found.append(tf.nn.relu(tf.reduce_sum(weights * features, -1))[0].numpy())
    maps = np.stack(found).astype(np.float32)
    return maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)


def _map_and_scores(model: keras.Model, tap: Tap) -> keras.Model:
    """The same network from pixels of its size to its last map and its scores."""
    backbone, head = model.get_layer("backbone"), model.get_layer("head")
    base = backbone.get_layer("base")
    maps = [(found, tensor) for found, tensor in maps_and_tensors(base, backbone.inputs[0].shape[1:3]) if found.is_map]
    if not maps:
        raise UserError("bad-model", "the network has no feature map to look at")
    last = last_map([found for found, _ in maps])
    tensor = next(tensor for found, tensor in maps if found == last)
    inner = keras.Model(base.inputs, [tensor, base.outputs[0]])
    below = backbone.layers[backbone.layers.index(base) - 1].output  # pixels as the network wants them
    features, end = inner(below)
    return keras.Model(backbone.inputs, [features, _scores(head)(pooled(end, tap))])


def _scores(head: keras.Model) -> Any:
    """A head up to its softmax; to the logarithm of its probabilities where it does not end so."""
    last = head.layers[-1]
    if isinstance(last, keras.layers.Activation) and last.activation is keras.activations.softmax:
        return keras.Model(head.inputs, last.input)
    return lambda features: keras.ops.log(keras.ops.maximum(head(features), 1e-30))
