"""Images whose label is probably wrong: coordinates and labels in, candidates with the label that they should have out.

Confident learning: a classifier that has not seen an image is sure of another class than its label's, as sure as it usually is
of images that carry that class. Copies and declared groups are left out together, so that a copy does not vouch for a label.
The split that is held out is never fitted to. Where images may have several labels, each class is asked for by itself: whether
an image has it, or not.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", sections 3.1 and 3.2,
https://arxiv.org/abs/1911.00068; of several labels, Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label
Classification Data", https://arxiv.org/abs/2211.13895
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.features.dataset.labels import in_a_cell
from headstart.features.formatting import counted
from headstart.features.progress import Progress
from headstart.features.runtime import cores
from headstart.training.auditing.findings import Finding, Images, Question, Row
from headstart.training.auditing.space import Floats, Ints
from headstart.training.plots.contact_sheet import Strip, Tile
from headstart.training.scoring.folds import fold_of
from headstart.training.scoring.set_measures import mean_average_precision, value

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
    folds = fold_of(groups, np.where(fitted, labels, classes), classes + 1, seed)
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


def answer(images: Images, coordinates: Floats, groups: Sequence[str], seed: int) -> list[OutOfFold]:
    """Probabilities of what is asked of the images: one question, or of several labels one for each class."""
    questions, answers = images.questions, list[OutOfFold]()
    progress = Progress("doubt", len(questions), "classes")
    for question in questions:
        names = len(question.names)
        answers.append(out_of_fold(coordinates, question.labels, names, groups, ~images.held_out, seed))
        progress.update(len(answers))
    progress.close()
    return answers


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


def label_errors(images: Images, answers: Sequence[OutOfFold]) -> Finding:
    """Candidates as a finding, the surest first.

    Args:
        images: N.
        answers: to what is asked of them.
    """
    fitted, doubted = ~images.held_out, list[tuple[float, Row, Strip, int]]()
    for question, answered in zip(images.questions, answers):
        found = candidates(answered.values, question.labels, fitted)
        for number, suggested, own, other in zip(*(column.tolist() for column in found)):
            named, (change, instead) = images.named(number), _instead(images, number, question, suggested)
            told = {**instead, "label_probability": round(own, 4), "suggested_probability": round(other, 4)}
            strip = Strip([Tile(number, f"{change} {other:.0%}\n{named['key']}")])
            doubted.append((own - other, {**named, **told}, strip, number))
    doubted.sort(key=lambda each: each[0])
    numbers = sorted({number for *_, number in doubted})
    held, total = int(images.held_out[numbers].sum()), int(images.held_out.sum())
    share = len(numbers) / len(images.examples)
    if images.delimiter:
        labels, of_images = counted(len(doubted), "label"), counted(len(numbers), "image")
        words = f"probably wrong or missing: {labels} of {of_images} ({share:.1%})"
        words += f", {held:,} images of them in {images.held_out_split}" if total else ""
    else:
        words = f"probably wrong: {counted(len(doubted), 'label')} ({share:.1%})"
        words += (
            f", {held:,} of them in {images.held_out_split}, where each moves the score by {1 / total:.2%}" if total else ""
        )
    rows, strips = [row for _, row, _, _ in doubted], [strip for _, _, strip, _ in doubted]
    return Finding("label_errors", len(rows), max(share, held / max(1, total)), words, rows, strips, _figures(images, answers))


def _instead(images: Images, number: int, question: Question, suggested: int) -> tuple[str, Row]:
    """A suggestion in words, and as a table's columns: the label; or of several the class in doubt, and all of them."""
    own = images.label(number)
    if not question.of:
        name = question.names[suggested]
        return f"{own} → {name}", {"suggested": name}
    labels = sorted({*images.examples[number].labels} ^ {question.of})
    change = f"{own} {'+' if suggested else '-'}{question.of}".strip()
    return change, {"class": question.of, "suggested": in_a_cell(labels, images.delimiter)}


def _figures(images: Images, answers: Sequence[OutOfFold]) -> Row:
    """How good the answers are on the images that they are learned from, out of fold, and how they were regularised."""
    fitted = ~images.held_out
    if not images.delimiter:
        accuracy = float((answers[0].predicted() == images.labels)[fitted].mean())
        return {"out_of_fold_accuracy": accuracy, "regularisation": answers[0].strength}
    shares = np.nan_to_num(np.stack([each.values[fitted, 1] for each in answers], axis=1))
    found = value(mean_average_precision(images.labels[fitted].astype(np.uint8), shares), int(fitted.sum()))
    strengths = {name: each.strength for name, each in zip(images.class_names, answers)}
    return {"out_of_fold_mean_average_precision": float(found), "regularisation": strengths}
