"""What `headstart predict` takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional
from headstart.features.dataset.record_inputs import RecordOptions
from headstart.features.errors import UserError

FORMATS = ("parquet", "csv", "jsonl")
STANDARD_INPUT = "-"
OTHER_FILES = (".txt", ".tsv", ".json", ".parquet", ".xlsx", ".gz", ".zip")  # which --output might be meant to be


@dataclass(frozen=True)
class PredictConfig:
    """Names the classes of images with a trained run."""

    run: str = positional("the folder of a run", metavar="RUN")
    images: Sequence[str] = positional(
        "images, folders, tables with a column `path`, tfrecord:GLOB, tfds:NAME; - for names on standard input",
        metavar="IMAGES",
        nargs="+",
    )
    top_k: int = flag(1, "classes an image", least=1)
    output: str = flag(
        "",
        "a .csv or .jsonl file, a row for each image in the order given; or a folder, for a table in parts that a Beam job "
        "writes and any number of workers share (default: CSV on the terminal)",
        metavar="FILE|DIR",
    )
    format: str = flag("parquet", "of the parts in a folder", choices=FORMATS)
    images_per_file: int = flag(1024, "images a part, at most", least=1)
    with_features: bool = flag(False, "leave the feature beside each prediction; of parquet alone")
    image_field: str = flag("", "of records: the field of the encoded image (default: image/encoded, or as TFDS says)")
    data_dir: str = flag("", "of tfds:NAME: where TFDS keeps what it prepared (default: as TFDS does)", metavar="DIR")
    review: int = flag(0, "so many images to label next, unsure and unlike each other: a list beside --output", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")
    pipeline_options: tuple[str, ...] = ()

    @property
    def records(self) -> RecordOptions:
        """How records are read."""
        return RecordOptions(image_field=self.image_field, data_dir=self.data_dir)

    @property
    def in_parts(self) -> bool:
        """Whether the output is a folder."""
        return bool(self.output) and not self.output.endswith((".csv", ".jsonl"))

    def __post_init__(self) -> None:
        check_fields(self)
        if self.output.lower().endswith(OTHER_FILES):
            raise UserError("bad-flag", f"--output ends in .csv or .jsonl, or names a folder, not {self.output!r}")
        if self.with_features and (self.format != "parquet" or not self.in_parts):
            raise UserError("bad-flag", "--with_features goes with --format parquet and --output DIR")
        of_parts = {"format": self.format, "images_per_file": self.images_per_file}
        given = [name for name, value in of_parts.items() if value != type(self).__dataclass_fields__[name].default]
        if given and not self.in_parts:
            raise UserError("bad-flag", f"--{given[0]} is of the parts in a folder: --output DIR")
        if self.pipeline_options and not self.in_parts:
            raise UserError("bad-flag", f"{self.pipeline_options[0]} is Beam's, for predictions into a folder: --output DIR")
        if self.review and (not self.output or self.in_parts):
            raise UserError("bad-flag", "--review leaves its list beside the predictions: say where with --output FILE.csv")
        if self.review and os.path.basename(self.output) == "review.csv":
            raise UserError("bad-flag", "--review leaves its list in review.csv: give --output another name")
