"""What `headstart compare` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional
from headstart.features.errors import UserError

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss")
SET_METRICS = ("mean_average_precision", "macro_f1", "micro_f1", "subset_accuracy", "log_loss")  # of several labels an image
TABLE = "compared.csv"  # in the second run's evaluation: the images that the two answer differently
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
    metric: str = flag(
        "",
        "what --max_drop looks at; less is better of log_loss alone (default: accuracy; of several labels an image, "
        "mean_average_precision)",
        choices=tuple(dict.fromkeys((*METRICS, *SET_METRICS))),
    )
    by: tuple[str, ...] = flag(
        (),
        "compare by group, folder, or a column of the table of images, such as camera, as well as by class; may be repeated",
    )
    by_table: str = flag("", "the table with that column, a row for each image (default: the table of images)", metavar="FILE")
    seed: int = flag(0, "of the bootstrap", least=0)

    def metric_of(self, several: bool) -> str:
        """What --max_drop looks at, where images have one label or may have several.

        Raises:
            UserError: for a metric of the other kind.
        """
        metrics = SET_METRICS if several else METRICS
        if self.metric and self.metric not in metrics:
            kind = "several labels an image" if several else "one label an image"
            raise UserError("bad-flag", f"--metric {self.metric} is not for {kind}: take one of {', '.join(metrics)}")
        return self.metric or metrics[0]

    def __post_init__(self) -> None:
        check_fields(self)
        if self.by_table and not self.by:
            raise UserError("bad-flag", "--by_table belongs to --by COLUMN: give both, or neither")
