"""What every command does alike: flags to a configuration, a look at what it names, TensorFlow loaded quietly, the work."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from headstart.commands.outcome import Outcome, plain
from headstart.features.command_line import OtherFlags, parse
from headstart.features.runtime import hush, load_tensorflow

Config = TypeVar("Config")


def never(_: object) -> bool:
    """For commands that do without TensorFlow, or whose work loads it where it builds a network, unless that is kept."""
    return False


def run_command(
    prog: str,
    config_class: type[Config],
    argv: Sequence[str],
    work: Callable[[Config], Outcome],
    prepare: Callable[[Config], None] = lambda config: None,
    needs_tensorflow: Callable[[Config], bool] = lambda config: True,
    beam_flags: OtherFlags | None = None,
) -> int:
    """Runs a command from its flags; returns its exit status.

    Args:
        prog: the command as it is typed, such as `headstart train`.
        config_class: the dataclass that its flags fill.
        argv: the flags.
        work: does it. It imports the implementation. With --json, what it prints on its way goes to stderr.
        prepare: looks for all that the configuration names, before anything heavy is loaded, and sets up threads.
        needs_tensorflow: whether the work does for certain, so that it is loaded before.
        beam_flags: Beam's, where the command takes them; they go into the configuration's `pipeline_options`.

    Raises:
        UserError: for a wrong flag, a name that is not there, or whatever the work raises.
    """
    config, manner = parse(config_class, prog, argv, beam_flags)
    prepare(config)
    hush(manner.verbose)
    if needs_tensorflow(config):
        load_tensorflow()
    with contextlib.redirect_stdout(sys.stderr) if manner.json else contextlib.nullcontext():
        outcome = work(config)
    if manner.json:
        print(json.dumps(plain(outcome.value), indent=1))
    elif outcome.text:
        print(outcome.text)
    if outcome.page:
        path = outcome.page()
        if not manner.json:
            print(f"as a page: {path}")
    return outcome.status
