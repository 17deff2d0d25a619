"""Scores of sets of labels are those of scikit-learn; thresholds are the best there can be; intervals respect groups."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import Ridge

from headstart.features.dataset.examples import Example
from headstart.training.evaluation import set_report
from headstart.training.probing import ridge
from headstart.training.scoring import set_measures
from headstart.training.scoring.bootstrap import bootstrap_intervals
from headstart.training.scoring.set_comparisons import sets_against_best
from headstart.training.scoring.set_scores import score_sets
from headstart.training.scoring.set_subgroups import set_subgroups
from headstart.training.scoring.temperature import fit_sigmoid_temperature, set_figures, sigmoid
from headstart.training.scoring.thresholds import choose_thresholds, decided
from tests.conftest import raises

NAMES = ["cat", "dog", "sun"]


def made(seed: int, count: int = 80, steps: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Labels, each class on some image, and probabilities with ties that say something of them."""
    generator = np.random.default_rng(seed)
    truth = (generator.random((count, 3)) < (0.5, 0.3, 0.1)).astype(np.uint8)
    truth[0] = 1
    shares = np.clip(0.3 * truth + generator.normal(0.35, 0.2, truth.shape), 0, 1)
    return truth, (np.round(shares * steps) / steps).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(seed: int) -> None:
    truth, shares = made(seed)
    thresholds = np.array([0.45, 0.5, 0.6])
    answers = (shares.astype(np.float64) >= thresholds).astype(int)
    found = score_sets(truth, shares, list(map(str, range(80))), NAMES, thresholds)
    assert found.mean_average_precision.value == pytest.approx(metrics.average_precision_score(truth, shares, average="macro"))
    assert found.macro_f1.value == pytest.approx(metrics.f1_score(truth, answers, average="macro"))
    assert found.micro_f1.value == pytest.approx(metrics.f1_score(truth, answers, average="micro"))
    assert found.subset_accuracy.value == pytest.approx(metrics.accuracy_score(truth, answers))
    clipped = np.clip(shares.astype(np.float64), 1e-7, 1 - 1e-7)
    losses = [metrics.log_loss(truth[:, i], clipped[:, i]) for i in range(3)]
    assert found.log_loss.value == pytest.approx(np.mean(losses), rel=1e-6)
    for each, single, precision, recall in zip(
        found.per_class,
        metrics.f1_score(truth, answers, average=None),
        metrics.precision_score(truth, answers, average=None, zero_division=np.nan),
        metrics.recall_score(truth, answers, average=None),
    ):
        number = NAMES.index(each.name)
        assert each.average_precision.value == pytest.approx(
            metrics.average_precision_score(truth[:, number], shares[:, number])
        )
        assert each.f1.value == pytest.approx(single) and each.recall == pytest.approx(recall)
        assert each.precision == pytest.approx(precision, nan_ok=True)
    assert found.chance == pytest.approx(truth.mean()) and found.labels_per_image == pytest.approx(truth.sum(1).mean())


def test_a_weight_counts_as_so_many_examples() -> None:
    truth, shares = made(1, 30)
    times = np.random.default_rng(0).integers(0, 4, 30)
    again = (np.repeat(truth, times, 0), np.repeat(shares, times, 0))
    for build in (set_measures.average_precisions, set_measures.mean_average_precision, set_measures.log_loss):
        repeated = set_measures.value(build(*again), int(times.sum()))
        assert build(truth, shares)(times[:, None].astype(float))[..., 0] == pytest.approx(repeated, nan_ok=True)
    for build in (set_measures.f1s, set_measures.micro_f1):
        repeated = set_measures.value(build(again[0], decided(again[1], np.full(3, 0.5))), int(times.sum()))
        found = build(truth, decided(shares, np.full(3, 0.5)))(times[:, None].astype(float))[..., 0]
        assert found == pytest.approx(repeated, nan_ok=True)


