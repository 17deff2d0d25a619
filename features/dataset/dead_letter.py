"""Images that can't be stored, each with its reason, as lines of JSON that are written and read back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from headstart.features.dataset.labels import labels_in


@dataclass(frozen=True)
class DeadLetter:
    """An image that can't be stored.

    Its key, content digest ('' when it was never read), class and split ('' when it has none yet), the stage at which it
    failed (read or decode), and the reason. Where images may have several labels, label joins them by the delimiter.
    """

    key: str
    digest: str
    label: str
    split: str
    stage: str
    reason: str


def by_class(letters: Iterable[DeadLetter], label_delimiter: str) -> Counter[str]:
    """How many there are of each class; those without any count as of ''."""
    return Counter(name for letter in letters for name in labels_in(letter.label, label_delimiter) or ("",))


def to_json_lines(letters: Iterable[DeadLetter]) -> bytes:
    """The dead letters of a dataset, in the order given; `from_json_lines` reads them back."""
    lines = (json.dumps(vars(letter), ensure_ascii=False, sort_keys=True) + "\n" for letter in letters)
    return "".join(lines).encode("utf-8", "surrogateescape")


def from_json_lines(content: bytes) -> list[DeadLetter]:
    """Reads what `to_json_lines` wrote."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")  # and at no other character that ends a line for Python
    return [DeadLetter(**json.loads(line)) for line in lines if line]
