"""What `headstart learning_curve` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional, required


@dataclass(frozen=True)
class LearningCurveConfig:
    """Tells what more images would bring: the accuracy of linear probes against the images a class that they learn from."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    run: str = required("the folder to leave the table and the plot in", metavar="RUN")
    tap: str | None = flag(None, "the tap whose features are learned from, by its name (default: the deepest)")
    more: int = flag(0, "images a class, whose gain is told (default: as many again)", least=0)
    sizes: int = flag(8, "numbers of images that are tried", least=4, most=20)
    draws: int = flag(6, "random draws of the training images at each", least=3, most=50)
    max_examples: int = flag(10_000, "images of a split, at most: a random sample of them, the same each time", least=2)
    seed: int = flag(0, "of the draws, the folds and the bootstrap", least=0)

    def __post_init__(self) -> None:
        check_fields(self)
