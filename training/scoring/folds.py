"""Groups in, and out comes the fold of each example for cross-validation: whole groups, in folds that are about equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.features.dataset.stratifying import LabelCounts, stratify

FOLDS = 5
ONE_GROUP = "all examples are one group: nothing can be left out"
ALL_ALONE = "the images of each class are all of one group: a head that leaves them out knows nothing of the class"


def fold_of(groups: Sequence[str], labels: NDArray[np.integer], classes: int, seed: int) -> NDArray[np.int64]:
    """The fold of each example, 0..4: groups whole; folds about equal, and each class's parts, as far as groups allow.

    No class is in one fold alone that need not be.

    Args:
        groups: N names.
        labels: int64 [N], 0..classes-1; of several labels an example, uint8 [N, classes], 1 for each.
        classes: how many there are.
        seed: of the line that groups stand in.
    """
    names, members = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(names))[members]  # of each example's group in the line
    rows, own = np.nonzero(labels) if labels.ndim == 2 else (np.arange(len(labels)), labels)
    pairs, counts = np.unique(place[rows] * classes + own, return_counts=True)
    folds, sizes = min(FOLDS, len(names)), np.bincount(place)
    held = LabelCounts(pairs // classes, pairs % classes, counts, classes)
    return stratify(sizes, held, np.full(len(names), -1), [1 / folds] * folds, minimum=0)[place]


def is_known(labels: NDArray[np.integer], learned: NDArray[np.integer], classes: int) -> NDArray[np.bool_]:
    """Which examples have only labels that others have which are learned from, bool [N].

    Args:
        labels: of the examples, int64 [N], or uint8 [N, classes].
        learned: of the others, likewise.
        classes: how many there are.
    """
    if labels.ndim == 2:
        return np.asarray((labels <= learned.any(axis=0)).all(axis=1))
    return np.asarray(np.bincount(learned, minlength=classes)[labels] > 0)
