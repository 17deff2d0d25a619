"""The fused optimizer walks the way that Keras's Adam walks."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from training.adam import FusedAdam


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
        ends.append([*model.get_weights(), *(np.asarray(variable) for variable in optimizer.variables)])
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
