"""What `headstart evaluate` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional
from headstart.features.errors import UserError


@dataclass(frozen=True)
class EvaluateConfig:
    """Measures a trained run on a split of its store, on another store, or on another folder or table of images."""

    run: str = positional("the folder of a run", metavar="RUN")
    input: str | None = positional(
        "a folder or table of images, or a feature store (default: the run's own)", metavar="INPUT", nargs="?", default=None
    )
    split: str = flag("", "which split (default: test; of images that have no splits, all)")
    by: tuple[str, ...] = flag(
        (), "show figures by group, folder, class, or a column of the table of images, such as camera; may be repeated"
    )
    label_delimiter: str = flag(
        "", "of a run on several labels an image: what parts them in INPUT (default: as where it learned)", metavar="TEXT"
    )
    by_table: str = flag("", "the table with that column, a row for each image (default: the table of images)", metavar="FILE")
    seed: int = flag(0, "of the bootstrap", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.by_table and not self.by:
            raise UserError("bad-flag", "--by_table belongs to --by COLUMN: give both, or neither")
