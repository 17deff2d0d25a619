"""Every score against scikit-learn, with weights and ties; what score() promises."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from headstart.features.errors import UserError
from headstart.training.evaluation import report
from headstart.training.scoring import bootstrap, intervals, measures, scores
from headstart.training.scoring.measures import value
from headstart.training.scoring.scores import ClassScores, ConfusedPair, Interval, Mistake

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]
FEW = settings(max_examples=60, deadline=None)


@st.composite
def examples(draw: st.DrawFn, smallest: int = 2, largest: int = 5) -> Drawn:
    """Labels, probabilities from a coarse grid (so that they tie) and small whole weights, of which at least one counts."""
    classes, count = draw(st.integers(smallest, largest)), draw(st.integers(1, 40))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = generator.integers(1, draw(st.sampled_from([3, 6, 1000])), size=(count, classes))
    weights = generator.integers(0, 4, size=count)
    weights[0] = 1
    return generator.integers(classes, size=count), parts / parts.sum(1, keepdims=True), weights


def separated(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A model that is right more often than not."""
    generator = np.random.default_rng(seed)
    labels, logits = generator.integers(classes, size=count), generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    odds = np.exp(logits)
    return labels, odds / odds.sum(1, keepdims=True)


def names(count: int, prefix: str = "k") -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


# The scores.


@FEW
@given(examples())
def test_scores_of_the_prediction_equal_scikit_learn(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    predicted, present = probabilities.argmax(1), np.unique(labels[weights > 0])
    weighted = {"sample_weight": weights}
    recall = reference.recall_score(labels, predicted, labels=present, average="macro", zero_division=0, **weighted)
    f1 = reference.f1_score(labels, predicted, labels=present, average="macro", zero_division=0, **weighted)
    assert value(measures.accuracy, *drawn) == pytest.approx(reference.accuracy_score(labels, predicted, **weighted))
    assert value(measures.balanced_accuracy, *drawn) == pytest.approx(recall)
    assert value(measures.macro_f1, *drawn) == pytest.approx(f1)


def test_balanced_accuracy_equals_scikit_learns_own() -> None:
    labels, probabilities = separated(200, 4)
    expected = reference.balanced_accuracy_score(labels, probabilities.argmax(1))
    assert value(measures.balanced_accuracy, labels, probabilities) == pytest.approx(expected)


@FEW
@given(examples())
def test_log_loss_equals_scikit_learn(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    expected = reference.log_loss(labels, probabilities, sample_weight=weights, labels=range(probabilities.shape[1]))
    assert value(measures.log_loss, *drawn) == pytest.approx(expected)


def test_log_loss_is_clipped() -> None:
    assert value(measures.log_loss, [1], [[1.0, 0.0]]) == pytest.approx(-math.log(1e-7))
    assert value(measures.log_loss, [0], [[1.0, 0.0]]) == 0.0


def areas(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> list[float]:
    """scikit-learn's area of each class against the rest, where it has one."""
    kept = weights > 0
    return [
        reference.roc_auc_score(labels[kept] == i, probabilities[kept, i], sample_weight=weights[kept])
        for i in ([1] if probabilities.shape[1] == 2 else range(probabilities.shape[1]))
        if 0 < (labels[kept] == i).sum() < kept.sum()
    ]


@FEW
@given(examples())
def test_auroc_equals_scikit_learn_with_ties(drawn: Drawn) -> None:
    expected, got = areas(*drawn), value(measures.auroc, *drawn)
    assert got == pytest.approx(np.mean(expected)) if expected else math.isnan(got)


def test_auroc_of_constant_scores_is_a_half_and_of_one_class_undefined() -> None:
    assert value(measures.auroc, [0, 1, 1], np.full((3, 2), 0.5)) == 0.5
    assert math.isnan(value(measures.auroc, [1, 1, 1], np.full((3, 2), 0.5)))


@FEW
@given(examples(smallest=6, largest=9))
def test_top_5_never_exceeds_scikit_learn_and_equals_it_without_ties(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    classes = probabilities.shape[1]
    expected = reference.top_k_accuracy_score(labels, probabilities, k=5, sample_weight=weights, labels=range(classes))
    got = value(measures.top_5, *drawn)
    tied = any(len(set(row)) < classes for row in probabilities)
    assert got <= expected + 1e-12 if tied else got == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "expected"), [(7, 0.0), (5, 1.0), (2, 1.0)])
def test_top_5_counts_ties_against_the_truth_and_all_classes_where_they_are_fewer(classes: int, expected: float) -> None:
    uniform = np.full((classes, classes), 1 / classes)
    got = scores.score(np.arange(classes), uniform, names(classes), names(classes), names(classes, "c"))
    assert got.top_5.value == expected


def test_score_has_the_top_5_of_scikit_learn() -> None:
    labels, probabilities = separated(100, 9)
    got = scores.score(labels, probabilities, names(100), names(100), names(9, "c")).top_5
    assert got.value == pytest.approx(reference.top_k_accuracy_score(labels, probabilities, k=5))
    assert got.low < got.value < got.high


def test_calibration_error_by_hand() -> None:
    probabilities = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]]
    # two bins: confidence 0.9 with accuracy 0.5, and confidence 0.6 with accuracy 1
    many = [10**9] * 4  # so many examples that chance adds nothing
    assert value(measures.calibration_error, [0, 1, 0, 1], probabilities, many) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert value(measures.calibration_error, [0, 1, 0, 1], probabilities, [10**9, 0, 0, 0]) == pytest.approx(0.1)


