"""What an audit says of one kind of fault: a number, words, a table's rows and the images to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headstart.features.dataset.examples import Example
from headstart.training.auditing.space import Ints
from headstart.training.evaluation.plots.contact_sheet import Strip

Row = dict[str, Any]


@dataclass(frozen=True)
class Images:
    """What is audited: N images, split after split; held_out is of the split that is scored: test, or else validation.

    Labels of the split that is held out are only ever compared with what the others say: nothing is fitted to them, and no
    threshold or setting is chosen by them. Where there is one split only, nothing is held out.
    """

    examples: Sequence[Example]
    labels: Ints  # [N]
    class_names: Sequence[str]
    held_out_split: str
    held_out: np.ndarray  # bool [N]

    @property
    def splits(self) -> np.ndarray:
        """Names, [N]."""
        return np.array([example.split for example in self.examples], object)

    def named(self, number: int) -> Row:
        """An image as a table's columns."""
        example = self.examples[number]
        return {"key": example.key, "split": example.split, "label": example.labels[0]}


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
