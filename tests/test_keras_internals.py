"""What is used of Keras beyond its documented interface is as it is relied on, in the Keras that is installed."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from headstart.features.keras_internals import (
    adam_moments,
    augmented,
    every_layer,
    histogram,
    in_fresh_thread,
    inputs_of,
    is_loading_unsafe,
    maker_of,
    randaugment_layers,
)


def test_names_and_the_dtype_policy_start_anew_in_a_fresh_thread() -> None:
    keras.layers.Dense(1)
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        layers = [in_fresh_thread(lambda: keras.layers.Dense(1)) for _ in range(2)]
    finally:
        keras.config.set_dtype_policy(policy)
    assert [layer.name for layer in layers] == ["dense", "dense"]
    assert {layer.dtype_policy.name for layer in layers} == {"float32"}


def test_a_tensor_knows_the_use_that_made_it_and_that_use_what_it_took() -> None:
    shared, first, second = keras.layers.Dense(2, name="shared"), keras.Input((2,), name="a"), keras.Input((2,), name="b")
    once, twice = shared(first), shared(second)
    assert maker_of(once) == (shared, 0, 0) and maker_of(twice) == (shared, 1, 0)
    assert inputs_of(maker_of(once)) == [first] and inputs_of(maker_of(twice)) == [second]
    joined = keras.layers.Add()([once, twice])
    assert inputs_of(maker_of(joined)) == [once, twice] and inputs_of(maker_of(first)) == []
    assert [maker_of(part).output for part in keras.ops.split(joined, 2, axis=1)] == [0, 1]


def test_every_layer_goes_into_models_inside_a_model() -> None:
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1, name="top")], name="outer")
    assert {"outer", "inner", "deep", "top"} <= {layer.name for layer in every_layer(model)}
    assert {layer.name for layer in model.layers} == {"inner", "top"}


@keras.saving.register_keras_serializable("test")
class Asking(keras.layers.Layer):
    """Asks while it is made."""

    answers: list[bool] = []  # noqa: RUF012  of all of them

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.answers.append(is_loading_unsafe())


@pytest.mark.parametrize("safe", [True, False])
def test_a_layer_can_tell_that_it_is_loaded_unsafely(tmp_path: pathlib.Path, safe: bool) -> None:
    keras.Sequential([keras.Input((2,)), Asking()]).save(tmp_path / "asking.keras")
    Asking.answers.clear()
    keras.saving.load_model(tmp_path / "asking.keras", compile=False, safe_mode=safe)
    Asking()
    assert Asking.answers == [not safe, False]


def test_a_histogram_is_that_of_equalization() -> None:
    values = np.random.default_rng(0).uniform(-9, 270, (40, 30)).astype(np.float32)
    count = randaugment_layers(0.5)["Equalization"]._custom_histogram_fixed_width
    for given in (values, np.zeros((3, 3), np.float32), np.full((2, 2), 255, np.float32)):
        expected, found = (each(tf.constant(given), (0, 255), 256).numpy() for each in (count, histogram))
        assert found.dtype == expected.dtype == np.int32 and np.array_equal(found, expected)


def test_randaugment_picks_from_eleven_layers_that_a_seed_decides() -> None:
    layers = randaugment_layers(0.5)
    assert len(layers) == 11 and "RandomShear" in layers and "Equalization" in layers
    images = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype(np.float32)
    for layer in layers.values():
        once, again = (augmented(layer, tf.constant(images), tf.constant([1, 2], tf.int64)).numpy() for _ in range(2))
        assert once.shape == images.shape and np.array_equal(once, again)
    seeds = [tf.constant([1, number], tf.int64) for number in range(4)]
    turned = [augmented(layers["RandomRotation"], tf.constant(images), seed).numpy() for seed in seeds]
    assert len({found.tobytes() for found in turned}) == 4


def test_adam_has_two_moments_for_each_variable() -> None:
    variables = [keras.Variable([1.0, 2.0], name="a"), keras.Variable([3.0], name="b")]
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build(variables)
    optimizer.apply([keras.ops.array([1.0, -2.0]), keras.ops.array([4.0])])
    for position, gradient in enumerate(([1.0, -2.0], [4.0])):
        number, momentum, velocity = adam_moments(optimizer, variables[position])
        assert number == position
        np.testing.assert_allclose(momentum, np.multiply(gradient, 1 - optimizer.beta_1), rtol=1e-5)
        np.testing.assert_allclose(velocity, np.square(gradient) * (1 - optimizer.beta_2), rtol=1e-5)
