"""A training split in, out come answers to its images by heads that were trained without them: where nothing validates.

The training split is cut into folds, whole groups and each class in proportion; for each fold a head is trained as the one
that is saved, on the others alone. What the heads say of the images left out stands for what the one that is saved, trained on
all, would say of new ones.

Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", section 7.10, https://hastie.su.domains/ElemStatLearn
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from headstart.features.dataset.examples import drawn_together
from headstart.features.spec import Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.fitting.calibrate import Decisions, HeldOut, held_out
from headstart.training.fitting.fit import fit_head
from headstart.training.fitting.recipe import Recipe
from headstart.training.fitting.sources import StoreSource, plain_batches
from headstart.training.scoring.folds import ALL_ALONE, ONE_GROUP, fold_of, is_known


class Begun(NamedTuple):
    """A head to fit, how it becomes the float32 head of probabilities, and how it is fitted."""

    head: keras.Model
    export: Callable[[], keras.Model]
    recipe: Recipe


def answers_out_of_fold(
    store: FeatureStore,
    tap: Tap,
    begin: Callable[[np.ndarray], Begun],
    batch_size: int,
    seed: int,
    asked: Decisions,
) -> HeldOut | str:
    """Trains a head for each fold, and collects its answers to the plain views of what it was not trained on.

    An image is left out of them where the other folds have none of one of its classes: the head that is saved has some.

    Args:
        store: has a training split; nothing else of it is read.
        tap: whose features the heads take.
        begin: makes a head of the recipe, given the examples of the training split that it learns from, int64 [N].
        batch_size: examples a step.
        seed: of the folds, and with a fold's number of all that is random in its training.
        asked: what the answers are for.

    Returns:
        The answers; or why there are none.

    Raises:
        KeyboardInterrupt: for Ctrl-C.
        UserError: as `fit_network` does.
    """
    labels, classes = store.labels("train"), len(store.class_names)
    groups = np.array(drawn_together(store.examples("train")), object)
    of = fold_of(groups.tolist(), labels, classes, seed)
    folds, found = np.unique(of), list[HeldOut]()
    if len(folds) == 1:
        return ONE_GROUP
    for number, fold in enumerate(folds, 1):
        learned, own = np.flatnonzero(of != fold), np.flatnonzero(of == fold)
        own = own[is_known(labels[own], labels[learned], classes)]
        if not len(own):
            continue
        fold_seed = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        keras.utils.set_random_seed(fold_seed)
        begun = begin(learned)
        source = StoreSource(store, tap, batch_size, batch_size, fold_seed, learned)
        recipe = dataclasses.replace(begun.recipe, progress=f"calibrate: fold {number} of {len(folds)}")
        if fit_head(begun.head, source, recipe).interrupted:
            raise KeyboardInterrupt
        head = begun.export()

        def batches(own: np.ndarray = own) -> Iterable[tuple[np.ndarray, np.ndarray]]:
            return plain_batches(store, tap, "train", own)

        found.append(held_out(head, head, batches, groups[own].tolist(), asked))
        if isinstance(found[-1].logits, str):
            return found[-1].logits
    return _together(found, len(folds)) if found else ALL_ALONE


def _together(found: list[HeldOut], folds: int) -> HeldOut:
    """All folds' answers."""

    def joined(name: str) -> Any:
        return np.concatenate([getattr(each, name) for each in found])

    groups = [group for each in found for group in each.groups]
    return HeldOut(joined("labels"), joined("probabilities"), joined("logits"), groups, folds)
