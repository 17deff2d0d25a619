"""Intervals against known values, scipy, the draws done by hand, and the truth, by simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t as student_t

from headstart.features.errors import UserError
from headstart.training.scoring import bootstrap, intervals
from headstart.training.scoring import measures as built

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


def measures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, bootstrap.Measure]:
    return {name: build(labels, probabilities) for name, build in built.BOOTSTRAPPED.items()}


def names(count: int) -> list[str]:
    return [f"k{i}" for i in range(count)]


# Of a proportion.


@FEW
@given(st.integers(1, 500), st.floats(0, 1))
def test_a_share_s_interval_equals_scipy_s_exact_one(n: int, share: float) -> None:
    from scipy.stats import binomtest

    successes = round(share * n)
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert intervals.share_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_share_of_no_trials_is_unknown_and_trials_that_are_guessed_count_less() -> None:
    assert intervals.share_interval(0, 0) == (0, 1)
    low, high = intervals.share_interval(16, 20)
    lower, higher = intervals.share_interval(16, 20, intervals.student(4))
    assert lower < low and higher > high
    assert intervals.share_interval(4, 5) == pytest.approx(intervals.share_interval(16, 20, 2 * intervals.NORMAL))


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(UserError, match="0 <= successes <= n, got 3 and 2"):
        intervals.share_interval(3, 2)


def test_accuracy_interval_is_a_share_s_when_each_example_is_its_own_group() -> None:
    correct = answers(100)
    assert intervals.accuracy_interval(correct, names(100)) == intervals.share_interval(int(correct.sum()), 100)


def test_accuracy_interval_counts_identical_copies_once() -> None:
    correct = answers(40)
    once = intervals.accuracy_interval(correct, names(40))
    copied = intervals.accuracy_interval(np.repeat(correct, 10), np.repeat(names(40), 10).tolist())
    assert copied == pytest.approx(once, abs=0.02)


def test_accuracy_interval_of_one_group_of_right_answers_is_that_of_one_trial() -> None:
    assert intervals.accuracy_interval(np.ones(50, bool), [""] * 50) == intervals.share_interval(1, 1)
    assert intervals.accuracy_interval(np.ones(50, bool), [*"abcde"] * 10) == intervals.share_interval(5, 5)


def test_accuracy_interval_covers_the_truth_when_groups_agree_and_a_share_s_does_not() -> None:
    generator, covered, by_share = np.random.default_rng(1), 0, 0
    groups = np.repeat(names(60), 8).tolist()
    for _ in range(200):
        share = np.repeat(generator.beta(4, 1, size=60), 8)  # mean 0.8
        right = generator.random(480) < share
        low, high = intervals.accuracy_interval(right, groups)
        covered += low <= 0.8 <= high
        low, high = intervals.share_interval(int(right.sum()), 480)
        by_share += low <= 0.8 <= high
    assert covered >= 184 and by_share <= 172  # 94.7 % and 81.9 % of 1500


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
    alone = bootstrap.bootstrap_intervals(measures(labels, probabilities), names(60))
    copies = measures(np.repeat(labels, 10), np.repeat(probabilities, 10, axis=0))
    together = bootstrap.bootstrap_intervals(copies, np.repeat(names(60), 10).tolist())
    apart = bootstrap.bootstrap_intervals(copies, names(600))
    for name in ("macro_f1", "auroc", "log_loss"):
        assert together[name] == pytest.approx(alone[name], abs=1e-9)  # a copy says nothing new
        assert np.ptp(together[name]) > 2 * np.ptp(apart[name])


def test_bootstrap_equals_scores_of_the_drawn_examples() -> None:
    labels, probabilities = separated(30, 3)
    every, ten = measures(labels, probabilities), names(10) * 3
    got = bootstrap.bootstrap_intervals(every, ten, seed=7, replicates=50, scales=built.SCALES)
    draws = np.random.default_rng(7).integers(10, size=(50, 10))
    rows = [np.concatenate([np.arange(30)[np.arange(30) % 10 == group] for group in draw]) for draw in draws]
    for name, measure in built.BOOTSTRAPPED.items():
        value = built.value(measure, labels, probabilities)
        drawn = [built.value(measure, labels[i], probabilities[i]) for i in rows]
        half, bias = student_t.ppf(0.975, 9) * np.nanstd(drawn) * np.sqrt(10 / 9), np.nanmean(drawn) - value
        ends = np.array([-half - max(0, bias), half - min(0, bias)])
        expected = value * np.exp(ends / value) if name in built.SCALES else expit(logit(value) + ends / (value * (1 - value)))
        assert got[name] == pytest.approx(expected)


def test_bootstrap_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    every = measures(*separated(50, 2))
    whole = bootstrap.bootstrap_intervals(every, names(50), replicates=100)
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    pieces = bootstrap.bootstrap_intervals(every, names(50), replicates=100)
    assert all(pieces[name] == pytest.approx(whole[name], abs=1e-12) for name in whole)


def test_bootstrap_holds_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    seen: list[tuple[int, ...]] = []
    bootstrap.bootstrap_intervals({"a": lambda weights: seen.append(weights.shape) or weights[0]}, names(50), replicates=20)
    assert seen == [(50, 1), (50, 8), (50, 8), (50, 4)]  # the value itself comes first


def test_bootstrap_follows_its_seed_and_the_empty_name_is_a_group() -> None:
    every = measures(*separated(50, 2))
    first = bootstrap.bootstrap_intervals(every, ["", *"abcd"] * 10, seed=1)
    assert first == bootstrap.bootstrap_intervals(every, ["z", *"abcd"] * 10, seed=1)
    other = bootstrap.bootstrap_intervals(every, names(50), seed=2)
    assert other != bootstrap.bootstrap_intervals(every, names(50), seed=3)


def test_replicates_where_a_score_is_undefined_are_left_out() -> None:
    labels, scores = np.array([0, 1, 1, 1, 1]), np.array([0.1, 0.6, 0.05, 0.6, 0.05])
    every = measures(labels, np.stack([1 - scores, scores], 1))
    low, high = bootstrap.bootstrap_intervals(every, names(5))["auroc"]
    assert 0 < low < 0.5 < high < 1


def test_few_groups_that_tell_make_it_wider_and_fewer_than_five_leave_it_out() -> None:
    every = measures(*separated(60, 3))
    all_of_them, six, four = (
        bootstrap.bootstrap_intervals(every, names(60), telling=count)["log_loss"] for count in (None, 6, 4)
    )
    assert six[0] < all_of_them[0] and six[1] > all_of_them[1] and all(map(math.isnan, four))
    flags = np.array([True, True, False, False, True])
    assert bootstrap.telling_groups(flags, ["a", "a", "a", "b", "b"]) == 2
    assert bootstrap.telling_groups(flags[:2], ["a", "b"]) == 0


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(5, 40), st.integers(2, 4))
def test_a_value_lies_within_its_interval_and_that_on_its_scale(seed: int, count: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels, odds = generator.integers(classes, size=count), generator.random((count, classes)) + 0.01
    probabilities = odds / odds.sum(1, keepdims=True)
    every = measures(labels, probabilities)
    for name, (low, high) in bootstrap.bootstrap_intervals(every, names(count), 0, 50, built.SCALES).items():
        if not math.isnan(low):
            value = built.value(built.BOOTSTRAPPED[name], labels, probabilities)
            assert 0 <= low <= value <= high and (name in built.SCALES or high <= 1)


def test_what_is_the_same_in_every_replicate_says_nothing() -> None:
    got = bootstrap.bootstrap_intervals({"perfect": lambda weights: np.ones(weights.shape[1])}, names(30))
    assert all(map(math.isnan, got["perfect"]))


@pytest.mark.parametrize("groups", [[], ["one"] * 4, ["one", "two", "three", "four"] * 3])
def test_bootstrap_of_few_groups_says_nothing(groups: list[str]) -> None:
    got = bootstrap.bootstrap_intervals({"a": lambda weights: weights[0]}, groups)
    assert list(got) == ["a"] and all(map(math.isnan, got["a"]))


def test_bounded_replicates() -> None:
    assert bootstrap.bounded_replicates(2000, 10) == 1000
    assert bootstrap.bounded_replicates(50_000, 10) == 400
    assert bootstrap.bounded_replicates(50_000, 1000) == 100
    assert bootstrap.bounded_replicates(50_000, 1000, replicates=20) == 20


def test_a_thousand_replicates_are_quick() -> None:
    every = measures(*separated(1000, 2))
    began = time.process_time()
    bootstrap.bootstrap_intervals(every, names(1000))
    assert time.process_time() - began < 2.0  # 0.05 s measured on 2 cores


@pytest.mark.parametrize("groups", [2, 3, 5, 10, 30, 100])
def test_an_accuracy_of_few_groups_covers_the_truth(groups: int) -> None:
    generator, covered = np.random.default_rng(groups), 0
    members = np.repeat(names(groups), 10).tolist()
    for _ in range(300):
        share = np.repeat(generator.beta(8, 2, size=groups), 10)  # mean 0.8
        low, high = intervals.accuracy_interval(generator.random(10 * groups) < share, members)
        covered += low <= 0.8 <= high
    assert covered >= 0.93 * 300 - 6  # a standard deviation and a half


@pytest.mark.parametrize("groups", [5, 10, 20, 100])
def test_the_bootstrap_of_few_groups_covers_the_truth(groups: int) -> None:
    generator, covered = np.random.default_rng(groups), 0
    members = np.repeat(names(groups), 5).tolist()
    for _ in range(200):
        values = np.repeat(generator.gamma(2.0, 1.0, size=groups), 5) + generator.gamma(2.0, 1.0, size=5 * groups)  # mean 4
        measure = {"mean": lambda weights, values=values: values @ weights / weights.sum(0)}
        low, high = bootstrap.bootstrap_intervals(measure, members, 0, 500, {"mean": bootstrap.LOSS})["mean"]
        covered += low <= 4 <= high
    assert covered >= 0.93 * 200 - 5


@pytest.mark.parametrize("count", [5, 10, 20, 50, 100, 180, 500, 1000])
def test_a_share_s_interval_covers_what_it_is_of(count: int) -> None:
    from scipy.stats import binom

    ends = np.array([intervals.share_interval(right, count) for right in range(count + 1)])
    for share in np.linspace(0.5, 0.99, 50):
        within = (ends[:, 0] <= share) & (share <= ends[:, 1])
        assert binom.pmf(np.arange(count + 1), count, share) @ within >= 0.95 - 1e-9  # exactly


@pytest.mark.parametrize(
    ("count", "shares"),
    [(5, (0.9, 0.7)), (20, (0.95, 0.8)), (100, (0.99, 0.9)), (1000, (0.9, 0.5)), (100, (0.95,) * 20), (400, (0.9, 0.99) * 20)],
)
def test_a_balanced_accuracy_covers_the_truth_and_is_never_certain(count: int, shares: tuple[float, ...]) -> None:
    generator, covered = np.random.default_rng(count), 0
    for _ in range(300):
        labels = np.arange(count) % len(shares)
        correct = generator.random(count) < np.array(shares)[labels]
        low, high = intervals.balanced_accuracy_interval(labels, correct, names(count))
        assert low < high
        covered += low <= np.mean(shares) <= high
    assert covered >= 0.93 * 300 - 6


@pytest.mark.parametrize("groups", [3, 5, 10, 30])
def test_a_balanced_accuracy_covers_the_truth_where_a_group_has_all_classes(groups: int) -> None:
    generator, covered = np.random.default_rng(groups), 0
    members, labels = np.repeat(names(groups), 10).tolist(), np.arange(10 * groups) % 5
    for _ in range(200):
        share = np.repeat(generator.beta(8, 2, size=groups), 10)  # mean 0.8, of all of a group's classes
        low, high = intervals.balanced_accuracy_interval(labels, generator.random(10 * groups) < share, members)
        covered += low <= 0.8 <= high
    assert covered >= 0.93 * 200 - 6


def test_a_balanced_accuracy_of_equal_classes_is_the_accuracy_s() -> None:
    labels = np.arange(40) % 4
    correct = np.arange(40) % 7 > 0
    found = intervals.balanced_accuracy_interval(labels, correct, names(40))
    assert found == pytest.approx(intervals.accuracy_interval(correct, names(40)), abs=0.02)


def test_a_balanced_accuracy_of_one_class_is_the_accuracy_s() -> None:
    correct = answers(40)
    found = intervals.balanced_accuracy_interval(np.zeros(40, np.int64), correct, names(40))
    assert found == pytest.approx(intervals.accuracy_interval(correct, names(40)))
