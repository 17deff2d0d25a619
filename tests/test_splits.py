"""The division into splits, as properties."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import random
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.dataset.dividing import divide
from headstart.features.dataset.examples import Example, Examples, copies_across_splits, drawn_together, groups_across_splits
from headstart.features.dataset.sources import read_source
from headstart.features.dataset.splits import Division, doubtful_names, parse_splits
from headstart.features.errors import UserError
from headstart.pipelines.dataset_notes import dataset_notes

THREE = {"train": 0.8, "validation": 0.1, "test": 0.1}
PROPORTIONS = st.sampled_from(
    [
        THREE,
        {"train": 1.0},
        {"train": 0.5, "test": 0.5},
        {"train": 0.6, "validation": 0.3, "test": 0.1},
        {"test": 0.34, "train": 0.66},
    ]
)


def digest(number: int | str) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def example(number: int, label: str = "cat", group: str = "", content: int | None = None) -> Example:
    return Example(f"{label}/{number}.jpg", digest(number if content is None else content), (label,), "", group)


@st.composite
def datasets(draw: st.DrawFn) -> list[Example]:
    """Up to 40 examples with copies and groups, some of them linked to one another."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(["", "", "g", "h", "i"])), max_size=40)
    )
    return [example(i, label, group, content) for i, (content, label, group) in enumerate(rows)]


@st.composite
def singles(draw: st.DrawFn) -> list[Example]:
    """Classes of examples that are each a group of one."""
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    labels = [f"class{c}" for c, count in enumerate(counts) for _ in range(count)]
    return [example(draw(st.integers(0, 10**9)) * 1000 + i, label) for i, label in enumerate(labels)]


def split_by_digest(examples: Sequence[Example]) -> dict[str, str]:
    return {e.digest: e.split for e in examples}


@given(datasets(), PROPORTIONS, st.integers(0, 9))
def test_groups_stay_together(examples: list[Example], proportions: dict[str, float], seed: int) -> None:
    divided = divide(examples, proportions, seed)
    assert [dataclasses.replace(e, split="") for e in divided] == examples
    assert {e.split for e in divided} <= set(proportions)
    assert not groups_across_splits(divided) and not copies_across_splits(divided)


@given(datasets())
def test_what_is_drawn_together_is_what_is_divided_together(examples: list[Example]) -> None:
    names = drawn_together(examples)
    assert len(names) == len(examples)
    together: dict[str, set[str]] = {}
    for example_, name in zip(examples, names):
        for what in (example_.group, example_.digest):
            if what:
                together.setdefault(what, set()).add(name)
    assert all(len(found) == 1 for found in together.values())  # neither a group nor a content is torn
    assert drawn_together(examples[::-1]) == names[::-1]
    alone = [each for each in examples if not each.group]
    assert drawn_together(alone) == [each.digest for each in alone]


def test_links_between_groups_count_too() -> None:
    chain = [example(2 * i + side, group=f"g{i + side}", content=1000 + i) for i in range(20) for side in (0, 1)]
    others = [example(5000 + i) for i in range(60)]
    divided = divide(chain + others, THREE, 0)
    assert len({e.split for e in divided[: len(chain)]}) == 1


