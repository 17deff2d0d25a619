"""The command line of every command: one frozen dataclass in, flags out.

A command's configuration is a frozen dataclass. Each field is a flag named after it, with its help in the field's metadata;
fields made by `positional` come without dashes. Nothing here imports anything heavy, so `--help` is instant.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import itertools
import numbers
import os
import types
import typing
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, TypeVar

from headstart.features.errors import UserError, nearest

Config = TypeVar("Config")


def flag(default: Any, help: str, **extra: Any) -> Any:
    """A dataclass field that becomes `--name`; `choices`, `metavar`, `aliases` go to argparse."""
    return dataclasses.field(default=default, metadata={"help": help, **extra})


def positional(help: str, default: Any = dataclasses.MISSING, **extra: Any) -> Any:
    """A dataclass field that becomes a positional argument."""
    return dataclasses.field(default=default, metadata={"help": help, "positional": True, **extra})


def required(help: str, **extra: Any) -> Any:
    """A dataclass field that becomes a flag which must be given."""
    return dataclasses.field(metadata={"help": help, "required": True, **extra})


def check_fields(config: Any) -> None:
    """Checks a configuration's values against its fields' types, `choices`, `least` and `most`; called where it is made.

    Paths become text, lists tuples, and whole numbers floats where the type says so.

    Raises:
        UserError: for a wrong value, naming the field, what was expected and what was received.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        given, name = getattr(config, field.name), _shown(field)
        value = _as_hinted(given, hints[field.name])
        if value is _UNFIT:
            raise UserError(f"{name} takes {_worded(hints[field.name])}, not {given!r} ({type(given).__name__})")
        object.__setattr__(config, field.name, value)
        choices, least, most = (field.metadata.get(limit) for limit in ("choices", "least", "most"))
        if choices and value not in (*choices, field.default):
            raise UserError(f"{name} is one of {', '.join(choices)}, not {value!r}.{nearest(value, choices)}")
        if most is not None and not least <= value <= most:
            raise UserError(f"{name} lies from {least} to {most}, not at {value}")
        if least is not None and not value >= least:
            raise UserError(f"{name} must be at least {least}, not {value}")


_UNFIT = object()


def _as_hinted(value: Any, hint: Any) -> Any:
    """A value as its type hint has it, or _UNFIT."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next((found for part in parts if (found := _as_hinted(value, part)) is not _UNFIT), _UNFIT)
    if parts and isinstance(value, (list, tuple)):  # tuple[str, ...], Sequence[str], tuple[int, int]
        kinds = [parts[0]] * len(value) if len(parts) == 1 or parts[1] is ... else parts
        found = tuple(_as_hinted(each, kind) for each, kind in zip(value, kinds))
        return found if len(value) == len(kinds) and _UNFIT not in found else _UNFIT
    if hint is str:
        return value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else _UNFIT
    if hint in (int, float) and not isinstance(value, bool) and isinstance(value, numbers.Real):
        return hint(value) if hint is float or isinstance(value, numbers.Integral) else _UNFIT
    return value if hint in (bool, types.NoneType) and isinstance(value, hint) else _UNFIT


def _worded(hint: Any) -> str:
    """A type hint in words."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_worded, parts))
    if parts and (len(parts) == 1 or parts[1] is ...):
        return f"a list of {_worded(parts[0])}"
    if parts:
        return f"({', '.join(map(_worded, parts))})"
    return {str: "text", int: "a whole number", float: "a number", bool: "True or False"}.get(hint, "None")


