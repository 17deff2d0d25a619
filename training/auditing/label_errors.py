"""Images whose label is probably wrong: coordinates and labels in, candidates with the label that they should have out.

Confident learning: a classifier that has not seen an image is sure of another class than its label's, as sure as it usually is
of images that carry that class. Copies and declared groups are left out together, so that a copy does not vouch for a label.
The split that is held out is never fitted to.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", sections 3.1 and 3.2,
https://arxiv.org/abs/1911.00068
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.features.runtime import cores
from headstart.training.auditing.findings import Finding, Images
from headstart.training.auditing.space import Floats, Ints
from headstart.training.evaluation.folds import fold_of
from headstart.training.evaluation.plots.contact_sheet import Strip, Tile

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the logistic regression, scikit-learn's C
CHOOSING = 10_000  # images, at most, that the strength is chosen by
STEPS = 300


class OutOfFold(NamedTuple):
    """Probabilities of classes, float64 [N, C], from a fit that has not seen the image; nan of classes that it had none of."""

    values: Floats
    strength: float

    def predicted(self) -> Ints:
        """The most probable class of each, [N]."""
        return np.nan_to_num(self.values, nan=-1.0).argmax(1)


def out_of_fold(
    coordinates: Floats, labels: Ints, classes: int, groups: Sequence[str], fitted: np.ndarray, seed: int
) -> OutOfFold:
    """Probabilities by multinomial logistic regression, each fold's from the other folds.

    Args:
        coordinates: float32 [N, K].
        labels: int64 [N], 0..classes-1; of images that are not fitted they are not looked at.
        classes: how many there are.
        groups: N names; images of one name are in one fold.
        fitted: bool [N], those that may be learned from; the strength is the one whose probabilities of these are best, by
            the log loss.
        seed: of the folds.
    """
    folds = fold_of(groups, seed)
    chosen = np.flatnonzero(fitted)
    chosen = np.sort(np.random.default_rng(seed).permutation(chosen)[:CHOOSING])
    losses = []
    for strength in STRENGTHS:
        found = _probabilities(
            coordinates[chosen], labels[chosen], classes, folds[chosen], np.ones(len(chosen), bool), strength
        )
        own = found[np.arange(len(chosen)), labels[chosen]]
        losses.append(float(-np.log(np.maximum(np.nan_to_num(own), 1e-6)).mean()))
    best = STRENGTHS[int(np.argmin(losses))]
    return OutOfFold(_probabilities(coordinates, labels, classes, folds, fitted, best), best)


def _probabilities(
    coordinates: Floats, labels: Ints, classes: int, folds: Ints, fitted: np.ndarray, strength: float
) -> Floats:
    """Each fold's probabilities from the others, folds side by side: a fit alone is too small for several threads."""
    found = np.full((len(labels), classes), np.nan)

    def fill(fold: int) -> None:
        own, learned = folds == fold, fitted & (folds != fold)
        known = np.unique(labels[learned])
        if len(known) > 1:
            model = logistic_regression(coordinates[learned], labels[learned], strength)
            found[np.ix_(own, known)] = model.predict_proba(coordinates[own])

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, np.unique(folds).tolist()))
    return found


def logistic_regression(coordinates: Floats, labels: Ints, strength: float) -> LogisticRegression:
    """A fitted multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=STEPS).fit(coordinates, labels)


class Candidates(NamedTuple):
    """Images that are probably labelled wrongly, the surest first."""

    numbers: Ints  # [P]
    suggested: Ints  # [P], the class that they should have
    own: Floats  # [P], the probability of the label, 0..1
    other: Floats  # [P], that of the suggestion


def candidates(probabilities: Floats, labels: Ints, fitted: np.ndarray) -> Candidates:
    """The off-diagonal of the confident joint, ranked by the margin between the suggestion and the label.

    Args:
        probabilities: [N, C], out of fold; nan where nothing is known.
        labels: int64 [N].
        fitted: bool [N]: the classes' thresholds, the mean probability of a label where it is given, are of these images.
    """
    own = probabilities[np.arange(len(labels)), labels]
    thresholds = np.full(probabilities.shape[1], np.inf)
    for name in np.unique(labels[fitted]):
        known = own[fitted & (labels == name)]
        if not np.isnan(known).all():
            thresholds[name] = np.nanmean(known)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)  # nan is not confident
    suggested, best = confident.argmax(1), confident.max(1)
    numbers = np.flatnonzero((best >= 0) & (suggested != labels) & ~np.isnan(own))
    numbers = numbers[np.argsort(own[numbers] - best[numbers], kind="stable")]
    return Candidates(numbers, suggested[numbers], own[numbers], best[numbers])


def label_errors(images: Images, found: Candidates, answers: OutOfFold) -> Finding:
    """Candidates as a finding.

    Args:
        images: N.
        found: of them.
        answers: that they were found by.
    """
    fitted = ~images.held_out
    accuracy = float((answers.predicted() == images.labels)[fitted].mean())
    rows, strips = [], []
    for number, suggested, own, other in zip(*(column.tolist() for column in found)):
        named, name = images.named(number), images.class_names[suggested]
        told = {"suggested": name, "label_probability": round(own, 4), "suggested_probability": round(other, 4)}
        rows.append({**named, **told})
        strips.append(Strip([Tile(number, f"{named['label']} → {name} {other:.0%}\n{named['key']}")]))
    held, total = int(images.held_out[found.numbers].sum()), int(images.held_out.sum())
    share = len(rows) / len(images.examples)
    words = f"{len(rows):,} labels ({share:.1%}) are probably wrong"
    if total:
        words += f", {held:,} of them in {images.held_out_split}, where each moves the score by {1 / total:.2%}"
    figures = {"out_of_fold_accuracy": accuracy, "regularisation": answers.strength}
    return Finding("label_errors", len(rows), max(share, held / max(1, total)), words, rows, strips, figures)
