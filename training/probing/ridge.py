"""A linear probe in closed form: standardised features and labels in, a classifier with its regularisation chosen out.

Ridge regression on one-hot labels. One eigendecomposition serves every regularisation and every fold: the error on examples
left out follows from the fit to all of them, so nothing is fitted twice. numpy alone.

Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", sections 3.4.1 and 7.10, https://hastie.su.domains/ElemStatLearn;
for what a fit says of the examples that it leaves out, Golub, Heath and Wahba, https://doi.org/10.1080/00401706.1979.10489751
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.training.scoring.folds import fold_of
from headstart.training.scoring.set_measures import mean_average_precision, value

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

REGULARISATIONS = tuple(10.0 ** (step / 2) for step in range(-6, 7))  # as multiples of the mean eigenvalue, 1e-3..1e3
MIN_EIGENVALUE = 1e-6  # of the largest: below it float32 features hold only rounding


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe; `regularisation` is a multiple of the features' mean eigenvalue, `accuracy` the cross-validated one.

    Where images may have several labels, that is the mean average precision.
    """

    mean: Floats  # [D]
    deviation: Floats  # [D]
    weights: Floats  # [D, C]
    bias: Floats  # [C]
    regularisation: float
    accuracy: float

    def predict(self, features: Floats) -> Ints:
        """float32 [N, D] to class ids [N]."""
        return self.scores(features).argmax(1).astype(np.int64)

    def scores(self, features: Floats) -> Floats:
        """float32 [N, D] to how much speaks for each class, float [N, C]."""
        found: Floats = ((features - self.mean) / self.deviation) @ self.weights + self.bias
        return found


def fit(features: Floats, labels: Ints, classes: int, groups: Sequence[str], seed: int = 0) -> LinearProbe:
    """Fits a probe, its regularisation chosen by cross-validation over whole groups.

    Args:
        features: float32 [N, D], N at least 1.
        labels: int64 [N], 0..classes-1.
        classes: how many there are.
        groups: N names; examples of one name stay in one fold.
        seed: of which group goes into which fold.

    Returns:
        The probe with the best cross-validated accuracy; of equals the most regularised. With a single group, which nothing
        can be left out of, the regularisation is the mean eigenvalue and the accuracy nan.
    """
    return _fit(features, np.eye(classes)[labels], groups, seed, lambda scores: float((scores.argmax(1) == labels).mean()))


def fit_sets(features: Floats, truth: NDArray[np.uint8], groups: Sequence[str], seed: int = 0) -> LinearProbe:
    """The same for images that may have several labels: each a column of its own, and the mean average precision decides.

    Args:
        features: float32 [N, D], N at least 1.
        truth: uint8 [N, C], 1 for each label of an image.
        groups: N names; examples of one name stay in one fold.
        seed: of which group goes into which fold.
    """
    return _fit(
        features,
        truth.astype(np.float64),
        groups,
        seed,
        lambda scores: float(value(mean_average_precision(truth, scores.astype(np.float64)), len(truth))),
    )


def _fit(features: Floats, wanted: Floats, groups: Sequence[str], seed: int, judge: Callable[[Floats], float]) -> LinearProbe:
    """A probe that gives what is wanted, [N, C]; judge says how good what was left out was told, [N, C]."""
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, max(0.1 * float(deviation.mean()), 1e-6)).astype(np.float32)  # as in `model.build_head`
    standard = (features - mean) / deviation  # [N, D]
    values, basis, directions = _decomposed(standard)
    shares = wanted.sum(0) / len(wanted)  # [C]
    targets = wanted - shares  # [N, C]
    scale = float(values.mean()) if len(values) else 1.0
    folds = fold_of(groups, wanted.astype(np.uint8), wanted.shape[1], seed)
    chosen, best = 1.0, np.nan
    if folds.max() > 0:
        accuracies = [judge(_left_out(basis, values, ratio * scale, targets, shares, folds)) for ratio in REGULARISATIONS]
        best = max(accuracies)
        chosen = max(ratio for ratio, found in zip(REGULARISATIONS, accuracies) if found == best)
    inner = (np.sqrt(values) / (values + chosen * scale))[:, None] * (basis.T @ targets)  # [rank, C]
    weights = (directions @ inner.astype(np.float32)).astype(np.float32)
    return LinearProbe(mean, deviation, weights, shares.astype(np.float32), chosen, float(best))


def _decomposed(standard: Floats) -> tuple[Floats, Floats, Floats]:
    """Eigenvalues [R] of the features' covariance, the examples' basis [N, R] and the features' directions [D, R].

    Of the N x N and the D x D matrix that have the same eigenvalues, the smaller one is taken.
    """
    count, width = standard.shape
    gram = standard @ standard.T if width > count else standard.T @ standard
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    kept = values > MIN_EIGENVALUE * max(float(values[-1]), 1e-30)
    values, vectors = values[kept], vectors[:, kept]
    other = (standard.T if width > count else standard) @ (vectors / np.sqrt(values)).astype(np.float32)
    return (values, vectors, other) if width > count else (values, other.astype(np.float64), vectors.astype(np.float32))


def _left_out(basis: Floats, values: Floats, penalty: float, targets: Floats, shares: Floats, folds: Ints) -> Floats:
    """What each example gets from a fit to all folds but its own, [N, C]."""
    half = basis * np.sqrt(values / (values + penalty))  # [N, R]; half @ half.T takes targets to fitted values
    residuals = targets - half @ (half.T @ targets)
    told = np.empty_like(targets)
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        hat = half[own] @ half[own].T + 1 / len(targets)  # the bias, free in each fold, adds 1 / N
        error = np.linalg.solve(np.eye(len(hat)) - hat, residuals[own])
        told[own] = targets[own] - error + shares
    return told