def _shown(field: dataclasses.Field[Any]) -> str:
    """A field as a person knows it."""
    plain = field.metadata.get("positional") or not field.metadata
    return field.name if plain else str(field.metadata.get("flag", f"--{field.name}"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` lists what it takes")


class OtherFlags(Protocol):
    """Somebody else's flags, that a command takes too: their names, and, which may take long, the parser that knows them."""

    def names(self) -> set[str]:
        """Of all flags, as `--name`; some more do no harm."""

    def parser(self) -> argparse.ArgumentParser:
        """Knows how many values each of them takes."""


def parse(
    config_class: type[Config], prog: str, argv: Sequence[str], others: OtherFlags | None = None
) -> tuple[Config, list[str], bool]:
    """Flags to (configuration, somebody else's flags, verbose).

    Flags are taken with `-` or `_` between their words. The parser of `others` (Beam's) is only made when a flag is not the
    command's own.

    Raises:
        UserError: for an unknown flag (with the nearest name), a bad value, or a missing one.
    """
    parser = _Parser(
        prog=prog,
        description=_summary(config_class),
        allow_abbrev=False,
        epilog="Any Beam pipeline option may follow, such as --runner." if others else None,
    )
    hints, groups = typing.get_type_hints(config_class), dict[type, Any]({config_class: parser})
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if field.metadata:
            owner = config_class if field.metadata.get("positional") else _owner(config_class, field.name)
            if owner not in groups:
                groups[owner] = parser.add_argument_group(_summary(owner).removesuffix("."))
            _add_field(groups[owner], field, hints[field.name])
    parser.add_argument("--verbose", action="store_true", help="show what the libraries underneath have to say")
    mine, theirs = _divide([_underscored(argument) for argument in argv], parser, others)
    values = vars(parser.parse_args(mine))
    verbose = values.pop("verbose")
    return config_class(**values), theirs, verbose


def _owner(config_class: type, name: str) -> type:
    """The class that a field is of, where a configuration joins several."""
    return next(kind for kind in config_class.__mro__ if name in inspect.get_annotations(kind))


def _summary(config_class: type) -> str:
    return (config_class.__doc__ or "").split("\n\n")[0]


def _divide(argv: list[str], parser: argparse.ArgumentParser, others: OtherFlags | None) -> tuple[list[str], list[str]]:
    """Sorts flags, with their values, into the command's own and others'."""
    own = parser._option_string_actions
    unknown = [
        argument
        for argument in argv
        if argument.startswith("--") and argument != "--" and argument.partition("=")[0] not in own
    ]
    if not unknown:
        return argv, []
    names = others.names() if others else set[str]()
    for argument in unknown:
        if (name := argument.partition("=")[0]) not in names:
            raise UserError(f"unknown flag {name}.{nearest(name, [*own, *names])}")
    known = others.parser()._option_string_actions if others else {}
    mine: list[str] = []
    theirs: list[str] = []
    waiting = iter(argv)
    for argument in waiting:
        name, equals, _ = argument.partition("=")
        if argument not in unknown:
            mine.append(argument)
            continue
        if name not in known:
            raise UserError(f"unknown flag {name}.{nearest(name, [*own, *known])}")
        theirs.append(argument)
        if known[name].nargs != 0 and not equals:
            theirs.extend(itertools.islice(waiting, 1))
    return mine, theirs


def _add_field(parser: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    options = {key: value for key, value in field.metadata.items() if key in ("help", "choices", "metavar", "nargs", "type")}
    repeated = typing.get_origin(hint) is tuple
    if typing.get_origin(hint) in (typing.Union, types.UnionType):  # an optional value: parse what it is when given
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if field.metadata.get("positional"):
        if field.default is not dataclasses.MISSING:
            options["default"] = field.default
        parser.add_argument(field.name, **options)
        return
    names = [field.metadata.get("flag", f"--{field.name}"), *field.metadata.get("aliases", ())]
    default = field.default
    if hint is bool:
        parser.add_argument(*names, action="store_true", help=options["help"])
        return
    if default not in (None, (), "", dataclasses.MISSING) and "(default: " not in options["help"]:
        options["help"] += f" (default: {default})"
    if repeated:
        parser.add_argument(*names, dest=field.name, action=_Append, default=(), **options)
        return
    options.setdefault("type", hint)
    parser.add_argument(*names, dest=field.name, default=default, required=field.metadata.get("required", False), **options)


class _Append(argparse.Action):
    """A flag that may be repeated, into a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), values))


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
