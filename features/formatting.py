"""Numbers for eyes: bytes and seconds as people write them."""

from __future__ import annotations


def human_bytes(count: float) -> str:
    """A number of bytes with the unit that suits it.

    >>> human_bytes(12_345)
    '12.3 kB'
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


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
