"""Grad-CAM against what it must be by its paper, on networks small enough to know it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.spec import FeatureSpec, Tap
from headstart.training.heads import attach_head, build_head
from headstart.training.reporting.attention import heated
from headstart.training.reporting.grad_cam import grad_cam
from tests.conftest import IMAGE_SIZE, raises

CLASSES, CHANNELS = 3, 5


def classifier(pool: str) -> tuple[keras.Model, Tap]:
    """A convolution, a pooling, and a linear head whose weights are not those it begins with."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    base = keras.Model(pixels, keras.layers.Conv2D(CHANNELS, 3, 4, activation="relu", name="conv")(pixels), name="tiny")
    backbone, (tap,) = build_feature_extractor(base, [Tap("conv", pool)], "tf", (IMAGE_SIZE, IMAGE_SIZE))
    head = build_head("linear", tap, CLASSES, (np.zeros(CHANNELS), np.ones(CHANNELS)))
    logits = head.get_layer("logits")
    logits.set_weights([np.random.default_rng(0).normal(size=each.shape) for each in logits.get_weights()])
    spec = FeatureSpec("tiny", "0" * 64, (IMAGE_SIZE, IMAGE_SIZE), (tap,), "tf")
    return attach_head(spec, backbone, head), tap


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(2).uniform(0, 255, (4, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)


@pytest.mark.parametrize("pool", ["avg", "none"])
def test_over_an_average_it_is_the_class_activation_map(pool: str, images: np.ndarray) -> None:
    """Section 3.1 of the paper: a linear head's weights over the averaged map are the gradients, up to a constant."""
    model, tap = classifier(pool)
    classes = [0, 1, 2, 0]
    conv = model.get_layer("backbone").get_layer("base").get_layer("conv")
    maps = np.asarray(conv(images / 127.5 - 1))  # [4, h, w, K]
    weights = model.get_layer("head").get_layer("logits").get_weights()[0]  # [K, C]
    expected = np.stack([np.maximum(own @ weights[:, number], 0) for own, number in zip(maps, classes)])
    expected /= expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(model, tap, images, classes), expected, atol=1e-4)


def test_a_network_without_a_map_is_refused(images: np.ndarray) -> None:
    pixels = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    flat = keras.layers.Flatten(name="flat")(pixels)
    base = keras.Model(pixels, keras.layers.Dense(4, name="dense")(flat), name="flat_one")
    backbone, (tap,) = build_feature_extractor(base, [Tap("dense", "none")], "tf", (IMAGE_SIZE, IMAGE_SIZE))
    head = build_head("linear", tap, CLASSES, (np.zeros(4), np.ones(4)))
    spec = FeatureSpec("flat_one", "0" * 64, (IMAGE_SIZE, IMAGE_SIZE), (tap,), "tf")
    with raises("bad-model"):
        grad_cam(attach_head(spec, backbone, head), tap, images, [0] * 4)


def test_heat_is_laid_over_the_picture(images: np.ndarray) -> None:
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1
    found = heated(np.full((16, 24, 3), 100, np.float32), heat)
    assert found.shape == (16, 24, 3) and found.dtype == np.uint8
    assert found[0, 0].astype(int).sum() > found[-1, -1].astype(int).sum() + 100
