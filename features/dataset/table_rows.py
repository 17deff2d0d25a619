"""A CSV or Parquet table in, its columns' names and its rows out, as text, read as they are taken."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from headstart.features.dataset.columns import AT_ONCE
from headstart.features.errors import UserError
from headstart.features.formatting import shortened
from headstart.features.places import place

DELIMITERS = ",;\t|"
Row = dict[str, str | None]


def read_table(path: str, wanted: set[str]) -> tuple[list[str], Iterator[Row]]:
    """The header and the rows of a table, of CSV by the delimiter under which its header has the wanted columns.

    Raises:
        UserError: when it is no such table; from the rows, when one of them is none.
    """
    names, rows = read_numbered(path, wanted)
    return names, (row for _, row in rows)


def read_numbered(path: str, wanted: set[str]) -> tuple[list[str], Iterator[tuple[str, Row]]]:
    """What `read_table` gives, each row with where it stands, for messages: `line 3`, of a Parquet file `row 2`.

    Raises:
        UserError: as `read_table` does.
    """
    if path.lower().endswith(".parquet"):
        return _read_parquet(path)
    try:
        text = place.read(path).decode("utf-8-sig")
        heads = {mark: next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), []) for mark in DELIMITERS}
        delimiter = max(DELIMITERS, key=lambda mark: (wanted <= set(heads[mark]), len(heads[mark])))
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        return list(reader.fieldnames or ()), _csv_rows(path, reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _no_table(path, error) from error


def one_hot_hint(columns: Sequence[str], row: Row) -> str:
    """How to make a column of labels of a table with a column for each class; '' where a row does not look like one's."""
    classes = [name for name in columns if row.get(name) in ("0", "1")]
    if len(classes) < 2:
        return ""
    return (
        f". It looks like a column for each class ({shortened(classes, 3)}), which is not read: write the names of those with "
        f"1 into one column `label`, parted by |, and say --label_delimiter '|'"
    )


def _csv_rows(path: str, reader: csv.DictReader) -> Iterator[tuple[str, Row]]:
    try:
        for row in reader:  # empty lines are none
            yield f"line {reader.line_num}", row
    except csv.Error as error:
        raise _no_table(path, error) from error


def _no_table(path: str, error: Exception) -> UserError:
    return UserError("bad-input", f"{path!r} is neither a folder nor a CSV table in UTF-8: {error}")


def _read_parquet(path: str) -> tuple[list[str], Iterator[tuple[str, Row]]]:
    """The columns and the rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(place.read(path)))
    except pa.ArrowException as error:
        raise UserError("bad-input", f"{path!r} is no Parquet file: {error}") from error
    rows = (row for batch in table.to_batches(AT_ONCE) for row in batch.to_pylist())
    texts = ({name: None if cell is None else str(cell) for name, cell in row.items()} for row in rows)
    return table.column_names, ((f"row {number}", row) for number, row in enumerate(texts, 1))
