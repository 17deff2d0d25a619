"""One resizing: the fast one for files and Keras's layer inside a saved model agree to rounding, whatever the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.images.decode import resizing_layer
from headstart.features.images.resize import axis_weights, resizer
from headstart.features.spec import INTERPOLATIONS, RESIZE_MODES, FeatureSpec, Tap

ROUNDING = 2e-3  # of 255; float32 sums in another order


def spec(resize_mode: str, interpolation: str, size: tuple[int, int] = (24, 40)) -> FeatureSpec:
    return FeatureSpec("VGG16", "0" * 64, size, (Tap("x"),), "none", resize_mode, interpolation)


def noise(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]; neighbouring pixels differ as much as they can."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("resize_mode", RESIZE_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resizing_is_what_keras_does_inside_a_model(resize_mode: str, interpolation: str) -> None:
    wanted = spec(resize_mode, interpolation)
    resize, layer = resizer(wanted), resizing_layer(wanted)
    for shape in ((70, 50), (13, 17), (24, 40), (50, 200), (375, 500), (1, 1), (1, 300), (300, 1), (2, 90), (48, 80)):
        found, expected = resize(noise(*shape)), layer(noise(*shape)[None].astype(np.float32))[0].numpy()
        assert found.dtype == np.float32 and found.shape == (24, 40, 3)
        assert found.min() >= -64 and found.max() <= 320  # bicubic overshoots a little
        assert np.abs(found - expected).max() <= ROUNDING, shape


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from(RESIZE_MODES),
    st.sampled_from(INTERPOLATIONS),
)
def test_any_shape_to_any_size(shape: tuple[int, int], size: tuple[int, int], resize_mode: str, interpolation: str) -> None:
    wanted = spec(resize_mode, interpolation, size)
    found, expected = resizer(wanted)(noise(*shape)), resizing_layer(wanted)(noise(*shape)[None].astype(np.float32))[0]
    assert found.shape == (*size, 3)
    assert np.abs(found - expected.numpy()).max() <= ROUNDING


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 3000), st.integers(1, 400), st.sampled_from(INTERPOLATIONS))
def test_the_weights_of_every_pixel_sum_to_one(of: int, to: int, interpolation: str) -> None:
    weights = axis_weights(of, to, interpolation)
    assert weights.shape == (to, of) and weights.dtype == np.float32
    assert np.abs(np.asarray(weights.sum(axis=1)) - 1).max() < 1e-4  # TensorFlow adds up areas in float32


def test_resizing_to_the_same_size_changes_nothing() -> None:
    for resize_mode in RESIZE_MODES:
        assert np.allclose(resizer(spec(resize_mode, "bilinear"))(noise(24, 40)), noise(24, 40), atol=1e-3)


def test_the_modes_crop_pad_and_squash() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255  # the middle third is white
    squash, crop, pad = (resizer(spec(mode, "bilinear", (10, 10)))(image) for mode in ("squash", "crop", "pad"))
    assert crop.min() > 254
    assert squash[:, 0].max() < 1 and squash[:, 5].min() > 200
    assert pad[0].max() < 1 and pad[-1].max() < 1 and pad[5, 5].min() > 200
