"""What a threshold is to be chosen for, in words: `recall@precision=0.95` is the most recall that keeps a precision of 0.95.

Light: configurations read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features.errors import UserError, nearest

PAIRS = (("recall", "precision"), ("precision", "recall"), ("sensitivity", "specificity"), ("specificity", "sensitivity"))
FORMS = ", ".join(f"{wanted}@{held}=0.95" for wanted, held in PAIRS)


@dataclass(frozen=True)
class Goal:
    """As much as there can be of one measure, where another one is `least` or more, 0..1."""

    wanted: str
    held: str
    least: float

    def __str__(self) -> str:
        return f"{self.wanted}@{self.held}={self.least:g}"


def parse_goal(text: str) -> Goal:
    """A goal from what `--operating_point` takes.

    Raises:
        UserError: for other measures, or a share outside 0..1.
    """
    pair, _, least = text.partition("=")
    wanted, _, held = pair.partition("@")
    try:
        share = float(least)
    except ValueError:
        share = -1.0
    if (wanted, held) not in PAIRS or not 0 < share <= 1:
        raise UserError("bad-flag", f"--operating_point is one of {FORMS}, with a number above 0 and up to 1, not {text!r}")
    return Goal(wanted, held, share)


def check_flags(operating_point: str, positive_class: str) -> None:
    """Raises UserError when the two flags say nothing that can be understood."""
    if operating_point:
        parse_goal(operating_point)
    elif positive_class:
        raise UserError("bad-flag", "--positive_class belongs to --operating_point: give both, or neither")


def check_dataset(operating_point: str, positive_class: str, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """Raises UserError when a dataset lacks the class, or the split, that an operating point is chosen by."""
    if operating_point:
        positive_of(positive_class, class_names)
        if "validation" not in splits:
            raise UserError(
                "missing-split", f"--operating_point is chosen on a validation split; there are {', '.join(splits) or 'none'}"
            )


def positive_of(positive_class: str, class_names: Sequence[str]) -> int:
    """The number of the class that is looked for: the one that is named, or the last of two.

    Raises:
        UserError: for a name that is no class, or none where there are more than two.
    """
    if positive_class in class_names:
        return list(class_names).index(positive_class)
    if positive_class:
        raise UserError(
            "unknown-name",
            f"--positive_class {positive_class!r} is no class.{nearest(positive_class, class_names)} There are "
            f"{', '.join(class_names[:10])}",
        )
    if len(class_names) != 2:
        raise UserError(
            "bad-flag",
            f"--operating_point of {len(class_names)} classes needs --positive_class NAME: that one against all others",
        )
    return 1
