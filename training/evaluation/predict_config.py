"""What `headstart predict` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional
from headstart.features.errors import UserError


@dataclass(frozen=True)
class PredictConfig:
    """Names the classes of images with a trained run."""

    run: str = positional("the folder of a run", metavar="RUN")
    images: Sequence[str] = positional("images, or folders of them", metavar="IMAGE_OR_FOLDER", nargs="+")
    top_k: int = flag(1, "classes an image", least=1)
    output: str = flag("", "a .csv or .jsonl file (default: CSV on the terminal)", metavar="FILE")
    review: int = flag(0, "so many images to label next, unsure and unlike each other: a list beside --output", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.output and not self.output.endswith((".csv", ".jsonl")):
            raise UserError("bad-flag", f"--output ends in .csv or .jsonl, not {self.output!r}")
        if self.review and not self.output:
            raise UserError("bad-flag", "--review leaves its list beside the predictions: say where with --output FILE")
        if self.review and os.path.basename(self.output) == "review.csv":
            raise UserError("bad-flag", "--review leaves its list in review.csv: give --output another name")
