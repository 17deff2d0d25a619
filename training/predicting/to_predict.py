"""What a person names in: images, folders, tables, records, standard input; every image with its path out, in that order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from headstart.features.dataset.columns import Columns, Few, Text, each
from headstart.features.dataset.folder import image_files
from headstart.features.dataset.inputs import image_root
from headstart.features.dataset.record_files import read_all
from headstart.features.dataset.record_inputs import RecordOptions, is_record_input, record_input
from headstart.features.dataset.table_rows import read_table
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.training.predicting.predict_config import STANDARD_INPUT

TABLES = (".csv", ".tsv", ".parquet")
COLUMN = "path"


class ToPredict(NamedTuple):
    """An image by its name and its path; or a name that gives none, and why, as STAGE: REASON."""

    key: str
    path: str
    error: str = ""


class Named(Columns[ToPredict]):
    """A table of what is named."""

    row = ToPredict
    kinds = {"key": Text, "path": Text, "error": Few}  # noqa: RUF012

    @property
    def is_lost(self) -> np.ndarray:
        """Whether each gives no image, bool [N]."""
        errors = self.columns["error"]
        return errors.numbered({error: bool(error) for error in errors.names}).astype(bool)


def to_predict(given: Sequence[str], options: RecordOptions = RecordOptions()) -> Named:
    """Every image that is named: of a folder all below it, by name; of a table those of its column `path`; of records all.

    A name that does not exist, a folder that can't be listed and one without images have a row that says so; so has a record
    that is damaged.

    Args:
        given: the names; - for names on standard input.
        options: how records are read; their labels are not asked for.

    Raises:
        UserError: for a table without that column, or records that can't be read.
    """
    return Named.of(row for name in given for row in _named(name, options))


def _named(name: str, options: RecordOptions) -> Iterator[ToPredict]:
    if name == STANDARD_INPUT:
        paths = (line.removesuffix(b"\n").removesuffix(b"\r") for line in sys.stdin.buffer)  # names need not be UTF-8
        yield from (_of_file(os.fsdecode(path)) for path in paths if path)
    elif is_record_input(name):
        records = record_input(name, options, labelled=False)
        for image in read_all(records.files, records.fields):
            yield ToPredict(image.key, image.path, "" if image.digest else f"read: {image.problem}")
    elif place.is_folder(name):
        yield from _in_folder(name)
    elif name.lower().endswith(TABLES) and place.exists(name):
        yield from _in_table(name)
    else:
        yield _of_file(name)


def _of_file(path: str) -> ToPredict:
    return ToPredict(path, path, "" if place.exists(path) else "read: it does not exist")


def _in_folder(path: str) -> Iterator[ToPredict]:
    images, others, unlisted = image_files(path)
    if len(others):
        (first,) = others.take(slice(1)).values()
        print(f"{path}: {len(others)} files are no images and are left out, such as {first}", file=sys.stderr)
    yield from (ToPredict(image, image) for image in each(images))
    yield from (ToPredict(error.filename, "", f"read: the folder can't be listed: {error.strerror}") for error in unlisted)
    if not len(images) and not unlisted:
        yield ToPredict(path, "", "read: the folder holds no images")


def _in_table(path: str) -> Iterator[ToPredict]:
    columns, rows = read_table(path, {COLUMN})
    if COLUMN not in columns:
        raise UserError("bad-input", f"the table {path!r} has no column {COLUMN!r}; it has {', '.join(columns)}")
    root = image_root(path)
    for row in rows:
        key = (row.get(COLUMN) or "").strip()
        yield ToPredict(key, place.join(root, key), "" if key else "read: the row names no image")
