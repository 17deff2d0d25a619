"""How an error falls with the images that it was learned from: errors at some sizes in, a power law with its interval out.

error(n) = floor + scale * n ** -exponent, the form that learning curves of deep features were found to have.

Source: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", https://arxiv.org/abs/1712.00409; for
extrapolating from few images, Mahmood et al., "How Much More Data Do I Need?", https://arxiv.org/abs/2207.01725
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.training.evaluation.intervals import numbered, resampled_groups

Floats = NDArray[np.float64]

EXPONENTS = np.geomspace(0.05, 2.0, 60)
REPLICATES = 400
FREE_FLOOR = -0.05  # of replicates: with one that is held at 0, the interval was too sure where the floor is 0
LEVEL = 0.95


class Laws(NamedTuple):
    """R power laws, float64 [R] each."""

    floors: Floats  # of the error, 0..1; a little less in replicates
    scales: Floats  # at least 0
    exponents: Floats  # 0.05..2

    def errors(self, sizes: Sequence[float]) -> Floats:
        """Each law's error at each size, [R, len(sizes)]."""
        fallen = np.asarray(sizes, np.float64)[None] ** -self.exponents[:, None]
        return self.floors[:, None] + self.scales[:, None] * fallen


def fit_laws(sizes: Sequence[float], errors: Floats, weights: Floats, least: float = 0.0) -> Laws:
    """The best law for each row of errors, by weighted least squares; the scale is never negative.

    For each of 60 exponents the best floor and scale follow directly, so that none is a local optimum.

    Args:
        sizes: K, in images.
        errors: float64 [R, K], 0..1.
        weights: float64 [K], one over the variance of each.
        least: of the floor.
    """
    best, found = np.full(len(errors), np.inf), np.zeros((3, len(errors)))
    shares = weights / weights.sum()
    mean = errors @ shares  # [R]
    for exponent in EXPONENTS:
        fallen = np.asarray(sizes, np.float64) ** -exponent  # [K]
        middle = fallen @ shares
        slopes = ((errors - mean[:, None]) * (fallen - middle)) @ shares / (np.square(fallen - middle) @ shares)
        at_least = ((errors - least) * fallen) @ shares / (np.square(fallen) @ shares)
        floors = mean - slopes * middle
        scales = np.where(floors < least, at_least, slopes)
        floors = np.maximum(floors, least)
        floors, scales = np.where(scales < 0, mean, floors), np.maximum(scales, 0.0)
        losses = np.square(errors - floors[:, None] - scales[:, None] * fallen) @ shares
        better = losses < best
        best[better] = losses[better]
        found[:, better] = np.stack([floors, scales, np.full(len(errors), exponent)])[:, better]
    return Laws(*found)


@dataclass(frozen=True)
class Curve:
    """A learning curve: mean errors at K sizes, the law through them, and what else the data could have said.

    Args:
        sizes: images a class, K.
        errors: float64 [K], 0..1.
        law: one.
        replicates: of the bootstrap over draws of the training images and groups of the validation images.
    """

    sizes: Sequence[float]
    errors: Floats
    law: Laws
    replicates: Laws

    def error(self, size: float) -> tuple[float, float, float]:
        """The expected error at a size, and its 95% interval, 0..1."""
        return self._interval(float(self.law.errors([size])[0, 0]), np.maximum(self.replicates.errors([size])[:, 0], 0.0))

    def gain(self, more: float) -> tuple[float, float, float]:
        """By how much the error falls with so many more images a class than the most that there are, and its 95% interval."""
        sizes = [self.sizes[-1], self.sizes[-1] + more]
        now, then = self.law.errors(sizes)[0]
        falls = self.replicates.errors(sizes)
        return self._interval(float(now - then), falls[:, 0] - falls[:, 1])

    @staticmethod
    def _interval(value: float, values: Floats) -> tuple[float, float, float]:
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return value, float(min(low, value)), float(max(high, value))


def fit_curve(sizes: Sequence[float], correct: np.ndarray, groups: Sequence[str], seed: int) -> Curve:
    """A learning curve with its uncertainty.

    Args:
        sizes: images a class, K, increasing.
        correct: bool [S, K, V]: which validation images were classified rightly, for S draws of the training images.
        groups: V names; images of one name are drawn together.
        seed: of the bootstrap.
    """
    members = numbered(groups, correct.shape[2])
    counts = np.bincount(members).astype(np.float64)  # [G]
    wrong = np.stack([[np.bincount(members, ~row, len(counts)) for row in draw] for draw in correct])  # [S, K, G]
    draws, generator = len(correct), np.random.default_rng(seed)
    found = []
    for weights in resampled_groups(len(counts), seed, REPLICATES):  # [G, R]
        chosen = generator.integers(draws, size=(weights.shape[1], draws))
        shares = np.stack([np.bincount(each, minlength=draws) for each in chosen]) / draws  # [R, S]
        found.append(np.einsum("skr,rs->rk", wrong @ weights, shares) / (counts @ weights)[:, None])
    errors = np.concatenate(found)  # [R, K]
    mean = wrong.sum(2).mean(0) / counts.sum()
    spread = np.maximum(errors.var(0), 0.25 / correct.shape[2] ** 2)  # of no fewer than half an image
    laws = fit_laws(sizes, errors, 1 / spread, FREE_FLOOR)
    return Curve(sizes, mean, fit_laws(sizes, mean[None], 1 / spread), laws)