@settings(max_examples=200)
@given(datasets(), PROPORTIONS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_order_and_names_of_files_do_not_matter(
    examples: list[Example], proportions: dict[str, float], seed: int, shuffler: random.Random
) -> None:
    expected = split_by_digest(divide(examples, proportions, seed))
    moved = [dataclasses.replace(e, key=f"renamed/{i}") for i, e in enumerate(examples)]
    shuffler.shuffle(moved)
    assert split_by_digest(divide(moved, proportions, seed)) == expected


@settings(max_examples=200)
@given(datasets(), datasets(), PROPORTIONS, st.randoms(use_true_random=False))
def test_with_kept_splits_order_does_not_matter_either(
    before: list[Example], after: list[Example], proportions: dict[str, float], shuffler: random.Random
) -> None:
    kept = divide(before, proportions, 0)
    expected = split_by_digest(divide(after, proportions, 0, kept))
    moved = list(after)
    shuffler.shuffle(moved)
    assert split_by_digest(divide(moved, proportions, 0, kept)) == expected


@given(singles(), singles(), st.integers(0, 100), PROPORTIONS)
def test_an_example_keeps_its_split_when_others_come_and_go(
    old: list[Example], new: list[Example], gone: int, proportions: dict[str, float]
) -> None:
    before = divide(old, proportions, 0)
    kept = split_by_digest(before)
    known = {e.digest for e in old}
    now = [e for e in old if int(e.digest, 16) % 101 > gone] + [e for e in new if e.digest not in known]
    divided = divide(now, proportions, 1, before)
    assert all(e.split == kept[e.digest] for e in divided if e.digest in kept)


@given(datasets(), PROPORTIONS)
def test_dividing_again_with_what_was_kept_changes_nothing(examples: list[Example], proportions: dict[str, float]) -> None:
    divided = divide(examples, proportions, 0)
    assert divide(examples, proportions, 7, divided) == divided


def test_a_newcomer_follows_its_group() -> None:
    old = divide([example(i, group=f"g{i // 3}") for i in range(60)], THREE, 0)
    newcomers = [example(100 + i, group=f"g{i}") for i in range(20)]
    divided = divide([*old, *newcomers], THREE, 0, old)
    assert divided[: len(old)] == old
    assert not groups_across_splits(divided)


def test_what_is_kept_is_stronger_than_what_is_kept_elsewhere() -> None:
    group = [example(i, group="g") for i in range(4)]
    kept = [dataclasses.replace(group[0], split="test")]
    elsewhere = [dataclasses.replace(each, split="validation") for each in group]
    alone = dataclasses.replace(example(9), split="validation")
    divided = divide([*group, alone, *map(example, range(20, 40))], THREE, 0, kept, kept_elsewhere=[*elsewhere, alone])
    assert [each.split for each in divided[:5]] == ["test"] * 4 + ["validation"]


def test_a_kept_split_that_is_no_longer_asked_for_is_given_anew() -> None:
    before = divide([example(i) for i in range(10)], {"train": 0.5, "validation": 0.5}, 0)
    divided = divide(before, {"train": 0.5, "test": 0.5}, 1, [e for e in before if e.split == "validation"])
    assert Counter(e.split for e in divided) == {"train": 5, "test": 5}


@given(datasets(), PROPORTIONS, st.integers(0, 9))
def test_no_split_misses_a_class_that_has_groups_enough(
    examples: list[Example], proportions: dict[str, float], seed: int
) -> None:
    own = [
        dataclasses.replace(e, digest=digest(f"{e.digest}{e.labels[0]}"), group=e.group and e.group + e.labels[0])
        for e in examples
    ]
    groups: dict[str, set[str]] = defaultdict(set)  # here every group is of one class
    for members in components(own):
        groups[own[members[0]].labels[0]].add(min(own[i].digest for i in members))
    splits = defaultdict(set)
    for e in divide(own, proportions, seed):
        splits[e.labels[0]].add(e.split)
    for label, found in groups.items():
        assert len(found) < len(proportions) or splits[label] == set(proportions)


def components(examples: list[Example]) -> list[list[int]]:
    """Groups by brute force: merge sets until none share a digest or a group."""
    groups = [({e.digest} | ({"g" + e.group} if e.group else set()), [i]) for i, e in enumerate(examples)]
    merged = True
    while merged:
        merged = False
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                if groups[a][0] & groups[b][0]:
                    groups[a] = (groups[a][0] | groups[b][0], groups[a][1] + groups[b][1])
                    del groups[b]
                    merged = True
                    break
            if merged:
                break
    return [members for _, members in groups]


@given(singles(), PROPORTIONS, st.integers(0, 9))
def test_each_class_is_within_one_example_of_its_proportions(
    examples: list[Example], proportions: dict[str, float], seed: int
) -> None:
    totals = Counter(e.labels[0] for e in examples)
    counts = Counter((e.labels[0], e.split) for e in divide(examples, proportions, seed))
    for label, total in totals.items():
        for split, share in proportions.items():
            if total * min(proportions.values()) >= 1:  # where a split would else be empty, one more may move
                assert abs(counts[label, split] - share * total) <= 1 + 1e-9


def test_another_seed_is_another_division() -> None:
    examples = [example(i) for i in range(1000)]
    first, again, second = (divide(examples, THREE, seed) for seed in (0, 0, 1))
    assert first == again
    assert (
        Counter(e.split for e in first) == Counter(e.split for e in second) == {"train": 800, "validation": 100, "test": 100}
    )
    same = sum(a.split == b.split for a, b in zip(first, second))
    assert 600 < same < 720  # 0.8^2 + 0.1^2 + 0.1^2 is 0.66


def grown(generator: random.Random, count: int, more: int, classes: int) -> tuple[list[Example], list[Example]]:
    """A dataset of single images, and the same with more of them."""
    examples = [
        Example(str(i), f"{generator.getrandbits(256):064x}", (f"class{i % classes}",), "") for i in range(count + more)
    ]
    return examples[:count], examples


def moves(before: list[Example], after: list[Example]) -> list[tuple[str, str]]:
    """From where to where, for each image of the first that stands in another split in the second."""
    found = split_by_digest(after)
    return [(e.split, found[e.digest]) for e in before if found[e.digest] != e.split]


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(100, 5000), st.floats(0, 0.1), st.integers(1, 5), st.integers(0, 9))
def test_a_dataset_that_has_grown_is_divided_as_before_but_for_chance(
    generator: random.Random, count: int, growth: float, classes: int, seed: int
) -> None:
    more = max(1, int(growth * count))
    before, after = (divide(examples, THREE, seed) for examples in grown(generator, count, more, classes))
    per_class, added = count / classes, max(1.0, more / classes)
    # of the images that come, a binomial number stand before a cut, which moves by their share: the difference crosses it
    variances = [added * p * (1 - p) * per_class / (per_class + added) for p in (0.8, 0.9)] * min(classes, more)
    chance = sum(0.8 * variance**0.5 + 1 for variance in variances) + 5 * (2 * sum(variances)) ** 0.5
    found = moves(before, after)
    assert len(found) <= chance
    assert not {("test", "train"), ("train", "test")} & set(found)


