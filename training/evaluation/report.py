"""Tables and predictions for people.

In: `Scores`, probabilities. Out: a text for the terminal, and a CSV file that is whole or not there.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.features.dataset.examples import Example
from headstart.features.errors import UserError
from headstart.features.files import atomic
from headstart.features.formatting import display_width, printable
from headstart.training.scoring.intervals import MIN_GROUPS
from headstart.training.scoring.scores import ClassScores, Interval, Mistake, Scores
from headstart.training.scoring.set_subgroups import SetSubgroup
from headstart.training.scoring.subgroups import Subgroup

FIRST_CLASSES = 20  # rows of the terminal's table
FIRST_MISTAKES = 3
FIRST_VALUES = 10  # of a table by a column
ROW_WIDTH = 65  # of a class's row
FEW_GROUPS = 10  # below, an interval is not to be taken at its word

RATES = {  # shown as percent
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1 (present)",
    "top_5": "top-5 accuracy",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
}


# Text.


def summary(scores: Scores, split: str, used_for_selection: bool, groups_declared: bool) -> str:
    """The scores for a terminal, at most 24 lines, no newline at the end.

    Args:
        scores: what was measured.
        split: the name of the split that was scored.
        used_for_selection: the split chose the model, so its scores flatter it; the first line then says so.
        groups_declared: someone said which examples belong together, as opposed to each content being its own group.
    """
    head = head_line(scores.examples, scores.groups, split, used_for_selection)
    lines = [head, *_score_lines(scores, groups_declared), *_class_lines(scores.per_class)]
    return "\n".join(line.rstrip() for line in lines + _mistake_lines(scores.worst_mistakes))


def head_line(examples: int, groups: int, split: str, used_for_selection: bool) -> str:
    """What was scored."""
    mark = " (used for selection)" if used_for_selection else ""
    return f"{printable(split)}{mark}: {examples:,} examples in {groups:,} groups; 95% intervals in brackets"


def groups_note(groups: int, declared: bool) -> str:
    """What the intervals stand on."""
    note = "groups declared" if declared else "groups not declared: each distinct content is its own group"
    if groups < MIN_GROUPS:
        return f"{note}; {groups} groups are too few for most intervals"
    return f"{note}; with {groups} groups intervals are rough" if groups < FEW_GROUPS else note


def _score_lines(scores: Scores, groups_declared: bool) -> list[str]:
    few = len(scores.per_class) <= 5  # the truth is then always among the first 5
    names = {name: title for name, title in RATES.items() if not (few and name == "top_5")}
    lines = [f"  {title:<18}{percent(getattr(scores, name))}" for name, title in names.items()]
    lines[0] += f"  {groups_note(scores.groups, groups_declared)}"
    lines.append(f"  {'log loss':<18}{nats(scores.log_loss)}; Brier score {nats(scores.brier).strip()}")
    if scores.groups >= MIN_GROUPS > scores.telling_groups:
        kind = "mistake" if scores.accuracy.value > 0.5 else "right answer"
        lines[-1] += f"  no more intervals: {scores.telling_groups} groups with a {kind} are too few"
    lines.append(f"  {'majority baseline':<18}{percent(Interval(scores.majority_accuracy, math.nan, math.nan))}")
    return lines


def percent(score: Interval) -> str:
    """A share with its interval."""
    return _with_interval(score, lambda value: f"{100 * value:.2f}", "%")


def nats(score: Interval) -> str:
    """A loss with its interval."""
    return _with_interval(score, lambda value: f"{value:.4f}", " ")


def _with_interval(score: Interval, shown: Callable[[float], str], unit: str) -> str:
    if math.isnan(score.value):
        return f"{'undefined':>9}"
    interval = "" if math.isnan(score.low) else f"  [{shown(score.low)}, {shown(score.high)}]"
    return f"{shown(score.value):>8}{unit}{interval}"


def _class_lines(classes: Sequence[ClassScores]) -> list[str]:
    """A row for each of the 20 classes of the least recall, those first; in two columns when there are more than 10."""
    header = f"  {'class':<16} {'count':>6} {'precision':>9} {'recall':>6}"
    worst = sorted(classes, key=lambda each: (each.count == 0, each.recall if each.count else 0.0, -each.count))
    rows = [_class_row(entry) for entry in worst[:FIRST_CLASSES]]
    if len(rows) > FIRST_CLASSES // 2:
        half = math.ceil(len(rows) / 2)
        rows = [
            f"{fitted(left, ROW_WIDTH)}{right}" for left, right in zip(rows[:half], [*rows[half:], ""][:half], strict=True)
        ]
        header = f"{header:<{ROW_WIDTH}}{header}"
    more = len(classes) - FIRST_CLASSES
    return [header + (f"   and {more:,} more classes" if more > 0 else ""), *rows]


def _class_row(found: ClassScores) -> str:
    precision, recall = ("-" if math.isnan(share) else f"{100 * share:.1f}" for share in (found.precision, found.recall))
    note = f" {found.note}" if found.note else ""
    return f"  {fitted(found.name, 16)} {found.count:>6} {precision:>9} {recall:>6} {ends(found.low, found.high):<14}{note}"


def ends(low: float, high: float) -> str:
    """The ends of a share's interval, in percent."""
    return "" if math.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def with_ends(share: Interval) -> str:
    """A share in percent, with the ends of its interval."""
    return "-" if math.isnan(share.value) else f"{100 * share.value:5.1f} {ends(share.low, share.high)}".rstrip()


