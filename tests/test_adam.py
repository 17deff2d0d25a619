"""The fused optimizer walks the way that Keras's Adam walks, and remembers where it met what is not finite."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from headstart.training.fitting.adam import FusedAdam


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_fused_adam_goes_where_keras_s_adam_goes(steps_per_execution: int) -> None:
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    y = (x.sum(axis=1) > 0).astype(np.int64)
    ends = []
    for optimizer in (keras.optimizers.Adam(0.03), FusedAdam(0.03)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(2, "softmax")])
        model.compile(optimizer, "sparse_categorical_crossentropy", steps_per_execution=steps_per_execution)
        model.fit(x, y, batch_size=16, epochs=5, shuffle=False, verbose=0)
        state = [variable for variable in optimizer.variables if variable.name != "bad_step"]
        ends.append([*model.get_weights(), *(np.asarray(variable) for variable in state)])
    assert int(optimizer.bad_step) == 0  # type: ignore[attr-defined]
    for ours, theirs in zip(ends[1], ends[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_fused_adam_under_a_scaled_loss_and_a_schedule() -> None:
    x, y = np.eye(4, dtype=np.float32), np.arange(4)
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9)
    ends = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "softmax")])
        model.compile(keras.optimizers.LossScaleOptimizer(kind(rate)), "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=2, epochs=6, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for ours, theirs in zip(ends[1], ends[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def walked(rate: Any, gradients: list[list[float]], rates: tuple[float, ...] = ()) -> tuple[FusedAdam, list[np.ndarray]]:
    """Two variables from 0, moved by a gradient for each at every step."""
    variables = [keras.Variable(np.zeros(3, np.float32)) for _ in range(2)]
    optimizer = FusedAdam(rate, rates)
    optimizer.build(variables)
    for step in gradients:
        optimizer.apply([tf.fill((3,), tf.constant(value, tf.float32)) for value in step], variables)
    return optimizer, [variable.numpy() for variable in variables]


def test_each_weight_has_a_rate_of_its_own() -> None:
    gradients = [[1.0, 1.0], [0.5, 0.5]]
    _, plain = walked(0.1, gradients)
    _, slower = walked(0.1, gradients, (1.0, 0.25))
    np.testing.assert_array_equal(slower[0], plain[0])
    np.testing.assert_allclose(slower[1], plain[1] / 4, rtol=1e-6)


def test_a_schedule_is_multiplied_too() -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.0])  # steps 0 and 1 move
    _, (whole, half) = walked(schedule, [[1.0, 1.0]] * 5, (1.0, 0.5))
    np.testing.assert_allclose(whole, -0.2, rtol=1e-4)
    np.testing.assert_allclose(half, whole / 2, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_step_with_a_gradient_that_is_not_finite_is_remembered(value: float) -> None:
    optimizer, _ = walked(0.1, [[1.0, 1.0], [1.0, value], [value, 1.0], [1.0, 1.0]])
    assert int(optimizer.bad_step) == 2
    assert int(walked(0.1, [[1.0, 1.0]] * 3)[0].bad_step) == 0
