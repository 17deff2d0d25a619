"""Values in, some at a time out: `itertools.batched`, which Python has from 3.12 on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

Value = TypeVar("Value")


def batched(values: Iterable[Value], size: int) -> Iterator[list[Value]]:
    """Values in their order, `size` at a time; the last ones may be fewer."""
    left = iter(values)
    while some := list(itertools.islice(left, size)):
        yield some
