"""Numbers and names for eyes: bytes and seconds as people write them, text that a terminal can show."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def human_bytes(count: float) -> str:
    """A number of bytes with the unit that suits it.

    >>> human_bytes(12_345)
    '12.3 kB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "shard"), counted(1_200, "dead letter")
    ('1 shard', '1,200 dead letters')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def pace(rate: float, unit: str = "") -> str:
    """A rate above 0 by the second, or, where one takes longer, the seconds that each takes.

    >>> pace(250.4, "images"), pace(1.25), pace(0.04)
    ('250 images/s', '1.2/s', '25 s each')
    """
    if rate < 1:
        return f"{1 / rate:.{0 if rate < 0.1 else 1}f} s each"
    return f"{rate:,.{0 if rate >= 10 else 1}f}{f' {unit}' if unit else ''}/s"


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    seconds = int(seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def printable(name: str) -> str:
    """'?' for what would move the cursor, colour the terminal or fail to encode."""
    return "".join(c if c.isprintable() else "?" for c in name)


def display_width(text: str) -> int:
    """Columns on a terminal: 2 for a wide character, 0 for a combining one."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shortened(names: Sequence[str], most: int = 12) -> str:
    """A list for one line: its beginning and its end where it is long."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most // 2])}, ... {', '.join(names[-most // 2 :])}"
