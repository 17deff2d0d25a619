"""What `headstart compare` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional
from headstart.features.errors import UserError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss")
LESS_IS_BETTER = ("log_loss",)


@dataclass(frozen=True)
class CompareConfig:
    """Compares two runs that were evaluated on the same images: which is better, by how much, and where."""

    baseline: str = positional("the folder of a run", metavar="RUN_A")
    run: str = positional("the folder of another", metavar="RUN_B")
    split: str = flag("test", "the evaluation's name: a split, or what `headstart evaluate` called it")
    max_drop: float | None = flag(
        None, "exit with status 1 when RUN_B is worse by more than this, by --metric", metavar="AMOUNT", least=0
    )
    metric: str = flag("accuracy", "what --max_drop looks at; less is better of log_loss alone", choices=METRICS)
    by: tuple[str, ...] = flag(
        (),
        "compare by group, folder, or a column of the table of images, such as camera, as well as by class; may be repeated",
    )
    by_table: str = flag("", "the table with that column, a row for each image (default: the table of images)", metavar="FILE")
    seed: int = flag(0, "of the bootstrap", least=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.by_table and not self.by:
            raise UserError("bad-flag", "--by_table belongs to --by COLUMN: give both, or neither")
