"""Logistic regression at its optimum: features and labels in, a linear classifier with its regularisation chosen out.

Where images are few, the regularisation is what decides, and the images that would choose it are wanted for training:
cross-validation over whole groups uses each for both.

Source: Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", sections 4.4 and 7.10, https://hastie.su.domains/ElemStatLearn;
the optimizer: Byrd, Lu, Nocedal and Zhu, https://doi.org/10.1137/0916069
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from headstart.features.runtime import cores
from headstart.training.scoring.folds import ALL_ALONE, ONE_GROUP, fold_of, is_known

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

PENALTIES = tuple(10.0 ** (step / 2) for step in range(2, -9, -1))  # times the mean square of a feature; the largest first
WORSE = 3  # penalties in a row that are worse than the best: smaller ones are not tried any more
STEPS = 500  # of L-BFGS, at most
TOLERANCE, ROUGHLY = 1e-8, 1e-6  # of the cost, relative: of what is kept, and of what is compared
RANK = 1e-5  # of the largest singular value: below it float32 features hold only rounding


@dataclass(frozen=True)
class Logistic:
    """A classifier: softmax(features @ weights + bias), and what cross-validation said on the way to it.

    penalty is what was chosen, as a multiple of a feature's mean square; left_out are the logits, [K, C], that examples got
    from a fit to the folds without them, under that penalty. told are their numbers, [K], the others being of classes that
    all other folds lack. Where there are none, left_out is why, and the penalty is 1.
    """

    weights: Floats  # [D, C]
    bias: Floats  # [C]
    penalty: float
    left_out: Floats | str
    told: Ints


def fit(
    features: Floats, labels: Ints, classes: int, groups: Sequence[str], weights: Floats | None = None, seed: int = 0
) -> Logistic:
    """Fits a classifier, its penalty on the weights' squares being the one with the least log loss on what is left out.

    Folds are fitted side by side, each by one thread: products as small as these are slower with several.

    Args:
        features: float [N, D], N at least 1, each on about the same scale.
        labels: int64 [N], 0..classes-1.
        classes: how many there are.
        groups: N names; examples of one name stay in one fold.
        weights: what each example counts, float [N]; None: all the same.
        seed: of which group goes into which fold; each class is in all of them, as far as groups allow.
    """
    from scipy import optimize  # noqa: F401  # its BLAS is one of its own: loaded, so that it is limited too

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        return _fitted(pool, features, labels, classes, groups, weights, seed)


def _fitted(
    pool: ThreadPoolExecutor,
    features: Floats,
    labels: Ints,
    classes: int,
    groups: Sequence[str],
    weights: Floats | None,
    seed: int,
) -> Logistic:
    counted = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    rotated, back = _rotated(np.asarray(features, np.float64))
    scale = float(np.square(rotated).sum() / max(1, features.shape[1] * len(labels))) or 1.0
    folds, nothing = fold_of(groups, labels, classes, seed), np.zeros((rotated.shape[1] + 1, classes))
    rests = [folds != fold for fold in np.unique(folds)]
    known = np.zeros(len(labels), bool)
    for rest in rests:
        known[~rest] = is_known(labels[~rest], labels[rest], classes)
    told = np.flatnonzero(known)
    left_out: Floats | str = ALL_ALONE if len(rests) > 1 else ONE_GROUP
    chosen, least, worse = 1.0, np.inf, 0
    if len(told):
        starts = [nothing] * len(rests)  # the next penalty begins where the last one ended

        def without(fold: int, penalty: float) -> Floats:
            rest = rests[fold]
            return _solved(rotated[rest], labels[rest], counted[rest], penalty, starts[fold], ROUGHLY)

        for penalty in PENALTIES:
            starts = list(pool.map(without, range(len(starts)), itertools.repeat(penalty * scale)))
            logits = np.empty((len(labels), classes))
            for rest, start in zip(rests, starts):
                logits[~rest] = _logits(rotated[~rest], start)
            if (loss := _log_loss(logits[told], labels[told], counted[told])) < least:
                chosen, left_out, least, worse = penalty, logits[told], loss, 0
            elif (worse := worse + 1) == WORSE:
                break
    solved = _solved(rotated, labels, counted, chosen * scale, nothing, TOLERANCE)
    return Logistic((back @ solved[:-1]).astype(np.float32), solved[-1].astype(np.float32), chosen, left_out, told)


def _rotated(features: Floats) -> tuple[Floats, Floats]:
    """The features [N, R] in the directions that the examples span, and those [D, R]: fewer where examples are few.

    A penalty on the weights' squares is the same in each rotation, and directions that no example has get no weight.
    """
    if features.shape[0] >= features.shape[1]:
        return features, np.eye(features.shape[1])
    left, values, right = np.linalg.svd(features, full_matrices=False)
    kept = values > RANK * max(float(values[0]), 1e-30)
    return left[:, kept] * values[kept], right[kept].T


def _solved(x: Floats, labels: Ints, counted: Floats, penalty: float, start: Floats, tolerance: float) -> Floats:
    """The weights, and the bias as their last row, [R + 1, C], at which the mean log loss and the penalty are least."""
    from scipy.optimize import minimize

    share = counted / counted.sum()

    def cost(flat: Floats) -> tuple[float, Floats]:
        own = flat.reshape(start.shape)
        logits = _logits(x, own)
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(1)
        rows = np.arange(len(labels))
        loss = float(share @ (np.log(sums) - logits[rows, labels]))
        error = powers / sums[:, None]  # [N, C]
        error[rows, labels] -= 1
        error *= share[:, None]
        slope = np.concatenate([x.T @ error + penalty * own[:-1], error.sum(0)[None]])
        return loss + penalty / 2 * float(np.square(own[:-1]).sum()), slope.ravel()

    options = {"maxiter": STEPS, "ftol": tolerance, "gtol": 1e-6}
    solved: Floats = minimize(cost, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(start.shape)
    return solved


def _logits(x: Floats, solved: Floats) -> Floats:
    """[N, C] of [N, R]."""
    logits: Floats = x @ solved[:-1] + solved[-1]
    return logits


def _log_loss(logits: Floats, labels: Ints, counted: Floats) -> float:
    from scipy.special import logsumexp

    loss = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    return float(counted @ loss / counted.sum())
