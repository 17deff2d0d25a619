"""What a command came to, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headstart.features.places import place


@dataclass(frozen=True)
class Outcome:
    """What a command came to.

    Args:
        text: what is printed; nothing where it is ''.
        value: what is printed with --json in its place: whatever `plain` takes.
        status: the exit status.
        page: makes the page of it, and gives its path, or the command that makes it. It comes after all else is done and
            told, and what fails in it is an error like any other.
    """

    text: str = ""
    value: Any = None
    status: int = 0
    page: Callable[[], str] | None = None


def read_result(folder: str, name: str) -> Any:
    """What a command left as JSON in its folder, which is its value."""
    return json.loads(place.read(place.join(folder, name)))


def plain(value: Any) -> Any:
    """A value as JSON has it: dataclasses as objects, arrays as lists, null for a number that is undefined."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "tolist"):  # numpy's
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    return str(value)
