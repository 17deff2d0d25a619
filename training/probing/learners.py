"""What a learning curve measures where images have one label, and where they may have several: parts, probes and errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from headstart.features.dataset.stratifying import LabelCounts, stratify
from headstart.features.store.feature_store import FeatureStore
from headstart.training.probing import ridge
from headstart.training.probing.ridge import Floats, LinearProbe
from headstart.training.scoring.bootstrap import Measure, telling_groups
from headstart.training.scoring.set_measures import mean_average_precision, telling_of

Ints = NDArray[np.int64]


class Learner(ABC):
    """How parts of a training split are drawn and learned from, and what is measured on the validation split.

    Labels are as a store has them. measure is what the errors are one less.
    """

    measure: ClassVar[str]

    @abstractmethod
    def images_a_class(self, labels: NDArray[np.integer]) -> float:
        """How many images a class has, in the mean over the classes that some image has."""

    @abstractmethod
    def parts(self, labels: NDArray[np.integer], groups: Sequence[str], shares: Sequence[float], seed: int) -> list[Ints]:
        """Row numbers of parts of the training images, each inside the next: of each class its share, groups whole.

        Args:
            labels: of N images.
            groups: N names.
            shares: 0..1, increasing, the last of them 1.
            seed: of the order that the groups are drawn in.
        """

    @abstractmethod
    def fit(self, features: Floats, labels: NDArray[np.integer], groups: Sequence[str], seed: int) -> LinearProbe:
        """A probe of a part; arguments as those of `ridge.fit`."""

    @abstractmethod
    def errors(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer]) -> Measure:
        """The probe's error on images, 0..1: a function of their weights."""

    @abstractmethod
    def telling(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer], groups: Sequence[str]) -> int:
        """In how many groups of images there is something that tells how large the probe's error is."""


class ClassLearner(Learner):
    """One label an image, int64 [N]: the accuracy."""

    measure = "accuracy"

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def images_a_class(self, labels: NDArray[np.integer]) -> float:
        """Images over classes."""
        return len(labels) / len(np.unique(labels))

    def parts(self, labels: NDArray[np.integer], groups: Sequence[str], shares: Sequence[float], seed: int) -> list[Ints]:
        """Of each class's images in a random order of the groups the first ones; a group that would go beyond is left out."""
        _, members = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
        order = np.random.default_rng(seed).permutation(members.max() + 1)[members]  # [N], one number for each group
        ends = np.zeros(len(labels))  # the share of its class that is taken up to the end of an image's group
        for name in np.unique(labels):
            own = np.flatnonzero(labels == name)
            ranks = np.sort(order[own])
            ends[own] = np.searchsorted(ranks, order[own], "right") / len(own)
            ends[own[order[own] == ranks[0]]] = 0.0  # its first group is always there
        return [np.flatnonzero(ends <= share + 1e-9) for share in shares]

    def fit(self, features: Floats, labels: NDArray[np.integer], groups: Sequence[str], seed: int) -> LinearProbe:
        """By the cross-validated accuracy."""
        return ridge.fit(features, labels.astype(np.int64), self.classes, groups, seed)

    def errors(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer]) -> Measure:
        """The share of images that are classified wrongly."""
        wrong = (probe.predict(features) != labels).astype(np.float64)
        return lambda weights: (wrong @ weights) / weights.sum(0)

    def telling(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer], groups: Sequence[str]) -> int:
        """Those with a mistake, or with a right answer, whichever are fewer."""
        return telling_groups(probe.predict(features) != labels, groups)


class SetLearner(Learner):
    """Several labels an image, uint8 [N, C]: the mean average precision."""

    measure = "mean average precision"

    def images_a_class(self, labels: NDArray[np.integer]) -> float:
        """Labels over classes: an image counts for each that it has."""
        return float(labels.sum() / labels.any(0).sum())

    def parts(self, labels: NDArray[np.integer], groups: Sequence[str], shares: Sequence[float], seed: int) -> list[Ints]:
        """The groups in a random order are divided among the parts as a dataset is among splits, each label in proportion."""
        _, members = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
        units = np.random.default_rng(seed).permutation(members.max() + 1)[members]  # [N], one number for each group
        sizes = np.bincount(units)
        counts = np.zeros((len(sizes), labels.shape[1]), np.int64)
        np.add.at(counts, units, labels)
        rows, columns = np.nonzero(counts)
        pairs = LabelCounts(rows, columns, counts[rows, columns], labels.shape[1])
        first = stratify(sizes, pairs, np.full(len(sizes), -1), np.diff(shares, prepend=0.0).tolist(), 1)  # part of each group
        return [np.flatnonzero(first[units] <= number) for number in range(len(shares))]

    def fit(self, features: Floats, labels: NDArray[np.integer], groups: Sequence[str], seed: int) -> LinearProbe:
        """By the cross-validated mean average precision."""
        return ridge.fit_sets(features, labels.astype(np.uint8), groups, seed)

    def errors(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer]) -> Measure:
        """One less the mean average precision."""
        precision = mean_average_precision(labels.astype(np.uint8), probe.scores(features).astype(np.float64))
        return lambda weights: 1 - precision(weights)

    def telling(self, probe: LinearProbe, features: Floats, labels: NDArray[np.integer], groups: Sequence[str]) -> int:
        """Those that have the rarest class, whatever the probe says."""
        return telling_of(labels.astype(np.uint8), groups)[1]


def learner_of(store: FeatureStore) -> Learner:
    """What is measured of a store's images."""
    return SetLearner() if store.label_delimiter else ClassLearner(len(store.class_names))
