"""Batches for several devices: every share of the same size, next to nothing left out, as many as were announced."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.errors import UserError
from headstart.training.fitting.devices import evenly, spread_over, to_device
from headstart.training.fitting.pipeline import Size


def pairs(count: int, size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.arange(count, dtype=np.float32), np.arange(count))).batch(size)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(4, 40), shares=st.integers(1, 4), devices=st.integers(2, 4))
def test_shares_are_even(count: int, shares: int, devices: int) -> None:
    size = shares * devices
    steps = Size(count, size).steps(devices)
    batches = list(evenly(pairs(count, size), devices, steps).as_numpy_iterator())
    assert len(batches) == steps and all(len(labels) % devices == 0 and len(labels) for _, labels in batches)
    seen = np.concatenate([labels for _, labels in batches])
    assert count - len(seen) < devices and np.array_equal(seen, np.arange(len(seen)))
    assert all(np.array_equal(feature, label) for feature, label in batches)


def test_one_device_gets_what_there_is() -> None:
    batches = pairs(7, 4)
    assert evenly(batches, 1, 2) is batches and Size(7, 4).steps() == 2
    if not tf.config.list_physical_devices("GPU"):
        assert to_device(batches, 1) is batches


def test_devices_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"--devices 99: TensorFlow sees \d+ [CG]PU"):
        spread_over(99)