@pytest.mark.parametrize(("count", "more", "classes", "draws"), [(1000, 1, 2, 30), (1000, 10, 5, 30), (4000, 400, 2, 8)])
def test_few_images_move_on_average_when_a_dataset_grows(count: int, more: int, classes: int, draws: int) -> None:
    generator, moved = random.Random(0), 0
    for _ in range(draws):
        before, after = (divide(examples, THREE, 0) for examples in grown(generator, count, more, classes))
        moved += len(moves(before, after))
    assert moved <= 0.005 * count * draws


def of_sizes(sizes: Sequence[int], label: str = "cat") -> list[Example]:
    """A group of each size."""
    return [example(1000 * g + i, label, f"{label}{g}") for g, size in enumerate(sizes) for i in range(size)]


def groups_of(examples: list[Example], split: str) -> list[int]:
    """Sizes of a split's groups."""
    return sorted(Counter(e.group for e in examples if e.split == split).values())


def test_every_split_is_a_sample_of_the_groups() -> None:
    generator = random.Random(0)
    sizes = [max(1, round(generator.lognormvariate(2.2, 1))) for _ in range(200)]
    examples, found = of_sizes(sizes), defaultdict[str, list[int]](list)
    for seed in range(20):
        divided = divide(examples, THREE, seed)
        for split, share in THREE.items():
            found[split] += groups_of(divided, split)
            assert abs(Counter(e.split for e in divided)[split] - share * len(examples)) <= max(sizes)
    spread = statistics.stdev(sizes)
    for split in ("validation", "test"):
        error = spread / len(found[split]) ** 0.5
        assert abs(statistics.mean(found[split]) - statistics.mean(sizes)) < 4 * error
        assert max(found[split]) > sorted(sizes)[-10]


def test_another_seed_divides_few_groups_of_distinct_sizes_otherwise() -> None:
    examples = of_sizes(range(3, 15))
    assert len({tuple(e.split for e in divide(examples, THREE, seed)) for seed in range(5)}) > 1


def test_a_group_that_fits_nowhere_else_is_trained_on() -> None:
    examples = of_sizes([60, 5, 5, 5, 5, 5, 5, 5, 5])
    for seed in range(10):
        divided = divide(examples, THREE, seed)
        assert 60 in groups_of(divided, "train")
        assert groups_of(divided, "validation") == groups_of(divided, "test") == [5, 5]


def test_a_group_that_grows_stays_and_so_do_the_others() -> None:
    before = of_sizes([5] * 200)
    moved = 0
    for seed in range(10):
        old = divide(before, THREE, seed)
        new = divide([*before, *(example(10**6 + i, group="cat7") for i in range(3))], THREE, seed)
        copy = divide([*before, example(10**6, content=7000)], THREE, seed)
        moved += len(moves(old, new)) + len(moves(old, copy))
    assert moved <= 0.005 * 20 * len(before)


def test_images_that_come_one_by_one_keep_the_proportions() -> None:
    divided: Sequence[Example] = []
    for i in range(60):
        kept, before = split_by_digest(divided), divided
        divided = divide([*before, example(i)], THREE, 0, before)
        assert all(kept.get(e.digest, e.split) == e.split for e in divided)
        counts = Counter(e.split for e in divided)
        assert i < 10 or all(abs(counts[split] - share * len(divided)) <= 2 for split, share in THREE.items())


