"""The images that two runs answer differently: their answers in; a table, and a sheet of pictures out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from headstart.features import files
from headstart.features.dataset.labels import labels_in
from headstart.features.places.mirror import push_files
from headstart.training.comparing.compare_config import TABLE
from headstart.training.plots.contact_sheet import MOST, Strip, Tile, draw_sheet
from headstart.training.predicting.pictures import Pictures
from headstart.training.predicting.predictions import Predictions

Row = dict[str, str]
SHEET = "compared.png"  # beside the table


@dataclass(frozen=True)
class Differing:
    """Two runs' rows of the same images, in the same order, as predictions.csv has them: here each answer is a class."""

    columns: ClassVar[tuple[str, ...]] = ("key", "truth", "predicted_a", "probability_a", "predicted_b", "probability_b")
    titles: ClassVar[tuple[str, ...]] = ("B alone right", "A alone right", "both wrong")
    first: Sequence[Row]
    second: Sequence[Row]

    @property
    def rows(self) -> list[int]:
        """The numbers of those that the two answer differently."""
        return [row for row in range(len(self.first)) if self.differs(row)]

    def differs(self, row: int) -> bool:
        """Whether the two answer it differently."""
        return self.first[row]["predicted"] != self.second[row]["predicted"]

    def answers(self, row: int) -> tuple[str, ...]:
        """What each run predicted, and with which probability."""
        one, other = self.first[row], self.second[row]
        a, b = one["predicted"], other["predicted"]
        return a, one[f"p:{a}"], b, other[f"p:{b}"]

    def kind(self, row: int) -> int:
        """Which title it stands below: 0 where the second alone is right, 1 where the first is, 2 where both are wrong."""
        truth, (a, _, b, _) = self.first[row]["truth"], self.answers(row)
        return 0 if b == truth else 1 if a == truth else 2

    def badness(self, row: int) -> float:
        """How sure the surest wrong answer is, 0..1."""
        truth, (a, p, b, q) = self.first[row]["truth"], self.answers(row)
        return max(float(probability) for answer, probability in ((a, p), (b, q)) if answer != truth)

    def caption(self, row: int) -> str:
        """What stands below its picture."""
        a, p, b, q = self.answers(row)
        return f"{self.first[row]['key']}\nA {a} {float(p):.2f}\nB {b} {float(q):.2f}"


@dataclass(frozen=True)
class DifferingSets(Differing):
    """The same where an answer is a set of labels, which each run parts by a delimiter of its own."""

    columns: ClassVar[tuple[str, ...]] = ("key", "truth", "predicted_a", "predicted_b")
    titles: ClassVar[tuple[str, ...]] = ("fewer wrong in B", "fewer wrong in A", "as many wrong")
    delimiters: tuple[str, str]

    def sets(self, row: int, column: str) -> tuple[set[str], set[str]]:
        """A column of both runs' rows."""
        cells = self.first[row][column], self.second[row][column]
        one, other = (set(labels_in(cell, delimiter)) for cell, delimiter in zip(cells, self.delimiters))
        return one, other

    def differs(self, row: int) -> bool:
        """Whether the two decide other labels."""
        one, other = self.sets(row, "predicted")
        return one != other

    def answers(self, row: int) -> tuple[str, ...]:
        """What each run decided."""
        return self.first[row]["predicted"], self.second[row]["predicted"]

    def kind(self, row: int) -> int:
        """Which title it stands below."""
        a, b = self._wrong(row)
        return 0 if b < a else 1 if a < b else 2

    def badness(self, row: int) -> float:
        """How many labels are wrong or missing where more are."""
        return float(max(self._wrong(row)))

    def caption(self, row: int) -> str:
        """What stands below its picture."""
        key, truth, a, b = self.first[row]["key"], self.first[row]["truth"], *self.answers(row)
        return f"{key}\nis {truth or '-'}\nA {a or '-'}\nB {b or '-'}"

    def _wrong(self, row: int) -> tuple[int, int]:
        """How many labels each has that are wrong, or lacks."""
        a, b = (len(truth ^ decided) for truth, decided in zip(self.sets(row, "truth"), self.sets(row, "predicted")))
        return a, b


class Left(NamedTuple):
    """What a comparison leaves: the paths of its table, and of its sheet; '' where there is none, which why_not tells."""

    table: str
    sheet: str
    why_not: str


def leave(differing: Differing, pictures: Found, folder: str) -> Left:
    """Writes the table and the sheet of pictures."""
    table, sheet = (os.path.join(folder, name) for name in (TABLE, SHEET))
    files.write_bytes(table, table_of(differing))
    draw_differing(pictures, sheet)
    for path in [table] if pictures.why_not else [table, sheet]:
        push_files(path)
    return Left(table, "" if pictures.why_not else sheet, pictures.why_not)


def table_of(differing: Differing) -> bytes:
    """A CSV table: key, truth, and what each answered."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(differing.columns)
    writer.writerows(
        (differing.first[row]["key"], differing.first[row]["truth"], *differing.answers(row)) for row in differing.rows
    )
    return text.getvalue().encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Found:
    """Pictures of them: strips for a contact sheet, images by row, uint8 [any, any, 3]; or why there are none."""

    strips: Sequence[Strip] = ()
    images: Mapping[int, np.ndarray] = field(default_factory=dict)
    why_not: str = ""


def find_pictures(differing: Differing, evaluated: Predictions) -> Found:
    """A picture of each, the worst answers of a kind first, as many of each kind as a contact sheet has room for.

    Args:
        differing: the answers.
        evaluated: the evaluation whose images they are of.
    """
    rows = _first(differing)
    if not rows:
        return Found(why_not="the two answer all images alike")
    pictures = Pictures.of(evaluated)
    found = {} if pictures.why_not else pictures.pixels(rows)
    if not found:
        return Found(why_not=pictures.why_not or "none of the images can be read any more")
    return Found([Strip([Tile(row, differing.caption(row))], differing.titles[differing.kind(row)]) for row in rows], found)


def draw_differing(found: Found, path: str) -> None:
    """Draws the sheet, where there are pictures; one that is there already is of other answers, and goes."""
    if os.path.exists(path):
        os.remove(path)
    if not found.why_not:
        draw_sheet("answered differently by A and B", found.strips, found.images.get, path)


def _first(differing: Differing) -> list[int]:
    kinds: tuple[list[int], ...] = ([], [], [])
    for row in differing.rows:
        kinds[differing.kind(row)].append(row)
    room = MOST // len([kind for kind in kinds if kind]) if any(kinds) else 0
    return [row for kind in kinds for row in sorted(kind, key=lambda row: -differing.badness(row))[:room]]
