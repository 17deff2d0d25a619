"""headstart verify: every byte of a store read and compared with what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features import interruption
from headstart.features.config import check_fields, flag, parse, positional
from headstart.features.runtime import import_tensorflow_quietly


@dataclass(frozen=True)
class VerifyConfig:
    """Reads every byte of a feature store and checks every digest and count."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    unsafe: bool = flag(False, "run Python code that the store's backbone brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 1, and a line for each fault, when something does not hold."""
    prog = "headstart verify"

    def body() -> int:
        config, _, verbose = parse(VerifyConfig, prog, sys.argv[1:] if argv is None else argv)
        from headstart.features.store.manifest import read_manifest
        from headstart.features.store.verify import faults

        found = faults(config.store, config.unsafe)
        import_tensorflow_quietly(verbose)
        sound = True
        for fault in found:
            print(fault)
            sound = False
        if sound:
            totals = read_manifest(config.store)["totals"]
            print(f"{config.store}: sound, {totals['stored']:,} examples and {totals['dead']:,} dead letters")
        return 0 if sound else 1

    return interruption.run(prog, body)


if __name__ == "__main__":
    sys.exit(main())
