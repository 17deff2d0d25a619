"""headstart verify: every shard of a store read and compared with what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from features import command
from features.command import flag, positional
from features.errors import UserError


@dataclass(frozen=True)
class VerifyConfig:
    """Reads every shard of a feature store and checks every digest and count."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    unsafe: bool = flag(False, "run Python code that the store's backbone brings along in Lambda layers")

    def __post_init__(self) -> None:
        command.check_fields(self)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 1, and a line for each fault, when something does not hold."""
    prog = "headstart verify"

    def body() -> int:
        config, _, verbose = command.parse(VerifyConfig, prog, sys.argv[1:] if argv is None else argv)
        from features.store import MANIFEST, SPEC, FeatureStore

        try:
            store = FeatureStore.open_as_it_is(config.store, config.unsafe)
        except (ValueError, TypeError, KeyError, OSError) as error:
            if isinstance(error, UserError):
                raise
            print(f"{MANIFEST} or {SPEC}: can't be read: {error}")
            return 1
        command.load_quietly(verbose)
        faults = 0
        for fault in store.faults():
            print(fault)
            faults += 1
        if not faults:
            totals = store.manifest["totals"]
            print(f"{config.store}: sound, {totals['stored']:,} examples and {totals['dead']:,} dead letters")
        return 1 if faults else 0

    return command.run(prog, body)


if __name__ == "__main__":
    sys.exit(main())
