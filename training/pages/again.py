"""Section: the commands that make it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from headstart.features.command_line import as_flags
from headstart.training.pages.elements import html, section


def command(name: str, kind: type, given: Mapping[str, Any]) -> str:
    """A command as it is typed, with all that is not left at its default.

    Args:
        name: of the command.
        kind: its configuration's class.
        given: the configuration's values, by their fields' names.
    """
    return shlex.join(["headstart", name, *as_flags(kind, dict(given))])


def again(commands: Iterable[str], notes: Iterable[Markup] = ()) -> Markup:
    """The last section of a page."""
    lines = html('<pre tabindex="0"><code>{}</code></pre>', Markup("\n").join(commands))
    return section("repeat", "To do it again", [lines, *notes])
