"""Rows of a split by number: equal to what a parser reads, in any order, from any thread; damage is found on first reading."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features import tfrecord
from headstart.features.errors import UserError
from headstart.features.spec import STORE_DTYPES, FeatureSpec, Tap
from headstart.features.store import record
from headstart.features.store.shard_reader import Shard, ShardReader, TapReader

TAPS = (Tap("map", "none", (2, 3, 4)), Tap("mean", "avg", (5,)))
SIZES = (7, 0, 1, 12)
COUNT = sum(SIZES)


def spec(store_dtype: str = "float16") -> FeatureSpec:
    return FeatureSpec("VGG16", "0" * 64, (32, 32), TAPS, "caffe", store_dtype=store_dtype)


def values(tap: Tap, store_dtype: str) -> np.ndarray:
    """What the split holds of a tap, [COUNT, *tap.shape]."""
    numbers = np.random.default_rng(tap.size).normal(0, 10, (COUNT, *tap.shape)).astype(np.float32)
    return numbers.astype(record.numpy_dtype(store_dtype))


def written(folder: Path, store_dtype: str = "float16") -> list[Shard]:
    """The split in shards of other record lengths."""
    shards, row = [], 0
    for number, size in enumerate(SIZES):
        keys = [f"{'long ' * number}key {at}" for at in range(size)]
        lengths = record.record_lengths(spec(store_dtype), [(key, "d" * 64, [row]) for key in keys])
        length = record.common_length(lengths or [300])
        path = folder / f"shard {number}"
        with open(path, "wb") as file:
            for key in keys:
                packed = {tap.name: values(tap, store_dtype)[row].tobytes() for tap in TAPS}
                tfrecord.write_record(file, record.encode(key, "d" * 64, [row], packed, length))
                row += 1
        shards.append(Shard(str(path), size, tfrecord.framed_length(length)))
    return shards


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
@pytest.mark.parametrize("tap", TAPS, ids=lambda tap: tap.name)
def test_any_rows_in_any_order(tmp_path: Path, store_dtype: str, tap: Tap) -> None:
    features = TapReader(ShardReader(written(tmp_path, store_dtype)), spec(store_dtype), tap)
    expected = values(tap, store_dtype)
    assert len(features) == COUNT

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(st.integers(0, COUNT - 1), max_size=30)
        | st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)).map(lambda ends: list(range(*sorted(ends))))
    )
    def check(rows: list[int]) -> None:
        found = features.take(np.array(rows, np.int64))
        assert found.dtype == expected.dtype and found.shape == (len(rows), *tap.shape)
        assert found.tobytes() == expected[rows].tobytes()

    check()


def test_several_threads_may_take_rows(tmp_path: Path) -> None:
    features, expected = TapReader(ShardReader(written(tmp_path)), spec(), TAPS[0]), values(TAPS[0], "float16")
    rows = [np.random.default_rng(seed).permutation(COUNT)[:8] for seed in range(50)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(features.take, rows))
    assert all(np.array_equal(each, expected[order]) for each, order in zip(found, rows, strict=True))


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
@pytest.mark.parametrize("tap", TAPS, ids=lambda tap: tap.name)
def test_tensorflow_reads_the_same_rows_from_the_shards(tmp_path: Path, store_dtype: str, tap: Tap) -> None:
    from headstart.features.store import tf_dataset as dataset

    features = TapReader(ShardReader(written(tmp_path, store_dtype)), spec(store_dtype), tap)
    rows = np.random.default_rng(0).permutation(COUNT)
    for gather in (dataset._from_shards(features), dataset._by_python(features), dataset._from_memory(features)):
        found = gather(tf.constant(rows)).numpy()
        assert found.dtype == features.dtype and found.tobytes() == values(tap, store_dtype)[rows].tobytes()


def test_shards_whose_taps_begin_at_other_places_are_read_by_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstart.features.store import tf_dataset as dataset

    features, called = TapReader(ShardReader(written(tmp_path)), spec(), TAPS[0]), []
    features.starts[1] += 1
    monkeypatch.setattr(dataset, "_by_python", lambda features: called.append(features) or len)
    assert dataset._from_shards(features) is len and called == [features]


def test_one_record(tmp_path: Path) -> None:
    records = ShardReader(written(tmp_path))
    for row in (0, 6, 7, 8, COUNT - 1):
        found = record.decode(records.content(row), spec())
        assert found.label == row and found.digest == "d" * 64
        assert all(np.array_equal(found.features[tap.name], values(tap, "float16")[row]) for tap in TAPS)
    for row in (-1, COUNT):
        with pytest.raises(IndexError, match=f"20 examples, numbered from 0: there is no {row}"):
            records.content(row)


def test_a_damaged_record_is_told_when_it_is_read_and_not_before(tmp_path: Path) -> None:
    shards = written(tmp_path)
    path = Path(shards[0].path)
    content = bytearray(path.read_bytes())
    content[3 * shards[0].record_bytes + 40] ^= 1
    path.write_bytes(content)
    features = TapReader(ShardReader(shards), spec(), TAPS[0])
    assert np.array_equal(features.take(np.array([2, 4])), values(TAPS[0], "float16")[[2, 4]])
    for _ in range(2):
        with pytest.raises(UserError, match="shard 0' is damaged in its record 3: delete the store and extract again"):
            features.take(np.array([4, 3]))
    with pytest.raises(UserError, match="record 3"):
        ShardReader(shards).content(3)
