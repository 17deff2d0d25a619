"""Units of images that may have several labels in, the split of each out: every label in proportion, as far as sets allow.

The rarest label is divided first, for nothing could mend it later; each unit goes where that label is lacked most.

Source: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", https://doi.org/10.1007/978-3-642-23808-6_10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class LabelCounts:
    """How many images of each unit have each label: the different pairs, by unit."""

    units: np.ndarray  # int64 [pairs], rising
    labels: np.ndarray  # int64 [pairs]
    counts: np.ndarray  # int64 [pairs]
    classes: int

    def by_unit(self, units: int) -> list[slice]:
        """Where each unit's pairs are."""
        ends = np.searchsorted(self.units, np.arange(units + 1)).tolist()
        return [slice(start, end) for start, end in pairwise(ends)]


def stratify(sizes: np.ndarray, pairs: LabelCounts, chosen: np.ndarray, shares: Sequence[float], minimum: int) -> np.ndarray:
    """Gives every unit without a split one.

    Ties are broken by the split that lacks most images, then by the first one; units of one label are taken by size, the
    largest first, and in their line. So nothing is random but the line.

    Args:
        sizes: the images of each unit, int64 [U], in line.
        pairs: their labels.
        chosen: the number of the split that each unit has already, int64 [U], -1 for none.
        shares: of each split, adding up to 1.
        minimum: images of each label that a split shall have at least, where they suffice.

    Returns:
        The number of each unit's split, int64 [U].
    """
    chosen, own, proportions = chosen.copy(), pairs.by_unit(len(sizes)), np.array(shares)
    lacked = _wanted(np.bincount(pairs.labels, pairs.counts, pairs.classes), proportions, minimum)  # [classes, splits]
    lacked_at_all = sizes.sum() * proportions
    has_split = chosen >= 0
    has = has_split[pairs.units]
    np.subtract.at(lacked, (pairs.labels[has], chosen[pairs.units[has]]), pairs.counts[has])
    np.subtract.at(lacked_at_all, chosen[has_split], sizes[has_split])
    left = np.bincount(pairs.labels[~has], pairs.counts[~has], pairs.classes)  # images without a split

    def give(unit: int, rows: list[float]) -> None:
        split = max(range(len(rows)), key=lambda each: (rows[each], lacked_at_all[each]))
        chosen[unit] = split
        labels, counts = pairs.labels[own[unit]], pairs.counts[own[unit]]
        lacked[labels, split] -= counts
        lacked_at_all[split] -= sizes[unit]
        left[labels] -= counts

    by_label = np.argsort(pairs.labels, kind="stable")
    of_label = np.searchsorted(pairs.labels[by_label], np.arange(pairs.classes + 1))
    while (left > 0).any():
        label = int(np.where(left > 0, left, np.inf).argmin())
        units = pairs.units[by_label[of_label[label] : of_label[label + 1]]]
        units = units[chosen[units] < 0]
        for unit in units[np.argsort(-sizes[units], kind="stable")].tolist():
            give(unit, lacked[label].tolist())
    without = np.flatnonzero(chosen < 0)
    for unit in without[np.argsort(-sizes[without], kind="stable")].tolist():
        give(unit, lacked_at_all.tolist())
    return chosen


def _wanted(totals: np.ndarray, shares: np.ndarray, minimum: int) -> np.ndarray:
    """Images of each label for each split, float [classes, splits]: in proportion, above the minimum where all can have it."""
    wanted = totals[:, None] * shares
    least = np.where(totals >= minimum * len(shares), minimum, 0)[:, None]
    above = np.maximum(wanted - least, 0)
    spare = totals[:, None] - least * len(shares)
    whole: np.ndarray = least + above * np.divide(
        spare, above.sum(1, keepdims=True), out=np.zeros_like(above[:, :1]), where=spare > 0
    )
    return whole
