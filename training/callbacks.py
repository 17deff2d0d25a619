"""What watches a training: losses that are not finite, and progress."""

from __future__ import annotations

import math
from typing import Any

import keras

from features.errors import UserError
from features.progress import Progress


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
        """Looks at the loss of each step."""
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss is {logs['loss']} at step {self.epoch * self.steps + batch + 1} (epoch {self.epoch + 1}, "
                f"batch {batch + 1}): lower --learning_rate, or check the features"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Looks at the validation loss of each epoch."""
        if not math.isfinite(logs.get("val_loss", 0.0)):
            raise UserError(
                f"the validation loss is {logs['val_loss']} after step {(epoch + 1) * self.steps} (epoch {epoch + 1}): "
                f"lower --learning_rate, or check the features of the validation split"
            )


class ShowProgress(keras.callbacks.Callback):
    """Epochs done, of those there can be."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.progress = Progress("train", epochs, "epochs")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Counts."""
        self.progress.update(epoch + 1)

    def on_train_end(self, logs: Any = None) -> None:
        """Takes the bar away."""
        self.progress.close()