@pytest.mark.parametrize(
    ("count", "minimum", "expected"),
    [(100, 5, [80, 10, 10]), (20, 5, [10, 5, 5]), (12, 5, [4, 4, 4]), (3, 1, [1, 1, 1]), (2, 1, [2, 0, 0]), (5, 0, [4, 1, 0])],
)
def test_a_class_has_its_least_number_in_each_split(count: int, minimum: int, expected: list[int]) -> None:
    divided = divide([example(i) for i in range(count)], THREE, 0, minimum=minimum)
    assert [Counter(e.split for e in divided)[split] for split in THREE] == expected


def test_the_least_number_is_reached_by_whole_groups_too() -> None:
    for seed in range(20):
        divided = divide(of_sizes([4] * 10), THREE, seed, minimum=6)
        assert min(Counter(e.split for e in divided)[split] for split in THREE) == 8
        three = divide(of_sizes([1, 1, 100]), THREE, seed, minimum=5)
        assert [groups_of(three, split) for split in THREE] == [[100], [1], [1]]


def test_a_class_that_is_the_smaller_part_of_its_groups_is_in_every_split() -> None:
    healthy = of_sizes([9] * 40)
    sick = [example(10**6 + g, "sick", f"cat{g}") for g in range(5)]
    for seed in range(20):
        divided = divide(healthy + sick, THREE, seed)
        assert not groups_across_splits(divided)
        assert {e.split for e in divided if e.labels == ("sick",)} == set(THREE)


def test_a_later_version_divides_as_this_one_does() -> None:
    """With groups, copies, mixed groups, kept splits and a minimum: a dataset that is extracted again keeps its splits."""
    examples = [example(i, "abc"[i * i % 3], f"g{i % 90}" if i % 4 == 0 else "", i % 450) for i in range(500)]

    def pinned(divided: Sequence[Example]) -> str:
        return hashlib.sha256(" ".join(e.split for e in divided).encode()).hexdigest()[:16]

    assert pinned(divide(examples, THREE, 0)) == "4d21f0f900bb30b3"
    assert pinned(divide(examples, THREE, 0, divide(examples[:300], THREE, 1), minimum=2)) == "e784f369ab8661a3"


def test_nothing_to_divide() -> None:
    assert divide([], THREE, 0) == []


def test_groups_and_copies_across_splits_are_found() -> None:
    examples = [
        Example("a", "1" * 64, ("x",), "train", "g"),
        Example("b", "2" * 64, ("x",), "test", "g"),
        Example("c", "1" * 64, ("x",), "test"),
    ]
    assert groups_across_splits(examples) == {"g": {"train", "test"}}
    assert copies_across_splits(examples) == {"1" * 64: {"train", "test"}}


def test_splits_are_parsed() -> None:
    assert parse_splits("train=0.8, validation=0.1,test=0.1") == THREE
    assert parse_splits("train=1") == {"train": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is written train=0.8,validation=0.1,test=0.1, not ''"),
        ("0.8,0.2", "is written train=0.8"),
        ("train=0.8,test=", "is written train=0.8"),
        ("train=a,test=b", "is written train=0.8"),
        ("train=0.5=0.5", "is written train=0.8"),
        ("train=0.8,a-b=0.2", "letters, digits and _, not 'a-b'"),
        ("train=0.8,../x=0.2", "letters, digits and _, not '../x'"),
        ("validation=0.5,test=0.5", "needs a train split"),
        ("train=0.5,train=0.5", "each name once"),
        ("train=1.0,test=0", "each proportion above 0"),
        ("train=1.5,test=-0.5", "each proportion above 0"),
        ("train=nan,test=0.5", "each proportion above 0"),
        ("train=0.8,test=0.1", "add up to 1, and those of 'train=0.8,test=0.1' make 0.9"),
    ],
)
def test_bad_splits_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_splits(text)


def test_names_that_look_misspelled_are_told() -> None:
    assert doubtful_names(["train", "validation", "test", "hospital_b"], ["cat", "dog"]) == []
    (told,) = doubtful_names(["trian", "test"], ["cat", "dog"])
    assert told.startswith("warning: the split 'trian' is none of train, validation, test") and "Did you mean train?" in told
    (told,) = doubtful_names(["train"], ["train", "tset"])
    assert told.startswith("warning: a class is called 'train': where top folders are to be splits")


def test_an_extraction_tells_of_them(flat: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copytree(flat, tmp_path / "photos" / "train")
    shutil.copytree(flat, tmp_path / "photos" / "tset")
    source = read_source(str(tmp_path / "photos"))
    examples = Examples.of(Example(image.key, "0" * 64, image.labels, "train") for image in source.images)
    assert any("a class is called 'train'" in note for note in dataset_notes(source, examples, Division(True)))
