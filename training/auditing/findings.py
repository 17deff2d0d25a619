"""What an audit says of one kind of fault: a number, words, a table's rows and the images to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.features.dataset.examples import Example
from headstart.features.dataset.labels import in_a_cell
from headstart.training.auditing.space import Ints
from headstart.training.plots.contact_sheet import Strip

Row = dict[str, Any]


class Question(NamedTuple):
    """What is asked of every image: which class it is of; or, where it may have several labels, whether it has one of them.

    of is '' for the first, or the class; labels are int64 [N], of the second 0 or 1; names are those of the labels.
    """

    of: str
    labels: Ints
    names: Sequence[str]


@dataclass(frozen=True)
class Images:
    """What is audited: N images, split after split; held_out is of the split that is scored: test, or else validation.

    Labels of the split that is held out are only ever compared with what the others say: nothing is fitted to them, and no
    threshold or setting is chosen by them. Where there is one split only, nothing is held out.

    Where images may have several labels, delimiter parts them and labels are uint8 [N, C]; else they are int64 [N].
    """

    examples: Sequence[Example]
    labels: NDArray[np.integer]
    class_names: Sequence[str]
    held_out_split: str
    held_out: np.ndarray  # bool [N]
    delimiter: str = ""

    @property
    def questions(self) -> list[Question]:
        """One, or of several labels one for each class: what is looked for in classes is then looked for in each by itself."""
        if not self.delimiter:
            return [Question("", self.labels.astype(np.int64), self.class_names)]
        columns = self.labels.T.astype(np.int64)
        return [Question(name, column, (f"not {name}", name)) for name, column in zip(self.class_names, columns)]

    @property
    def kinds(self) -> Ints:
        """Numbers of different labels, or sets of labels: equal where images are labelled alike, [N]."""
        return np.unique(self.labels, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def counts(self, chosen: np.ndarray) -> Ints:
        """How many of some images, bool [N], have each class, [C]."""
        if self.delimiter:
            return self.labels[chosen].sum(0, dtype=np.int64)
        return np.bincount(self.labels[chosen], minlength=len(self.class_names))

    def label(self, number: int) -> str:
        """An image's label, or its labels in one cell."""
        return in_a_cell(self.examples[number].labels, self.delimiter)

    @property
    def splits(self) -> np.ndarray:
        """Names, [N]."""
        return np.array([example.split for example in self.examples], object)

    def named(self, number: int) -> Row:
        """An image as a table's columns."""
        example = self.examples[number]
        return {"key": example.key, "split": example.split, "label": self.label(number)}


@dataclass(frozen=True)
class Finding:
    """What was found of one kind.

    Args:
        kind: its name, of its files too.
        count: how many images, pairs, properties or classes; 0 when all is well.
        at_stake: 0..1, the largest share of the score that it may account for; findings are ranked by it.
        words: a line.
        rows: of the table, the worst first.
        strips: for the contact sheet, the worst first.
        figures: what else is worth to be kept.
    """

    kind: str
    count: int
    at_stake: float
    words: str
    rows: Sequence[Row]
    strips: Sequence[Strip] = ()
    figures: Row = field(default_factory=dict)
