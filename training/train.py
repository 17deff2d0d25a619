"""headstart train: a feature store in, a head trained from nothing and a model of images out. Reads the store alone.

1. the store and the tap; what is there already     training/runs/run_folder.py
2. a head, and how it becomes the one that is saved training/heads.py
3. fit: its best epoch kept, taken up when killed   training/fitting/fit.py, whole_gradient.py, or refit.py
4. a temperature and a threshold by validation      training/fitting/calibrate.py, or training/fitting/out_of_fold.py
5. save, and compare with the stored features       training/runs/save_run.py, training/runs/agreement.py
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.runtime import quietly
from headstart.training.scoring.goals import check_dataset
from headstart.training.tasks.checks import check_training
from headstart.training.train_config import DECISIONS, TrainConfig

if TYPE_CHECKING:
    import keras

    from headstart.features.spec import Tap
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.fitting.recipe import Recipe
    from headstart.training.fitting.sources import StoreSource
    from headstart.training.runs.run_folder import Run

VALIDATION_BATCH = 256
MAX_STEPS_AT_ONCE = 256  # between two looks of Python's at a training
INDIFFERENT = ("store", "run", "unsafe", "patience", *DECISIONS)  # what lies there has digests; the rest changes no epoch


@quietly
def train(config: TrainConfig, head: keras.Layer | None = None, loss: Any = None) -> Run:
    """Trains a head, keeps its best epoch, and saves `model.keras`: images of 0..255 in, probabilities out.

    Killed at any moment and called again, it goes on from its last checkpoint and ends with the same run; Ctrl-C leaves the
    best so far as a complete run, and the same call ends it. By whole gradients, and with a head or a loss of the
    caller's own, which no other process could know again, it begins anew.

    Args:
        config: what `headstart train` takes.
        head: any Keras layer or model from [B, *tap.shape] to [B, classes], in place of the configuration's: probabilities,
            or logits with a loss that says `from_logits=True`.
        loss: any Keras loss, or its name; labels come as one-hot rows, or as ids for the sparse ones; of several an image, as
            rows with a 1 for each.

    Returns:
        The complete run.

    Raises:
        UserError: for a store that is not complete, a head that does not fit, a loss that is not finite (naming the step),
            or a saved model that does not agree with the features it was trained on.
    """
    from headstart.training.runs import run_folder

    if config.at_once and (head is not None or loss is not None):
        raise UserError("bad-flag", f"{config.at_once} is for the built-in linear head and loss: leave out one or the other")
    with run_folder.claimed(config.run):
        return _train(config, head, loss)


def _train(config: TrainConfig, head: keras.Layer | None, loss: Any) -> Run:
    """The training, in a folder that is locked; if it holds this very one, there is nothing to do."""
    import keras

    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.fitting.checkpoint import goes_on
    from headstart.training.fitting.fit import fit_head
    from headstart.training.fitting.refit import refit
    from headstart.training.fitting.sources import StoreSource
    from headstart.training.heads import attach_head
    from headstart.training.runs import run_folder
    from headstart.training.runs.agreement import check_agreement
    from headstart.training.runs.older_run import check_source, leaves_alone
    from headstart.training.runs.save_run import save_classifier, save_command, save_dataset, save_history
    from headstart.training.tasks.task import task_of

    started, own = time.monotonic(), head is not None or loss is not None
    store = FeatureStore.open(config.store, unsafe=config.unsafe)
    config = config.settled(plain=not own and store.spec.views_of("train") == 1)
    tap = store.tap(config.tap or None)
    _check(config, store)
    task = task_of(store.label_delimiter)
    loss = keras.losses.get(loss or task.loss())
    task.check_loss(loss)
    everything = np.arange(store.count("train"))
    recipe = _recipe(config, store, loss, everything)
    identity = None if own else _identity(config, store, tap, recipe)
    described = _described(config, store, tap, identity, custom=head is not None)
    check_source(config.run, "train", described["store"], described["dataset_digest"], described["fingerprint"])
    if leaves_alone(config.run, described):
        return run_folder.Run.open(config.run, config.unsafe)
    keras.utils.set_random_seed(config.seed)
    backbone = store.backbone(tap)
    begin = _built_in(config, store, tap, loss) if head is None else _custom(head, loss, tap, store)
    learner = begin(everything)
    work = run_folder.begin(config.run, keep=lambda file: goes_on(file, identity or {}))  # an older run stays whole meanwhile
    _tell_tap(config, store, tap)
    files.write_json(os.path.join(work, run_folder.CONFIG), described)
    run = run_folder.Run(work, described, config.unsafe)
    if config.refit:
        trained = learner.export()
        metrics = refit(trained, store, tap, config.class_weight, config.seed, not config.no_calibrate)
    else:
        source = StoreSource(store, tap, config.batch_size, VALIDATION_BATCH, config.seed)
        fitted = fit_head(learner.head, source, recipe, work, identity)
        trained = learner.export()
        save_history(run, fitted.history, fitted.best_epoch)
        metrics = {**fitted.figures, **_decided(config, store, source, trained, fitted.interrupted, begin, loss)}
    save_classifier(run, attach_head(store.spec, backbone, trained))
    save_dataset(run, store.dataset_table, ("train", metrics["used_for_selection"]))
    if not own:
        save_command(run, "train", config)
    agreement = check_agreement(run, store, tap, trained)
    metrics = {**metrics, "agreement": agreement, "seconds": round(time.monotonic() - started, 2)}
    run_folder.finish(work, metrics, () if metrics["interrupted"] else (run_folder.CHECKPOINT,))
    run_folder.publish(config.run)
    return run_folder.Run.open(config.run, config.unsafe)


class _Learner(NamedTuple):
    """A head to fit, and how it becomes the float32 head of probabilities that is saved."""

    head: keras.Model
    export: Callable[[], keras.Model]


Begin = Callable[[np.ndarray], _Learner]  # a head from nothing, to learn from these examples of the training split


def _decided(
    config: TrainConfig,
    store: FeatureStore,
    source: StoreSource,
    trained: keras.Model,
    interrupted: bool,
    begin: Begin,
    loss: Any,
) -> dict[str, Any]:
    """The temperature into a trained head, and thresholds; by the validation split, or else out of fold."""
    from headstart.training.fitting.calibrate import INTERRUPTED, NOT_ASKED, Decisions, decide, decide_by, undecided
    from headstart.training.fitting.out_of_fold import Begun, answers_out_of_fold
    from headstart.training.tasks.task import task_of

    asked = Decisions.of(config, store.class_names, task_of(store.label_delimiter))
    if "validation" in store.splits:
        return decide(trained, trained, source, store.examples("validation"), asked)
    if interrupted or asked.no_calibrate:
        return undecided(INTERRUPTED if interrupted else NOT_ASKED, asked)
    kept = [variable.numpy() for variable in trained.variables]  # a head of the caller's own is begun again, and is no other

    def begun(learned: np.ndarray) -> Begun:
        return Begun(*begin(learned), _recipe(config, store, loss, learned))

    try:
        seen = answers_out_of_fold(store, source.tap, begun, config.batch_size, config.seed, asked)
    except KeyboardInterrupt:
        return {**undecided(INTERRUPTED, asked), "interrupted": True}
    finally:
        _assign(trained, kept)
    return undecided(seen, asked) if isinstance(seen, str) else decide_by(trained, seen, asked)


def _assign(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _tell_tap(config: TrainConfig, store: FeatureStore, tap: Tap) -> None:
    if not config.tap and len(store.spec.taps) > 1:
        print(f"tap {tap.name}, the deepest of {len(store.spec.taps)}: --tap names another", file=sys.stderr)


def _check(config: TrainConfig, store: FeatureStore) -> None:
    held = ", ".join(store.splits) or "none"
    if "train" not in store.splits:
        raise UserError("missing-split", f"{config.store!r} has no examples in a train split; it has {held}")
    if "validation" not in store.splits and not config.refit:
        if config.monitor == "val_accuracy":
            raise UserError(
                "missing-split", f"--monitor {config.monitor} needs a validation split; {config.store!r} has {held}"
            )
        print(
            f"warning: {config.store} has no validation split: no early stopping, the training loss chooses the best epoch",
            file=sys.stderr,
        )
    if config.at_once and store.spec.views_of("train") > 1:
        views = f"the augmented views of {config.store}"
        print(f"warning: {config.at_once} learns from plain images alone, not from {views}", file=sys.stderr)
    check_dataset(config.operating_point, config.positive_class, store.class_names, store.splits)
    check_training(config, store.label_delimiter)


def _built_in(config: TrainConfig, store: FeatureStore, tap: Tap, loss: Any) -> Begin:
    from headstart.training.fitting.sources import stored_moments
    from headstart.training.heads import begin_at_shares, build_head, resolve_precision
    from headstart.training.tasks.task import task_of

    if getattr(loss, "from_logits", False):
        raise UserError(
            "bad-flag", "the built-in heads give probabilities: a loss with from_logits=True needs a head of its own"
        )
    classes, task = len(store.class_names), task_of(store.label_delimiter)

    def begin(learned: np.ndarray) -> _Learner:
        standard = stored_moments(store, tap, learned)

        def build(precision: str) -> keras.Model:
            return build_head(config.head, tap, classes, standard, config.dropout, precision, task.activation)

        def export() -> keras.Model:
            plain = build("float32")
            plain.set_weights(head.get_weights())
            return plain

        head = build(resolve_precision(config.precision_asked))
        if task.several:
            begin_at_shares(head, store.labels("train")[learned])
        return _Learner(head, export)

    return begin


def _custom(layer: keras.Layer, loss: Any, tap: Tap, store: FeatureStore) -> Begin:
    from headstart.training.heads import wrap_head
    from headstart.training.tasks.task import task_of

    classes, activation = len(store.class_names), task_of(store.label_delimiter).activation
    from_logits = bool(getattr(loss, "from_logits", False))
    head = wrap_head(layer, tap, classes, from_logits=False)
    first = [variable.numpy() for variable in head.variables]  # it can't be built again: each training begins with these

    def begin(_: np.ndarray) -> _Learner:
        _assign(head, first)
        return _Learner(head, lambda: wrap_head(layer, tap, classes, from_logits, activation) if from_logits else head)

    return begin


def _recipe(config: TrainConfig, store: FeatureStore, loss: Any, learned: np.ndarray) -> Recipe:
    """How a head is fitted to some examples of the training split."""
    from headstart.training.fitting.recipe import Recipe
    from headstart.training.fitting.sources import class_weights
    from headstart.training.heads import resolve_precision
    from headstart.training.tasks.task import task_of

    has_validation = "validation" in store.splits
    return Recipe(
        epochs=config.epochs,
        patience=config.patience if has_validation else config.epochs,
        monitor=config.monitor if has_validation else config.monitor.removeprefix("val_"),
        learning_rate=config.learning_rate,
        precision=resolve_precision(config.precision_asked),
        max_steps_at_once=MAX_STEPS_AT_ONCE,
        class_weight=class_weights(config.class_weight, store.examples("train").take(learned), store.class_names),
        loss=loss,
        task=task_of(store.label_delimiter),
        from_nothing=True,
        solver=config.solver,
    )


def _identity(config: TrainConfig, store: FeatureStore, tap: Tap, recipe: Recipe) -> dict[str, Any]:
    """All that decides what an epoch does."""
    from headstart.training.fitting.checkpoint import deciding

    settled = {"tap": tap.name, "monitor": recipe.monitor, "precision": recipe.precision}
    holds = {"store": store.spec.fingerprint, "dataset": store.manifest.dataset_digest}
    return {**deciding(config, INDIFFERENT), **settled, **holds}


def _described(
    config: TrainConfig, store: FeatureStore, tap: Tap, identity: dict[str, Any] | None, custom: bool
) -> dict[str, Any]:
    """What the run is."""
    return {
        "train": {**dataclasses.asdict(config), "head": "custom" if custom else config.head},
        "identity": identity,
        "store": place.absolute(config.store),
        "splits": store.splits,
        "spec": store.spec.to_json(),
        "fingerprint": store.spec.fingerprint,
        "tap": dataclasses.asdict(tap),
        "class_names": store.class_names,
        "dataset_digest": store.manifest.dataset_digest,
        "groups_declared": store.manifest.groups_declared,
        "max_pixels": store.manifest.max_pixels,
        **({"label_delimiter": store.label_delimiter} if store.label_delimiter else {}),
    }
