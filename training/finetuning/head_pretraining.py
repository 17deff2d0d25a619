"""A head before fine-tuning, where no run brings one: trained on what the frozen backbone makes of stored maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from headstart.features.spec import Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.finetuning.unfreeze import Unfreezing, split_network
from headstart.training.fitting.fit import fit_head
from headstart.training.fitting.recipe import Recipe
from headstart.training.fitting.sources import AT_ONCE, ArraySource, class_weights, moments
from headstart.training.heads import begin_at_shares, build_head
from headstart.training.tasks.task import task_of

if TYPE_CHECKING:
    from headstart.training.finetuning.finetune_config import FinetuneConfig

EPOCHS, PATIENCE, RATE, BATCH, MAX_STEPS_AT_ONCE = 100, 10, 3e-4, 32, 256  # as `headstart train` has them
FEATURE_BATCH = 64


def pretrain_head(
    config: FinetuneConfig, precision: str, store: FeatureStore, backbone: keras.Model, boundary: Tap, tap: Tap
) -> keras.Model:
    """Trains a head from nothing on the tap's features, which are computed once from the boundary's stored maps.

    Early stopping as in `headstart train`; without a validation split, all of the epochs. Nothing is left on disk: it takes
    seconds, and gives the same head again.
    """
    through = _features_of(backbone, boundary, tap, store.spec.image_size)
    splits: list[str] = [split for split in ("train", "validation") if split in store.splits]
    data = {split: (_features(through, store, split, boundary), store.labels(split)) for split in splits}
    features, classes = data["train"][0], len(store.class_names)
    standard = moments(features[start : start + AT_ONCE] for start in range(0, len(features), AT_ONCE))
    task = task_of(store.label_delimiter)
    # As `headstart train --solver auto` has it.
    solver, precision = ("lbfgs", "float32") if config.head == "linear" else ("adam", precision)
    head = build_head(config.head, tap, classes, standard, config.dropout, precision, task.activation)
    if task.several:
        begin_at_shares(head, data["train"][1])
    fitted = fit_head(head, ArraySource(data, BATCH, config.seed), _recipe(config, solver, precision, store))
    if fitted.interrupted:
        raise KeyboardInterrupt
    plain = build_head(config.head, tap, classes, standard, config.dropout, activation=task.activation)
    plain.set_weights(head.get_weights())
    return plain


def _recipe(config: FinetuneConfig, solver: str, precision: str, store: FeatureStore) -> Recipe:
    has_validation, task = "validation" in store.splits, task_of(store.label_delimiter)
    return Recipe(
        epochs=EPOCHS,
        patience=PATIENCE if has_validation else EPOCHS,
        monitor="val_loss" if has_validation else "loss",
        learning_rate=RATE,
        precision=precision,
        max_steps_at_once=MAX_STEPS_AT_ONCE,
        class_weight=class_weights(config.class_weight, store.examples("train"), store.class_names),
        loss=task.loss(),
        task=task,
        from_nothing=True,
        solver=solver,
    )


def _features_of(backbone: keras.Model, boundary: Tap, tap: Tap, image_size: tuple[int, int]) -> keras.Model:
    """The frozen layers between the boundary and the tap."""
    identity = keras.Sequential([keras.Input(tap.shape), keras.layers.Activation("linear", dtype="float32")], name="head")
    return split_network(backbone, identity, tap, Unfreezing(layer_after=boundary.layer), image_size, boundary.layer).trained


def _features(through: keras.Model, store: FeatureStore, split: str, boundary: Tap) -> np.ndarray:
    batches = store.batches(split, FEATURE_BATCH, tap=boundary.name, in_memory=False)
    return np.concatenate([through.predict_on_batch(maps.astype(np.float32)) for maps, _ in batches])
