"""Of several classifiers, which is worse than the best: what is said holds, by simulation, however many there are."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import binomtest, norm

from headstart.features.errors import UserError
from headstart.training.scoring import intervals
from headstart.training.scoring.comparisons import against_best, gains_of, mcnemar


def names(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


def alike(generator: np.random.Generator, count: int, classifiers: int, share: float) -> list[np.ndarray]:
    """Equally accurate ones that find the same images hard, the most accurate first."""
    hard, own = generator.normal(size=count), generator.normal(size=(classifiers, count))
    hits = (hard + own) / math.sqrt(2) < norm.ppf(share)
    return list(hits[np.argsort(-hits.mean(1), kind="stable")])


@pytest.mark.parametrize(("count", "classifiers"), [(50, 5), (50, 15), (180, 5), (180, 15), (500, 5), (500, 15)])
def test_of_equal_ones_any_is_rarely_called_worse(count: int, classifiers: int) -> None:
    generator, called, draws = np.random.default_rng(1), 0, 100
    for number in range(draws):
        hits = alike(generator, count, classifiers, (0.6, 0.8, 0.95)[number % 3])
        called += any(found.significant for found in against_best(hits, names(count), replicates=200))
    assert called <= 0.07 * draws


def test_a_worse_one_is_called_so() -> None:
    generator, called = np.random.default_rng(1), 0
    for _ in range(40):
        hard = generator.normal(size=500)
        hits = [(hard + generator.normal(size=500)) / math.sqrt(2) < norm.ppf(share) for share in (0.95, 0.93, 0.8)]
        found = against_best(hits, names(500), replicates=300)
        called += found[2].significant and found[2].difference < 0
    assert called >= 38


def test_groups_are_drawn_whole() -> None:
    generator = np.random.default_rng(0)
    hits = [generator.random(60) < share for share in (0.9, 0.7)]
    copies = [np.repeat(each, 10) for each in hits]
    alone, together = against_best(hits, names(60))[1], against_best(copies, np.repeat(names(60), 10).tolist())[1]
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))  # a copy says nothing new
    apart = against_best(copies, names(600))[1]
    assert alone.high - alone.low > 2 * (apart.high - apart.low)


@pytest.mark.parametrize(("count", "better", "worse"), [(20, 0.04, 0.0), (50, 0.02, 0.0), (50, 0.1, 0.05), (200, 0.01, 0.0)])
def test_where_few_or_none_are_answered_differently_the_difference_is_covered(count: int, better: float, worse: float) -> None:
    generator, covered = np.random.default_rng(count), 0
    for _ in range(200):
        luck = generator.random(count)
        first = (luck > better) & (luck < 0.9)
        second = (luck < better) | (luck > better + worse) & (luck < 0.9)
        found = against_best([first, second], names(count), replicates=200)[1]
        assert found.low < found.difference < found.high  # also of two that answer all images alike
        covered += found.low <= better - worse <= found.high
    assert covered >= 0.93 * 200


def test_groups_that_answer_alike_are_worth_one_image_each() -> None:
    alike = np.ones(200, bool)
    alone, together = (against_best([alike, alike], [str(row // each) for row in range(200)])[1] for each in (1, 20))
    assert -0.02 < alone.low < 0 < alone.high < 0.02 and together.low < -0.2 and together.high > 0.2


@settings(max_examples=40, deadline=None)
@given(some.integers(5, 40), some.integers(2, 6), some.integers(0, 2**32 - 1))
def test_differences_lie_within_their_intervals(count: int, classifiers: int, seed: int) -> None:
    hits = alike(np.random.default_rng(seed), count, classifiers, 0.7)
    for found, each in zip(against_best(hits, names(count), replicates=50), hits):
        assert found.difference == pytest.approx(each.mean() - hits[0].mean())
        assert -1 <= found.low <= found.difference + 1e-12 and found.difference - 1e-12 <= found.high <= 1
        assert found.significant == (not found.low <= 0 <= found.high)


def test_four_of_four_are_too_few_to_tell() -> None:
    other = np.zeros(100, bool)
    other[:60] = True
    best = other.copy()
    best[60:64] = True
    assert mcnemar([1, 1, 1, 1]) == 0.125
    assert not against_best([best, other], names(100))[1].significant
    best[60:75] = True
    assert against_best([best, other], names(100))[1].significant


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (5, 2), (12, 12), (3, 20), (500, 524), (2600, 2400)])
def test_mcnemar_is_scipy_s(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar([1] * better + [-1] * worse + [0] * 3) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(some.lists(some.integers(-4, 4), max_size=8))
def test_mcnemar_of_groups_is_the_share_of_all_swaps(gains: list[int]) -> None:
    sums = [abs(sum(each)) for each in itertools.product(*((gain, -gain) for gain in gains))]
    assert mcnemar(gains) == pytest.approx(sum(each >= abs(sum(gains)) for each in sums) / len(sums))


def test_copies_change_no_verdict() -> None:
    best, other = np.ones(100, bool), np.arange(100) >= 5
    copies = [each.repeat(4) for each in (best, other)]
    alone = against_best([best, other], names(100))[1]
    together = against_best(copies, np.repeat(names(100), 4).tolist())[1]
    assert not alone.significant and not together.significant  # 5 against 0 may be chance
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    assert gains_of(*copies, np.repeat(names(100), 4).tolist()).tolist() == [-4.0] * 5 + [0.0] * 95


def test_few_groups_say_nothing_and_the_seed_decides() -> None:
    generator = np.random.default_rng(0)
    hits = [generator.random(40) < share for share in (0.9, 0.7)]
    found = against_best(hits, ["a", "b", "c", "d"] * 10)[1]
    assert math.isnan(found.low) and math.isnan(found.high) and not found.significant
    hits = alike(generator, 300, 4, 0.8)
    first, again, other = (against_best(hits, names(300), seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_it_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = alike(np.random.default_rng(0), 50, 3, 0.8)
    first = against_best(hits, names(50))
    monkeypatch.setattr(intervals, "BLOCK", 50 * 8)
    assert first == against_best(hits, names(50))


def test_many_examples_are_quick() -> None:
    hits = alike(np.random.default_rng(0), 20_000, 10, 0.8)
    began = time.process_time()
    against_best(hits, names(20_000))
    assert time.process_time() - began < 10.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UserError, match="bool"):
        against_best([np.zeros(3), np.zeros(3)], names(3))
    with pytest.raises(UserError, match="expected 3 groups, one for each, got 2"):
        against_best([np.zeros(3, bool), np.zeros(3, bool)], names(2))
