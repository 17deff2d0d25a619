"""What `headstart evaluate` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a trained run on a split of its store, on another store, or on another folder or table of images."""

    run: str = positional("the folder of a run", metavar="RUN")
    input: str | None = positional(
        "a folder or table of images, or a feature store (default: the run's own)", metavar="INPUT", nargs="?", default=None
    )
    split: str = flag("", "which split (default: test; of images that have no splits, all)")
    seed: int = flag(0, "of the bootstrap", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
