"""What `headstart export` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional, required
from headstart.features.errors import UserError
from headstart.training.exporting.formats import FORMATS
from headstart.training.exporting.requirements import parse_requirement


@dataclass(frozen=True)
class ExportConfig:
    """Makes a model to ship of a run: checked against model.keras on real images, with class names and a model card."""

    run: str = positional("the folder of a run", metavar="RUN")
    format: str = required("what for", choices=tuple(FORMATS))
    output: str = required("a new or empty folder, or that of an older export", metavar="DIR")
    int8: bool = flag(False, "tflite: weights and arithmetic in 8 bits, calibrated on half of the images that the run keeps")
    require: tuple[str, ...] = flag(
        (),
        "export only if an evaluation says so, such as 'accuracy>=0.97', or 'accuracy.low>=0.97' for the low end of the "
        "interval; may be repeated",
        metavar="CONDITION",
    )
    split: str = flag("test", "which evaluation --require reads: a split, or what `headstart evaluate` called it")
    unsafe: bool = flag(False, "run Python code that the model brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        for condition in self.require:
            parse_requirement(condition)
        if self.int8 and self.format != "tflite":
            raise UserError("bad-flag", f"--int8 goes with --format tflite, not {self.format}")
