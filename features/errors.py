"""Errors meant for the person at the keyboard: one line, no traceback, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What was expected, what was received, and what to do about it, in one line."""


def extract_user_error(error: BaseException) -> str | None:
    """What a UserError said that a runner or TensorFlow handed on as the text of another error; None where there is none."""
    _, found, text = str(error).rpartition("UserError: ")
    return text.split("\n")[0].partition(" [while running")[0] if found else None


class DecodeError(ValueError):
    """One image's bytes cannot become pixels. Never fatal: it becomes a dead letter."""


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint such as ' Did you mean VGG16?', or '' when no name is near.

    >>> nearest("vgg61", ["VGG16", "ResNet50"])
    ' Did you mean VGG16?'
    """
    by_lower = {candidate.lower(): candidate for candidate in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(by_lower[match] for match in close)}?" if close else ""
