"""The first step of a linear head that is fitted by whole gradients: one pass over the features in, a place to go on from out.

Where every image is answered with the classes' shares, the loss's curvature is the product of the features' covariance and of
the shares, so that Newton's step is ridge regression; the validation split chooses the ridge, and how far to go.

Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", sections 3.4.1 and 4.4, https://hastie.su.domains/ElemStatLearn
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.features.errors import UserError
from headstart.training.fitting.blocks import Blocks, Floats, cross_entropy

LARGEST = 4096  # numbers of a feature whose covariance is taken: 128 MB in float64
RIDGES = tuple(10.0 ** (step / 2) for step in range(4, -7, -1))  # what is added to the features' variances, which are about 1
LENGTHS = tuple(2.0**step for step in range(-3, 4))  # of the step, in Newton's
UNSEEN = 0.5  # images that each class counts beside those it has


@dataclass(frozen=True)
class Space:
    """Where a fit begins, and how far a step goes in each direction of `flat`, float64 [(D + 1) * C], its curvature about 1.

    weights [D, C] and bias [C] are those of the beginning; reach [C] is what a class's weights move by; factor is the lower
    triangular root [D, D] of the features' covariance and a ridge, None for that of the identity; penalty is what half of the
    weights' squares costs.
    """

    weights: Floats
    bias: Floats
    reach: Floats
    factor: Floats | None
    penalty: float

    def place(self, flat: Floats) -> tuple[Floats, Floats]:
        """The last layer's weights and bias there."""
        steps = flat.reshape(-1, len(self.bias)) * self.reach
        return self.weights + _solved(self.factor, steps[:-1], transposed=True), self.bias + steps[-1]

    def slopes(self, weights: Floats, bias: Floats) -> Floats:
        """A gradient for weights and bias as one for `flat`."""
        return (np.concatenate([_solved(self.factor, weights, transposed=False), bias[None]]) * self.reach).ravel()


def _solved(factor: Floats | None, columns: Floats, transposed: bool) -> Floats:
    from scipy.linalg import solve_triangular

    if factor is None:
        return columns
    solved: Floats = solve_triangular(factor, columns, trans=int(transposed), lower=True, check_finite=False)
    return solved


@dataclass(frozen=True)
class Moments:
    """What one pass over images tells: how many, each class's share [C], the slope of the loss in the weights [D, C] where
    everybody is answered with the shares, and the features' mean products [D, D], None where these would be too many."""

    images: int
    shares: Floats
    slopes: Floats
    products: Floats | None


def first_step(training: Blocks, validation: Blocks | None, size: int, classes: int, several: bool) -> Space:
    """From the classes' shares to where the curvature there says that the optimum lies.

    Args:
        training: the split to learn from.
        validation: what chooses the ridge and the length; None: numbers in a feature over images, and Newton's own.
        size: numbers in what the last layer sees, D. Of more than LARGEST there is no step, only the shares.
        classes: how many there are, C.
        several: whether an image may have several labels.

    Raises:
        UserError: for a feature that is not finite.
    """
    moments = _moments(training, size, classes, several)
    shares, products = moments.shares, moments.products
    bias = np.log(shares / (1 - shares) if several else shares)
    curvature = shares * (1 - shares) / classes if several else shares  # [C], of each class's weights
    if products is None:
        return Space(np.zeros((size, classes)), bias, 1 / np.sqrt(curvature), None, 0.0)

    def step(ridge: float) -> tuple[Floats, Floats]:
        factor = np.linalg.cholesky(products + ridge * np.eye(size))
        return factor, _solved(factor, _solved(factor, moments.slopes, transposed=False), transposed=True) / -curvature

    ridge, length = size / moments.images, 1.0
    if validation is not None:
        ridge, length = _chosen(lambda ridge: step(ridge)[1], ridge, bias, validation, several)
    factor, weights = step(ridge)
    return Space(weights * length, bias, 1 / np.sqrt(curvature), factor, ridge * float(curvature.mean()))


def _moments(blocks: Blocks, size: int, classes: int, several: bool) -> Moments:
    """One pass over the training split."""
    products = np.zeros((size, size)) if size <= LARGEST else None
    total, by_class, counts, images = np.zeros(size), np.zeros((classes, size)), np.zeros(classes), 0
    for feature, label, weight in blocks:
        weighted = feature * weight[:, None]
        total += weighted.sum(0)
        if several:
            by_class += label.T @ weighted
            counts += weight @ label
        else:
            _add_by_class(by_class, weighted, label)
            counts += np.bincount(label, weight, classes)
        images += len(feature)
        if products is not None:
            root = feature * np.sqrt(weight)[:, None]
            products += root.T @ root  # one array by itself: half the work of two
    if not np.isfinite(total).all():
        raise UserError("bad-numbers", "a feature of the training split is not finite: check the features")
    shares = (counts + UNSEEN) / (images + UNSEEN * (2 if several else classes))
    slopes = (total[:, None] * shares - by_class.T) / (images * (classes if several else 1))
    return Moments(images, shares, slopes, None if products is None else products / images)


def _add_by_class(totals: Floats, rows: Floats, label: Any) -> None:
    """Adds rows [B, D] to those of their classes [C, D]."""
    order = np.argsort(label, kind="stable")
    found, starts = np.unique(label[order], return_index=True)
    totals[found] += np.add.reduceat(rows[order], starts)


def _chosen(
    step: Callable[[float], Floats], near: float, bias: Floats, validation: Blocks, several: bool
) -> tuple[float, float]:
    """Of RIDGES and LENGTHS the two whose loss on the validation split is the least, downhill from the ridge near by."""

    @functools.cache
    def losses(at: int) -> Floats:  # one for each length
        weights, shift, found = step(RIDGES[at]).astype(np.float32), bias.astype(np.float32), np.zeros(len(LENGTHS))
        for feature, label, weight in validation:
            moved = feature @ weights
            found += [weight @ cross_entropy(moved * np.float32(length) + shift, label, several)[0] for length in LENGTHS]
        return found

    best = int(np.abs(np.log(RIDGES) - math.log(near)).argmin())
    while True:
        last, around = best, range(max(0, best - 1), min(len(RIDGES), best + 2))
        best = min(around, key=lambda at: losses(at).min())
        if best == last:
            return RIDGES[best], LENGTHS[losses(best).argmin()]
