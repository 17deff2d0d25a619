"""Intervals of what `headstart evaluate` prints hold the truth in 93 of 100 cases or more, by simulation, or are not printed.

Images are drawn from a world where the truth is known: classifiers that are right so often, on images of which those of a
group are alike hard. What each figure would be of endless images is measured on many.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.stats import norm

from headstart.training.scoring import measures, scores, set_measures, set_scores
from headstart.training.scoring.scores import score
from headstart.training.scoring.set_scores import score_sets
from headstart.training.scoring.thresholds import decided

Drawn = tuple[np.ndarray, np.ndarray]
FIGURES = ("accuracy", "balanced_accuracy", *measures.BOOTSTRAPPED)
SET_FIGURES = ("mean_average_precision", "macro_f1", "micro_f1", "log_loss")
DRAWS = 150
LEAST = 0.93 - 0.03  # a standard deviation and a half of so many draws
MANY = 100_000
ALIKE = 0.3  # the share of the variance that a group's images have in common


@pytest.fixture(autouse=True)
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is known from 200 replicates as well."""
    for module in (scores, set_scores):
        monkeypatch.setattr(module, "bounded_replicates", lambda *_: 200)


def classified(generator: np.random.Generator, groups: int, each: int, classes: int, share: float) -> Drawn:
    """Labels, and the probabilities of a classifier that is right on a share of two classes, less of more."""
    count = groups * each
    labels = generator.integers(classes, size=count)
    logits = generator.normal(size=(count, classes))
    common = np.repeat(generator.normal(0, math.sqrt(2 * ALIKE), groups), each) if each > 1 else 0.0
    own = generator.normal(0, math.sqrt(2 * (1 - ALIKE) - 1 if each > 1 else 1), count)
    logits[np.arange(count), labels] = norm.ppf(share) * math.sqrt(2) + common + own
    odds = np.exp(1.5 * logits)
    return labels, odds / odds.sum(1, keepdims=True)


def tagged(generator: np.random.Generator, groups: int, each: int, classes: int, share: float) -> Drawn:
    """Labels uint8 [N, classes], 0.3 of the images having each, and probabilities that rank a share of the pairs rightly."""
    truth = (generator.random((groups * each, classes)) < 0.3).astype(np.uint8)
    common = np.repeat(generator.normal(0, math.sqrt(ALIKE), (groups, classes)), each, axis=0) if each > 1 else 0.0
    noise = common + generator.normal(0, math.sqrt(1 - ALIKE) if each > 1 else 1.0, truth.shape)
    return truth, 1 / (1 + np.exp(-2 * (norm.ppf(share) * math.sqrt(2) * (truth - 0.5) + noise)))


def covered(
    draw: Callable[[np.random.Generator], Drawn],
    measured: Callable[..., object],
    truths: dict[str, float],
    draws: int,
    seed: Sequence[int],
) -> tuple[Counter[str], Counter[str]]:
    """Of how many draws an interval was printed, by the figure, and how many of them hold the truth."""
    generator, printed, held = np.random.default_rng(seed), Counter[str](), Counter[str]()
    for _ in range(draws):
        found = measured(*draw(generator))
        for name, truth in truths.items():
            interval = getattr(found, name)
            if not math.isnan(interval.low):
                printed[name] += 1
                held[name] += interval.low - 1e-9 <= truth <= interval.high + 1e-9
    return printed, held


def of_one_label(
    groups: int, each: int, classes: int, share: float, draws: int, seed: Sequence[int] = (1,)
) -> tuple[Counter[str], Counter[str]]:
    """`covered` for the figures of one label an image."""
    names = [str(row // each) for row in range(groups * each)]
    many = classified(np.random.default_rng(0), MANY, 2 if each > 1 else 1, classes, share)
    truths = {name: measures.value(measures.EVERY[name], *many) for name in FIGURES}

    def measured(labels: np.ndarray, shares: np.ndarray) -> object:
        return score(labels, shares, names, names, list(map(str, range(classes))))

    return covered(lambda drawn: classified(drawn, groups, each, classes, share), measured, truths, draws, seed)


def of_several_labels(
    groups: int, each: int, classes: int, share: float, draws: int, seed: Sequence[int] = (1,)
) -> tuple[Counter[str], Counter[str]]:
    """The same for those of several."""
    names, thresholds = [str(row // each) for row in range(groups * each)], np.full(classes, 0.5)
    truth, shares = tagged(np.random.default_rng(0), MANY, 1, classes, share)
    answers = decided(shares, thresholds)
    truths = {
        "mean_average_precision": set_measures.value(set_measures.mean_average_precision(truth, shares), MANY),
        "macro_f1": set_measures.mean_over_defined(set_measures.f1s(truth, answers)(np.ones((MANY, 1))))[0],
        "micro_f1": set_measures.value(set_measures.micro_f1(truth, answers), MANY),
        "log_loss": set_measures.value(set_measures.log_loss(truth, shares), MANY),
    }

    def measured(truth: np.ndarray, shares: np.ndarray) -> object:
        return score_sets(truth, shares, names, list(map(str, range(classes))), thresholds)

    return covered(lambda generator: tagged(generator, groups, each, classes, share), measured, truths, draws, seed)


@pytest.mark.parametrize(
    ("groups", "each", "classes", "share", "said"),
    [
        (3, 10, 2, 0.8, ("accuracy", "balanced_accuracy")),
        (7, 10, 2, 0.5, FIGURES),
        (20, 10, 5, 0.8, FIGURES),
        (60, 5, 2, 0.95, FIGURES),
        (20, 1, 2, 0.5, FIGURES),
        (20, 1, 2, 0.99, ("accuracy", "balanced_accuracy")),
        (100, 1, 5, 0.95, FIGURES),
        (180, 1, 2, 0.8, FIGURES),
        (500, 1, 2, 0.99, ("accuracy", "balanced_accuracy")),
    ],
)
def test_of_one_label(groups: int, each: int, classes: int, share: float, said: tuple[str, ...]) -> None:
    printed, held = of_one_label(groups, each, classes, share, DRAWS)
    for name in FIGURES:
        assert DRAWS - held[name] - (DRAWS - printed[name]) <= (1 - LEAST) * DRAWS, (name, printed[name], held[name])
        if name in said:
            assert printed[name] > 0.9 * DRAWS, (name, printed[name])


@pytest.mark.parametrize(("groups", "each", "share"), [(10, 10, 0.9), (40, 1, 0.7), (180, 1, 0.95)])
def test_of_several_labels(groups: int, each: int, share: float) -> None:
    printed, held = of_several_labels(groups, each, 3, share, DRAWS)
    for name in SET_FIGURES:
        assert printed[name] > 0.9 * DRAWS and held[name] >= LEAST * printed[name], (name, printed[name], held[name])
