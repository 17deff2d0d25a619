"""Tables in columns give back the rows that they were made of, whole, in part, and in another order."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.dataset import columns
from headstart.features.dataset.columns import Below, Few, Numbers, Text
from headstart.features.dataset.examples import Example, Examples
from headstart.pipelines.units.stored_features import Stored, StoredAt

NAMES = st.one_of(st.text(st.characters(exclude_categories=("Cs",))), st.binary(max_size=8).map(os.fsdecode))
DIGESTS = st.just("") | st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
FEW = st.sampled_from(["train", "test", ""])
ROWS = st.lists(st.builds(Example, NAMES, DIGESTS, st.lists(FEW, max_size=2).map(tuple), FEW, NAMES), max_size=9)
PLACES = st.none() | st.builds(StoredAt, FEW, st.integers(0, 2**62), st.integers(1, 3), st.integers(1, 3))


@given(ROWS, st.integers(1, 4), st.data())
def test_rows_come_back(rows: list[Example], at_once: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "AT_ONCE", at_once)  # in one piece and in several
        table = Examples.of(iter(rows))
        assert table == rows and rows == table and len(table) == len(rows) and list(table) == rows
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=9) if rows else st.just([]))
    start, stop, step = (data.draw(st.none() | st.integers(-9, 9).filter(bool)) for _ in range(3))
    assert table.take(np.array(chosen, int)) == [rows[i] for i in chosen]
    assert table.take(np.array([i in chosen for i in range(len(rows))], bool)) == [rows[i] for i in sorted({*chosen})]
    assert table[start:stop:step] == rows[start:stop:step] and table.take(slice(start, stop)) == rows[start:stop]
    assert all(table[i] == rows[i] == table[i - len(rows)] for i in range(len(rows)))
    assert Examples.joined([table, table[:1], Examples.of(())]) == rows + rows[:1]
    assert (table == [*rows, Example("", "", (), "")]) is False
    with pytest.raises(IndexError):
        table[len(rows)]


@given(st.lists(NAMES, max_size=9), st.lists(NAMES, max_size=9))
def test_names_are_found_among_others(names: list[str], others: list[str]) -> None:
    found = Text.of(names).where_in(Text.of(others)).tolist()
    assert found == [others.index(name) if name in others else -1 for name in names]
    codes, different = Text.of(names).codes()
    assert [different[code] for code in codes] == names and different == list(dict.fromkeys(names))


@given(st.lists(FEW, max_size=9))
def test_few_values_are_counted_in_the_order_in_which_they_come(values: list[str]) -> None:
    column = Few.joined([Few.of(values[:4]), Few.of(values[4:])])
    assert list(column.counts().items()) == [(name, values.count(name)) for name in dict.fromkeys(values)]
    numbers = {name: number for number, name in enumerate(sorted({*values}))}
    assert column.numbered(numbers).tolist() == [numbers[value] for value in values]


@given(st.lists(PLACES, max_size=9))
def test_places_of_features_come_back(places: list[StoredAt | None]) -> None:
    column = Stored.joined([Stored.of(places[:4]), Stored.of(places[4:])])
    assert column.values() == places and column.take(slice(2, 5)).values() == places[2:5]


def test_paths_below_a_folder() -> None:
    paths = Below("/in", Text.of(["a/1.jpg", "/elsewhere/2.jpg", "s3://bucket/3.jpg"]))
    assert paths.values() == ["/in/a/1.jpg", "/elsewhere/2.jpg", "s3://bucket/3.jpg"]
    assert paths.take(np.array([0])).values() == ["/in/a/1.jpg"] and len(paths) == 3
    assert Numbers.joined([Numbers.of([1]), Numbers.of([])]).values() == [1]
