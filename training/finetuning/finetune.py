"""headstart finetune: augmentation and fine-tuning. A run and its images in, or stored feature maps; a better run out.

1. where it begins: a run's backbone and head, or a store's with a head trained first   training/finetuning/starting_points.py
2. split: the frozen part below, run by the engine or stored; what is trained above     training/finetuning/unfreeze.py
3. fit: watched, checked, taken up where it was left                                    training/fitting/fit.py
4. a temperature and a threshold by the validation split                                training/fitting/calibrate.py
5. save: the same kind of run as `headstart train` leaves                               training/runs/save_run.py
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.runtime import quietly
from headstart.features.spec import FeatureSpec
from headstart.training.finetuning.finetune_config import HEAD_RATE, READING, UNFROZEN_RATE, FinetuneConfig
from headstart.training.train_config import DECISIONS

if TYPE_CHECKING:
    from headstart.training.finetuning.starting_points import StartingPoint
    from headstart.training.finetuning.unfreeze import SplitNetwork
    from headstart.training.fitting.recipe import FitResult, Recipe
    from headstart.training.runs.run_folder import Run

NO_VALIDATION = (
    "warning: there is no validation split: no early stopping, and the epoch with the least training loss is kept, be it "
    "better or worse than what it began with"
)


@quietly
def finetune(config: FinetuneConfig) -> Run:
    """Trains the head on augmented images, or layers of the backbone with it, and keeps the best epoch.

    Killed at any moment and called again, it goes on from its last checkpoint and ends with the same figures to rounding.

    Args:
        config: what `headstart finetune` takes.

    Returns:
        The complete run; its model is the better one of what it began with and what training made of it.

    Raises:
        UserError: for a layer that does not exist, other images or classes than the run's, a store without the tap, a
            precision that the device lacks, or a loss or gradient that is not finite (naming the step).
    """
    from headstart.training.runs import run_folder

    with run_folder.claimed(config.run):
        return _finetune(config)


def _finetune(config: FinetuneConfig) -> Run:
    """The training, in a folder that is locked; if it holds this very one and whole, there is nothing to do."""
    import keras

    from headstart.training.finetuning.starting_points import from_images, from_store, source_of
    from headstart.training.finetuning.unfreeze import describe
    from headstart.training.fitting.checkpoint import goes_on
    from headstart.training.fitting.devices import spread_over
    from headstart.training.heads import resolve_precision
    from headstart.training.runs import run_folder
    from headstart.training.runs.older_run import check_source, leaves_alone
    from headstart.training.scoring.goals import check_dataset
    from headstart.training.tasks.checks import check_training

    started = time.monotonic()
    check_source(config.run, "finetune", *source_of(config))
    precision = resolve_precision(config.precision)
    keras.utils.set_random_seed(config.seed)
    with spread_over(config.devices):
        begin = from_store(config, precision) if config.from_store else from_images(config, precision)
        check_training(config, begin.label_delimiter)
        check_dataset(config.operating_point, config.positive_class, begin.class_names, begin.table.splits)
        recipe = _recipe(config, begin, precision)
        identity = _identity(config, begin, recipe)
        decisions = {name: getattr(config, name) for name in DECISIONS}
        described = {"finetune": dataclasses.asdict(config), "identity": identity, "decisions": decisions, **begin.facts}
        if leaves_alone(config.run, described):
            return run_folder.Run.open(config.run, config.unsafe)
        work = run_folder.begin(config.run, keep=lambda file: goes_on(file, identity))
        for line in describe(begin.network):
            print(line, file=sys.stderr, flush=True)
        begin.picture(work)
        fitted, first_step = _fit(begin, recipe, work, identity)
    _finish(config, work, begin, fitted, described, first_step, started)
    run_folder.publish(config.run)
    return run_folder.Run.open(config.run, config.unsafe)


def _fit(begin: StartingPoint, recipe: Recipe, work: str, identity: dict[str, Any]) -> tuple[FitResult, str]:
    """The training, after which the network holds its best weights, and what the first step moved.

    Raises:
        AssertionError: when a frozen weight moved.
    """
    from headstart.training.finetuning.frozen_guard import FrozenGuard
    from headstart.training.finetuning.unfreeze import training_in
    from headstart.training.fitting.fit import fit_network

    with training_in(begin.network, recipe.precision):
        guard = FrozenGuard(begin.network)
        fitted = fit_network(begin.network.trained, begin.source, recipe, work, identity, [guard])
        guard.check()
    return fitted, guard.report


def _finish(
    config: FinetuneConfig,
    work: str,
    begin: StartingPoint,
    fitted: FitResult,
    described: dict[str, Any],
    first_step: str,
    started: float,
) -> None:
    """Everything into the work folder, the metrics last."""
    from headstart.training.fitting.calibrate import Decisions, decide
    from headstart.training.heads import attach_head
    from headstart.training.runs import run_folder
    from headstart.training.runs.save_run import save_classifier, save_command, save_dataset, save_history
    from headstart.training.tasks.task import task_of

    network = begin.network
    spec = _spec_after(begin.spec, network)
    described = {
        **described,
        "spec": spec.to_json(),
        "fingerprint": spec.fingerprint,
        "tap": dataclasses.asdict(network.tap),
        "class_names": begin.class_names,
        "unfrozen": network.unfrozen,
    }
    files.write_json(os.path.join(work, run_folder.CONFIG), described)
    run = run_folder.Run(work, described, config.unsafe)
    if fitted.history:
        save_history(run, fitted.history, fitted.best_epoch)
    network.backbone.trainable = False
    held_out = begin.table.examples("validation")
    asked = Decisions.of(config, begin.class_names, task_of(begin.label_delimiter))
    decided = decide(network.head, network.trained, begin.source, held_out, asked)
    save_classifier(run, attach_head(begin.spec, network.backbone, network.head))
    figures = {**fitted.figures, **decided}
    chose = {begin.chose, figures["used_for_selection"]}
    save_dataset(run, begin.table, ("train", *chose))
    save_command(run, "finetune", config)
    metrics = {
        **figures,
        "used_for_selection": "validation" if "validation" in chose else "train",
        "began_chosen_by": begin.chose,
        "before": fitted.baseline,
        "first_step": first_step,
        "agreement": begin.check(run),
        "seconds": round(time.monotonic() - started, 2),
    }
    run_folder.finish(work, metrics, () if fitted.interrupted else (run_folder.CHECKPOINT,))


def _spec_after(spec: FeatureSpec, network: SplitNetwork) -> FeatureSpec:
    """What the model's features are now: a backbone with other weights makes other features."""
    from headstart.features.backbones.build import weights_digest

    if not network.unfrozen:
        return spec
    return dataclasses.replace(
        spec.plain,
        weights_digest=weights_digest(network.base),
        taps=(network.tap,),
        compute_dtype=spec.model_dtype,
        quantized="",
    )


