"""Adam in one pass over memory: Keras's optimizer with TensorFlow's fused kernel for the update.

A head on whole feature maps has millions of weights and small batches, so that most of a step goes into Adam. The formula is
the same (Kingma and Ba, https://arxiv.org/abs/1412.6980); Keras writes it as a dozen operations, each over all weights. On
another backend of Keras's it is Keras's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from headstart.features.keras_internals import adam_moments


class FusedAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` without its variants.

    Args:
        learning_rate: a number, or a schedule of Keras's.
        rates: what the learning rate is multiplied by for each trained weight; 1 for all when not given.

    It remembers the first step with a gradient that is not finite: `bad_step`, counted from 1, 0 while there was none.
    """

    def __init__(self, learning_rate: Any, rates: Sequence[float] = ()) -> None:
        super().__init__(learning_rate)
        self.rates = tuple(rates)

    def build(self, variables: Any) -> None:
        """Makes the moments, and the place to remember a step in."""
        super().build(variables)
        self.bad_step = self.add_variable((), dtype="int32", aggregation="only_first_replica", name="bad_step")

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        """Moves the weights, and looks at what moved them."""
        super().apply(grads, trainable_variables)
        size = sum(ops.sum(ops.abs(ops.cast(gradient, "float32"))) for gradient in grads if gradient is not None)
        is_first = ops.logical_and(self.bad_step.value == 0, ops.logical_not(ops.isfinite(size)))
        self.bad_step.assign(ops.where(is_first, ops.cast(self.iterations.value, "int32"), self.bad_step.value))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Moves one variable and its two moments."""
        number, momentum, velocity = adam_moments(self, variable)
        rate = self.rates[number] if self.rates else 1.0
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate * rate)
            return
        import tensorflow as tf

        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=tf.cast(self.beta_1, variable.dtype) ** step,
            beta2_power=tf.cast(self.beta_2, variable.dtype) ** step,
            lr=tf.cast(learning_rate, variable.dtype) * rate,
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
        )


def adam(learning_rate: Any, precision: str, rates: Sequence[float] = ()) -> Any:
    """The optimizer of a training in a precision; the other arguments are those of `FusedAdam`."""
    fused = FusedAdam(learning_rate, rates)
    # Small gradients would vanish in float16.
    return keras.optimizers.LossScaleOptimizer(fused) if precision == "mixed_float16" else fused
