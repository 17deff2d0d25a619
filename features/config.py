"""A configuration's fields: what each may be, said once where it is declared, and checked once where a value is made.

A command's configuration is a frozen dataclass. Each field is a flag named after it, with its help, choices and bounds in the
field's metadata; fields made by `positional` come without dashes.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headstart.features.errors import UserError, nearest


@dataclass(frozen=True)
class Bounds:
    """Where a number may lie: from `least`, or above `above`; to `most`, or to below `below`."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            -math.inf < value < math.inf
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        low = f"above {self.above}" if self.above is not None else f"from {self.least}"
        if self.most is not None:
            return f"{low} {'to' if self.above is None else 'and up to'} {self.most}"
        if self.below is not None:
            return f"{low} to below {_power(self.below)}"
        return low if self.above is not None else f"at least {self.least}"

    @property
    def demand(self) -> str:
        """What is asked of a value: 'lies from 0 to 1, not at', 'must be at least 1, not'."""
        return f"must be {self}, not" if self.most is self.below is None else f"lies {self}, not at"


def _power(number: float) -> str:
    """A number, a large power of two as such."""
    return f"2**{math.log2(number):.0f}" if number > 2**16 and math.log2(number) % 1 == 0 else f"{number}"


def flag(default: Any, help: str, **extra: Any) -> Any:
    """A dataclass field that becomes `--name`.

    Args:
        default: of the field.
        help: what `--help` says of it.
        **extra: what it may be: `choices`, or a number's `least`, `above`, `most` and `below`; and how it is written on the
            command line: `metavar`, `aliases`, `nargs`, and `flag`, another name.
    """
    return dataclasses.field(default=default, metadata=_metadata(help, extra))


def positional(help: str, default: Any = dataclasses.MISSING, **extra: Any) -> Any:
    """A dataclass field that becomes a positional argument."""
    return dataclasses.field(default=default, metadata=_metadata(help, {**extra, "positional": True}))


def required(help: str, **extra: Any) -> Any:
    """A dataclass field that becomes a flag which must be given."""
    return dataclasses.field(metadata=_metadata(help, {**extra, "required": True}))


def part(**given: Any) -> Any:
    """A dataclass field that is a configuration itself, whose flags become the command's.

    Args:
        **given: for fields of the part that are no flags here, their values; or another `flag` in place of the part's own.
    """
    for name, other in given.items():
        if isinstance(other, dataclasses.Field):
            other.name = name
    return dataclasses.field(metadata={"part": given})


def _metadata(help: str, extra: dict[str, Any]) -> dict[str, Any]:
    limits = {name: extra.pop(name) for name in ("least", "above", "most", "below") if name in extra}
    return {"help": help, **extra, **({"bounds": Bounds(**limits)} if limits else {})}


def check_fields(config: Any) -> None:
    """Checks a configuration's values against its fields' types, choices and bounds; called where it is made.

    Paths become text, lists tuples, and whole numbers floats where the type says so.

    Raises:
        UserError: for a wrong value, naming the field, what was expected and what was received.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        value = _as_hinted(given, hints[field.name])
        if value is _UNFIT:
            raise UserError(
                "bad-flag", f"{_shown(field)} takes {_worded(hints[field.name])}, not {given!r} ({type(given).__name__})"
            )
        object.__setattr__(config, field.name, value)
        _check_limits(field, value)


def _check_limits(field: dataclasses.Field[Any], value: Any) -> None:
    choices, bounds = field.metadata.get("choices"), field.metadata.get("bounds")
    if choices and value not in (*choices, field.default):
        raise UserError("bad-flag", f"{_shown(field)} is one of {', '.join(choices)}, not {value!r}.{nearest(value, choices)}")
    if bounds and value is not None and value not in bounds:
        raise UserError("bad-flag", f"{_shown(field)} {bounds.demand} {value}")


def given(config: Any, names: Iterable[str]) -> list[str]:
    """Of some of a configuration's fields, those that are not at their defaults, as a person knows them."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    return [_shown(fields[name]) for name in names if getattr(config, name) != fields[name].default]


def refuse_given(config: Any, names: Iterable[str], why: str) -> None:
    """Raises UserError when one of some fields is not at its default: nothing would read it."""
    if found := given(config, names):
        raise UserError("bad-flag", f"{found[0]} {why}: leave it out")


_UNFIT = object()


def _as_hinted(value: Any, hint: Any) -> Any:
    """A value as its type hint has it, or _UNFIT."""
    parts = typing.get_args(hint)
    if _is_union(hint):
        return next((found for part in parts if (found := _as_hinted(value, part)) is not _UNFIT), _UNFIT)
    if parts and isinstance(value, (list, tuple)):  # tuple[str, ...], Sequence[str], tuple[int, int]
        kinds = [parts[0]] * len(value) if len(parts) == 1 or parts[1] is ... else parts
        found = tuple(_as_hinted(each, kind) for each, kind in zip(value, kinds))
        return found if len(value) == len(kinds) and _UNFIT not in found else _UNFIT
    if hint is str:
        return value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else _UNFIT
    if hint in (int, float) and not isinstance(value, bool) and isinstance(value, numbers.Real):
        return hint(value) if hint is float or isinstance(value, numbers.Integral) else _UNFIT
    return value if isinstance(hint, type) and hint not in (int, float) and isinstance(value, hint) else _UNFIT


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _worded(hint: Any) -> str:
    """A type hint in words."""
    parts = typing.get_args(hint)
    if _is_union(hint):
        return " or ".join(map(_worded, parts))
    if parts and (len(parts) == 1 or parts[1] is ...):
        return f"a list of {_worded(parts[0])}"
    if parts:
        return f"({', '.join(map(_worded, parts))})"
    words = {str: "text", int: "a whole number", float: "a number", bool: "True or False", types.NoneType: "None"}
    return words.get(hint) or str(hint.__name__)


def _shown(field: dataclasses.Field[Any]) -> str:
    """A field as a person knows it."""
    plain = field.metadata.get("positional") or "help" not in field.metadata
    return field.name if plain else str(field.metadata.get("flag", f"--{field.name}"))


def from_text(text: str, field: dataclasses.Field[Any], hint: Any) -> Any:
    """A flag's text as the number that its field is of; as it is where the field is text.

    Raises:
        UserError: for what is no such number.
    """
    kind = _single(hint)
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError:
        raise UserError("bad-flag", f"{_shown(field)} takes {_worded(kind)}, not {text!r}") from None


def _single(hint: Any) -> Any:
    """What an optional value, or each of several, is when it is given."""
    return next((part for part in typing.get_args(hint) if part is not types.NoneType), hint)


def notes(field: dataclasses.Field[Any], hint: Any) -> str:
    """What `--help` adds: bounds, those aside that go without saying, and the default."""
    bounds, found = field.metadata.get("bounds"), []
    if bounds and (_single(hint) is float or bounds not in (Bounds(least=0), Bounds(least=1))):
        found.append(str(bounds))
    if field.default not in (None, (), "", dataclasses.MISSING) and "(default: " not in field.metadata["help"]:
        found.append(f"default: {field.default}")
    return f" ({', '.join(found)})" if found else ""
