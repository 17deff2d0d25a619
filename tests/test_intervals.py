"""Intervals against known values, scipy and the draws done by hand; what a paired difference promises."""

from __future__ import annotations

import math
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.errors import UserError
from headstart.training.evaluation import intervals
from headstart.training.evaluation import measures as built

FEW = settings(max_examples=60, deadline=None)
Interval = tuple[float, float]


def answers(count: int, share: float = 0.8, seed: int = 0) -> np.ndarray:
    """Whether each example was classified rightly, bool [count]."""
    return np.random.default_rng(seed).random(count) < share


def separated(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the probabilities of a model that is right more often than not."""
    generator = np.random.default_rng(0)
    labels, logits = generator.integers(classes, size=count), generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    odds = np.exp(logits)
    return labels, odds / odds.sum(1, keepdims=True)


def measures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, intervals.Measure]:
    return {name: build(labels, probabilities) for name, build in built.BOOTSTRAPPED.items()}


def names(count: int) -> list[str]:
    return [f"k{i}" for i in range(count)]


# Of a proportion.


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(95, 100, 0.8882, 0.9785), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(successes: int, n: int, low: float, high: float) -> None:
    assert intervals.wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


@FEW
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_interval_equals_scipy(n: int, share: float, confidence: float) -> None:
    from scipy.stats import binomtest

    successes = round(share * n)
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert intervals.wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_refuses_more_successes_than_trials() -> None:
    with pytest.raises(UserError, match=r"got 3, 2 and 0\.95"):
        intervals.wilson_interval(3, 2)


def test_accuracy_interval_is_wilsons_when_each_example_is_its_own_group() -> None:
    correct = answers(100)
    assert intervals.accuracy_interval(correct, names(100)) == intervals.wilson_interval(int(correct.sum()), 100)


def test_accuracy_interval_counts_identical_copies_once() -> None:
    correct = answers(40)
    once = intervals.accuracy_interval(correct, names(40))
    copied = intervals.accuracy_interval(np.repeat(correct, 10), np.repeat(names(40), 10).tolist())
    assert copied == pytest.approx(once, abs=0.01)


def test_accuracy_interval_of_one_group_of_right_answers_is_that_of_one_trial() -> None:
    assert intervals.accuracy_interval(np.ones(50, bool), [""] * 50) == intervals.wilson_interval(1, 1)


def test_accuracy_interval_covers_the_truth_when_groups_agree_and_wilsons_does_not() -> None:
    generator, covered, by_wilson = np.random.default_rng(1), 0, 0
    groups = np.repeat(names(60), 8).tolist()
    for _ in range(200):
        share = np.repeat(generator.beta(4, 1, size=60), 8)  # mean 0.8
        right = generator.random(480) < share
        low, high = intervals.accuracy_interval(right, groups)
        covered += low <= 0.8 <= high
        low, high = intervals.wilson_interval(int(right.sum()), 480)
        by_wilson += low <= 0.8 <= high
    assert covered >= 184 and by_wilson <= 172  # 94.7 % and 81.9 % of 1500


@pytest.mark.parametrize("correct", [[], [0.5, 1.0], [[True, False]], [1, 0]])
def test_answers_that_are_not_right_or_wrong_are_refused(correct: list) -> None:
    with pytest.raises(UserError, match=r"classified rightly, bool \[N\], got"):
        intervals.accuracy_interval(correct, names(len(correct)))


def test_another_number_of_groups_is_refused() -> None:
    with pytest.raises(UserError, match="expected 4 groups, one for each, got 5"):
        intervals.accuracy_interval(answers(4), names(5))


# Of anything, by the bootstrap over groups.


def test_bootstrap_draws_groups_whole() -> None:
    labels, probabilities = separated(60, 3)
    alone = intervals.bootstrap_intervals(measures(labels, probabilities), names(60))
    copies = measures(np.repeat(labels, 10), np.repeat(probabilities, 10, axis=0))
    together = intervals.bootstrap_intervals(copies, np.repeat(names(60), 10).tolist())
    apart = intervals.bootstrap_intervals(copies, names(600))
    for name in ("balanced_accuracy", "macro_f1", "auroc", "log_loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-9)  # a copy says nothing new
        assert np.ptp(together[name]) > 2 * np.ptp(apart[name])


def test_bootstrap_equals_scores_of_the_drawn_examples() -> None:
    labels, probabilities = separated(30, 3)
    got = intervals.bootstrap_intervals(measures(labels, probabilities), names(10) * 3, seed=7, replicates=50)
    draws = np.random.default_rng(7).integers(10, size=(50, 10))
    rows = [np.concatenate([np.arange(30)[np.arange(30) % 10 == group] for group in draw]) for draw in draws]
    for name, measure in (("macro_f1", built.macro_f1), ("auroc", built.auroc), ("log_loss", built.log_loss)):
        expected = np.nanpercentile([built.value(measure, labels[i], probabilities[i]) for i in rows], [2.5, 97.5])
        assert got[name] == pytest.approx(expected)


def test_bootstrap_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    every = measures(*separated(50, 2))
    whole = intervals.bootstrap_intervals(every, names(50), replicates=100)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    pieces = intervals.bootstrap_intervals(every, names(50), replicates=100)
    assert all(pieces[name] == pytest.approx(whole[name], abs=1e-12) for name in whole)


def test_bootstrap_holds_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    seen: list[tuple[int, ...]] = []
    intervals.bootstrap_intervals({"a": lambda weights: seen.append(weights.shape) or weights[0]}, names(50), replicates=20)
    assert seen == [(50, 8), (50, 8), (50, 4)]


def test_bootstrap_follows_its_seed_and_the_empty_name_is_a_group() -> None:
    every = measures(*separated(50, 2))
    first = intervals.bootstrap_intervals(every, ["", "a"] * 25, seed=1)
    assert first == intervals.bootstrap_intervals(every, ["b", "a"] * 25, seed=1)
    other = intervals.bootstrap_intervals(every, names(50), seed=2)
    assert other != intervals.bootstrap_intervals(every, names(50), seed=3)


def test_replicates_where_a_score_is_undefined_are_left_out() -> None:
    every = measures(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.95, 0.05]]))
    assert intervals.bootstrap_intervals(every, names(3))["auroc"] == (0.0, 1.0)


@pytest.mark.parametrize("groups", [[], ["one"] * 4])
def test_bootstrap_of_a_single_group_says_nothing(groups: list[str]) -> None:
    got = intervals.bootstrap_intervals({"a": lambda weights: weights[0]}, groups)
    assert list(got) == ["a"] and all(map(math.isnan, got["a"]))


def test_bounded_replicates() -> None:
    assert intervals.bounded_replicates(2000, 10) == 1000
    assert intervals.bounded_replicates(50_000, 10) == 400
    assert intervals.bounded_replicates(50_000, 1000) == 100
    assert intervals.bounded_replicates(50_000, 1000, replicates=20) == 20


def test_a_thousand_replicates_are_quick() -> None:
    every = measures(*separated(1000, 2))
    began = time.process_time()
    intervals.bootstrap_intervals(every, names(1000))
    assert time.process_time() - began < 2.0  # 0.05 s measured on 2 cores


# A paired difference.


Pairs = tuple[np.ndarray, np.ndarray, list[str]]


@st.composite
def pairs(draw: st.DrawFn) -> Pairs:
    """Two classifiers' answers to 1 to 40 examples, in 1 to 8 groups or fewer."""
    count = draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    correct, other = generator.random((2, count)) < draw(st.sampled_from([0.1, 0.5, 0.95]))
    return correct, other, [f"g{i}" for i in generator.integers(draw(st.integers(1, 8)), size=count)]


@FEW
@given(pairs())
def test_paired_difference_is_antisymmetric_and_within_its_interval_and_one(drawn: Pairs) -> None:
    correct, other, groups = drawn
    got = intervals.paired_difference(correct, other, groups)
    back = intervals.paired_difference(other, correct, groups)
    assert got.difference == -back.difference == pytest.approx(correct.mean() - other.mean())
    assert (got.low, got.high) == pytest.approx((-back.high, -back.low), nan_ok=True) and got.significant == back.significant
    if len(set(groups)) == 1:
        assert math.isnan(got.low) and math.isnan(got.high) and not got.significant
    else:
        assert -1 <= got.low <= got.high <= 1
        assert got.significant == (not got.low <= 0 <= got.high)


@FEW
@given(pairs())
def test_paired_difference_of_a_classifier_from_itself_is_zero(drawn: Pairs) -> None:
    correct, _, groups = drawn
    got = intervals.paired_difference(correct, correct, groups)
    assert got.difference == 0 and not got.significant
    assert (got.low, got.high) == (0, 0) or len(set(groups)) == 1


@FEW
@given(pairs(), st.randoms())
def test_paired_difference_does_not_depend_on_the_order_of_the_examples(drawn: Pairs, shuffler: random.Random) -> None:
    correct, other, groups = drawn
    order = list(range(len(groups)))
    shuffler.shuffle(order)
    shuffled = intervals.paired_difference(correct[order], other[order], [groups[i] for i in order])
    assert shuffled.difference == intervals.paired_difference(correct, other, groups).difference


def test_paired_difference_equals_that_of_the_drawn_examples() -> None:
    correct, other, groups = answers(30, 0.9, seed=1), answers(30, 0.6, seed=2), names(10) * 3
    got = intervals.paired_difference(correct, other, groups, seed=7, replicates=50)
    draws = np.random.default_rng(7).integers(10, size=(50, 10))
    rows = [np.concatenate([np.arange(30)[np.arange(30) % 10 == group] for group in draw]) for draw in draws]
    expected = np.percentile([correct[i].mean() - other[i].mean() for i in rows], [2.5, 97.5])
    assert (got.low, got.high) == pytest.approx(tuple(expected))


def test_paired_difference_sees_what_the_two_intervals_would_not() -> None:
    other = answers(200, 0.8)
    correct = other.copy()
    correct[np.flatnonzero(~other)[:12]] = True  # never worse, and better on 12 of 200
    got = intervals.paired_difference(correct, other, names(200))
    assert got.difference == pytest.approx(0.06) and got.significant and got.low > 0
    assert intervals.accuracy_interval(correct, names(200))[0] < intervals.accuracy_interval(other, names(200))[1]


def test_paired_difference_draws_groups_whole() -> None:
    correct, other = answers(60, 0.9, seed=1), answers(60, 0.7, seed=2)
    alone = intervals.paired_difference(correct, other, names(60))
    copies = np.repeat(correct, 10), np.repeat(other, 10)
    assert intervals.paired_difference(*copies, np.repeat(names(60), 10).tolist()) == alone  # a copy says nothing new
    apart = intervals.paired_difference(*copies, names(600))
    assert alone.high - alone.low > 2 * (apart.high - apart.low)


def test_paired_difference_follows_its_seed_and_not_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    correct, other = answers(50, 0.9, seed=1), answers(50, 0.7, seed=2)
    first = intervals.paired_difference(correct, other, names(50), seed=1)
    assert first != intervals.paired_difference(correct, other, names(50), seed=2)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    assert first == intervals.paired_difference(correct, other, names(50), seed=1)


def test_paired_difference_covers_the_truth() -> None:
    generator, covered = np.random.default_rng(1), 0
    groups = np.repeat(names(60), 4).tolist()
    for _ in range(200):
        easy = np.repeat(generator.random(60), 4)  # what both find easy
        correct, other = (generator.random(240) < share * easy**0.2 for share in (0.9, 0.8))
        got = intervals.paired_difference(correct, other, groups, replicates=400)
        covered += got.low <= 0.1 / 1.2 <= got.high  # the mean of easy ** 0.2 is 1 / 1.2
    assert covered >= 182


def test_a_thousand_paired_replicates_of_many_examples_are_quick() -> None:
    correct, other, groups = answers(50_000), answers(50_000, seed=1), names(50_000)
    began = time.process_time()
    intervals.paired_difference(correct, other, groups)
    assert time.process_time() - began < 10.0


@pytest.mark.parametrize(
    ("correct", "other", "groups", "message"),
    [
        ([], [], [], "bool"),
        ([True], [0.5], ["a"], r"bool \[N\], got float64"),
        ([True, False], [True], ["a", "b"], "got 2 and 1 answers and 2 groups"),
        ([True, False], [True, True], ["a"], "got 2 and 2 answers and 1 groups"),
    ],
)
def test_what_cannot_be_compared_is_refused(correct: list, other: list, groups: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        intervals.paired_difference(correct, other, groups)
