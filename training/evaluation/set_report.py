"""Answers that are sets of labels, for people: a text for the terminal, and a CSV file that is whole or not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple

from headstart.features import files
from headstart.features.dataset.examples import Example
from headstart.features.dataset.labels import in_a_cell
from headstart.training.evaluation.report import (
    FIRST_CLASSES,
    fitted,
    groups_note,
    head_line,
    nats,
    percent,
    with_ends,
)
from headstart.training.plots.precision_by_class import ClassPoint, precision_by_class
from headstart.training.scoring.intervals import MIN_GROUPS, Floats
from headstart.training.scoring.scores import Interval
from headstart.training.scoring.set_measures import Truth
from headstart.training.scoring.set_scores import LabelScores, SetScores
from headstart.training.scoring.thresholds import decided, sets_of

RATES = {  # shown as percent
    "mean_average_precision": "mean average precision",
    "macro_f1": "macro F1 (present)",
    "micro_f1": "micro F1",
    "subset_accuracy": "exact sets",
}
WIDTH = 24


def summary(scores: SetScores, split: str, used_for_selection: bool, groups_declared: bool) -> str:
    """The scores for a terminal, no newline at the end; arguments as those of `report.summary`."""
    lines = [f"  {title:<{WIDTH}}{percent(getattr(scores, name))}" for name, title in RATES.items()]
    lines[0] += f"  {groups_note(scores.groups, groups_declared)}"
    if scores.groups >= MIN_GROUPS > scores.telling_groups:
        lines[0] += f"; no intervals of means over classes: {scores.telling_groups} groups with the rarest are too few"
    lines.append(f"  {'log loss':<{WIDTH}}{nats(scores.log_loss)}")
    chance = percent(Interval(scores.chance, math.nan, math.nan)).rstrip()
    lines.append(f"  {'chance':<{WIDTH}}{chance}  mean average precision; {scores.labels_per_image:.2f} labels an image")
    head = head_line(scores.examples, scores.groups, split, used_for_selection)
    return "\n".join(line.rstrip() for line in [head, *lines, *_class_lines(scores.per_class)])


def _class_lines(classes: Sequence[LabelScores]) -> list[str]:
    """A row for each of the 20 classes of the least average precision, those first; those without images last."""
    worst = sorted(classes, key=lambda each: (each.count == 0, each.average_precision.value if each.count else 0.0))
    more = len(classes) - FIRST_CLASSES
    header = f"  {'class':<16} {'count':>6} {'average precision':<22} {'F1':<20} {'precision':>9} {'recall':>6} {'from':>6}"
    return [header + (f"   and {more:,} more classes" if more > 0 else "")] + [_row(each) for each in worst[:FIRST_CLASSES]]


def _row(found: LabelScores) -> str:
    precision, recall = ("-" if math.isnan(share) else f"{100 * share:.1f}" for share in (found.precision, found.recall))
    return (
        f"  {fitted(found.name, 16)} {found.count:>6} {with_ends(found.average_precision):<22} {with_ends(found.f1):<20} "
        f"{precision:>9} {recall:>6} {found.threshold:>6.3f} {found.note}"
    )


def draw_classes(scores: SetScores, path: str, split: str) -> None:
    """A picture of the classes' average precision and F1; none where no image has a label."""
    points = [
        ClassPoint(each.name, each.count, astuple(each.average_precision), astuple(each.f1))
        for each in scores.per_class
        if each.count
    ]
    if points:
        precision_by_class(points, path, f"How well each class is found, {split}")


def write_predictions(
    path: str,
    examples: Sequence[Example],
    probabilities: Floats,
    thresholds: Floats,
    class_names: Sequence[str],
    delimiter: str,
) -> None:
    """Writes a CSV (UTF-8): key, group, content, truth, predicted, and 'p:NAME' for each class, with 9 significant digits.

    Args:
        path: where the file goes; it is whole or not there.
        examples: N, at least one.
        probabilities: float [N, C].
        thresholds: float [C].
        class_names: C names.
        delimiter: between the labels in truth and predicted.
    """
    answers: Truth = decided(probabilities, thresholds)
    rows = [
        {
            "key": example.key,
            "group": example.group,
            "content": example.content,
            "truth": in_a_cell(example.labels, delimiter),
            "predicted": in_a_cell(answer, delimiter),
            **{f"p:{name}": f"{share:.9g}" for name, share in zip(class_names, row.tolist())},
        }
        for example, answer, row in zip(examples, sets_of(answers, class_names), probabilities)
    ]
    files.write_bytes(path, files.csv_bytes(rows))
