"""Rows in, columns out, which read back as the same rows: ten million of them take a tenth of what as many objects would.

A dataset's tables are kept like this from the listing to the manifest. What is done for every row is done on the columns;
whoever wants a row gets it as the object that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headstart.features.batched import batched
from headstart.features.places import place

Row = TypeVar("Row")
Value = TypeVar("Value")
Self = TypeVar("Self", bound="Columns[Any]")
AT_ONCE = 1 << 16  # rows that are objects at one time
NO_DIGEST = bytes(32)

Rows = slice | np.ndarray  # numbers of rows, or a truth value for each


class Text:
    """A column of names, which need not be UTF-8."""

    def __init__(self, array: pa.LargeBinaryArray) -> None:
        self.array = array

    @classmethod
    def of(cls, values: Iterable[str]) -> Text:
        """The column of some values."""
        return cls.joined([cls(pa.array(list(map(_encoded, some)), pa.large_binary())) for some in batches(values)])

    @classmethod
    def joined(cls, columns: Sequence[Text]) -> Text:
        """Columns, one after the other."""
        return cls(pa.concat_arrays([pa.array([], pa.large_binary()), *(column.array for column in columns)]))

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: Rows) -> Text:
        """The values of some rows, in their order."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return Text(self.array.slice(start, max(0, stop - start)))
        return Text(self.array.filter(pa.array(rows)) if rows.dtype == bool else self.array.take(pa.array(rows)))

    def values(self) -> list[str]:
        """All values, as objects."""
        return [value.decode("utf-8", "surrogateescape") for value in self.array.to_pylist()]

    def codes(self) -> tuple[np.ndarray, list[str]]:
        """Each row's number among the different values, int64 [N]; and these, as they first appear."""
        found = self.array.dictionary_encode()
        return found.indices.to_numpy().astype(np.int64), Text(found.dictionary).values()

    def order(self) -> np.ndarray:
        """The rows in the order of their values, int64 [N]."""
        return pc.sort_indices(self.array).to_numpy().astype(np.int64)

    def repeated(self) -> Text:
        """The values that several rows have, each once, in the order in which they first appear."""
        found = pc.value_counts(self.array)
        return Text(found.field("values").filter(pc.greater(found.field("counts"), 1)))

    def where_in(self, others: Text) -> np.ndarray:
        """The row of others that has the same value, int64 [N]; -1 where none has."""
        return pc.fill_null(pc.index_in(self.array, others.array), -1).to_numpy(zero_copy_only=False).astype(np.int64)


class Digests:
    """A column of sha256 digests, 64 hexadecimal digits each, or '' for none."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # 32 bytes [N], in the order of the digits; b"" for none

    @classmethod
    def of(cls, values: Sequence[str]) -> Digests:
        """The column of some values.

        Raises:
            ValueError: for one that is no digest.
        """
        content = b"".join(bytes.fromhex(value) if value else NO_DIGEST for value in values)
        if any(len(value) not in (0, 64) for value in values):
            raise ValueError("a digest has 64 hexadecimal digits")
        return cls(np.frombuffer(content, "S32"))

    @classmethod
    def joined(cls, columns: Sequence[Digests]) -> Digests:
        """Columns, one after the other."""
        return cls(np.concatenate([np.empty(0, "S32"), *(column.array for column in columns)]))

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: Rows) -> Digests:
        """The values of some rows, in their order."""
        return Digests(self.array[rows])

    def values(self) -> list[str]:
        """All values, as objects."""
        whole = np.ascontiguousarray(self.array).view("V32")  # with the zeros at their ends
        return [value.hex() if value != NO_DIGEST else "" for value in whole.tolist()]

    def copied(self) -> np.ndarray:
        """The rows whose value another row has too, int64, those of one value side by side."""
        order = np.argsort(self.array, kind="stable")
        ordered = self.array[order]
        same = ordered[1:] == ordered[:-1]  # as the row before
        return order[(np.append(same, False) | np.append(False, same))[: len(order)]]


class Few:
    """A column of few different values, each kept once: a number for each row."""

    def __init__(self, codes: np.ndarray, names: tuple[Any, ...]) -> None:
        self.codes, self.names = codes, names  # int32 [N]

    @classmethod
    def of(cls, values: Sequence[Any]) -> Few:
        """The column of some values."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(values))}
        return cls(np.fromiter(map(numbers.__getitem__, values), np.int32, len(values)), tuple(numbers))

    @classmethod
    def joined(cls, columns: Sequence[Few]) -> Few:
        """Columns, one after the other."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(name for c in columns for name in c.names))}
        codes = [np.array([numbers[name] for name in column.names], np.int32)[column.codes] for column in columns]
        return cls(np.concatenate([np.empty(0, np.int32), *codes]), tuple(numbers))

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Rows) -> Few:
        """The values of some rows, in their order."""
        return Few(self.codes[rows], self.names)

    def values(self) -> list[Any]:
        """All values, as objects."""
        return [self.names[code] for code in self.codes.tolist()]

    def counts(self) -> dict[Any, int]:
        """How many rows have each of the different values, in the order in which these first appear."""
        found, firsts, counts = np.unique(self.codes, return_index=True, return_counts=True)
        return {self.names[found[number]]: int(counts[number]) for number in np.argsort(firsts)}

    def numbered(self, numbers: Mapping[Any, int]) -> np.ndarray:
        """What each row's value is in a mapping, int64 [N]; of a value that no row has, it is not asked."""
        found = np.zeros(len(self.names), np.int64)
        for code in np.unique(self.codes):
            found[code] = numbers[self.names[code]]
        return found[self.codes]