def test_a_class_that_no_image_has_is_in_no_mean() -> None:
    truth, shares = made(2)
    truth[:, 2] = 0
    found = score_sets(truth, shares, list(map(str, range(80))), NAMES, np.full(3, 0.5))
    assert np.isnan(found.per_class[2].average_precision.value) and np.isnan(found.per_class[2].f1.value)
    two = metrics.average_precision_score(truth[:, :2], shares[:, :2])
    assert found.mean_average_precision.value == pytest.approx(two)
    written = found.to_json()
    assert written["per_class"][2]["average_precision"]["value"] is None and written["per_class"][2]["recall"] is None
    assert "sun" in set_report.summary(found, "test", False, False).splitlines()[-1]


def test_a_value_has_the_scores_of_its_images() -> None:
    truth, shares = made(4, 120)
    truth[:30] = 0
    values, groups = ["none"] * 30 + ["odd", "even"] * 45, [str(number // 3) for number in range(120)]
    thresholds = np.full(3, 0.5)
    rows = set_subgroups(values, truth, shares, thresholds, groups, seed=7)
    assert [row.value for row in rows[2:]] == ["none"] and np.isnan(rows[2].mean_average_precision.value)
    assert rows[0].mean_average_precision.value <= rows[1].mean_average_precision.value
    for row in rows[:2]:
        own = [at for at, value in enumerate(values) if value == row.value]
        alone = score_sets(truth[own], shares[own], [groups[at] for at in own], NAMES, thresholds, 7)
        assert (row.count, row.groups) == (alone.examples, alone.groups)
        assert (row.mean_average_precision, row.micro_f1) == (alone.mean_average_precision, alone.micro_f1)
        assert row.chance == alone.chance


def test_a_rare_class_leaves_intervals_of_means_out_and_the_summary_says_why() -> None:
    truth, shares = made(6, 120)
    truth[:, 2] = 0
    truth[:3, 2] = 1
    found = score_sets(truth, shares, list(map(str, range(120))), NAMES, np.full(3, 0.5))
    assert found.telling_groups == 3 and np.isnan(found.mean_average_precision.low) and np.isnan(found.macro_f1.low)
    assert np.isnan(found.per_class[2].average_precision.low) and found.per_class[0].average_precision.low > 0
    assert found.micro_f1.low < found.micro_f1.value < found.micro_f1.high
    assert "no intervals of means over classes: 3 groups with the rarest are too few" in set_report.summary(
        found, "test", False, False
    )


def test_intervals_draw_groups_whole() -> None:
    truth, shares = made(3, 200)
    alone = score_sets(truth, shares, list(map(str, range(200))), NAMES, np.full(3, 0.5))
    tens = [str(number // 10) for number in range(200)]
    copies = np.repeat(truth[:20], 10, 0), np.repeat(shares[:20], 10, 0)
    grouped = score_sets(*copies, tens, NAMES, np.full(3, 0.5))
    width, wide = (each.micro_f1.high - each.micro_f1.low for each in (alone, grouped))
    assert wide > 2 * width > 0  # 20 images' worth, and not 200
    few = score_sets(truth, shares, [str(number % 4) for number in range(200)], NAMES, np.full(3, 0.5))
    assert np.isnan(few.mean_average_precision.low) and few.bootstrap_replicates == 0
    own = bootstrap_intervals({"micro": set_measures.micro_f1(truth, decided(shares, np.full(3, 0.5)))}, tens, 0)
    again = score_sets(truth, shares, tens, NAMES, np.full(3, 0.5))
    assert own["micro"] == (again.micro_f1.low, again.micro_f1.high)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=30))
def test_no_threshold_has_a_larger_f1(rows: list[tuple[bool, int]]) -> None:
    truth = np.array([[has] for has, _ in rows], np.uint8)
    shares = np.array([[share / 8] for _, share in rows], np.float32)
    (chosen,) = choose_thresholds(truth, shares, ["cat"])
    if not truth.any():
        assert (chosen.threshold, chosen.f1, chosen.images) == (0.5, None, 0)
        return
    f1s = [metrics.f1_score(truth, shares >= edge, zero_division=0) for edge in np.arange(0, 9) / 8]
    assert chosen.f1 == pytest.approx(max(f1s)) and chosen.images == truth.sum()
    assert metrics.f1_score(truth, decided(shares, np.array([chosen.threshold]))) == pytest.approx(chosen.f1)


def test_a_temperature_mends_sigmoids_that_are_too_sure() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (3000, 4))
    truth = (generator.random(logits.shape) < sigmoid(logits)).astype(np.uint8)
    groups = list(map(str, range(3000)))
    assert fit_sigmoid_temperature(truth, 3 * logits, groups) == pytest.approx(3, rel=0.05)
    assert fit_sigmoid_temperature(truth, logits, groups) == pytest.approx(1, rel=0.05)
    before, after = (set_figures(truth, sigmoid(3 * logits, t)) for t in (1.0, 3.0))
    assert after["log_loss"] < before["log_loss"] and after["brier"] < before["brier"]


def test_what_can_not_be_scored_is_told() -> None:
    with raises("bad-value"):
        score_sets(np.zeros((2, 3)), np.zeros((2, 2)), ["a", "b"], NAMES, np.full(3, 0.5))
    with raises("bad-value"):
        score_sets(np.zeros((1, 3)), np.full((1, 3), 1.5), ["a"], NAMES, np.full(3, 0.5))
    with raises("bad-value"):
        choose_thresholds(np.full((1, 1), 2), np.zeros((1, 1)), ["cat"])


def test_a_probe_of_sets_is_ridge_regression_of_each_label() -> None:
    generator = np.random.default_rng(0)
    truth, _ = made(0, 120)
    features = (truth @ generator.normal(0, 1, (3, 10)) + generator.normal(0, 0.5, (120, 10))).astype(np.float32)
    probe = ridge.fit_sets(features, truth, list(map(str, range(120))))
    standard = (features - probe.mean) / probe.deviation
    penalty = probe.regularisation * np.linalg.eigvalsh(standard.T @ standard).mean()
    expected = Ridge(alpha=penalty).fit(standard, truth).predict(standard)
    assert probe.scores(features) == pytest.approx(expected, abs=1e-3)
    assert 0.7 < probe.accuracy <= metrics.average_precision_score(truth, probe.scores(features), average="macro")


def test_equal_rankers_are_seldom_called_worse() -> None:
    called = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        truth, _ = made(seed, 100)
        scores = [truth + generator.normal(0, 1, truth.shape) for _ in range(4)]
        groups = list(map(str, range(100)))
        scores.sort(key=lambda each, truth=truth: -metrics.average_precision_score(truth, each, average="macro"))
        against = sets_against_best(truth, scores, groups, seed)
        assert against[0].difference == 0 and all(each.difference <= 0 for each in against)
        called += any(each.significant for each in against)
    assert called <= 5  # of 40, where 5% would be 2
    worse = sets_against_best(truth, [truth + 0.1 * scores[0], scores[1]], groups)
    assert worse[1].significant and worse[1].high < 0
    assert np.isnan(sets_against_best(truth, scores[:2], ["a"] * 100)[1].low)


def test_probabilities_near_one_are_read_back_as_they_were(tmp_path: pathlib.Path) -> None:
    """Of confident sigmoids, so that what `compare` makes of predictions.csv is what `evaluate` said."""
    generator = np.random.default_rng(0)
    shares = (1 / (1 + np.exp(-generator.normal(12, 2, size=(200, 1))))).astype(np.float32)
    examples = [Example(f"{number}.jpg", f"{number:064x}", ("a",), "test") for number in range(200)]
    set_report.write_predictions(str(tmp_path / "predictions.csv"), examples, shares, np.full(1, 0.5), ["a"], "|")
    with open(tmp_path / "predictions.csv", encoding="utf-8", newline="") as file:
        read = np.array([float(row["p:a"]) for row in csv.DictReader(file)])
    assert np.array_equal(read.astype(np.float32), shares[:, 0])
