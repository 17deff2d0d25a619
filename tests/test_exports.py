"""A split's features for other hands: by protocol as PyTorch asks, and in PyTorch itself where it is installed; Parquet."""

from __future__ import annotations

import dataclasses
import pathlib
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from headstart.features.store.exports import write_parquet
from headstart.features.store.feature_store import FeatureStore


def test_a_map_style_dataset_is_a_sequence(maps_store: pathlib.Path) -> None:
    store = FeatureStore.open(str(maps_store))
    for tap in ("c_add:avg", "a_add:none"):
        rows, (features, labels, _) = store.map_style("train", tap), store.to_numpy("train", tap)
        assert len(rows) == 36
        for (feature, label), expected, truth in zip(rows, features, labels, strict=True):
            assert np.array_equal(feature, expected) and label == truth and isinstance(label, int)
        assert np.array_equal(rows[-1][0], features[-1])
        found = rows.__getitems__([7, 3, 7])
        assert all(np.array_equal(each[0], features[row]) for each, row in zip(found, (7, 3, 7)))
    with pytest.raises(IndexError, match="the split has 36 examples, numbered from 0: there is no 36"):
        rows[36]


def test_a_map_style_dataset_is_sent_to_another_process_without_its_features(maps_store: pathlib.Path) -> None:
    rows = FeatureStore.open(str(maps_store)).map_style("train", "a_add:none")
    sent = pickle.dumps(rows)
    assert len(sent) < 5_000 < 36 * rows[0][0].nbytes
    for (feature, label), (expected, truth) in zip(pickle.loads(sent), rows, strict=True):
        assert np.array_equal(feature, expected) and label == truth


def test_pytorch_takes_it_as_it_is(maps_store: pathlib.Path) -> None:
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    store = FeatureStore.open(str(maps_store))
    loader = data.DataLoader(store.map_style("train"), batch_size=10, shuffle=True)
    seen = sorted(row.tobytes() for features, _ in loader for row in features.numpy())
    assert seen == sorted(row.tobytes() for row in store.to_numpy("train").features)


@pytest.mark.parametrize("tap", ["c_add:avg", "a_add:none"])
def test_a_parquet_file_holds_a_split(tap: str, maps_store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = FeatureStore.open(str(maps_store))
    features, labels, keys = store.to_numpy("train", tap)
    assert store.to_parquet("train", str(tmp_path / "train.parquet"), tap) == 36
    table = pq.read_table(tmp_path / "train.parquet")
    assert table.column("key").to_pylist() == keys
    assert table.column("label").to_pylist() == [store.class_names[label] for label in labels]
    assert table.column("digest").to_pylist() == [example.digest for example in store.examples("train")]
    shape = tuple(map(int, table.schema.metadata[b"shape"].decode().split(",")))
    found = np.stack(table.column("feature").to_numpy()).reshape(-1, *shape)
    assert np.array_equal(found, features)


@pytest.mark.parametrize("several", [False, True])
def test_names_that_are_not_utf_8_are_written_escaped(several: bool, maps_store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = FeatureStore.open(str(maps_store))
    examples = [dataclasses.replace(each, key="n\udcff", labels=("caf\udce9",)) for each in store.examples("train")]
    write_parquet(str(tmp_path / "train.parquet"), store.features("train"), examples, several)
    table, name = pq.read_table(tmp_path / "train.parquet"), "caf\\udce9"
    assert set(table.column("key").to_pylist()) == {"n\\udcff"}
    assert table.column("label").to_pylist() == [[name] if several else name] * 36


def test_of_several_views_the_plain_one_is_taken(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from tests.conftest import small_backbone

    store = extract(ExtractConfig(input=str(photos), store=str(tmp_path / "store"), views=3, **small_backbone()))
    plain = store.to_numpy("train").features
    assert np.array_equal(np.stack([feature for feature, _ in store.map_style("train")]), plain)
    store.to_parquet("train", str(tmp_path / "train.parquet"))
    assert np.array_equal(np.stack(pq.read_table(tmp_path / "train.parquet").column("feature").to_numpy()), plain)
