"""The probe's solver: against scikit-learn, against refitting without each fold, and folds that tear no group."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.training.probing import ridge
from headstart.training.scoring.folds import FOLDS, fold_of


def drawn(count: int, width: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=count)
    features = generator.normal(size=(count, width)).astype(np.float32)
    features[np.arange(count), labels] += 1.5
    return features, labels


def names(count: int) -> list[str]:
    return [f"{i}" for i in range(count)]


@pytest.mark.parametrize(("count", "width"), [(60, 20), (40, 90)])
def test_is_ridge_regression(count: int, width: int) -> None:
    from sklearn.linear_model import Ridge

    features, labels = drawn(count, width)
    fitted = ridge.fit(features, labels, 3, names(count))
    standard = (features - fitted.mean) / fitted.deviation
    values = np.linalg.eigvalsh((standard @ standard.T).astype(np.float64))
    penalty = fitted.regularisation * values[values > 1e-6 * values.max()].mean()
    reference = Ridge(alpha=penalty, fit_intercept=True).fit(standard, np.eye(3)[labels])
    unseen, _ = drawn(200, width, seed=1)
    scores = ((unseen - fitted.mean) / fitted.deviation) @ fitted.weights + fitted.bias
    np.testing.assert_allclose(scores, reference.predict((unseen - fitted.mean) / fitted.deviation), atol=2e-3)
    assert np.array_equal(fitted.predict(unseen), scores.argmax(1))


@pytest.mark.parametrize(("count", "width"), [(60, 20), (40, 90)])
def test_what_is_left_out_is_predicted_as_if_fitted_without_it(count: int, width: int) -> None:
    features, labels = drawn(count, width)
    standard = (features - features.mean(0)) / features.std(0)
    values, basis, _ = ridge._decomposed(standard)
    shares = np.bincount(labels, minlength=3) / count
    targets, folds, penalty = np.eye(3)[labels] - shares, fold_of(names(count), labels, 3, 0), 0.7 * values.mean()
    found = ridge._left_out(basis, values, penalty, targets, shares, folds).argmax(1)
    for fold in range(FOLDS):
        own = folds == fold
        x, y = standard[~own].astype(np.float64), np.eye(3)[labels[~own]]
        middle = x.mean(0)
        weights = np.linalg.solve((x - middle).T @ (x - middle) + penalty * np.eye(width), (x - middle).T @ (y - y.mean(0)))
        assert np.array_equal(found[own], ((standard[own] - middle) @ weights + y.mean(0)).argmax(1))


def test_a_single_group_and_flat_features_are_no_trouble() -> None:
    features, labels = drawn(30, 6)
    features[:, 5] = 2.0
    alone = ridge.fit(features, labels, 3, [""] * 30)
    assert alone.regularisation == 1.0 and np.isnan(alone.accuracy)
    flat = ridge.fit(np.ones((10, 4), np.float32), np.zeros(10, np.int64), 2, names(10))
    assert flat.predict(np.ones((3, 4), np.float32)).tolist() == [0, 0, 0]


def test_of_equals_the_most_regularised_wins() -> None:
    features = np.repeat(np.array([[-1.0], [1.0]], np.float32), 20, axis=0)
    fitted = ridge.fit(features, np.repeat([0, 1], 20), 2, names(40))
    assert fitted.accuracy == 1.0 and fitted.regularisation > 1  # all up to here are right about everything


@pytest.mark.parametrize(("count", "width"), [(60, 20), (40, 90)])
def test_a_group_that_is_a_class_can_not_be_told_from_the_others(count: int, width: int) -> None:
    features, labels = drawn(count, width)
    assert ridge.fit(features, labels, 3, [f"{label}" for label in labels]).accuracy == 0


@pytest.mark.parametrize("width", [3, 100])
def test_what_is_separable_is_separated_and_one_class_is_answered(width: int) -> None:
    features, labels = drawn(50, width)
    features[:, ::2] += 30 * (labels[:, None] % 2)
    fitted = ridge.fit(features, labels % 2, 2, names(50))
    assert fitted.accuracy == 1.0 and np.array_equal(fitted.predict(features), labels % 2)
    one_class = ridge.fit(features, np.full(50, 2), 4, names(50))
    assert one_class.accuracy == 1.0 and set(one_class.predict(features)) == {2}


def test_of_few_images_a_class_what_is_left_out_is_as_good_as_what_is_new() -> None:
    """Folds have each class in equal parts: what a fold has more of is rarer, and less likely, where it is left out."""
    told, truth = [], []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        labels, unseen = np.repeat(np.arange(10), 5), np.repeat(np.arange(10), 50)
        centres = 0.6 * generator.normal(size=(10, 64))
        drawn_near = [(centres[each] + generator.normal(size=(len(each), 64))).astype(np.float32) for each in (labels, unseen)]
        fitted = ridge.fit(drawn_near[0], labels, 10, names(50), seed)
        told.append(fitted.accuracy)
        truth.append(float((fitted.predict(drawn_near[1]) == unseen).mean()))
    assert abs(np.mean(told) - np.mean(truth)) < 0.05


def test_the_seed_decides_the_folds_and_with_them_all() -> None:
    features, labels = drawn(80, 30)
    first, again = (ridge.fit(features, labels, 3, names(80), seed=3) for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes() and first.accuracy == again.accuracy
    assert not np.array_equal(*(fold_of(names(80), labels, 3, seed) for seed in (3, 4)))
