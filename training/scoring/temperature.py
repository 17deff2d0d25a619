"""One temperature for all logits, so that probabilities say how often they are right: labels and logits in, T out.

Probabilities become softmax(logits / T): no order between classes changes, and no prediction. A T above 1 takes certainty
away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from headstart.training.plots.reliability import ReliabilityBin
from headstart.training.scoring import measures, set_measures
from headstart.training.scoring.intervals import Floats, accuracy_interval

PRIOR_DEVIATION = 0.3  # of log T around 0: networks are seldom off by more, and 20 images can't say so
LOG_BOUNDS = (-3.0, 3.0)
LEAST = 1e-37  # a probability that float32 rounded to 0
FIGURES = {"log_loss": measures.log_loss, "brier": measures.brier, "calibration_error": measures.calibration_error}


def fit_temperature(labels: ArrayLike, logits: ArrayLike, groups: Sequence[str]) -> float:
    """The T at which the logits' log loss is least, held near 1 where there are few examples to tell it by.

    The log loss of a group counts as that of one example, and log T has a normal prior, mean 0 and deviation 0.3: without it,
    T goes to 0 where all of a few examples are right. With it, no number of examples is too small: where there is nothing to
    mend it costs next to nothing, by simulation (tests/test_temperature.py).

    Args:
        labels: int64 [N], 0..C-1, N at least 1.
        logits: float [N, C], before the softmax.
        groups: N names.

    Source: Guo et al., "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599
    """
    truth, scores, count = np.asarray(labels), np.asarray(logits, np.float64), len(set(groups))
    scores = scores - scores.max(1, keepdims=True)  # [N, C], 0 at most
    own = np.take_along_axis(scores, truth[:, None], axis=1)[:, 0]

    return _least(lambda inverse: float((np.log(np.exp(scores * inverse).sum(1)) - own * inverse).mean()), count)


def fit_sigmoid_temperature(truth: ArrayLike, logits: ArrayLike, groups: Sequence[str]) -> float:
    """The same for sigmoids, one T for all classes: the log loss is the binary cross-entropy, an image is one example.

    Args:
        truth: uint8 [N, C], 1 for each label of an image, N at least 1.
        logits: float [N, C], before the sigmoid.
        groups: N names.
    """
    scores, count = np.asarray(logits, np.float64), len(set(groups))
    signed = np.where(np.asarray(truth) == 1, -scores, scores)  # [N, C]: the loss of each is log(1 + exp(it))
    return _least(lambda inverse: float(np.logaddexp(0, signed * inverse).mean()), count)


def _least(loss: Callable[[float], float], count: int) -> float:
    """The T whose loss, of its inverse, is least, with the prior of as many examples."""
    from scipy.optimize import minimize_scalar

    def cost(log_t: float) -> float:
        return count * loss(np.exp(-log_t)) + log_t**2 / (2 * PRIOR_DEVIATION**2)

    found = minimize_scalar(cost, bounds=LOG_BOUNDS, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < cost(0.0) else 1.0


def sigmoid(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """1 / (1 + exp(-logits / T)), float64 [N, C]."""
    from scipy.special import expit

    shares: Floats = expit(np.asarray(logits, np.float64) / temperature)
    return shares


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Floats:
    """softmax(logits / T), float64 [N, C]."""
    scores = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


def without_temperature(probabilities: ArrayLike, temperature: float) -> Floats:
    """What probabilities [N, C] were before their logits were divided by T: p^T, made to sum to 1 again, float64 [N, C]."""
    return softmax(np.log(np.maximum(np.asarray(probabilities, np.float64), LEAST)), 1 / temperature)


def reliability_bins(labels: ArrayLike, probabilities: ArrayLike, groups: Sequence[str]) -> list[ReliabilityBin]:
    """The calibration error's 15 bins, those that hold predictions, with the interval of each one's accuracy.

    Args:
        labels: int64 [N], 0..C-1.
        probabilities: float [N, C].
        groups: N names; examples of one name are seen together.
    """
    truth, scores = measures.checked(labels, probabilities)
    (top, rows), names, found = measures.confidence_bins(scores), np.asarray(groups, object), []
    correct = scores.argmax(1) == truth
    for number in np.unique(rows):
        own = rows == number
        ends = accuracy_interval(correct[own], list(names[own]))
        edges = number / measures.BINS, (number + 1) / measures.BINS
        means = float(top[own].mean()), float(correct[own].mean())
        found.append(ReliabilityBin(*edges, int(own.sum()), *means, *ends))
    return found


def figures(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Log loss, Brier score and calibration error."""
    return {name: measures.value(build, labels, probabilities) for name, build in FIGURES.items()}


def set_figures(truth: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Log loss and Brier score of sets of labels, means over images and classes."""
    labels, scores = set_measures.checked_sets(truth, probabilities)
    loss = set_measures.value(set_measures.log_loss(labels, scores), len(labels))
    return {"log_loss": float(loss), "brier": float(np.square(scores - labels).mean())}
