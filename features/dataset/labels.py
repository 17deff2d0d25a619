"""Which classes an image is of: one of them, or a set of several that may be empty. Text of a cell in, labels and arrays out.

A dataset is of several labels where it has a delimiter, which parts them in a cell; without one, a cell is a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headstart.features.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from headstart.features.dataset.columns import Few


def labels_in(cell: str, delimiter: str) -> tuple[str, ...]:
    """The labels that a cell holds, sorted, each once; without a delimiter, the cell itself.

    >>> labels_in("dog | cat|", "|")
    ('cat', 'dog')
    """
    if not delimiter:
        return (cell,)
    return tuple(sorted({part.strip() for part in cell.split(delimiter)} - {""}))


def in_a_cell(labels: Sequence[str], delimiter: str) -> str:
    """What `labels_in` reads back."""
    return delimiter.join(labels)


def label_array(labels: Few, class_names: Sequence[str], several: bool) -> np.ndarray:
    """A column of labels as numbers: class ids int64 [N]; of several an image, 1 for each that it has, uint8 [N, classes].

    Raises:
        KeyError: for a label that is no class.
    """
    import numpy as np

    ids = {name: number for number, name in enumerate(class_names)}
    if not several:
        return labels.numbered({each: ids[each[0]] for each in labels.names})
    sets = np.zeros((max(1, len(labels.names)), len(ids)), np.uint8)
    for code in np.unique(labels.codes):
        sets[code, [ids[name] for name in labels.names[code]]] = 1
    return sets[labels.codes]


def refuse_several(delimiter: str, what: str, instead: str = "") -> None:
    """Raises UserError where images may have several labels, and something is for one label an image alone."""
    if delimiter:
        hint = f": {instead}" if instead else ""
        raise UserError("several-labels", f"{what} is for one label an image, and these images may have several{hint}")
