"""The images that two runs answer differently: their answers in; a table, and a sheet of pictures out."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headstart.training.evaluation.pictures import Pictures
from headstart.training.evaluation.plots.contact_sheet import MOST, Strip, Tile, draw_sheet
from headstart.training.evaluation.predictions import Predictions

Row = dict[str, str]
COLUMNS = ("key", "truth", "predicted_a", "probability_a", "predicted_b", "probability_b")
TITLES = ("B alone right", "A alone right", "both wrong")


@dataclass(frozen=True)
class Differing:
    """Two runs' rows of the same images, in the same order, as predictions.csv has them."""

    first: Sequence[Row]
    second: Sequence[Row]

    @property
    def rows(self) -> list[int]:
        """The numbers of those that the two answer differently."""
        pairs = enumerate(zip(self.first, self.second))
        return [number for number, (one, other) in pairs if one["predicted"] != other["predicted"]]

    def answers(self, row: int) -> tuple[str, str, str, str]:
        """What each run predicted, and with which probability."""
        one, other = self.first[row], self.second[row]
        a, b = one["predicted"], other["predicted"]
        return a, one[f"p:{a}"], b, other[f"p:{b}"]

    def kind(self, row: int) -> int:
        """0 where the second alone is right, 1 where the first alone is, 2 where both are wrong."""
        truth, (a, _, b, _) = self.first[row]["truth"], self.answers(row)
        return 0 if b == truth else 1 if a == truth else 2


def table_of(differing: Differing) -> bytes:
    """A CSV table: key, truth, what each predicted and with which probability."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
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
    """A picture of each, the surest wrong answers of a kind first, as many of each kind as a contact sheet has room for.

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
    return Found([_strip(differing, row) for row in rows], found)


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
    return [row for kind in kinds for row in sorted(kind, key=lambda row: -_surest(differing, row))[:room]]


def _surest(differing: Differing, row: int) -> float:
    truth, (a, p, b, q) = differing.first[row]["truth"], differing.answers(row)
    return max(float(probability) for answer, probability in ((a, p), (b, q)) if answer != truth)


def _strip(differing: Differing, row: int) -> Strip:
    (a, p, b, q), key = differing.answers(row), differing.first[row]["key"]
    caption = f"{key}\nA {a} {float(p):.2f}\nB {b} {float(q):.2f}"
    return Strip([Tile(row, caption)], TITLES[differing.kind(row)])
