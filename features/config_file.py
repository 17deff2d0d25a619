"""Flags in a file: a command's configuration as TOML, for `--config`, read and written.

    command = "train"
    store = "s3://bucket/store"
    head = "mlp"
    class_weight = "balanced"

Names are those of the flags, without dashes; `command`, which may be left out, keeps a file from another command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from headstart.features.errors import UserError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

COMMAND = "command"


def read_config(path: str, command: str) -> dict[str, Any]:
    """What a file says of a command's flags, by name.

    Raises:
        UserError: for a file that is not there, is no TOML, is another command's, or holds tables.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            values = tomllib.loads(file.read())
    except OSError as error:
        raise UserError("missing-input", f"--config {path!r} can't be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError("bad-input", f"--config {path!r} is no TOML: {error}") from None
    own = values.pop(COMMAND, command)
    if own != command:
        raise UserError("bad-flag", f"--config {path!r} is of headstart {own}, not of headstart {command}")
    if tables := [name for name, value in values.items() if isinstance(value, dict)]:
        raise UserError(
            "bad-input", f"--config {path!r} holds tables ({', '.join(tables)}); expected NAME = VALUE, a flag a line"
        )
    return {name.replace("-", "_"): value for name, value in values.items()}


def config_toml(command: str, values: Mapping[str, Any]) -> bytes:
    """A configuration as `read_config` takes it; what is None is left out."""
    lines = [
        f"# headstart {command} --config THIS_FILE --run ANOTHER does it again; flags beside it win",
        f"{COMMAND} = {_written(command)}",
    ]
    lines += [f"{name} = {_written(value)}" for name, value in values.items() if value is not None]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, str):  # TOML escapes as JSON does, and DEL too
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return str(value).lower() if isinstance(value, bool) else repr(value)