def subgroup_lines(by: str, rows: Sequence[Subgroup] | Sequence[SetSubgroup]) -> list[str]:
    """A row for each of the first values, the worst ones; by group each image is taken for itself, and no groups are told."""

    def line(value: str, count: object, groups: object, cells: Iterable[str]) -> str:
        return f"  {fitted(value, 24)} {count:>6} {'' if by == 'group' else groups:>6} {'  '.join(cells)}".rstrip()

    titles, more = rows[0].figures(), len(rows) - FIRST_VALUES
    header = line(f"by {by}", "count", "groups", (f"{title:<20}" for title in titles))
    return [header + (f"   and {more:,} more values" if more > 0 else "")] + [
        line(
            _end_of(row.value) or "(empty)",
            row.count,
            row.groups,
            (f"{with_ends(share):<{max(20, len(title))}}" for title, share in row.figures().items()),
        )
        for row in rows[:FIRST_VALUES]
    ]


def _mistake_lines(mistakes: Sequence[Mistake]) -> list[str]:
    rows = [
        f"  {printable(mistake.key)}: {printable(mistake.truth)} taken for {printable(mistake.predicted)}"
        f" ({100 * mistake.probability:.1f}% against {100 * mistake.truth_probability:.1f}%)"
        for mistake in mistakes[:FIRST_MISTAKES]
    ]
    return ["  worst mistakes", *rows] if rows else ["  no mistakes"]


def _end_of(value: str) -> str:
    """A value, of a long one its end, which tells a folder from the next."""
    return value if len(value) <= 24 else f"…{value[-23:]}"


# Predictions.


def write_predictions(
    path: str,
    examples: Sequence[Example],
    labels: ArrayLike,
    probabilities: ArrayLike,
    class_names: Sequence[str],
) -> None:
    """Writes a CSV (UTF-8): key, group, content, truth, predicted, and 'p:NAME' for each class, with 9 significant digits.

    Images of one content have the same in that column, the beginning of their digest. Fewer digits would make equal what
    float32 tells apart.

    Args:
        path: where the file goes; it is whole or not there.
        examples: N.
        labels: int64 [N], 0..C-1.
        probabilities: float [N, C]; the prediction is the first of the largest.
        class_names: C names.

    Raises:
        UserError: the lengths disagree.
    """
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    if scores.shape != (len(examples), len(class_names)) or len(examples) != len(truth):
        raise UserError(
            "bad-value",
            f"expected probabilities [{len(examples)}, {len(class_names)}] with as many labels, got shape {scores.shape} and "
            f"{len(truth)} labels",
        )
    predicted = scores.argmax(1)
    with atomic(path) as file, _text(file) as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["key", "group", "content", "truth", "predicted", *(f"p:{name}" for name in class_names)])
        for i, (example, row) in enumerate(zip(examples, scores)):
            named = [example.key, example.group, example.content, class_names[truth[i]], class_names[predicted[i]]]
            table.writerow(named + [f"{probability:.9g}" for probability in row.tolist()])


@contextlib.contextmanager
def _text(file: Any) -> Iterator[io.TextIOWrapper]:
    """UTF-8 over a binary file that stays open; a name that is not UTF-8 on disk keeps its bytes."""
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    try:
        yield text
    finally:
        text.detach()  # flushes too; closing would close the file before its sync


# Names.


def fitted(text: str, columns: int) -> str:
    """Cut or padded to this many columns."""
    shown = printable(text)
    if display_width(shown) > columns:
        while display_width(shown) > columns - 1:
            shown = shown[:-1]
        shown += "…"
    return shown + " " * (columns - display_width(shown))
