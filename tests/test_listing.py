"""A bucket's listing becomes columns as it comes: the same entries, in order, and no object of a row stays."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.dataset import columns
from headstart.features.dataset.columns import Below, Text
from headstart.features.dataset.listing import NO_FILE, listing, states
from headstart.features.dataset.sources import read_source
from headstart.features.places import place
from headstart.features.places.entry import Entry
from headstart.pipelines.survey import Survey, survey_listing
from headstart.training.predicting.to_predict import to_predict
from tests.bucket import CHANGED, listed

pytest.importorskip("obstore", reason="object stores need the extra `remote`")

TIME_NS = int(CHANGED.timestamp() * 1e9)
NAMES = st.lists(
    st.lists(st.text("b-é", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join), max_size=12, unique=True
)
FOLDER = "s3://bucket/photos"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are objects at one time."""
    monkeypatch.setattr(columns, "AT_ONCE", 500)


@given(NAMES, st.data(), st.integers(1, 4))
def test_a_listing_has_the_entries_of_the_folder(names: list[str], data: st.DataObject, at_once: int) -> None:
    folders = data.draw(st.lists(st.sampled_from([name.rpartition("/")[0] or name for name in names]))) if names else []
    sizes = {name: data.draw(st.integers(0, 2)) for name in names} | dict.fromkeys(folders, 0)  # as consoles leave them
    objects = data.draw(st.permutations(list(sizes)))
    with pytest.MonkeyPatch.context() as patch, listed(objects, lambda name: (f"photos/{name}", sizes[name], f'"{name}"')):
        patch.setattr(columns, "AT_ONCE", at_once)
        found = listing(FOLDER)
        assert found == list(place.entries(FOLDER))
        kept = {each.name: each for each in found}
        is_stand_in = {name: not sizes[name] and any(other.rpartition("/")[0] == name for other in sizes) for name in sizes}
        assert list(kept) == sorted(name for name in sizes if not is_stand_in[name])
        asked = data.draw(st.lists(st.sampled_from([*objects, "gone", "also/gone"]), min_size=2))
        expected = [Entry("", kept[n].size, TIME_NS, f'"{n}"') if n in kept else NO_FILE for n in asked]
        if objects:
            assert states(Below(FOLDER, Text.of(asked))) == expected
            assert states(Text.of([f"{FOLDER}/{name}" for name in asked])) == expected


def _photo(number: int) -> tuple[str, int, str]:
    return f"photos/{'cat' if number % 2 else 'dog'}/IMG_{number:08}.jpg", 1000 + number, f'"{number:032x}"'


def _alive(kind: type) -> int:
    return sum(type(each) is kind for each in gc.get_objects())


@pytest.mark.usefixtures("few")
def test_few_entries_of_a_listing_are_objects_at_one_time() -> None:
    most, before = 0, _alive(Entry)

    def photo(number: int) -> tuple[str, int, str]:
        nonlocal most
        if number % 500 == 0:
            most = max(most, _alive(Entry))
        return _photo(number)

    with listed(range(4000), photo):
        source = read_source(FOLDER)
        found = survey_listing(source.images.paths)
    assert len(source.images) == len(found) == 4000 and found.is_readable.all()
    assert most - before <= 500 + 50 and _alive(Entry) <= before  # a page comes on top


def _per_row(work: Callable[[], Any]) -> float:
    """Bytes that each further row takes at most while something is done, Arrow's own buffers aside."""
    peaks = list[int]()
    for count in (4000, 12_000):
        with listed(range(count), _photo):
            tracemalloc.start()
            kept = work()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert len(kept) == count
    return (peaks[1] - peaks[0]) / 8000


def _from_listing_to_survey() -> Survey:
    return survey_listing(read_source(FOLDER).images.paths)


@pytest.mark.usefixtures("few")
def test_no_object_a_row() -> None:
    assert _per_row(_from_listing_to_survey) < 150  # numbers and digests in arrays, two of each while they are joined
    assert _per_row(lambda: to_predict([FOLDER])) < 30  # a name as an object takes 80
