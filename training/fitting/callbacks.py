"""What watches a training: losses and gradients that are not finite, and progress."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from headstart.features.errors import UserError
from headstart.features.progress import Progress
from headstart.features.store.epochs import Position


class LossMonitor(keras.Model):
    """A model that is trained many steps at a time, and remembers the first one whose loss was not finite.

    It shares layers and weights with what it is made of, and takes what is compiled, so that no file carries that along.
    """

    def __init__(self, head: keras.Model) -> None:
        super().__init__(head.input, head.output, name="watched")
        self.steps, self.bad_step = _counter("steps"), _counter("bad_step")

    def compute_loss(self, *inputs: Any, training: bool = True, **named: Any) -> Any:
        """The loss, looked at."""
        loss = super().compute_loss(*inputs, training=training, **named)
        if training:
            self.steps.assign_add(1)
            is_first = ops.logical_and(self.bad_step.value == 0, ops.logical_not(ops.isfinite(loss)))
            self.bad_step.assign(ops.where(is_first, self.steps.value, self.bad_step.value))
        return loss


def _counter(name: str) -> keras.Variable:
    return keras.Variable(0, dtype="int32", trainable=False, aggregation="only_first_replica", name=name)


def jit_here() -> bool:
    """Whether to compile a training: TensorFlow on a CPU was no faster for it, and takes seconds; JAX is nothing without."""
    return bool(keras.backend.backend() != "tensorflow")


class TerminateOnNonFinite(keras.callbacks.Callback):
    """Ends the run at the first step whose loss or gradient is NaN or infinite, or at such a validation loss.

    Raises:
        UserError: naming the step, counted from 1.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the loss, and the gradients, of the steps that were just done."""
        model = self.model
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        found = {f"the loss is {logs['loss']}": model.bad_step, "a gradient is not finite": optimizer.bad_step}
        bad = [(int(np.asarray(variable)), what) for what, variable in found.items() if int(np.asarray(variable))]
        if bad:
            step, what = min(bad, key=lambda found: found[0])  # of the same step, the loss
            raise UserError(
                "bad-numbers",
                f"{what} at step {step} (epoch {(step - 1) // self.steps + 1}, batch {(step - 1) % self.steps + 1}): "
                f"lower --learning_rate, or check the features",
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the validation loss of each epoch."""
        if not math.isfinite(logs.get("val_loss", 0.0)):
            raise UserError(
                "bad-numbers",
                f"the validation loss is {logs['val_loss']} after step {(epoch + 1) * self.steps} (epoch {epoch + 1}): "
                f"lower --learning_rate, or check the features of the validation split",
            )


class AtEpoch(keras.callbacks.Callback):
    """Keeps a position at the epoch that is trained, before its first batch is read."""

    def __init__(self, position: Position) -> None:
        super().__init__()
        self.position = position

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Moves it."""
        self.position.epoch = epoch


class ShowProgress(keras.callbacks.Callback):
    """Epochs done, of those there can be; steps, where an epoch takes long.

    Args:
        what: is done.
        epochs: at most.
        steps: in an epoch, to count them; 0 to count epochs.
    """

    def __init__(self, what: str, epochs: int, steps: int = 0) -> None:
        super().__init__()
        self.steps, self.epoch = steps, 0
        self.progress = Progress(what, epochs * max(steps, 1), "steps" if steps else "epochs")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keeps count."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts steps."""
        if self.steps:
            done = min(batch + 1, self.steps)  # the last look of an epoch comes after fewer steps than Keras says
            self.progress.update(self.epoch * self.steps + done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Counts epochs."""
        if not self.steps:
            self.progress.update(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Takes the bar away."""
        self.progress.close()
