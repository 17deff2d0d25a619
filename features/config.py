"""The command line of every command: one frozen dataclass in, flags out, and errors for people.

A command's configuration is a frozen dataclass. Each field is a flag named after it, with its help in the field's metadata;
fields made by `positional` come without dashes. Nothing here imports anything heavy, so `--help` is instant.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import errno
import functools
import inspect
import io
import itertools
import logging
import numbers
import os
import sys
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar

from headstart.features import interruption
from headstart.features.errors import UserError, extract_user_error, nearest

Config = TypeVar("Config")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

ONLY_WRAPPED = ("sklearn", "matplotlib")  # Keras imports them for wrappers that no command uses, which takes a second
LOUD = {"tensorflow": logging.ERROR, "absl": logging.ERROR, "matplotlib": logging.ERROR, "apache_beam": logging.CRITICAL}


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


leaves_threads = False  # whether something has threads that Python's end and they would wait for each other, for ever


def run(prog: str, body: Callable[[], int | None]) -> int:
    """Runs a command's body; a mistake of the user's becomes one line on stderr and exit status 2, Ctrl-C one and 130."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    status = 1
    try:
        with interruption.ending(prog) as ending:
            status = _in_one_line(prog, lambda: _unless_interrupted(ending, body))
        return status
    finally:
        if leaves_threads:
            atexit.register(_leave, status)


def _leave(status: int) -> None:
    """Ends the process once all that it had to say is said, without waiting for threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _unless_interrupted(ending: interruption.Ending, body: Callable[[], int | None]) -> int | None:
    """A body's status. A runner makes another error of Ctrl-C's, which is nobody's mistake."""
    try:
        return body()
    except BaseException:
        if ending.signal:
            raise KeyboardInterrupt from None
        raise


def _in_one_line(prog: str, body: Callable[[], int | None]) -> int:
    try:
        return body() or 0
    except UserError as error:
        return _fail(prog, str(error))
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(
                prog, f"the disk is full ({error.filename or 'while writing'}): make room and run the same command again"
            )
        if not error.filename:
            raise
        if error.errno in (errno.EACCES, errno.EROFS):
            return _fail(prog, f"no permission for {error.filename}: choose another folder or change its owner")
        return _fail(prog, f"{error.filename}: {error.strerror}")
    except Exception as error:
        told = extract_user_error(error)  # by TensorFlow, of a mistake that was met inside a tf.data pipeline
        if told is None:
            raise
        return _fail(prog, told)


def _fail(prog: str, message: str) -> int:
    if os.environ.get("HEADSTART_TRACEBACK"):
        traceback.print_exc()
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def limit_intra_op_threads() -> None:
    """Asks TensorFlow for one thread an operation, so that streams do not fight; heeded if it has not started yet."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")


@functools.cache
def silence_library_logs() -> None:
    """Holds back what the libraries underneath log and warn of, in a command's process, from here on."""
    _hushed.enter_context(quiet())


_hushed = contextlib.ExitStack()  # never left: it ends with the process
_speaking = False  # --verbose


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what the libraries underneath log and warn of inside the block; what was set stands again after it.

    With --verbose they speak.
    """
    if _speaking:
        yield
        return
    root, null = logging.getLogger(), logging.NullHandler()
    levels = {name: logging.getLogger(name).level for name in LOUD}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, level in LOUD.items():
            logging.getLogger(name).setLevel(level)
        root.addFilter(_is_grave)  # of what is logged without a logger's name
        root.addHandler(null)  # where there is none, the first who logs so would add one for good
        try:
            yield
        finally:
            root.removeHandler(null)
            root.removeFilter(_is_grave)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _is_grave(entry: logging.LogRecord) -> bool:
    return entry.levelno >= logging.ERROR


def quietly(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A function of the library's, as quiet from Python as its command is."""

    @functools.wraps(function)
    def quiet_function(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        with quiet():
            _load()
            return function(*arguments, **keywords)

    return quiet_function


def quietly_each(found: Iterator[Result]) -> Iterator[Result]:
    """An iterator whose steps are quiet; between them the process is as its owner has it."""
    while True:
        with quiet():
            _load()
            try:
                each = next(found)
            except StopIteration:
                return
        yield each


def import_tensorflow_quietly(verbose: bool = False) -> None:
    """Imports TensorFlow for a command, its chatter and Beam's held back from here on, unless verbose."""
    global _speaking
    _speaking = verbose
    if not verbose:
        silence_library_logs()
    _load()


def _load() -> None:
    """Imports TensorFlow, once; GPUs give memory as it is needed."""
    from headstart.features.engines.options import has_gpu

    if "tensorflow" in sys.modules:
        return
    if _speaking:
        with interruption.at_once(2), _left_out(*ONLY_WRAPPED):
            has_gpu()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_to_null(), _left_out(*ONLY_WRAPPED):  # TensorFlow's first words come from C++, before any level can be set
        import tensorflow as tf

        has_gpu()
        tf.constant(0)


@contextlib.contextmanager
def _left_out(*packages: str) -> Iterator[None]:
    """Hides packages that are not loaded yet from whoever would import them if they are there."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _stderr_to_null() -> Iterator[None]:
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        with interruption.at_once(saved):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
