"""One training of a network from its boundary's features to probabilities: watched, checked, kept, taken up again."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from headstart.training.finetuning.frozen_guard import FrozenGuard
from headstart.training.finetuning.unfreeze import SplitNetwork, training_in
from headstart.training.fitting.adam import adam
from headstart.training.fitting.batches import weighted
from headstart.training.fitting.callbacks import LossMonitor, ShowProgress, TerminateOnNonFinite, jit_here
from headstart.training.fitting.checkpoint import BestCheckpoint, Interrupted, StopOnInterrupt, interruptible
from headstart.training.fitting.devices import to_device
from headstart.training.runs import run_folder

FIRST_RATE = 0.1  # of the learning rate, where the warm-up begins


class Batches(Protocol):
    """Where features and labels come from."""

    steps: int  # an epoch's

    def training(self, first_epoch: int) -> tf.data.Dataset:
        """Batches (feature, label id), epoch after epoch, from one on; each epoch in an order of its own."""

    def validation(self) -> tf.data.Dataset | None:
        """The validation split, as it is."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    epochs: int
    patience: int
    monitor: str
    learning_rate: float
    lr_warmup: float  # the share of all steps in which the rate rises; after it, a cosine takes it to 0
    rates: Sequence[float]  # what it is multiplied by for each trained weight
    precision: str
    steps_at_once: int
    devices: int = 1
    class_weight: dict[int, float] | None = None

    @property
    def not_before(self) -> int:
        """The epoch at whose end the rate has fallen to half of its peak: patience ends no training before."""
        return math.ceil(self.epochs * (1 + self.lr_warmup) / 2)


@dataclass(frozen=True)
class FitResult:
    """What a training came to; the best epoch's weights are in the network, epoch 0 being those that it began with."""

    history: dict[str, list[float]]
    baseline: dict[str, float]
    best_epoch: int
    monitor: str
    report: str
    interrupted: bool

    @property
    def figures(self) -> dict[str, float]:
        """Those of the best epoch."""
        if self.best_epoch == 0:
            return self.baseline
        return {name: column[self.best_epoch - 1] for name, column in self.history.items()}


def fit_network(network: SplitNetwork, batches: Batches, recipe: Recipe, work: str, identity: dict[str, Any]) -> FitResult:
    """Trains until the epochs or the patience end, or somebody presses Ctrl-C; goes on from a checkpoint of the same training.

    Args:
        network: what to train; afterwards it holds the best weights.
        batches: what on.
        recipe: how.
        work: the folder of checkpoint and logs.
        identity: all that decides the outcome.

    Raises:
        UserError: naming the step at which a loss or a gradient was not finite.
        AssertionError: when a frozen weight moved.
        KeyboardInterrupt: for Ctrl-C before there was anything to keep.
    """
    with training_in(network, recipe.precision), interruptible() as asked:
        learner = LossMonitor(network.trained)
        learner.compile(
            _optimizer(recipe, batches.steps),
            loss=keras.losses.SparseCategoricalCrossentropy(),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=jit_here(),
            steps_per_execution=min(batches.steps, recipe.steps_at_once),
        )
        _build(learner)
        if list(map(id, learner.trainable_variables)) != list(map(id, network.trained.trainable_variables)):
            raise AssertionError("the rates are in another order than the weights")
        validation = batches.validation()
        if validation is not None:
            validation = weighted(validation, recipe.class_weight, learner.output_shape[-1])
        keep = BestCheckpoint(
            os.path.join(work, run_folder.CHECKPOINT), identity, recipe.monitor, recipe.patience, recipe.not_before
        )
        keep.set_model(learner)
        guard = FrozenGuard(network)
        if not keep.load() and validation is not None:
            figures = learner.evaluate(validation, verbose=0, return_dict=True)
            keep.start({f"val_{name}": value for name, value in figures.items()})
        callbacks = [
            TerminateOnNonFinite(batches.steps),
            guard,
            ShowProgress(recipe.epochs, batches.steps),
            keep,
            StopOnInterrupt(asked),
            keras.callbacks.TensorBoard(os.path.join(work, run_folder.LOGS), write_graph=False),
        ]
        over = keep.epochs >= recipe.epochs or keep.is_over()
        interrupted = not over and _fit(learner, batches, recipe, callbacks, keep, validation)
        if not keep.best_weights:
            raise KeyboardInterrupt
        keep.restore_best()
        guard.check()
    return FitResult(keep.history, keep.baseline, keep.best_epoch, recipe.monitor, guard.report, interrupted)


def _fit(learner: Any, batches: Batches, recipe: Recipe, callbacks: list[Any], keep: BestCheckpoint, validation: Any) -> bool:
    """Whether it was interrupted."""
    classes = learner.output_shape[-1]  # Keras would weigh them after batches were copied to the device
    try:
        learner.fit(
            to_device(weighted(batches.training(keep.epochs), recipe.class_weight, classes), recipe.devices),
            steps_per_epoch=batches.steps,
            validation_data=validation,
            epochs=recipe.epochs,
            initial_epoch=keep.epochs,
            shuffle=False,
            callbacks=callbacks,
            verbose=0,
        )
    except Interrupted:
        return True
    return False


def _optimizer(recipe: Recipe, steps: int) -> Any:
    total = recipe.epochs * steps
    rising = max(1, round(recipe.lr_warmup * total))
    rate = keras.optimizers.schedules.CosineDecay(
        FIRST_RATE * recipe.learning_rate,
        decay_steps=max(1, total - rising),
        warmup_target=recipe.learning_rate,
        warmup_steps=rising,
    )
    return adam(rate, recipe.precision, recipe.rates)


def _build(learner: Any) -> None:
    """Makes metrics and optimizer now: else Keras takes a batch of the pipeline to do it, and an epoch lacks one."""
    feature = np.zeros((1, *learner.inputs[0].shape[1:]), np.float32)
    learner.test_on_batch(feature, np.zeros(1, np.int64))
    learner.reset_metrics()
    learner.optimizer.build(learner.trainable_variables)
