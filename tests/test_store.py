"""The store on disk: what its public reader gives, what TFDS reads of it, and what `verify` finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from headstart.cli import main
from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.spec import STORE_DTYPES, FeatureSpec, Tap
from headstart.features.store.epochs import Position
from headstart.features.store.feature_store import FeatureStore
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from tests.conftest import generation, small_backbone

TAPS = ("block3b_add:grid2", ":avg", "block2b_add:none")


@pytest.fixture(scope="module", params=STORE_DTYPES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store of three taps and several shards a split, in each dtype."""
    root = tmp_path_factory.mktemp("made")
    for number in range(70):
        folder = root / "photos" / f"class {number % 2}" / "ünter"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (33, 35, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{'n' * (number % 9)}{number}.png")
    config = ExtractConfig(
        input=str(root / "photos"), store=str(root / "store"), taps=TAPS, **{**small_backbone(), "image_size": "32,40"},
        examples_per_shard=12, store_dtype=request.param, resize_mode="pad", interpolation="bicubic",
    )  # fmt: skip
    return extract(config)


@pytest.fixture()
def store(made: FeatureStore, tmp_path: Path) -> FeatureStore:
    """A copy that a test may spoil."""
    shutil.copytree(made.path, tmp_path / "store")
    return FeatureStore.open(str(tmp_path / "store"))


def test_the_spec_names_every_tap_with_its_shape(made: FeatureStore) -> None:
    assert [(tap.name, tap.shape) for tap in made.spec.taps] == [
        ("block3b_add:grid2", (2, 2, 40)), ("top_activation:avg", (1280,)), ("block2b_add:none", (8, 10, 24)),
    ]  # fmt: skip
    assert made.spec.image_size == (32, 40)


@pytest.mark.parametrize("tap", [None, "top_activation:avg", "block2b_add:none"])
@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("in_memory", [False, True])
def test_dataset_gives_all_of_a_split_in_exact_cardinality(
    made: FeatureStore, batch_size: int, tap: str | None, in_memory: bool
) -> None:
    dataset = made.dataset("train", batch_size, tap=tap, in_memory=in_memory)
    batches = list(dataset.as_numpy_iterator())
    assert int(dataset.cardinality()) == len(batches) == -(-made.count("train") // batch_size)
    arrays = made.to_numpy("train", tap)
    np.testing.assert_array_equal(np.concatenate([feature for feature, _ in batches]), arrays.features)
    np.testing.assert_array_equal(np.concatenate([label for _, label in batches]), arrays.labels)
    assert arrays.features.shape == (made.count("train"), *made.tap(tap).shape)
    assert dataset.element_spec[0].shape.as_list()[1:] == list(made.tap(tap).shape)


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_of_numpy_are_those_of_the_dataset(made: FeatureStore, in_memory: bool, shuffle: bool) -> None:
    options: dict[str, Any] = {"shuffle": shuffle, "seed": 5, "in_memory": in_memory}
    batches, dataset = made.batches("train", 7, **options), made.dataset("train", 7, **options)
    for _ in range(2):
        pairs = list(zip(batches, dataset.as_numpy_iterator(), strict=True))
        assert len(pairs) == len(batches)
        for (feature, label), (other, its_label) in pairs:
            assert feature.tobytes() == other.tobytes() and label.tolist() == its_label.tolist()


def test_one_example_of_a_split(made: FeatureStore) -> None:
    arrays, examples = made.to_numpy("train"), made.examples("train")
    for row in (0, 3, len(examples) - 1):
        found = made.example("train", row)
        assert (found.key, found.digest, found.label) == (examples[row].key, examples[row].digest, arrays.labels[row])
        assert found.features[made.tap().name].tobytes() == arrays.features[row].tobytes()
        assert list(found.features) == [tap.name for tap in made.spec.taps]
    with pytest.raises(IndexError, match="there is no 10000"):
        made.example("train", 10_000)


def test_all_records_of_a_store_have_one_length(made: FeatureStore) -> None:
    for split in made.manifest.splits:
        for _, shard in made.manifest.shards(split):
            assert shard.bytes == shard.examples * shard.record_bytes and shard.record_bytes % 64 == 0


@pytest.mark.parametrize("in_memory", [False, True])
def test_shuffling_gives_every_example_once_in_an_order_of_the_seed(made: FeatureStore, in_memory: bool) -> None:
    def keys(seed: int) -> list[list[bytes]]:
        dataset = made.dataset("train", 8, shuffle=True, seed=seed, keys=True, in_memory=in_memory)
        return [[key for batch in dataset.as_numpy_iterator() for key in batch["key"]] for _ in range(2)]

    first, again, other = keys(1), keys(1), keys(2)
    assert first == again != other
    assert first[0] != first[1], "another order in each epoch"
    assert all(sorted(epoch) == sorted(key.encode() for key in made.to_numpy("train").keys) for epoch in first + other)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_later_epoch_is_the_same_from_wherever_it_began(made: FeatureStore, in_memory: bool) -> None:
    def keys(data: tf.data.Dataset) -> list[bytes]:
        return [key for batch in data.as_numpy_iterator() for key in batch["key"]]

    order: dict[str, Any] = {"shuffle": True, "seed": 3, "keys": True, "in_memory": in_memory}
    whole, position = made.dataset("train", 5, **order), Position(2)
    epochs, taken_up = [keys(whole) for _ in range(4)], made.dataset("train", 5, position=position, **order)
    assert keys(taken_up) == keys(taken_up) == epochs[2] != epochs[0]
    position.epoch = 3
    assert keys(taken_up) == epochs[3]


def test_examples_stand_row_for_row_beside_the_arrays(made: FeatureStore) -> None:
    for split in made.splits:
        arrays, examples = made.to_numpy(split), made.examples(split)
        assert arrays.keys == [example.key for example in examples]
        assert [made.class_names[label] for label in arrays.labels] == [example.labels[0] for example in examples]


def test_tfds_reads_what_the_reader_reads(made: FeatureStore) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(made.tfds_folders[0])
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {s: made.count(s) for s in made.splits}
    assert builder.info.features["label"].feature.names == made.class_names
    for split in made.splits:
        rows = {row["key"].decode(): row for row in tfds.as_numpy(builder.as_dataset(split=split))}
        for tap in made.spec.taps:
            arrays = made.to_numpy(split, tap.name)
            assert set(rows) == set(arrays.keys)
            for key, feature, label in zip(arrays.keys, arrays.features, arrays.labels):
                assert rows[key]["label"].tolist() == [label]
                found = np.asarray(rows[key][tap.name])
                assert found.dtype == feature.dtype and found.tobytes() == feature.tobytes()


def test_the_sample_is_of_the_training_split_and_has_its_files_bytes(made: FeatureStore) -> None:
    sample = list(made.sample())
    training = {example.key: example for example in made.examples("train")}
    assert len(sample) == min(64, made.count("train"))
    for image in sample:
        assert training[image.key].labels == (made.class_names[image.label],)
        assert (Path(made.path).parent / "photos" / image.key).read_bytes() == image.encoded


def test_a_split_or_tap_that_is_not_there_is_named_with_those_that_are(made: FeatureStore) -> None:
    with pytest.raises(UserError, match="no split 'dev'; it has test, train, validation"):
        made.count("dev")
    with pytest.raises(UserError, match=r"no tap 'top_activation:max'. Did you mean top_activation:avg"):
        made.to_numpy("train", "top_activation:max")


def test_another_spec_is_refused_with_both_values(made: FeatureStore) -> None:
    import dataclasses

    other: FeatureSpec = dataclasses.replace(made.spec, backbone="VGG16", taps=(Tap("block5_pool", "avg"),))
    with pytest.raises(UserError, match=r"backbone: own:stand_in is not VGG16; taps: .* is not block5_pool:avg"):
        FeatureStore.open(made.path, other)


def test_no_store_and_half_a_store_say_what_to_do(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make one with `headstart extract"):
        FeatureStore.open(str(tmp_path / "nowhere"))
    Path(store.path, "manifest.json").unlink()
    Path(store.path, ".work").mkdir()
    with pytest.raises(UserError, match="run its `headstart extract` command again"):
        FeatureStore.open(store.path)


def test_a_spec_that_is_not_the_manifests_is_refused(store: FeatureStore) -> None:
    path = str(generation(store.path) / "spec.json")
    files.write_json(path, {**files.read_json(path), "interpolation": "area"})
    with pytest.raises(UserError, match=r"spec\.json' is missing or damaged"):
        FeatureStore.open(store.path)


def test_a_sound_store_verifies(made: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", made.path]) == 0
    assert "sound, 70 examples" in capsys.readouterr().out


def test_a_store_that_was_not_copied_whole_is_refused(store: FeatureStore) -> None:
    Path(store.shard_paths("test")[0]).unlink()
    with pytest.raises(UserError, match=r"features-test.tfrecord-00000-of-00001 is missing or cut short"):
        FeatureStore.open(store.path)


@pytest.mark.parametrize(
    "name", ["examples.csv", "features.json", "spec.json", "manifest.json", "dead_letters.jsonl", "backbone.keras"]
)
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_no_damage_ends_in_a_traceback(
    name: str, damage: str, store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(store.path, name) if name == "manifest.json" else generation(store.path) / name
    path.unlink()
    if damage == "garbage":
        path.write_bytes(b"\x80 garbage, \xff")
    assert main(["verify", store.path]) == (2 if (name, damage) == ("manifest.json", "missing") else 1)
    out = capsys.readouterr()
    assert name in out.out + out.err


@pytest.mark.parametrize("fault", ["flip", "cut", "remove", "swap", "stray", "table", "relabel", "backbone", "letters"])
def test_every_fault_gets_a_line(fault: str, store: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (Path(path) for path in store.shard_paths("train")[:2])
    expected = first.name
    if fault == "flip":
        content = bytearray(first.read_bytes())
        content[len(content) // 2] ^= 1
        first.write_bytes(content)
    elif fault == "cut":
        first.write_bytes(first.read_bytes()[:-9])
    elif fault == "remove":
        first.unlink()
    elif fault == "swap":
        one, two = first.read_bytes(), second.read_bytes()
        first.write_bytes(two)
        second.write_bytes(one)
    elif fault == "stray":
        expected = "features-train.tfrecord-00000-of-00009"
        shutil.copy(first, first.with_name(expected))
    elif fault == "backbone":
        expected = "backbone.keras"
        (generation(store.path) / expected).unlink()
    elif fault == "letters":
        expected = "dead_letters.jsonl"
        (generation(store.path) / expected).write_text('{"key": "invented"}\n')
    else:
        expected = "examples.csv"
        table = generation(store.path) / expected
        old, new = ("class 0", "class 1") if fault == "relabel" else ("train", "test")
        table.write_text(table.read_text().replace(f",{old},", f",{new},", 1))
    assert main(["verify", store.path]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"generations/{generation(store.path).name}/{expected}") for line in lines), lines


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, "block/end:none"),
        ("block.end:none", "block.end:none"),  # as it is stored
        ("block/end:none", "block.end:none"),  # as extraction takes it
        ("block/end", "block.end:none"),  # all that is stored of it
        ("top", "top:avg"),
        ("top:max", "top:max"),
        ("grids", "grids:grid2, grids:grid3"),
        ("fc1", "fc1:none"),
        ("fc1:avg", ""),
        ("", ""),
    ],
)
def test_a_tap_is_named_as_in_extraction(asked: str | None, found: str) -> None:
    names = [("block/end", "none"), ("top", "max"), ("top", "avg"), ("grids", "grid2"), ("grids", "grid3"), ("fc1", "none")]
    taps = tuple(Tap(layer, pool, (4,)) for layer, pool in names)
    store = FeatureStore("store", FeatureSpec("VGG16", "0", (32, 32), taps, "caffe"), {}, False)
    if found in {tap.name for tap in taps}:
        assert store.tap(asked).name == found
    elif asked is None:
        assert store.tap() == taps[0]
    else:
        with pytest.raises(UserError, match=f"several taps of {asked!r}, name one: {found}" if found else "It holds: block"):
            store.tap(asked)


def test_without_a_name_it_is_the_deepest_tap(photos: Path, tmp_path: Path) -> None:
    options = {"backbone": "MobileNetV2", "weights": "random:1", "image_size": "32"}
    store = extract(ExtractConfig(input=str(photos), store=str(tmp_path / "store"), taps=("auto",), **options))
    depths = [tap.depth for tap in store.spec.taps]
    assert depths == sorted(depths) and depths[0] < depths[-1]
    assert store.tap() == next(tap for tap in store.spec.taps if tap.depth == depths[-1])  # of several, the first
