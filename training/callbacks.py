"""What watches a training: losses that are not finite, and progress."""

from __future__ import annotations

import math
from typing import Any

import keras

from features.errors import UserError
from features.progress import Progress


class Watched(keras.Model):
    """A head that is trained many steps at a time, and remembers the first one after which its loss was not finite.

    It shares the head's layers and weights.
    """

    def __init__(self, head: keras.Model) -> None:
        super().__init__(head.input, head.output, name="watched")
        self.steps = _counter("steps")
        self.bad_step = _counter("bad_step")

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of gradient descent; the loss that it tells is the mean since the epoch began."""
        logs = super().train_step(data)
        self.steps.assign_add(1)
        is_first = keras.ops.logical_and(self.bad_step == 0, keras.ops.logical_not(keras.ops.isfinite(logs["loss"])))
        self.bad_step.assign(keras.ops.where(is_first, self.steps, self.bad_step))
        return logs


def _counter(name: str) -> keras.Variable:
    return keras.Variable(0, dtype="int64", trainable=False, aggregation="only_first_replica", name=name)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Ends the run at the first step whose loss is NaN or infinite, or at such a validation loss.

    Raises:
        UserError: naming the step, counted from 1.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.epoch = steps, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keeps count."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the loss of the steps that were just done."""
        if not math.isfinite(logs["loss"]):
            step = int(self.model.bad_step.value)
            raise UserError(
                f"the loss is {logs['loss']} at step {step} (epoch {self.epoch + 1}, batch {(step - 1) % self.steps + 1}): "
                f"lower --learning_rate, or check the features"
            )
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        if step := int(getattr(optimizer, "bad_step", 0)):
            raise UserError(
                f"a gradient is not finite at step {step} (epoch {self.epoch + 1}, batch {(step - 1) % self.steps + 1}): "
                f"lower --learning_rate, or check the features"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the validation loss of each epoch."""
        if not math.isfinite(logs.get("val_loss", 0.0)):
            raise UserError(
                f"the validation loss is {logs['val_loss']} after step {(epoch + 1) * self.steps} (epoch {epoch + 1}): "
                f"lower --learning_rate, or check the features of the validation split"
            )


class ShowProgress(keras.callbacks.Callback):
    """Epochs done, of those there can be; steps, where an epoch takes long.

    Args:
        epochs: at most.
        steps: in an epoch, to count them; 0 to count epochs.
    """

    def __init__(self, epochs: int, steps: int = 0) -> None:
        super().__init__()
        self.steps, self.epoch = steps, 0
        self.progress = Progress("train", epochs * max(steps, 1), "steps" if steps else "epochs")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keeps count."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts steps."""
        if self.steps:
            self.progress.update(self.epoch * self.steps + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Counts epochs."""
        if not self.steps:
            self.progress.update(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Takes the bar away."""
        self.progress.close()
