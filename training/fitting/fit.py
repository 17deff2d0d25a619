"""One training, of a head alone or with layers below it: watched, checked, its best epoch kept, taken up where it was left.

`headstart train`, the head before a fine-tuning and `headstart finetune` all go this way; they differ in the source of their
examples, in the recipe, and in what else watches.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from headstart.features.store.epochs import Position
from headstart.training.fitting.adam import adam
from headstart.training.fitting.callbacks import AtEpoch, LossMonitor, ShowProgress, TerminateOnNonFinite, jit_here
from headstart.training.fitting.checkpoint import BestCheckpoint, Interrupted, StopOnInterrupt, interruptible
from headstart.training.fitting.pipeline import Labels, Source, WholeSource, training_pipeline, validation_pipeline
from headstart.training.fitting.recipe import FitResult, Recipe
from headstart.training.fitting.whole_gradient import fit_whole
from headstart.training.runs import run_folder

FIRST_RATE = 0.1  # of the learning rate, where the warm-up begins
LOOP_STEPS = 200  # that many steps one at a time take less than making a loop of them
CHECKPOINT_SHARE = 0.05  # of the time: an epoch may be over sooner than a checkpoint is written


def fit_head(
    model: keras.Model, source: WholeSource, recipe: Recipe, work: str = "", identity: Mapping[str, Any] | None = None
) -> FitResult:
    """Fits a head by its recipe's solver; arguments and errors as those of `fit_network`."""
    if recipe.solver == "lbfgs":
        return fit_whole(model, source, recipe)
    return fit_network(model, source, recipe, work, identity)


def fit_network(
    model: keras.Model,
    source: Source,
    recipe: Recipe,
    work: str = "",
    identity: Mapping[str, Any] | None = None,
    watching: Sequence[keras.callbacks.Callback] = (),
) -> FitResult:
    """Trains until the epochs or the patience end, or somebody presses Ctrl-C; goes on from a checkpoint of the same training.

    Args:
        model: what to train, from features to probabilities; afterwards it holds the best weights.
        source: what on.
        recipe: how.
        work: the folder of checkpoint and logs; without one, nothing is left on disk.
        identity: all that decides the outcome; without it there is no checkpoint.
        watching: callbacks that look at each step.

    Raises:
        UserError: naming the step at which a loss or a gradient was not finite.
        KeyboardInterrupt: for Ctrl-C before there was anything to keep.
    """
    with interruptible() as asked:
        learner, steps = LossMonitor(model), source.size.steps(recipe.devices)
        labels = Labels(learner.output_shape[-1], recipe.one_hot, recipe.class_weight, recipe.task.several)
        _compile(learner, recipe, steps, labels)
        if list(map(id, learner.trainable_variables)) != list(map(id, model.trainable_variables)):
            raise AssertionError("the rates are in another order than the weights")
        validation = validation_pipeline(source, labels, recipe.devices)
        keep = BestCheckpoint(
            os.path.join(work, run_folder.CHECKPOINT) if work and identity is not None else "",
            identity or {},
            recipe.monitor,
            recipe.patience,
            recipe.not_before,
            CHECKPOINT_SHARE,
        )
        keep.set_model(learner)
        if not keep.load() and validation is not None and not recipe.from_nothing:
            figures = learner.evaluate(validation, verbose=0, return_dict=True)
            keep.start({f"val_{name}": value for name, value in figures.items()})
        position = Position(keep.epochs)
        callbacks = [
            AtEpoch(position),
            TerminateOnNonFinite(steps),
            *watching,
            ShowProgress(recipe.progress, recipe.epochs, steps),
            keep,
            StopOnInterrupt(asked),
            *([keras.callbacks.TensorBoard(os.path.join(work, run_folder.LOGS), write_graph=False)] if work else []),
        ]
        training = training_pipeline(source, position, labels, recipe.devices)
        over = keep.epochs >= recipe.epochs or keep.is_over()
        interrupted = not over and _is_interrupted(learner, training, validation, recipe, steps, position.epoch, callbacks)
        if not keep.best_weights:
            raise KeyboardInterrupt
        keep.restore_best()
    return FitResult(keep.history, keep.baseline, keep.best_epoch, recipe.monitor, interrupted)


def _is_interrupted(
    learner: Any, training: Any, validation: Any, recipe: Recipe, steps: int, first: int, callbacks: list[Any]
) -> bool:
    """Fits; whether that was interrupted."""
    try:
        learner.fit(
            training,
            # Told of its steps, Keras begins an epoch once, not twice; several devices would read ahead of the position.
            steps_per_epoch=steps if recipe.devices == 1 else None,
            validation_data=validation,
            epochs=recipe.epochs,
            initial_epoch=first,
            shuffle=False,  # each epoch is shuffled already
            callbacks=callbacks,
            verbose=0,
        )
    except Interrupted:
        return True
    return False


def _compile(learner: Any, recipe: Recipe, steps: int, labels: Labels) -> None:
    """Makes all of the training now: on several devices, or by JAX, Keras would take a batch of the pipeline to do it."""
    learner.compile(
        adam(_rate(recipe, steps), recipe.precision, recipe.rates),
        loss=recipe.loss,
        metrics=recipe.metrics,
        jit_compile=jit_here(),
        steps_per_execution=min(steps, recipe.max_steps_at_once) if steps * recipe.epochs > LOOP_STEPS else 1,
    )
    learner.optimizer.build(learner.trainable_variables)
    if recipe.devices > 1 or keras.backend.backend() != "tensorflow":
        rows = recipe.one_hot or recipe.task.several
        label = np.eye(1, labels.classes, dtype=np.float32) if rows else np.zeros(1, np.int64)
        learner.test_on_batch(np.zeros((1, *learner.inputs[0].shape[1:]), np.float32), label)
        learner.reset_metrics()


def _rate(recipe: Recipe, steps: int) -> Any:
    """The learning rate: a number, or a schedule over all steps."""
    if recipe.lr_warmup is None:
        return recipe.learning_rate
    total = recipe.epochs * steps
    rising = max(1, round(recipe.lr_warmup * total))
    return keras.optimizers.schedules.CosineDecay(
        FIRST_RATE * recipe.learning_rate,
        decay_steps=max(1, total - rising),
        warmup_target=recipe.learning_rate,
        warmup_steps=rising,
    )
