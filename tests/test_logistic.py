"""Logistic regression at its optimum, against scikit-learn, and what cross-validation chooses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from headstart.training.fitting import logistic
from headstart.training.scoring.folds import ALL_ALONE, ONE_GROUP, fold_of


def blobs(count: int, width: int, classes: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * apart / np.sqrt(width)
    return (centres[labels] + generator.normal(size=(count, width))).astype(np.float32), labels


@pytest.mark.slow
@pytest.mark.parametrize(("count", "width", "classes"), [(300, 20, 2), (60, 200, 3), (40, 40, 5)])
@pytest.mark.parametrize("balanced", [False, True])
def test_it_is_at_the_optimum(count: int, width: int, classes: int, balanced: bool) -> None:
    x, y = blobs(count, width, classes, 6.0)
    counted = np.where(y == 0, 3.0, 0.5) if balanced else None
    found = logistic.fit(x, y, classes, [str(i) for i in range(count)], counted)
    weights = np.ones(count) if counted is None else counted
    penalty = found.penalty * float(np.square(x.astype(np.float64)).mean())
    penalty /= 1 + (classes == 2)  # of two classes the peer has one vector, the difference of our two
    peer = LogisticRegression(C=1 / (penalty * weights.sum()), tol=1e-8, max_iter=20_000).fit(x, y, sample_weight=weights)
    with np.errstate(over="ignore"):
        logits = x @ found.weights + found.bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
    assert np.abs(shares / shares.sum(1, keepdims=True) - peer.predict_proba(x)).max() < 5e-3


def test_what_is_left_out_is_what_a_fit_without_it_says() -> None:
    x, y = blobs(50, 10, 2, 3.0)
    groups = [f"g{i // 5}" for i in range(50)]
    found, folds = logistic.fit(x, y, 2, groups, seed=4), fold_of(groups, y, 2, 4)
    assert found.told.tolist() == list(range(50))
    for fold in range(folds.max() + 1):
        rest = folds != fold
        scale = float(np.square(x.astype(np.float64)).mean())
        own = (x[rest].astype(float), y[rest], np.ones(rest.sum()))
        alone = logistic._solved(*own, found.penalty * scale, np.zeros((11, 2)), 1e-9)
        expected = x[~rest] @ alone[:-1] + alone[-1]
        assert np.abs(found.left_out[~rest] - expected).max() < 0.02 * max(1, np.abs(expected).max())


def test_noise_is_held_down_and_what_is_plain_is_not() -> None:
    noise = np.random.default_rng(0).normal(size=(100, 50)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 100)
    assert logistic.fit(noise, labels, 2, [str(i) for i in range(100)]).penalty >= 1
    x, y = blobs(100, 50, 2, 12.0)
    assert logistic.fit(x, y, 2, [str(i) for i in range(100)]).penalty <= 0.01


def test_copies_do_not_vouch_for_each_other() -> None:
    """Each example five times: as five examples nothing is held down, as one group the noise is."""
    noise = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32).repeat(5, axis=0)
    labels = np.random.default_rng(1).integers(0, 2, 40).repeat(5)
    alone = logistic.fit(noise, labels, 2, [str(i) for i in range(200)])
    grouped = logistic.fit(noise, labels, 2, [str(i // 5) for i in range(200)])
    assert alone.penalty < grouped.penalty


def test_a_class_that_has_no_example_and_a_single_group() -> None:
    x, y = blobs(30, 4, 2, 6.0)
    found = logistic.fit(x, y, 3, ["one"] * 30)
    assert found.left_out == ONE_GROUP and found.penalty == 1.0 and found.weights.shape == (4, 3)
    assert (x @ found.weights + found.bias).argmax(1).max() < 2


def test_no_class_is_judged_by_folds_that_do_not_know_it() -> None:
    """Of two images a class one is always left to learn from; a class whose images are one group says nothing."""
    x, y = blobs(400, 64, 10, 15.0)
    few = np.concatenate([np.flatnonzero(y == label)[:2] for label in range(10)])
    found = logistic.fit(x[few], y[few], 10, [str(i) for i in range(20)])
    assert (found.left_out.argmax(1) == y[few]).all() and len(found.told) == 20
    groups = [f"class {label}" if label > 4 else str(i) for i, label in enumerate(y[few])]
    found = logistic.fit(x[few], y[few], 10, groups)
    assert found.told.tolist() == list(range(10)) and found.left_out.shape == (10, 10)
    alone = logistic.fit(x[few], y[few], 10, [f"class {label}" for label in y[few]])
    assert alone.left_out == ALL_ALONE and alone.penalty == 1.0 and len(alone.told) == 0
