"""Splits: what they are called, and the proportions that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from headstart.features.errors import UserError, nearest

SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}


def split_hint(asked: str, splits: Collection[str]) -> str:
    """Which split may have been meant, such as '. Did you mean validation?'; '' when none is near."""
    known = SPLIT_NAMES.get(asked.lower(), "")
    hint = f" Did you mean {known}?" if known in splits else nearest(asked, splits)
    return f".{hint}" if hint else ""


def doubtful_names(splits: Iterable[str], class_names: Iterable[str]) -> list[str]:
    """A warning for each split that is nearly called as those that commands know, and for each class that is called as one."""
    known = list(dict.fromkeys(SPLIT_NAMES.values()))
    lines = [
        f"warning: the split {split!r} is none of {', '.join(known)}, and no command takes it by itself.{hint}"
        for split in splits
        if split not in known and (hint := nearest(split, known))
    ]
    return lines + [
        f"warning: a class is called {name!r}: where top folders are to be splits, each is called train, validation or test"
        for name in class_names
        if name.lower() in SPLIT_NAMES
    ]


def in_line(splits: Iterable[str]) -> list[str]:
    """Train and test at the ends, so that no image goes from one to the other where a split lies between."""
    return sorted(splits, key=lambda split: {"train": -1, "test": 1}.get(split, 0))


def parse_splits(text: str) -> dict[str, float]:
    """'train=0.8,validation=0.1,test=0.1' to proportions.

    Raises:
        UserError: when they are not NAME=PROPORTION, positive, with a train among them, adding up to 1.
    """
    try:
        pairs = [part.split("=") for part in text.replace(" ", "").split(",")]
        proportions = {SPLIT_NAMES.get(name.lower(), name): float(value) for name, value in pairs}
    except ValueError:
        raise UserError("bad-flag", f"--splits is written train=0.8,validation=0.1,test=0.1, not {text!r}") from None
    for name in proportions:
        if not name.isidentifier():
            raise UserError("bad-flag", f"a split's name is made of letters, digits and _, not {name!r}")
    if (
        len(proportions) < len(pairs)
        or "train" not in proportions
        or not all(0 < value <= 1 for value in proportions.values())
    ):
        raise UserError(
            "bad-flag", f"--splits needs a train split, each name once, each proportion above 0; received {text!r}"
        )
    if abs(sum(proportions.values()) - 1) > 1e-6:
        raise UserError(
            "bad-flag",
            f"the proportions of --splits must add up to 1, and those of {text!r} make {sum(proportions.values()):g}",
        )
    return proportions


@dataclass(frozen=True)
class Division:
    """How a dataset came by its splits: ready-made with the input, or divided in these proportions, as `divide` does it."""

    ready_made: bool
    splits: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    min_per_split: int = 1

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of it; of ready-made splits no more than that."""
        return {"ready_made": True} if self.ready_made else dict(vars(self))