class Numbers:
    """A column of whole numbers."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array  # int64 [N]

    @classmethod
    def of(cls, values: Sequence[int]) -> Numbers:
        """The column of some values."""
        return cls(np.array(values, np.int64))

    @classmethod
    def joined(cls, columns: Sequence[Numbers]) -> Numbers:
        """Columns, one after the other."""
        return cls(np.concatenate([np.empty(0, np.int64), *(column.array for column in columns)]))

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: Rows) -> Numbers:
        """The values of some rows, in their order."""
        return Numbers(self.array[rows])

    def values(self) -> list[int]:
        """All values, as objects."""
        return self.array.tolist()


class Below:
    """A column of paths, kept as the names that they have below a folder."""

    def __init__(self, folder: str, names: Text) -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Rows) -> Below:
        """The values of some rows, in their order."""
        return Below(self.folder, self.names.take(rows))

    def values(self) -> list[str]:
        """All values, as objects."""
        start, names = place.join(self.folder, ""), self.names.values()  # joining one by one takes ten times as long
        if place.is_address(self.folder):
            return [place.join(self.folder, name) for name in names]
        return [place.join(self.folder, name) if name.startswith("/") or ":" in name else start + name for name in names]


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def batches(values: Iterable[Value]) -> Iterator[list[Value]]:
    """Values in their order, as many at a time as may be objects."""
    return batched(values, AT_ONCE)


def each(column: Any) -> Iterator[Any]:
    """The values of a column in their order, few of which are objects at one time."""
    for start in range(0, len(column), AT_ONCE):
        yield from column.take(slice(start, start + AT_ONCE)).values()


class Columns(Sequence[Row], Generic[Row]):
    """A table of rows, kept as columns. A subclass says which row it makes, and each field's kind of column."""

    row: Callable[..., Row]
    kinds: Mapping[str, Any]  # a row's fields, in order

    def __init__(self, **columns: Any) -> None:
        self.columns: dict[str, Any] = {name: columns[name] for name in self.kinds}

    @classmethod
    def of(cls: type[Self], rows: Iterable[Any]) -> Self:
        """The table of some rows; a table is left as it is."""
        if isinstance(rows, cls):
            return rows
        return cls.of_values(map(attrgetter(*cls.kinds), rows))

    @classmethod
    def of_values(cls: type[Self], rows: Iterable[tuple[Any, ...]]) -> Self:
        """The table of some rows, each the values of its fields."""
        parts: dict[str, list[Any]] = {name: [] for name in cls.kinds}
        for some in batches(rows):
            for (name, kind), values in zip(cls.kinds.items(), zip(*some)):
                parts[name].append(kind.of(values))
        return cls(**{name: kind.joined(parts.pop(name)) for name, kind in cls.kinds.items()})  # two of one column at most

    @classmethod
    def joined(cls: type[Self], tables: Sequence[Self]) -> Self:
        """Tables, one after the other."""
        return cls(**{name: kind.joined([table.columns[name] for table in tables]) for name, kind in cls.kinds.items()})

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __iter__(self) -> Iterator[Row]:
        return map(self.row, *map(each, self.columns.values()))

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self: Self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return next(iter(self.take(np.array([range(len(self))[index]]))))

    def take(self: Self, rows: Rows) -> Self:
        """Some rows, in their order."""
        return type(self)(**{name: column.take(rows) for name, column in self.columns.items()})

    def replaced(self: Self, **columns: Any) -> Self:
        """The same table with other columns in the place of some."""
        return type(self)(**{**self.columns, **columns})

    def __eq__(self, other: object) -> bool:
        """Whether another sequence has the same rows."""
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(own == theirs for own, theirs in zip(self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self):,} rows"