def _recipe(config: FinetuneConfig, begin: StartingPoint, precision: str) -> Recipe:
    from headstart.training.fitting.recipe import Recipe
    from headstart.training.fitting.sources import class_weights
    from headstart.training.tasks.task import task_of

    unfrozen = bool(begin.network.unfrozen)
    has_validation = "validation" in begin.table.splits
    monitor = config.monitor if has_validation else config.monitor.removeprefix("val_")
    task = task_of(begin.label_delimiter)
    if not has_validation:
        if config.monitor == "val_accuracy":
            raise UserError("missing-split", f"--monitor {config.monitor} needs a validation split; there is none")
        print(NO_VALIDATION, file=sys.stderr)
    return Recipe(
        epochs=config.epochs,
        patience=config.patience if has_validation else config.epochs + 1,
        monitor=monitor,
        learning_rate=config.learning_rate if config.learning_rate is not None else UNFROZEN_RATE if unfrozen else HEAD_RATE,
        lr_warmup=config.lr_warmup,
        rates=begin.network.rates(config.layer_decay, begin.spec.image_size),
        precision=precision,
        max_steps_at_once=begin.max_steps_at_once if config.devices == 1 else 1,  # Keras can't do several over devices
        devices=config.devices,
        class_weight=class_weights(config.class_weight, begin.table.examples("train"), begin.class_names),
        loss=task.loss(),
        task=task,
    )


PLACES = ("run", "input", "init_from", "from_store")  # what lies there decides, and has digests
INDIFFERENT = (
    *PLACES,
    *READING,
    *DECISIONS,
    "unsafe",
    "patience",
)  # patience ends a training sooner or later, and changes no epoch


def _identity(config: FinetuneConfig, begin: StartingPoint, recipe: Recipe) -> dict[str, Any]:
    """All that decides what an epoch does: a checkpoint must have been made with the same to be taken up."""
    from headstart.training.fitting.checkpoint import deciding

    settled = {"learning_rate": recipe.learning_rate, "monitor": recipe.monitor, "precision": recipe.precision}
    return {**deciding(config, INDIFFERENT), **settled, **begin.identity}
