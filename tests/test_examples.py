"""The dataset's table on disk, its order, its digest, and contents with several labels."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.dataset.examples import Example, Examples, conflicts, dataset_digest, from_csv, plan_order, to_csv

DIGESTS = st.just("") | st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
odd = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1f"))
odd_names = st.one_of(
    odd,
    st.sampled_from(
        ["a,b", 'say "cheese"', "two\nlines", "carriage\rreturn", "both\r\n", "日本語/ねこ.jpg", " spaces ", "'", '"', "#", ""]
    ),
    st.binary(min_size=1, max_size=8)
    .filter(lambda b: b"\0" not in b and b"\x1f" not in b)
    .map(lambda b: b.decode("utf-8", "surrogateescape")),
)

label_sets = st.lists(odd_names.filter(bool), max_size=3).map(tuple)  # several, one, or none


@settings(max_examples=300)
@given(st.lists(st.builds(Example, odd_names, DIGESTS, label_sets, odd_names, odd_names), max_size=5))
def test_the_table_reads_back_whatever_the_names(examples: list[Example]) -> None:
    assert from_csv(to_csv(examples)) == examples


def test_the_table_is_plain_csv() -> None:
    assert (
        to_csv([Example("a/b,c.jpg", "d1" * 32, ("cat",), "train", "g")])
        == b'key,digest,label,split,group\r\n"a/b,c.jpg",' + b"d1" * 32 + b",cat,train,g\r\n"
    )


def test_the_dataset_digest_depends_on_everything_but_the_order() -> None:
    examples = [Example(f"{i}.jpg", f"{i:064}", ("cat" if i % 2 else "dog",), "train", f"g{i % 7}") for i in range(20)]
    first, names = examples[0], ["cat", "dog"]
    whole = dataset_digest(examples, names)
    assert dataset_digest(examples[::-1], names) == whole
    others = [
        dataclasses.replace(first, key="other"),
        dataclasses.replace(first, digest="9" * 64),
        dataclasses.replace(first, labels=("bird",)),
        dataclasses.replace(first, split="elsewhere"),
        dataclasses.replace(first, group="elsewhere"),
    ]
    digests = {dataset_digest([other, *examples[1:]], names) for other in others}
    digests |= {
        dataset_digest(examples, ["cat", "wolf"]),
        dataset_digest(examples, ["dog", "cat"]),
        dataset_digest(examples[1:], names),
    }
    assert len(digests) == 8 and whole not in digests


def test_the_plan_is_ordered_by_split_and_content() -> None:
    rows = (("z", "2", "train"), ("y", "1", "train"), ("x", "3", "test"))
    examples = [Example(key, digit * 64, ("a",), split) for key, digit, split in rows]
    copies = [Example(key, "1" * 64, ("a",), "test") for key in "cab"]
    table = Examples.of([*examples, *copies])
    assert [e.key for e in table.take(plan_order(table))] == ["a", "b", "c", "x", "y", "z"]


def test_contents_with_several_labels_are_found() -> None:
    examples = [Example("c", "2" * 64, ("x",), ""), Example("b", "1" * 64, ("y",), ""), Example("a", "1" * 64, ("x",), "")]
    assert conflicts([*examples, Example("d", "2" * 64, ("x",), "")]) == [examples[2], examples[1]]
