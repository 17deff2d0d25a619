"""How an error falls with the images that it was learned from: errors at some sizes in, a power law with its interval out.

error(n) = floor + scale * n ** -exponent, the form that learning curves of deep features were found to have.

Source: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", https://arxiv.org/abs/1712.00409; for
extrapolating from few images, Mahmood et al., "How Much More Data Do I Need?", https://arxiv.org/abs/2207.01725
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.training.scoring.intervals import MIN_GROUPS, numbered, resampled_groups, share_interval

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
        groups: of the validation images.
        telling: how many of them tell something of the error at the largest size; there are no intervals below 5.
    """

    sizes: Sequence[float]
    errors: Floats
    law: Laws
    replicates: Laws
    groups: int
    telling: int

    def error(self, size: float) -> tuple[float, float, float]:
        """The expected error at a size, and its 95% interval, 0..1: no narrower than that of a share of so many groups."""
        error = float(self.law.errors([size])[0, 0])
        found = self._interval(error, np.maximum(self.replicates.errors([size])[:, 0], 0.0))
        low, high = share_interval(min(error, 1.0) * self.groups, self.groups)
        return error, float(np.minimum(found[1], low)), float(np.maximum(found[2], high))

    def gain(self, more: float) -> tuple[float, float, float]:
        """By how much the error falls with so many more images a class than the most that there are, and its 95% interval."""
        sizes = [self.sizes[-1], self.sizes[-1] + more]
        now, then = self.law.errors(sizes)[0]
        falls = self.replicates.errors(sizes)
        return self._interval(float(now - then), falls[:, 0] - falls[:, 1])

    def _interval(self, value: float, values: Floats) -> tuple[float, float, float]:
        if self.telling < MIN_GROUPS:
            return value, math.nan, math.nan
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return value, float(min(low, value)), float(max(high, value))


def replicated(groups: Sequence[str], seed: int, replicates: int = REPLICATES) -> Floats:
    """Weights of V validation images, float64 [V, 1 + R]: once as they are, then as replicates of their groups have them.

    Args:
        groups: V names; images of one name are drawn together.
        seed: of the draws.
        replicates: R.
    """
    members = numbered(groups, len(groups))
    drawn = np.concatenate(list(resampled_groups(int(members.max()) + 1, seed, replicates)), axis=1)  # [G, R]
    return np.concatenate([np.ones((len(groups), 1)), drawn[members]], axis=1)


def fit_curve(sizes: Sequence[float], errors: Floats, images: int, seed: int, groups: int, telling: int) -> Curve:
    """A learning curve with its uncertainty.

    Args:
        sizes: images a class, K, increasing.
        errors: float64 [S, K, 1 + R], 0..1, for S draws of the training images: on the validation images, and on replicates
            of them, by the weights that `replicated` gives.
        images: how many validation images there are.
        seed: of which draws a replicate has.
        groups, telling: of the validation images, as `Curve` has them.
    """
    draws, generator = len(errors), np.random.default_rng(seed)
    chosen = generator.integers(draws, size=(errors.shape[2] - 1, draws))
    shares = np.stack([np.bincount(each, minlength=draws) for each in chosen]) / draws  # [R, S]
    resampled = np.einsum("skr,rs->rk", errors[..., 1:], shares)  # [R, K]
    mean = errors[..., 0].mean(0)
    spread = np.maximum(resampled.var(0), 0.25 / images**2)  # of no fewer than half an image
    laws = fit_laws(sizes, resampled, 1 / spread, FREE_FLOOR)
    return Curve(sizes, mean, fit_laws(sizes, mean[None], 1 / spread), laws, groups, telling)
