"""Data parallel training: each batch spread over several devices, one model on each."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from features.errors import UserError


def spread_over(count: int) -> Any:
    """A scope in which a model is made and trained on `count` devices; GPUs where there are any, else logical CPUs.

    Raises:
        UserError: when there are not that many.
    """
    if count == 1:
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"--devices {count} needs Keras's TensorFlow backend, this is {keras.backend.backend()}")
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = tf.config.list_logical_devices(kind)
    if len(devices) < count:
        raise UserError(f"--devices {count}: TensorFlow sees {len(devices)} {kind}{'s' * (len(devices) != 1)} here")
    return tf.distribute.MirroredStrategy([device.name for device in devices[:count]]).scope()
