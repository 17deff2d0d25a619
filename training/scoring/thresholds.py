"""From which probability on an image has a label: a threshold for each class, chosen by one split and kept for all others.

In: `truth` uint8 [N, C]; `probabilities` float [N, C], each 0..1. A label is decided where its probability is the threshold or
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.training.scoring.intervals import Floats
from headstart.training.scoring.measures import ratio
from headstart.training.scoring.set_measures import Truth, checked_sets

UNCHOSEN = 0.5  # where nothing says better


@dataclass(frozen=True)
class Threshold:
    """A class's: from which probability on, and its F1 and the images of the class among those that it was chosen by.

    f1 is None where it was not chosen, for want of images of the class.
    """

    name: str
    threshold: float
    f1: float | None
    images: int


def choose_thresholds(truth: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str]) -> list[Threshold]:
    """For each class the threshold of the largest F1; of equal ones the highest.

    It lies in the middle between two probabilities, so that rounding decides nothing. A class that no image has gets 0.5.

    Args:
        truth: uint8 [N, C].
        probabilities: float [N, C].
        class_names: C names.

    Source: Lipton, Elkan and Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure", https://arxiv.org/abs/1402.1892
    """
    labels, scores = checked_sets(truth, probabilities)
    return [_chosen(name, labels[:, number], scores[:, number]) for number, name in enumerate(class_names)]


def unchosen(class_names: Sequence[str]) -> list[Threshold]:
    """Those of classes where there is nothing to choose them by."""
    return [Threshold(name, UNCHOSEN, None, 0) for name in class_names]


def _chosen(name: str, has: Truth, scores: Floats) -> Threshold:
    images = int(has.sum())
    if not images:
        return Threshold(name, UNCHOSEN, None, 0)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # a threshold can't part equal probabilities
    f1 = ratio(2 * np.cumsum(has[order], dtype=np.float64)[ends], ends + 1 + images)
    best = int(f1.argmax())
    last = ends[best]
    following = ranked[last + 1] if last + 1 < len(ranked) else ranked[last]
    return Threshold(name, float((ranked[last] + following) / 2), float(f1[best]), images)


def thresholds_of(metrics: dict[str, Any]) -> Floats:
    """Those that a training froze in its metrics, float64 [C]."""
    return np.array([each["threshold"] for each in metrics["thresholds"]], np.float64)


def decided(probabilities: Floats, thresholds: Floats) -> Truth:
    """Which labels are decided, uint8 [..., C] of [..., C]."""
    return (probabilities.astype(np.float64) >= thresholds).astype(np.uint8)


def sets_of(labels: Truth, class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """The labels of each row of uint8 [N, C], by name."""
    return [tuple(class_names[number] for number in np.flatnonzero(row).tolist()) for row in labels]
