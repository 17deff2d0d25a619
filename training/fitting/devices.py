"""Data parallel training: each batch spread over several devices, one model on each."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import tensorflow as tf

from headstart.features import interruption
from headstart.features.errors import UserError


def spread_over(count: int) -> Any:
    """A scope in which a model is made and trained on `count` devices; GPUs where there are any, else logical CPUs.

    Raises:
        UserError: when there are not that many.
    """
    if count == 1:
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            "not-available", f"--devices {count} needs Keras's TensorFlow backend, this is {keras.backend.backend()}"
        )
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    devices = tf.config.list_logical_devices(kind)
    if len(devices) < count:
        raise UserError(
            "not-available", f"--devices {count}: TensorFlow sees {len(devices)} {kind}{'s' * (len(devices) != 1)} here"
        )
    interruption.leaves_threads = True  # those that feed several devices go on calling Python while it ends
    return tf.distribute.MirroredStrategy([device.name for device in devices[:count]]).scope()


def evenly(batches: tf.data.Dataset, devices: int, steps: int) -> tf.data.Dataset:
    """Batches that can be divided among the devices: up to `devices - 1` examples of an epoch's last one are left out.

    Uneven shares would weigh examples differently, and an empty share has no loss. `steps` says where the end is: devices that
    don't know would count one more batch, of nothing.
    """
    if devices == 1:
        return batches

    def whole_shares(*columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
        whole = tf.shape(columns[0])[0] // devices * devices
        return tuple(column[:whole] for column in columns)

    even = batches.map(whole_shares).filter(lambda feature, *_: tf.shape(feature)[0] > 0)
    return even.apply(tf.data.experimental.assert_cardinality(steps))


def to_device(batches: tf.data.Dataset, devices: int) -> tf.data.Dataset:
    """Copies batches to the GPU ahead of their use; several devices are fed by their strategy."""
    gpus = tf.config.list_logical_devices("GPU")
    if devices > 1 or not gpus:
        return batches
    return batches.apply(tf.data.experimental.prefetch_to_device(gpus[0].name))
