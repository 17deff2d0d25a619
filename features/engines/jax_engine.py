"""The engine where Keras computes with JAX: the model compiled as a function of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.engines.base import Engine
from headstart.features.engines.freeze import computing_in, weights_of

if TYPE_CHECKING:
    import keras


class JaxEngine(Engine):
    """A model's inference, jit-compiled for one batch shape."""

    name = "jax"

    def __init__(self, model: keras.Model, batch_size: int, streams: int, compute_dtype: str) -> None:
        super().__init__(batch_size, streams)
        import jax

        trainable = len(model.trainable_variables)

        def infer(values: list[Any], pixels: Any) -> Any:
            return model.stateless_call(values[:trainable], values[trainable:], pixels, training=False)[0]

        self.values = [weight.value for weight in weights_of(model)]
        pixels = np.zeros((batch_size, *model.inputs[0].shape[1:]), np.float32)
        with computing_in(model, compute_dtype):
            self.compiled = jax.jit(infer).lower(self.values, pixels).compile()

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Features of one whole batch."""
        outputs = self.compiled(self.values, np.ascontiguousarray(pixels, np.float32))
        return [np.asarray(output) for output in (outputs if isinstance(outputs, list) else [outputs])]
