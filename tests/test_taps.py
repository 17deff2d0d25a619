"""What a tap makes of a base of any kind: whole numbers, half precision, layers used twice, paths that part."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.backbones.feature_extractor import build_feature_extractor
from headstart.features.backbones.feature_maps import feature_maps
from headstart.features.backbones.pooling import bounds, evenly_spaced, pooled
from headstart.features.errors import UserError
from headstart.features.spec import Tap

SIZE = (12, 12)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype(np.float32)


def read(base: keras.Model, *asked: str) -> tuple[keras.Model, tuple[Tap, ...]]:
    return build_feature_extractor(base, [Tap.parse(text) for text in asked], "none", SIZE)


def test_whole_numbers_are_rounded_and_never_wrap() -> None:
    image = keras.Input((*SIZE, 3), dtype="uint8")
    base = keras.Model(image, keras.layers.Rescaling(1.0, name="float")(image))
    model, _ = read(base, "float:none")
    for value, expected in {1.9: 2, 254.6: 255, 300: 255, -3: 0}.items():  # bicubic resizing overshoots
        assert np.all(model(np.full((1, *SIZE, 3), value, np.float32)).numpy() == expected)


def test_features_are_float32_from_half_precision() -> None:
    image = keras.Input((*SIZE, 3))
    base = keras.Model(image, keras.layers.Conv2D(4, 3, name="conv", dtype="mixed_float16")(image))
    model, _ = read(base, "conv:none", "conv:avg", "conv:max", "conv:grid3")
    assert {output.numpy().dtype for output in model(PIXELS)} == {np.dtype(np.float32)}


@given(st.integers(1, 300), st.integers(1, 9))
def test_evenly_spaced_cells_are_the_windows_of_a_pooling(size: int, count: int) -> None:
    window = evenly_spaced(size, count) if count <= size else None
    assert window or count > 3 or count > size  # up to three cells are always evenly spaced: no slices
    if window:
        length, stride, padding = window
        line = np.arange(size, dtype=np.float32).reshape(1, size, 1, 1)
        found = keras.ops.average_pool(line, (length, 1), (stride, 1), padding)
        expected = [np.mean(line[0, a:b]) for a, b in bounds(size, count)]
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-5)


@pytest.mark.parametrize("side", [7, 14, 28])
def test_a_grid_is_the_mean_of_each_cell(side: int) -> None:
    feature_map = np.random.default_rng(side).normal(size=(2, side, side + 3, 5)).astype(np.float32)
    image = keras.Input(feature_map.shape[1:])
    for count in (2, 3, 4, 5):
        grid = keras.Model(image, pooled(image, Tap("map", f"grid{count}")))(feature_map)
        for row, (top, bottom) in enumerate(bounds(side, count)):
            for column, (left, right) in enumerate(bounds(side + 3, count)):
                expected = feature_map[:, top:bottom, left:right].mean(axis=(1, 2))
                np.testing.assert_allclose(grid[:, row, column], expected, atol=1e-6)


def test_a_layer_used_twice_can_be_tapped_twice(tmp_path: pathlib.Path) -> None:
    image = keras.Input((*SIZE, 3))
    conv = keras.layers.Conv2D(3, 3, padding="same", name="conv")
    base = keras.Model(image, conv(conv(image)))
    assert [(found.layer, found.depth) for found in feature_maps(base, SIZE)] == [("conv", 1.0), ("conv#1", 1.0)]
    model, taps = read(base, "", "conv:none")
    assert [tap.name for tap in taps] == ["conv#1:avg", "conv:none"]
    model.save(tmp_path / "model.keras")
    for each in (model, keras.saving.load_model(tmp_path / "model.keras")):
        twice, once = each.predict(PIXELS, verbose=0)  # as a graph: TensorFlow refuses names with '#'
        np.testing.assert_allclose(once, conv(PIXELS), rtol=1e-4, atol=1e-4 * np.abs(once).max())
        expected = conv(conv(PIXELS)).numpy().mean((1, 2))
        np.testing.assert_allclose(twice, expected, atol=1e-4 * np.abs(expected).max())


def test_paths_that_part_at_once_end_at_the_last_of_the_deepest() -> None:
    image = keras.Input((*SIZE, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    heads = [keras.layers.Conv2D(filters, 3, name=f"head{filters}")(scaled) for filters in (4, 5)]
    base = keras.Model(image, heads)
    assert [tap.layer for tap in read(base, "")[1]] == ["head5"]
    assert [tap.name for tap in read(base, "auto")[1]] == ["head5:avg", "head5:grid3"]


def test_a_trunk_ends_before_its_heads() -> None:
    image = keras.Input((*SIZE, 3))
    trunk = keras.layers.Conv2D(4, 3, name="trunk")(image)
    base = keras.Model(image, [keras.layers.Conv2D(filters, 3)(trunk) for filters in (2, 3)])
    assert [tap.layer for tap in read(base, "")[1]] == ["trunk"]


def test_the_same_tap_twice_is_one() -> None:
    image = keras.Input((*SIZE, 3))
    base = keras.Model(image, keras.layers.Conv2D(4, 3, name="conv")(image))
    names = [tap.name for tap in read(base, "auto", "auto", "conv:avg", "", "conv:grid3")[1]]
    assert names == ["conv:avg", "conv:grid3"]


@pytest.mark.parametrize("shape", [(144, 3), (1, 12, 12, 3)])
def test_a_base_without_maps_and_vectors_is_refused(shape: Any) -> None:
    image = keras.Input((*SIZE, 3))
    base = keras.Model(image, keras.layers.Reshape(shape)(image))
    with pytest.raises(UserError, match=r"neither a feature map \[H, W, C\] nor a vector \[C\]"):
        read(base, "")
