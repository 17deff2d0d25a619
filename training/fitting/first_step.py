"""The first step of a linear head that is fitted by whole gradients: one pass over the features in, a place to go on from out.

Where every image is answered with the classes' shares, the loss's curvature is the product of the features' covariance and of
the shares, so that Newton's step is ridge regression; the validation split chooses the ridge, and how far to go.

Where images are fewer than the numbers of a feature, the covariance is taken in the directions that they span, where the
optimum lies; where both are many, in those that some of the images span.

Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", sections 3.4.1, 4.4 and 18.3.5,
https://hastie.su.domains/ElemStatLearn
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

LARGEST = 4096  # directions whose covariance is taken: 128 MB in float64
SPANNING = 1 << 26  # numbers of the images that they are taken from: 256 MB
ROUNDING = 1e-4  # of the images' mean square: below it, what is left of an image tells no direction
RIDGES = tuple(10.0 ** (step / 2) for step in range(4, -7, -1))  # what is added to the features' variances, which are about 1
LENGTHS = tuple(2.0**step for step in range(-3, 4))  # of the step, in Newton's
UNSEEN = 0.5  # images that each class counts beside those it has


@dataclass(frozen=True)
class Space:
    """Where a fit begins, and how far a step goes in each direction of `flat`, float64 [(D + 1) * C], its curvature about 1.

    weights [D, C] and bias [C] are those of the beginning; reach [C] is what a class's weights move by; scale tells how far in
    each direction; penalty is what half of the weights' squares costs.
    """

    weights: Floats
    bias: Floats
    reach: Floats
    scale: Scale
    penalty: float

    def place(self, flat: Floats) -> tuple[Floats, Floats]:
        """The last layer's weights and bias there."""
        steps = flat.reshape(-1, len(self.bias)) * self.reach
        return self.weights + self.scale.of(steps[:-1], transposed=True), self.bias + steps[-1]

    def slopes(self, weights: Floats, bias: Floats) -> Floats:
        """A gradient for weights and bias as one for `flat`."""
        return (np.concatenate([self.scale.of(weights, transposed=False), bias[None]]) * self.reach).ravel()


@dataclass(frozen=True)
class Scale:
    """The inverse root of a covariance with a ridge: factor [M, M], lower triangular, is its root in the directions of span
    [D, M], at right angles to which it is `beside` times the identity; of no span, in all directions."""

    factor: Floats
    span: Floats | None
    beside: float

    def of(self, columns: Floats, transposed: bool) -> Floats:
        """That root, or its transpose, times columns [D, C]."""
        if self.span is None:
            return _solved(self.factor, columns, transposed)
        along = self.span.T @ columns.astype(np.float32)
        more = _solved(self.factor, along, transposed) - along / self.beside
        return columns / self.beside + self.span @ more.astype(np.float32)


def _solved(factor: Floats, columns: Floats, transposed: bool) -> Floats:
    from scipy.linalg import solve_triangular

    solved: Floats = solve_triangular(factor, columns, trans=int(transposed), lower=True, check_finite=False)
    return solved


@dataclass(frozen=True)
class Moments:
    """What one pass over images tells: how many, each class's share [C], the slope of the loss in the weights [D, C] where
    everybody is answered with the shares, the features' mean products [M, M] in the directions of span [D, M], None for their
    own, and their mean square in the others."""

    images: int
    shares: Floats
    slopes: Floats
    products: Floats
    span: Floats | None
    beside: float

    def scale(self, ridge: float) -> Scale:
        """The root of the covariance and a ridge."""
        factor = np.linalg.cholesky(self.products + ridge * np.eye(len(self.products)))
        return Scale(factor, self.span, math.sqrt(self.beside + ridge))


def first_step(training: Blocks, images: int, validation: Blocks | None, shape: tuple[int, int], several: bool) -> Space:
    """From the classes' shares to where the curvature there says that the optimum lies.

    Args:
        training: the split to learn from.
        images: how many it has.
        validation: what chooses the ridge and the length; None: numbers in a feature over images, and Newton's own.
        shape: numbers in what the last layer sees, and classes, (D, C).
        several: whether an image may have several labels.

    Raises:
        UserError: for a feature that is not finite.
    """
    moments = _moments(training, images, shape, several)
    shares, classes = moments.shares, shape[1]
    bias = np.log(shares / (1 - shares) if several else shares)
    curvature = shares * (1 - shares) / classes if several else shares  # [C], of each class's weights

    def step(ridge: float) -> tuple[Scale, Floats]:
        scale = moments.scale(ridge)
        return scale, scale.of(scale.of(moments.slopes, transposed=False), transposed=True) / -curvature

    ridge, length = shape[0] / images, 1.0
    if validation is not None:
        ridge, length = _chosen(lambda ridge: step(ridge)[1], ridge, bias, validation, several)
    scale, weights = step(ridge)
    return Space(weights * length, bias, 1 / np.sqrt(curvature), scale, ridge * float(curvature.mean()))


def _moments(blocks: Blocks, images: int, shape: tuple[int, int], several: bool) -> Moments:
    """One pass over the training split."""
    size, classes = shape
    few, apart = min(images, LARGEST) < size, math.ceil(images / min(LARGEST, max(1, SPANNING // size)))
    products, some = np.zeros((0, 0) if few else (size, size)), list[Floats]()
    total, by_class, counts, squares, seen = np.zeros(size), np.zeros((classes, size)), np.zeros(classes), 0.0, 0
    for feature, label, weight in blocks:
        weighted = feature * weight[:, None]
        total += weighted.sum(0)
        if several:
            by_class += label.T @ weighted
            counts += weight @ label
        else:
            _add_by_class(by_class, weighted, label)
            counts += np.bincount(label, weight, classes)
        root = feature * np.sqrt(weight)[:, None]
        if few:
            some.append(root[-seen % apart :: apart].copy())
            squares += float(np.square(root).sum())
        else:
            products += root.T @ root  # one array by itself: half the work of two
        seen += len(feature)
    if not np.isfinite(total).all():
        raise UserError("bad-numbers", "a feature of the training split is not finite: check the features")
    shares = (counts + UNSEEN) / (images + UNSEEN * (2 if several else classes))
    slopes = (total[:, None] * shares - by_class.T) / (images * (classes if several else 1))
    if few:
        spanned, span = _spanned(np.concatenate(some))
        beside = (squares / images - np.trace(spanned)) / (size - len(spanned))
        return Moments(images, shares, slopes, spanned, span, max(beside, 0.0))
    return Moments(images, shares, slopes, products / images, None, 0.0)


def _spanned(rows: Floats) -> tuple[Floats, Floats]:
    """The mean products [M, M] of M images' features, float32 [M, D], in directions that span them, and these, [D, M]."""
    products = (rows @ rows.T).astype(np.float64)
    products += max(ROUNDING * np.trace(products) / len(rows), ROUNDING) * np.eye(len(rows))
    factor = np.linalg.cholesky(products)
    span = _solved(factor.astype(np.float32), rows, transposed=False).T  # at right angles, for rows are factor @ span.T
    return factor.T @ factor / len(rows), span


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
