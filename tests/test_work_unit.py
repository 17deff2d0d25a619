"""Work units: what travels to a worker is what was planned, whatever the names are."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from headstart.pipelines.units.markers import load_unit, save_unit
from headstart.pipelines.units.stored_features import StoredAt
from headstart.pipelines.units.work_unit import UnitExample, UnitExamples, WorkUnit

NAMES = st.one_of(  # whatever a file system may call a file
    st.binary(min_size=1, max_size=30).map(os.fsdecode),
    st.sampled_from(["red/caf\udce9.png", 'ключ, "и"\n.png', "new\r\nline\\", "emoji 🌻.jpg", "\u2028", "\x00", "{}", "'"]),
)
NUMBERS = st.integers(0, 2**63 - 1)
PLACES = st.none() | st.builds(StoredAt, NAMES, NUMBERS, NUMBERS, st.integers(1, 128))
DIGESTS = st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
EXAMPLES = st.builds(UnitExample, NAMES, NAMES, DIGESTS, st.lists(NUMBERS, max_size=3).map(tuple), PLACES)
UNITS = st.builds(
    WorkUnit, st.just("features-train.tfrecord-00000-of-00001"), NAMES, NAMES,
    st.lists(EXAMPLES, max_size=5).map(UnitExamples.of), NUMBERS, st.integers(1, 128),
)  # fmt: skip
SUNFLOWER = UnitExample("sun/🌻\udcff.jpg", "/in/🌻\udcff.jpg", "d" * 64, (1,), StoredAt("/old\n'store'", 12, 345, 2))


@settings(deadline=None)
@given(UNITS)
@example(WorkUnit("features-test.tfrecord-00000-of-00001", "test", "f" * 64, UnitExamples.of([SUNFLOWER]), 100, 2))
def test_a_unit_comes_back_as_it_was(unit: WorkUnit) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_unit(folder, unit)
        (name,) = os.listdir(folder)
        with open(os.path.join(folder, name), encoding="ascii") as file:  # nothing that runs when it is read
            values: dict[str, Any] = json.load(file)
        found = load_unit(folder, unit.shard)
    assert found == unit and found.digest == unit.digest and values["shard"] == unit.shard


def test_digests_of_units_stay_what_they_were() -> None:
    """An extraction that was interrupted goes on with another version of this code."""
    unit = WorkUnit("features-test.tfrecord-00000-of-00001", "test", "f" * 64, UnitExamples.of([SUNFLOWER]), 100, 2)
    assert unit.digest == "63cb10f83fbb6e695d6fa967b87568fc792d36bd41f1f5e1a1843c4c11f79814"
