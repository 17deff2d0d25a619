"""An image warped: what TensorFlow's operation makes of it, to rounding, whatever the transform."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.images.warp import warp

ROUNDING = 0.02  # of 255: positions are float32, and neighbouring pixels differ by up to 255


def by_tensorflow(pixels: np.ndarray, transform: np.ndarray) -> np.ndarray:
    found = tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels[None],
        transforms=np.concatenate([transform, [0, 0]]).astype(np.float32)[None],
        output_shape=pixels.shape[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return found[0].numpy()


def noise(height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3]; neighbouring pixels differ as much as they can."""
    return np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.float32)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.lists(st.floats(-1.3, 1.3), min_size=4, max_size=4),
    st.lists(st.floats(-0.8, 1.8), min_size=2, max_size=2),
)
def test_any_transform_is_tensorflows(height: int, width: int, turned: list[float], moved: list[float]) -> None:
    (a, b, d, e), (c, f) = turned, (moved[0] * width, moved[1] * height)
    transform = np.array([a, b, c, d, e, f], np.float32)
    pixels = noise(height, width)
    found = warp(pixels, transform)
    assert found.dtype == np.float32 and found.shape == pixels.shape
    assert np.abs(found - by_tensorflow(pixels, transform)).max() <= ROUNDING


def test_nothing_moves_by_the_identity_and_a_mirror_is_exact() -> None:
    pixels = noise(19, 31)
    np.testing.assert_array_equal(warp(pixels, np.array([1, 0, 0, 0, 1, 0])), pixels)
    np.testing.assert_array_equal(warp(pixels, np.array([-1, 0, 30, 0, 1, 0])), pixels[:, ::-1])


def test_beyond_its_edges_an_image_is_its_own_mirror_image() -> None:
    pixels = noise(8, 8)
    np.testing.assert_array_equal(warp(pixels, np.array([1, 0, -3, 0, 1, 0]))[:, :3], pixels[:, 2::-1])
    np.testing.assert_array_equal(warp(pixels, np.array([1, 0, 0, 0, 1, 3]))[5:], pixels[:4:-1])
