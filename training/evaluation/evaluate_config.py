"""What `headstart evaluate` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, given, positional
from headstart.features.dataset.inputs import LAYOUTS
from headstart.features.errors import UserError

READING = (
    *("layout", "image_column", "label_column", "label_delimiter", "split_column", "group_column"),
    *("image_field", "label_field", "label_names", "data_dir"),
)


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
    layout: str = flag("auto", "whether INPUT's top folders are splits or classes", choices=LAYOUTS)
    image_column: str = flag("path", "a table's column of image paths, relative to the table")
    label_column: str = flag("label", "a table's column of class names")
    split_column: str = flag("split", "a table's column of splits")
    group_column: str = flag("group", "a table's column of groups")
    image_field: str = flag("", "of records: the field of the encoded image (default: image/encoded, or as TFDS says)")
    label_field: str = flag("", "of records: the field of the label (default: image/class/label, or as TFDS says)")
    label_names: str = flag("", "of records: a file with the name of each label's number, a line each", metavar="FILE")
    data_dir: str = flag("", "of tfds:NAME: where TFDS keeps what it prepared (default: as TFDS does)", metavar="DIR")
    by_table: str = flag("", "the table with that column, a row for each image (default: the table of images)", metavar="FILE")
    seed: int = flag(0, "of the bootstrap", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.by_table and not self.by:
            raise UserError("bad-flag", "--by_table belongs to --by COLUMN: give both, or neither")
        if not self.input and (extra := given(self, READING)):
            raise UserError("bad-flag", f"{extra[0]} says how INPUT is read: give INPUT too, or leave it out")
