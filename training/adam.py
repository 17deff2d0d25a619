"""Adam in one pass over memory: Keras's optimizer with TensorFlow's fused kernel for the update.

A head on whole feature maps has millions of weights and small batches, so that most of a step goes into Adam. The formula is
the same (Kingma and Ba, https://arxiv.org/abs/1412.6980); Keras writes it as a dozen operations, each over all weights.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` without its variants, for TensorFlow's variables."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable, a tf.Variable, and its two moments."""
        step, number = tf.cast(self.iterations + 1, variable.dtype), self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].value.handle,
            v=self._velocities[number].value.handle,
            beta1_power=tf.cast(self.beta_1, variable.dtype) ** step,
            beta2_power=tf.cast(self.beta_2, variable.dtype) ** step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
        )
