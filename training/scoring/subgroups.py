"""Where a run is weakest: whether each example was classified rightly, and a value for each, in; a row for each value out.

A value is of the example's class, declared group or folder, or of a column of a table that lists the examples.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.features.dataset.examples import Example
from headstart.features.dataset.inputs import is_table
from headstart.features.dataset.table_rows import read_table
from headstart.features.errors import UserError, nearest
from headstart.features.places import place
from headstart.training.scoring.intervals import accuracy_interval
from headstart.training.scoring.scores import Interval

KNOWN = ("class", "group", "folder")  # of --by, without a table


@dataclass(frozen=True)
class Subgroup:
    """The examples of one value: how many they are, in how many groups, and the share that was classified rightly."""

    value: str
    count: int
    groups: int
    accuracy: Interval

    def figures(self) -> dict[str, Interval]:
        """What is told of them, by its title."""
        return {"accuracy": self.accuracy}

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"value": self.value, "count": self.count, "groups": self.groups, "accuracy": self.accuracy.to_json()}


def subgroups(values: Sequence[str], correct: ArrayLike, groups: Sequence[str]) -> list[Subgroup]:
    """A row for each value, the lowest accuracy first, of equal ones the larger.

    Args:
        values: N names.
        correct: bool [N].
        groups: N names; examples of one name are seen together.
    """
    named, hits, belonging = np.asarray(values, object), np.asarray(correct, bool), np.asarray(groups, object)
    rows = []
    for value in sorted(set(values)):
        own = named == value
        low, high = accuracy_interval(hits[own], list(belonging[own]))
        accuracy = Interval(float(hits[own].mean()), low, high)
        rows.append(Subgroup(value, int(own.sum()), len(set(belonging[own])), accuracy))
    return sorted(rows, key=lambda row: (row.accuracy.value, -row.count))


def values_by(by: str, table: str, examples: Sequence[Example], source: str) -> list[str]:
    """Each example's value.

    Args:
        by: `class`, `group`, `folder`, or a column of a table.
        table: the table's path; '' for the source, where that is one.
        examples: of whom.
        source: where the examples come from.

    Raises:
        UserError: for groups that nobody declared, a table or a column that is not there, examples that the table does not
            list, and values none of which two examples share.
    """
    if by == "group" and not any(example.group for example in examples):
        raise UserError(
            "bad-flag", "--by group: no groups were declared: extract with --group_by, or a table with a column of groups"
        )
    own = {
        "class": lambda example: example.labels[0],
        "group": lambda example: example.group,
        "folder": lambda example: posixpath.dirname(example.key),
    }
    values = [own[by](example) for example in examples] if by in KNOWN else _column(by, table, examples, source)
    if len(values) > 1 and len(set(values)) == len(values):
        raise UserError(
            "bad-flag",
            f"--by {by}: each of the {len(values):,} examples has a value of its own, so there is nothing to compare",
        )
    return values


def _column(by: str, table: str, examples: Sequence[Example], source: str) -> list[str]:
    """A column of a table, joined by that column of it which lists the examples' keys."""
    path = table or source
    if not table and not is_table(source):
        raise UserError(
            "bad-flag",
            f"--by {by}: {source!r} is no table with such a column: take one of {', '.join(KNOWN)}, or name a table that "
            f"lists the images, --by_table FILE",
        )
    if not place.exists(path):
        raise UserError("missing-input", f"the table {path!r} with the column {by!r} is not there: --by_table FILE names one")
    columns, found_rows = read_table(path, {by})
    rows = list(found_rows)
    if by not in columns:
        others = [*columns, *KNOWN]
        raise UserError(
            "unknown-name", f"--by {by}: {path!r} has no such column.{nearest(by, others)} There are: {', '.join(others)}"
        )
    cells = {name: [_as_key(row.get(name) or "") for row in rows] for name in columns}
    wanted = {example.key for example in examples}
    listing = max(columns, key=lambda name: len(wanted & set(cells[name])))
    found = dict(zip(cells[listing], ((row.get(by) or "").strip() for row in rows)))
    if missing := sorted(wanted - set(found)):
        raise UserError(
            "bad-input",
            f"{path!r} does not list {len(missing):,} of the {len(wanted):,} examples, such as {missing[0]!r}: it needs a "
            f"column with their keys, as predictions.csv has them",
        )
    return [found[example.key] for example in examples]


def _as_key(cell: str) -> str:
    """A cell as the key that it would be."""
    cell = cell.strip()
    return cell if not cell or place.is_remote(cell) else posixpath.normpath(cell)
