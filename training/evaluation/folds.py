"""Groups in, and out comes the fold of each example for cross-validation: whole groups, in folds that are about equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def fold_of(groups: Sequence[str], seed: int, folds: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each example, 0..folds-1: groups whole, in a random order, each into the fold that holds least."""
    names, members = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    sizes = np.bincount(members)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]  # large ones first, so that the folds come out even
    place, filled = np.zeros(len(names), np.int64), np.zeros(min(folds, len(names)), np.int64)
    for group in order:
        place[group] = filled.argmin()
        filled[place[group]] += sizes[group]
    return place[members]