def test_calibration_error_is_less_what_chance_adds() -> None:
    """Of a model that is as right as it is certain; without that, 200 examples show .048."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        certain = np.maximum(generator.beta(8, 1.2, 200), 0.51)
        labels = (generator.random(200) < certain).astype(np.int64)
        found.append(value(measures.calibration_error, labels, np.stack([1 - certain, certain], 1)))
    assert min(found) >= 0 and np.mean(found) < 0.034


@FEW
@given(examples(smallest=2, largest=7))
def test_brier_equals_scikit_learn(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    if probabilities.shape[1] == 2:
        expected = reference.brier_score_loss(labels, probabilities[:, 1], sample_weight=weights, pos_label=1)
    else:
        classes = range(probabilities.shape[1])
        expected = reference.brier_score_loss(labels, probabilities, sample_weight=weights, labels=classes)
    assert value(measures.brier, *drawn) == pytest.approx(expected)


def test_calibration_bins_close_on_the_right() -> None:
    edge = 9 / 15  # belongs to the bin below it, apart from what lies just above
    probabilities = [[edge, 1 - edge], [edge + 1e-3, 1 - edge - 1e-3]]
    expected = ((1 - edge) + (edge + 1e-3)) / 2
    assert value(measures.calibration_error, [0, 1], probabilities, [10**9] * 2) == pytest.approx(expected)


def test_majority_accuracy() -> None:
    probabilities = np.full((4, 3), 1 / 3)
    assert value(measures.majority_accuracy, [2, 2, 2, 0], probabilities) == 0.75
    assert value(measures.majority_accuracy, [2, 2, 2, 0], probabilities, [1, 0, 0, 3]) == 0.75


EVERY = [measures.accuracy, measures.majority_accuracy, *measures.BOOTSTRAPPED.values()]


@FEW
@given(examples(smallest=1, largest=7))
def test_weights_are_multiplicities(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    repeated = np.repeat(labels, weights), np.repeat(probabilities, weights, axis=0)
    for measure in EVERY:
        assert value(measure, *drawn) == pytest.approx(value(measure, *repeated), nan_ok=True), measure.__name__


def test_weights_of_zero_leave_nothing() -> None:
    for measure in EVERY:
        assert math.isnan(value(measure, [0, 1], [[0.9, 0.1], [0.2, 0.8]], [0, 0])), measure.__name__


# Where the mistakes are.


def test_confusion_equals_scikit_learn() -> None:
    labels, probabilities = separated(100, 4)
    got = scores.confusion(labels, probabilities)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, reference.confusion_matrix(labels, probabilities.argmax(1), labels=range(4)))


def test_most_confused_pairs_are_ordered_and_off_the_diagonal() -> None:
    table = np.array([[9, 1, 0], [3, 9, 2], [0, 2, 9]])
    assert scores.most_confused_pairs(table, ["a", "b", "c"], limit=3) == [
        ConfusedPair("b", "a", 3),
        ConfusedPair("b", "c", 2),
        ConfusedPair("c", "b", 2),
    ]
    assert table[0, 0] == 9


def test_per_class_marks_what_is_missing_and_what_is_few() -> None:
    labels = np.array([0] * 10 + [1])
    probabilities = np.array([[0.8, 0.1, 0.1]] * 11)
    found = scores.per_class(scores.confusion(labels, probabilities), ["a", "b", "c"])
    assert found[0] == ClassScores("a", 10, pytest.approx(10 / 11), 1.0)
    first, second, third = (each.to_json() for each in found)
    none = {"low": None, "high": None}  # the intervals are `score`'s to know
    assert first == {"class": "a", "count": 10, "precision": pytest.approx(10 / 11), "recall": 1.0, **none, "note": ""}
    assert second == {"class": "b", "count": 1, "precision": None, "recall": 0.0, **none, "note": "too few"}
    assert third == {"class": "c", "count": 0, "precision": None, "recall": None, **none, "note": "too few"}


def test_worst_mistakes_are_the_most_confident_ones_and_ties_go_by_key() -> None:
    probabilities = [[0.6, 0.4], [0.1, 0.9], [0.75, 0.25], [0.1, 0.9]]
    got = scores.worst_mistakes([1, 0, 0, 0], probabilities, ["a", "z", "right", "b"], ["no", "yes"])
    assert [mistake.key for mistake in got] == ["b", "z", "a"]
    assert got[0] == Mistake("b", "no", "yes", 0.9, 0.1)


# Everything together.


@FEW
@given(examples(smallest=1, largest=7))
def test_score_is_json_without_nan_whatever_the_data(drawn: Drawn) -> None:
    labels, probabilities, weights = drawn
    groups = [str(weight) for weight in weights]
    got = scores.score(labels, probabilities, names(len(labels)), groups, names(probabilities.shape[1], "c"))
    assert json.loads(json.dumps(got.to_json(), allow_nan=False)) == got.to_json()
    assert got.groups == len(set(groups))
    assert got.accuracy.low <= got.accuracy.value + 1e-12
    assert got.accuracy.value <= got.accuracy.high + 1e-12


def test_score_of_one_example() -> None:
    got = scores.score([0], [[0.7, 0.2, 0.1]], ["k"], [""], ["a", "b", "c"])
    assert got.accuracy == Interval(1.0, pytest.approx(0.025), 1.0)
    assert got.auroc.to_json() == {"value": None, "low": None, "high": None}
    assert got.macro_f1.to_json() == {"value": 1.0, "low": None, "high": None}
    assert (got.bootstrap_replicates, got.groups, got.worst_mistakes) == (0, 1, [])


def test_score_takes_its_intervals_from_the_groups() -> None:
    labels, probabilities = separated(60, 3)
    got = scores.score(labels, probabilities, names(60), names(20) * 3, names(3, "c"), seed=4)
    assert (got.accuracy.low, got.accuracy.high) == intervals.accuracy_interval(
        probabilities.argmax(1) == labels, names(20) * 3
    )
    built, groups = {name: build(labels, probabilities) for name, build in measures.BOOTSTRAPPED.items()}, names(20) * 3
    telling = bootstrap.telling_groups(probabilities.argmax(1) == labels, groups)
    assert 5 <= telling == got.telling_groups < 20
    for name, interval in bootstrap.bootstrap_intervals(built, groups, 4, scales=measures.SCALES, telling=telling).items():
        assert (getattr(got, name).low, getattr(got, name).high) == interval


def test_few_mistakes_leave_intervals_out_and_the_summary_says_why() -> None:
    labels = np.arange(60) % 2
    probabilities = np.where(np.arange(2) == labels[:, None], 0.9, 0.1)
    probabilities[:3] = 1 - probabilities[:3]
    got = scores.score(labels, probabilities, names(60), names(60), names(2, "c"))
    assert got.telling_groups == 3 and all(np.isnan(getattr(got, name).low) for name in measures.BOOTSTRAPPED)
    assert got.accuracy.low < 0.95 < got.accuracy.high and got.balanced_accuracy.low < 0.95 < got.balanced_accuracy.high
    assert "no more intervals: 3 groups with a mistake are too few" in report.summary(got, "test", False, False)


def test_score_keeps_a_large_confusion_matrix_out() -> None:
    labels, probabilities = separated(60, 41)
    got = scores.score(labels, probabilities.astype(np.float32), names(60), names(60), names(41, "c"))
    assert got.to_json()["confusion"] is None and got.most_confused
    assert got.bootstrap_replicates == 1000


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros(0, int), np.zeros((0, 2)), "no examples"),
        ([0, 2], np.full((2, 2), 0.5), r"labels 0\.\.1, got int64 0\.\.2"),
        ([0, -1], np.full((2, 2), 0.5), "labels 0"),
        ([0.0, 1.0], np.full((2, 2), 0.5), "got float64"),
        ([0], np.full((2, 2), 0.5), "got shapes"),
        ([0, 1], np.array([[3.0, -1.0], [0.0, 1.0]]), "logits need a softmax"),
        ([0, 1], np.array([[np.nan, 0.5], [0.0, 1.0]]), "got nan"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels: list[int], probabilities: np.ndarray, message: str) -> None:
    count = len(labels)
    with pytest.raises(UserError, match=message):
        scores.score(labels, probabilities, names(count), names(count), ["a", "b"])


def test_lengths_that_disagree_are_refused() -> None:
    labels, probabilities = separated(4, 2)
    with pytest.raises(UserError, match="expected 4 keys, one for each, got 3"):
        scores.score(labels, probabilities, names(3), names(4), ["a", "b"])
    with pytest.raises(UserError, match="expected 4 groups, one for each, got 5"):
        scores.score(labels, probabilities, names(4), names(5), ["a", "b"])
    with pytest.raises(UserError, match="expected 2 class names, one for each, got 1"):
        scores.score(labels, probabilities, names(4), names(4), ["a"])
    with pytest.raises(UserError, match="expected 4 weights"):
        value(measures.accuracy, labels, probabilities, [1, 1])
