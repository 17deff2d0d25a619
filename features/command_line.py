"""The command line of every command: flags in, its configuration out. Imports nothing heavy, so `--help` is instant."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar

from headstart.features.config import from_text, notes
from headstart.features.config_file import read_config
from headstart.features.errors import UserError, nearest
from headstart.features.runtime import CACHE, CACHE_SIZE

Config = TypeVar("Config")
Flag = tuple[type, "dataclasses.Field[Any]", Any]  # the configuration that it is of, its field, its type


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError("bad-flag", f"{message}; `{self.prog} --help` lists what it takes")


class OtherFlags(Protocol):
    """Somebody else's flags, that a command takes too: their names, and, which may take long, the parser that knows them."""

    def names(self) -> set[str]:
        """Of all flags, as `--name`; some more do no harm."""

    def parser(self) -> argparse.ArgumentParser:
        """Knows how many values each of them takes."""


class Manner(NamedTuple):
    """How a command speaks: whether libraries underneath do too, and whether its result is JSON."""

    verbose: bool
    json: bool


def parse(
    config_class: type[Config], prog: str, argv: Sequence[str], others: OtherFlags | None = None
) -> tuple[Config, Manner]:
    """Flags to a configuration, and how the command is to speak; somebody else's flags go into its `pipeline_options`.

    Flags are taken with `-` or `_` between their words, and from a file that `--config` names; those of the command line win.
    The parser of `others` (Beam's) is only made when a flag is not the command's own.

    Raises:
        UserError: for an unknown flag (with the nearest name), a bad value, or a missing one.
    """
    flags = _flags(config_class)
    parser = _make_parser(config_class, flags, prog, others)
    end = argv.index("--") if "--" in argv else len(argv)  # what follows is no flag
    mine, theirs = _divide([_underscored(argument) for argument in argv[:end]], parser, others)
    file = _config_file(mine)
    if file:
        _expect_nothing(parser, flags)
    values = vars(parser.parse_args([*mine, *argv[end:]]))
    manner = Manner(values.pop("verbose"), values.pop("json"))
    del values["config"]
    if file:
        stored, of_others = _from_file(file, prog.rpartition(" ")[2], flags, others)
        values = {**_defaults(flags), **stored, **values}
        theirs = [*of_others, *theirs]
        if missing := [name for name in flags if name not in values]:
            raise UserError("bad-flag", f"{' and '.join(missing)} must be given, in {file!r} or as flags")
    for name, variable in (("cache", CACHE), ("cache_size", CACHE_SIZE)):
        if (given := values.pop(name)) is not None:
            os.environ[variable] = given  # for worker processes too
    for name, (_, field, hint) in flags.items():
        if isinstance(values[name], str):
            values[name] = from_text(values[name], field, hint)
    return _filled(config_class, {**values, "pipeline_options": tuple(theirs)}), manner


def _config_file(argv: list[str]) -> str:
    """What --config names, or ''."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", default="")
    return str(parser.parse_known_args(argv)[0].config)


def _expect_nothing(parser: argparse.ArgumentParser, flags: dict[str, Flag]) -> None:
    """Has a parser give no value for what is not on the command line."""
    for action in parser._actions:
        if action.dest in flags:
            action.default, action.required = argparse.SUPPRESS, False
            if not action.option_strings:
                action.nargs = "*" if action.nargs in ("+", "*") else "?"


def _from_file(path: str, command: str, flags: dict[str, Flag], others: OtherFlags | None) -> tuple[dict[str, Any], list[str]]:
    """A file's values for a command's flags, by field; and those for somebody else's, as words of a command line.

    Raises:
        UserError: for a name that nobody has.
    """
    words = {field.metadata.get("flag", f"--{name}")[2:]: name for name, (_, field, _) in flags.items()}
    words |= {name: name for name in flags}
    values, theirs, known = dict[str, Any](), list[str](), others.names() if others else set[str]()
    for name, value in read_config(path, command).items():
        if name in words:
            values[words[name]] = value
        elif f"--{name}" in known:
            theirs += [f"--{name}"] if value is True else [f"--{name}={value}"]
        else:
            raise UserError("bad-flag", f"--config {path!r} has an unknown flag {name}.{nearest(name, list(words))}")
    return values, theirs


def _defaults(flags: dict[str, Flag]) -> dict[str, Any]:
    return {name: field.default for name, (_, field, _) in flags.items() if field.default is not dataclasses.MISSING}


def as_flags(config_class: type, values: dict[str, Any]) -> list[str]:
    """What `parse` would make these values of: words of a command line, without those that are at their defaults.

    Args:
        config_class: of the configuration, without parts.
        values: by its fields' names, as `dataclasses.asdict` gives them; JSON's lists for tuples.
    """
    positionals, named = list[str](), list[str]()
    for name, (_, field, hint) in _flags(config_class).items():
        value, word = values.get(name, field.default), field.metadata.get("flag", f"--{name}")
        value = tuple(value) if isinstance(value, list) else value
        if value is None or value == field.default:
            continue
        texts = [str(each) for each in (value if isinstance(value, tuple) else (value,))]
        if field.metadata.get("positional"):
            positionals += texts
        elif hint is bool:
            named.append(word)
        else:
            named += [each for text in texts for each in ([f"{word}={text}"] if text.startswith("-") else [word, text])]
    if any(text.startswith("-") for text in positionals):
        return [*named, "--", *positionals]
    return [*positionals, *named]


def _flags(config_class: type) -> dict[str, Flag]:
    """The flags of a configuration and of its parts, by name; of a name that two parts have, the first one's."""
    hints, found = typing.get_type_hints(config_class), dict[str, Flag]()
    for field in dataclasses.fields(config_class):
        if "part" in field.metadata:
            for name, (owner, own, hint) in _flags(hints[field.name]).items():
                given = field.metadata["part"].get(name, own)
                if isinstance(given, dataclasses.Field):
                    found.setdefault(name, (owner, given, hint))
        elif field.metadata:
            found[field.name] = config_class, field, hints[field.name]
    return found


