"""Images with several labels are divided label by label in proportion, whole groups at a time, whatever the order."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.dataset.columns import Digests, Few
from headstart.features.dataset.dividing import divide
from headstart.features.dataset.examples import Example
from headstart.features.dataset.labels import in_a_cell, label_array, labels_in

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
LABELS = ("cat", "dog", "hat", "sun")


def example(number: int, labels: tuple[str, ...], group: str = "", split: str = "") -> Example:
    return Example(f"{number}.jpg", hashlib.sha256(str(number).encode()).hexdigest(), labels, split, group)


label_sets = st.sets(st.sampled_from(LABELS)).map(lambda found: tuple(sorted(found)))
datasets = st.lists(st.tuples(label_sets, st.sampled_from(("", "", "", "a", "b"))), min_size=1, max_size=60).map(
    lambda rows: [example(number, *row) for number, row in enumerate(rows)]
)


def splits_of(examples: list[Example], **options: object) -> dict[str, str]:
    divided = divide(examples, SHARES, 0, several=True, **options)  # type: ignore[arg-type]
    return {each.key: each.split for each in divided}


@settings(max_examples=100, deadline=None)
@given(datasets, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_groups_stay_together(examples: list[Example], random: object) -> None:
    found = splits_of(examples)
    mixed = list(examples)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert splits_of(mixed) == found and set(found.values()) <= set(SHARES)
    for group in ("a", "b"):
        assert len({found[each.key] for each in examples if each.group == group}) <= 1


@settings(max_examples=100, deadline=None)
@given(datasets, st.integers(0, 30))
def test_what_has_a_split_keeps_it(examples: list[Example], count: int) -> None:
    before = divide(examples[:count], SHARES, 0, several=True)
    found = splits_of(examples, kept=before)
    grouped = {each.group for each in examples} - {""}
    assert all(found[each.key] == each.split for each in before if each.group not in grouped)


@pytest.mark.parametrize("seed", range(3))
def test_every_label_is_divided_in_proportion(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shares = np.geomspace(0.01, 0.4, 12)  # of a label: 20 images of 2,000 have the rarest
    has = generator.random((2000, 12)) < shares
    examples = [example(number, tuple(f"label{i:02}" for i in np.flatnonzero(row))) for number, row in enumerate(has)]
    divided = divide(examples, SHARES, seed, several=True)
    counts = {split: Counter(label for each in divided.of_split(split) for label in each.labels) for split in SHARES}
    for number in range(12):
        total = int(has[:, number].sum())
        for split, share in SHARES.items():
            assert abs(counts[split][f"label{number:02}"] - share * total) <= 1 + 0.01 * total
    none = [each.split for each in divided if not each.labels]
    assert sum(split == "train" for split in none) / len(none) == pytest.approx(0.8, abs=0.1)
    sizes = Counter(each.split for each in divided)
    assert all(abs(sizes[split] - share * 2000) <= 20 for split, share in SHARES.items())
    other = divide(examples, SHARES, seed + 1, several=True)
    assert [each.split for each in other] != [each.split for each in divided]


def test_copies_of_one_content_go_together() -> None:
    examples = [example(number % 20, ("cat",) if number % 3 else ("cat", "dog")) for number in range(40)]
    named = [Example(f"{number}.jpg", each.digest, each.labels, "", "") for number, each in enumerate(examples)]
    splits: dict[str, set[str]] = {}
    for each in divide(named, SHARES, 0, several=True):
        splits.setdefault(each.digest, set()).add(each.split)
    assert len(splits) == 20 and all(len(found) == 1 for found in splits.values())


def test_each_label_has_a_least_number_in_each_split() -> None:
    examples = [example(number, ("rare", "sun") if number < 9 else ("sun",)) for number in range(200)]
    divided = divide(examples, SHARES, 0, minimum=3, several=True)
    counts = Counter((label, each.split) for each in divided for label in each.labels)
    assert all(counts["rare", split] == 3 for split in SHARES)


@given(st.lists(st.text("abc ", min_size=1).filter(str.strip)), st.sampled_from("|;,"))
def test_a_cell_reads_back_as_a_set(names: list[str], delimiter: str) -> None:
    labels = labels_in(delimiter.join(names), delimiter)
    assert labels == tuple(sorted({name.strip() for name in names}))
    assert labels_in(in_a_cell(labels, delimiter), delimiter) == labels


def test_labels_as_numbers() -> None:
    column = Few.of([("cat", "sun"), (), ("dog",)])
    assert label_array(column, LABELS, several=True).tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert label_array(Few.of([("dog",), ("cat",)]), LABELS, several=False).tolist() == [1, 0]
    assert Digests.of([]).copied().tolist() == []
