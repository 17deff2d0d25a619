"""headstart train: a feature store in, a head trained from nothing and a model of images out. Reads the store alone."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.runtime import configure_gpus, quietly
from headstart.training.train_config import TrainConfig

if TYPE_CHECKING:
    import keras

    from headstart.features.spec import Tap
    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.fitting.batches import SplitBatches
    from headstart.training.runs.run_folder import Run


VALIDATION_BATCH = 256
STEPS_PER_EXECUTION = 256  # between two looks of Python's at a training


@quietly
def train(config: TrainConfig, head: keras.Layer | None = None, loss: Any = None) -> Run:
    """Trains a head, keeps its best epoch, and saves `model.keras`: images of 0..255 in, probabilities out.

    Args:
        config: what `headstart train` takes.
        head: any Keras layer or model from [B, *tap.shape] to [B, classes], in place of the configuration's: probabilities,
            or logits with a loss that says `from_logits=True`.
        loss: any Keras loss, or its name; labels come as one-hot rows, or as ids for the sparse ones.

    Returns:
        The complete run.

    Raises:
        UserError: for a store that is not complete, a head that does not fit, a loss that is not finite (naming the step),
            or a saved model that does not agree with the features it was trained on.
    """
    from headstart.training.runs import run_folder

    configure_gpus()  # memory grows with need
    with run_folder.claimed(config.run) as published:
        return _train(config, head, loss, published)


def _train(config: TrainConfig, head: keras.Layer | None, loss: Any, published: bool) -> Run:
    """The training, in a folder that is locked; if what was published is this very one, there is nothing to do."""
    import keras

    from headstart.features.store.feature_store import FeatureStore
    from headstart.training.fitting.batches import SplitBatches
    from headstart.training.fitting.checkpoint import goes_on
    from headstart.training.heads import attach_head
    from headstart.training.runs import run_folder
    from headstart.training.runs.agreement import check_agreement
    from headstart.training.runs.save_run import save_classifier, save_dataset, save_history

    started = time.monotonic()
    store = FeatureStore.open(config.store, unsafe=config.unsafe)
    tap = store.tap(config.tap or None)
    described = _described(config, store, tap, custom=head is not None)
    if published and head is None and loss is None and run_folder.holds(config.run, described):
        return run_folder.Run.open(config.run, config.unsafe)
    _check_splits(config, store)
    keras.utils.set_random_seed(config.seed)
    backbone = store.backbone(tap)
    loss = keras.losses.get(loss or keras.losses.SparseCategoricalCrossentropy())
    learner = _built_in(config, store, tap, loss) if head is None else _custom(head, loss, tap, len(store.class_names))
    training = SplitBatches(store, "train", tap, config.batch_size, learner.sparse)
    work = run_folder.begin(config.run, keep=lambda file: goes_on(file, {}))  # the older run stays whole until this one is
    files.write_json(os.path.join(work, run_folder.CONFIG), described)
    run = run_folder.Run(work, described, config.unsafe)
    history = _fit(config, work, training, learner)
    trained, best = learner.export(), _best(config, history)
    save_history(run, history, best["best_epoch"])
    save_classifier(run, attach_head(store.spec, backbone, trained))
    save_dataset(run, store.dataset_table, ("train", best["used_for_selection"]))
    agreement = check_agreement(run, store, tap, trained)
    run_folder.finish(work, {**best, "agreement": agreement, "seconds": round(time.monotonic() - started, 2)})
    run_folder.publish(config.run)
    return run_folder.Run.open(config.run, config.unsafe)


@dataclass(frozen=True)
class _Learner:
    """A head to fit, its loss, and how it becomes the float32 head of probabilities that is saved."""

    head: keras.Model
    loss: Any
    export: Callable[[], keras.Model]

    @property
    def sparse(self) -> bool:
        """Whether the loss takes class ids, and not one-hot rows."""
        names = (type(self.loss).__name__, getattr(self.loss, "name", ""), getattr(self.loss, "__name__", ""))
        return any("sparse" in str(name).lower() for name in names)


def _check_splits(config: TrainConfig, store: FeatureStore) -> None:
    held = ", ".join(store.splits) or "none"
    if "train" not in store.splits:
        raise UserError("missing-split", f"{config.store!r} has no examples in a train split; it has {held}")
    if "validation" not in store.splits:
        if config.monitor == "val_accuracy":
            raise UserError(
                "missing-split", f"--monitor {config.monitor} needs a validation split; {config.store!r} has {held}"
            )
        print(
            f"warning: {config.store} has no validation split: no early stopping, the best epoch is told by the training loss",
            file=sys.stderr,
        )


def _built_in(config: TrainConfig, store: FeatureStore, tap: Tap, loss: Any) -> _Learner:
    from headstart.training.fitting.batches import moments
    from headstart.training.heads import build_head, resolve_precision

    if getattr(loss, "from_logits", False):
        raise UserError(
            "bad-flag", "the built-in heads give probabilities: a loss with from_logits=True needs a head of its own"
        )
    classes, standard = len(store.class_names), moments(store, "train", tap)

    def build(precision: str) -> keras.Model:
        return build_head(config.head, tap, classes, standard, config.dropout, precision)

    def export() -> keras.Model:
        plain = build("float32")
        plain.set_weights(head.get_weights())
        return plain

    head = build(resolve_precision(config.precision))
    return _Learner(head, loss, export)


def _custom(layer: keras.Layer, loss: Any, tap: Tap, classes: int) -> _Learner:
    from headstart.training.heads import wrap_head

    from_logits = bool(getattr(loss, "from_logits", False))
    head = wrap_head(layer, tap, classes, from_logits=False)
    return _Learner(head, loss, lambda: wrap_head(layer, tap, classes, from_logits) if from_logits else head)


def _fit(config: TrainConfig, work: str, training: SplitBatches, learner: _Learner) -> dict[str, list[float]]:
    """Fits the head, leaves the weights of its best epoch in it, and returns the figures of every epoch."""
    import keras

    from headstart.training.fitting.adam import adam
    from headstart.training.fitting.batches import SplitBatches, class_weights, weighted
    from headstart.training.fitting.callbacks import LossMonitor, jit_here
    from headstart.training.heads import resolve_precision

    accuracy = keras.metrics.SparseCategoricalAccuracy if learner.sparse else keras.metrics.CategoricalAccuracy
    fitted = LossMonitor(learner.head)
    fitted.compile(
        adam(config.learning_rate, resolve_precision(config.precision)),
        loss=learner.loss,
        metrics=[accuracy(name="accuracy")],
        jit_compile=jit_here(),
        steps_per_execution=min(len(training), STEPS_PER_EXECUTION),
    )
    store, validation = training.store, None
    weights = class_weights(config.class_weight, store.examples("train"), store.class_names)
    if "validation" in store.splits:
        validation = SplitBatches(store, "validation", training.tap, VALIDATION_BATCH, learner.sparse).in_order()
        validation = weighted(validation, weights, len(store.class_names))
    history = fitted.fit(
        training.shuffled(config.seed),
        validation_data=validation,
        epochs=config.epochs,
        shuffle=False,  # the batches are shuffled already
        class_weight=weights,
        callbacks=_callbacks(config, work, validation is not None, len(training)),
        verbose=0,
    )
    return history.history


def _callbacks(config: TrainConfig, work: str, has_validation: bool, steps: int) -> list[keras.callbacks.Callback]:
    import keras

    from headstart.training.fitting.callbacks import ShowProgress, TerminateOnNonFinite
    from headstart.training.runs import run_folder

    monitor = config.monitor if has_validation else config.monitor.removeprefix("val_")
    mode = "max" if monitor.endswith("accuracy") else "min"
    patience = config.patience if has_validation else config.epochs
    return [
        TerminateOnNonFinite(steps),
        ShowProgress(config.epochs),
        keras.callbacks.EarlyStopping(monitor, patience=patience, mode=mode, restore_best_weights=True, start_from_epoch=0),
        keras.callbacks.TensorBoard(os.path.join(work, run_folder.LOGS), write_graph=False),
    ]


def _best(config: TrainConfig, history: dict[str, list[float]]) -> dict[str, Any]:
    """The epoch whose weights were kept, and its figures; those of the validation split were used to choose it."""
    monitor = config.monitor if config.monitor in history else config.monitor.removeprefix("val_")
    values = history[monitor]
    best = values.index(max(values) if monitor.endswith("accuracy") else min(values))
    return {
        "best_epoch": best + 1,
        "epochs": len(values),
        "monitor": monitor,
        "used_for_selection": "validation" if monitor.startswith("val_") else "train",
        **{name: column[best] for name, column in history.items()},
    }


def _described(config: TrainConfig, store: FeatureStore, tap: Tap, custom: bool) -> dict[str, Any]:
    """What the run is."""
    return {
        "train": {**dataclasses.asdict(config), "head": "custom" if custom else config.head},
        "store": os.path.abspath(config.store),
        "splits": store.splits,
        "spec": store.spec.to_json(),
        "fingerprint": store.spec.fingerprint,
        "tap": dataclasses.asdict(tap),
        "class_names": store.class_names,
        "dataset_digest": store.manifest.dataset_digest,
        "groups_declared": store.manifest.groups_declared,
        "max_pixels": store.manifest.max_pixels,
    }