def _filled(config_class: type[Config], values: dict[str, Any]) -> Config:
    """A configuration, and its parts, of the values of flags."""
    hints, chosen = typing.get_type_hints(config_class), dict[str, Any]()
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if "part" in field.metadata:
            given = {name: value for name, value in field.metadata["part"].items() if not isinstance(value, dataclasses.Field)}
            chosen[field.name] = _filled(hints[field.name], {**values, **given})
        elif field.name in values:
            chosen[field.name] = values[field.name]
    return config_class(**chosen)


def _make_parser(config_class: type, flags: dict[str, Flag], prog: str, others: OtherFlags | None) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=_summary(config_class),
        allow_abbrev=False,
        epilog="Any Beam pipeline option may follow, such as --runner." if others else None,
    )
    groups = dict[type, Any]({config_class: parser})
    for owner, field, hint in flags.values():
        group = config_class if field.metadata.get("positional") else owner
        if group not in groups:
            groups[group] = parser.add_argument_group(_summary(owner).removesuffix("."))
        _add_field(groups[group], field, hint)
    parser.add_argument("--config", metavar="FILE", help="a TOML file of flags, such as a run's command.toml")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries underneath have to say")
    copies = parser.add_argument_group("Copies of files that lie in object stores")
    copies.add_argument("--cache", metavar="DIR", help=f"where they are kept (default: {CACHE}, or your cache folder)")
    copies.add_argument("--cache_size", metavar="GB", help=f"how much they may take (default: {CACHE_SIZE}, or 50)")
    return parser


def _summary(config_class: type) -> str:
    return (config_class.__doc__ or "").split("\n\n")[0]


def _divide(argv: list[str], parser: argparse.ArgumentParser, others: OtherFlags | None) -> tuple[list[str], list[str]]:
    """Sorts flags, with their values, into the command's own and others'."""
    own = parser._option_string_actions
    unknown = [argument for argument in argv if argument.startswith("--") and argument.partition("=")[0] not in own]
    if not unknown:
        return argv, []
    names = others.names() if others else set[str]()
    for argument in unknown:
        if (name := argument.partition("=")[0]) not in names:
            raise UserError("bad-flag", f"unknown flag {name}.{nearest(name, [*own, *names])}")
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
            raise UserError("bad-flag", f"unknown flag {name}.{nearest(name, [*own, *known])}")
        theirs.append(argument)
        if known[name].nargs != 0 and not equals:
            theirs.extend(itertools.islice(waiting, 1))
    return mine, theirs


def _add_field(parser: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    options = {key: value for key, value in field.metadata.items() if key in ("help", "metavar", "nargs")}
    if field.metadata.get("positional"):
        if field.default is not dataclasses.MISSING:
            options["default"] = field.default
        parser.add_argument(field.name, **options)
        return
    names = [field.metadata.get("flag", f"--{field.name}"), *field.metadata.get("aliases", ())]
    if hint is bool:
        parser.add_argument(*names, action="store_true", help=options["help"])
        return
    options["help"] += notes(field, hint)
    if choices := field.metadata.get("choices"):
        options.setdefault("metavar", f"{{{','.join(choices)}}}")
    if typing.get_origin(hint) is tuple:  # a flag that may be repeated
        options["action"] = _Append
    required = field.metadata.get("required", False)
    parser.add_argument(*names, dest=field.name, default=None if required else field.default, required=required, **options)


class _Append(argparse.Action):
    """A flag that may be repeated, into a tuple."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest, ()), values))


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
