"""Augmented views in the store: what they are, that measuring never sees them, and how a reader draws one an epoch."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstart.cli import main
from headstart.features.augmentation import Augmentation
from headstart.features.engines import stream
from headstart.features.errors import UserError
from headstart.features.files import sha256_file
from headstart.features.images.augment import array_augmenter, view_seed
from headstart.features.images.decode import decode_image
from headstart.features.images.resize import resizer
from headstart.features.store.epochs import Position
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.verify import faults
from headstart.pipelines.extract import dry_run, extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import rewrite_manifest, small_backbone, small_backbone_flags

VIEWS = 3


def config(photos: pathlib.Path, store: pathlib.Path, **changes: Any) -> ExtractConfig:
    return ExtractConfig(**{"input": str(photos), "store": str(store), "views": VIEWS, **small_backbone(), **changes})


@pytest.fixture(scope="module")
def views(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """`photos` with three views of each training image."""
    return extract(config(photos, tmp_path_factory.mktemp("views") / "store", examples_per_shard=20))


def features_of(store: FeatureStore, split: str = "train") -> np.ndarray:
    """Every view of every example, [N, views, *tap.shape]."""
    features = store.features(split)
    return features.all().reshape(-1, features.views, *features.shape)


def test_the_first_view_is_the_plain_image_and_the_others_are_not(views: FeatureStore, store: pathlib.Path) -> None:
    plain = FeatureStore.open(str(store)).to_numpy("train")
    stored = features_of(views)
    assert stored.shape == (36, VIEWS, 1280)
    assert views.to_numpy("train").keys == plain.keys
    assert np.array_equal(stored[:, 0], plain.features) and np.array_equal(views.to_numpy("train").features, plain.features)
    assert all((stored[:, one] != stored[:, other]).any(1).all() for one, other in ((0, 1), (0, 2), (1, 2)))


def test_the_time_of_augmenting_is_part_of_the_estimate(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    augmented, real = list[str](), stream.view_seed

    def seed(augmentation: Augmentation, digest: str, view: int) -> int:
        augmented.append(digest)
        return real(augmentation, digest, view)

    monkeypatch.setattr(stream, "view_seed", seed)
    lines = dry_run(config(photos, tmp_path / "store"))
    assert lines[-1].endswith(" views/s here") and "" not in augmented and augmented.count(augmented[0]) % (VIEWS - 1) == 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_what_is_measured_on_is_never_augmented(views: FeatureStore, store: pathlib.Path, split: str) -> None:
    assert np.array_equal(features_of(views, split)[:, 0], FeatureStore.open(str(store)).to_numpy(split).features)
    assert features_of(views, split).shape[1] == 1


def test_a_view_is_what_its_seed_makes_of_the_image(views: FeatureStore, photos: pathlib.Path) -> None:
    example = views.examples("train")[5]
    pixels = resizer(views.spec)(decode_image((photos / example.key).read_bytes()))
    augment, augmentation = array_augmenter(views.spec.augmentation), views.spec.augmentation
    backbone = views.backbone(views.tap())
    for view in (1, 2):
        seen = augment(pixels, view_seed(augmentation, example.digest, view))
        feature = views.example("train", 5, view)
        assert (feature.key, feature.view) == (example.key, view)
        np.testing.assert_allclose(feature.features[views.tap().name], np.asarray(backbone(seen[None]))[0], atol=0.01)


def test_the_same_views_whatever_the_batches(views: FeatureStore, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = extract(config(photos, tmp_path / "store", examples_per_shard=20, batch_size=4, streams=1))
    for split in views.splits:
        for mine, other in zip(views.shard_paths(split), again.shard_paths(split), strict=True):
            assert pathlib.Path(mine).read_bytes() == pathlib.Path(other).read_bytes()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("kind", ["dataset", "batches"])
def test_a_shuffled_epoch_takes_one_view_of_each_example(views: FeatureStore, kind: str, in_memory: bool) -> None:
    stored, labels = features_of(views), views.labels("train")
    reader = getattr(views, kind)("train", 8, shuffle=True, seed=1, in_memory=in_memory)
    drawn = []
    for _ in range(4):
        batches = list(reader.as_numpy_iterator() if kind == "dataset" else reader)
        features, found = (np.concatenate(column) for column in zip(*batches))
        which = np.array([np.argwhere((stored == feature).all(-1))[0] for feature in features])  # (example, view)
        assert sorted(which[:, 0]) == list(range(36)) and np.array_equal(labels[which[:, 0]], found)
        drawn.append(which[np.argsort(which[:, 0]), 1])
    assert {view for epoch in drawn for view in epoch} == {0, 1, 2}
    assert not any(np.array_equal(drawn[0], other) for other in drawn[1:])


def test_both_readers_draw_the_same(views: FeatureStore) -> None:
    options: dict[str, Any] = {"shuffle": True, "seed": 3}
    dataset = views.dataset("train", 8, **options).as_numpy_iterator()
    for (mine, _), (theirs, _) in zip(dataset, views.batches("train", 8, **options), strict=True):
        assert np.array_equal(mine, theirs)


def test_an_epoch_in_order_is_the_plain_one(views: FeatureStore) -> None:
    batches = [feature for feature, _ in views.dataset("train", 8).as_numpy_iterator()]
    assert np.array_equal(np.concatenate(batches), views.to_numpy("train").features)


def test_a_training_that_is_taken_up_reads_what_was_to_come(views: FeatureStore) -> None:
    whole = views.dataset("train", 36, shuffle=True, seed=2)
    epochs = [next(iter(whole.as_numpy_iterator()))[0] for _ in range(3)]
    for number, epoch in enumerate(epochs):
        taken_up = views.dataset("train", 36, shuffle=True, seed=2, position=Position(number))
        assert np.array_equal(next(iter(taken_up.as_numpy_iterator()))[0], epoch)


def test_tfds_reads_every_view(views: FeatureStore) -> None:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(views.tfds_folders[0])
    assert builder.info.splits["train"].num_examples == 36 * VIEWS and builder.info.splits["test"].num_examples == 12
    rows = list(tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False)))
    assert [row["view"] for row in rows[:4]] == [0, 1, 2, 0]
    assert np.array_equal(rows[1][views.tap().name], features_of(views)[0, 1])


def test_it_is_sound_and_a_swapped_view_is_not(
    views: FeatureStore, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(faults(views.path)) == []
    copy = pathlib.Path(shutil.copytree(views.path, tmp_path / "copy"))
    shard = pathlib.Path(FeatureStore.open(str(copy)).shard_paths("train")[0])
    _, first = next(views.manifest.shards("train"))
    size = first.record_bytes
    content = shard.read_bytes()
    shard.write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])

    def change(manifest: dict[str, Any]) -> None:
        manifest["generations"][0]["splits"]["train"]["shards"][0]["sha256"] = sha256_file(str(shard))

    rewrite_manifest(copy, change)
    assert main(["verify", str(copy)]) == 1
    assert "record 0 is not the example" in capsys.readouterr().out


def test_an_image_that_comes_into_the_training_split_is_seen_again(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    moved = pathlib.Path(shutil.copytree(photos, tmp_path / "photos"))
    first = extract(config(moved, tmp_path / "store"))
    name = sorted(os.listdir(moved / "validation" / "fern"))[0]
    (moved / "validation" / "fern" / name).rename(moved / "train" / "fern" / f"new-{name}")
    again = extract(config(moved, tmp_path / "store"))
    fresh = extract(config(moved, tmp_path / "fresh"))
    assert first.count("train") + 1 == again.count("train")
    assert np.array_equal(features_of(again), features_of(fresh)) and list(faults(again.path)) == []


def test_info_tells_the_policy(views: FeatureStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", views.path]) == 0
    assert f"views      {VIEWS} of each training image: standard, seed 0" in capsys.readouterr().out


def test_a_head_learns_from_views(views: FeatureStore, tmp_path: pathlib.Path) -> None:
    run = train(TrainConfig(store=views.path, run=str(tmp_path / "run"), epochs=3))
    assert run.config["train"]["solver"] == "adam"  # whole gradients know plain images alone
    assert run.spec.views == VIEWS and run.spec.augmentation == Augmentation("standard")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--views", "0"], "--views lies from 1 to 128, not at 0"),
        (["--views", "129"], "--views lies from 1 to 128, not at 129"),
        (["--views", "2", "--augment", "none"], "--views 2 needs an --augment that makes them differ"),
        (["--views", "2", "--augment", "heavy"], "--augment is one of none, light, standard, strong, not 'heavy'"),
        (["--augment", "light"], "--augment, --augment_seed and --no_... are of --views 2 or more"),
        (["--no_flip"], "--augment, --augment_seed and --no_... are of --views 2 or more"),
    ],
)
def test_bad_views_are_refused(
    flags: list[str], told: str, photos: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    command = ["extract", str(photos), "--store", str(tmp_path / "s"), *small_backbone_flags()]
    assert main([*command, *flags]) == 2
    assert told in one_line()
    assert not (tmp_path / "s").exists()


def test_other_views_are_other_features(views: FeatureStore, photos: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"holds other features than asked for .*augmentation"):
        extract(config(photos, pathlib.Path(views.path), no_flip=True, examples_per_shard=20))


def test_one_view_needs_no_policy(photos: pathlib.Path, store: pathlib.Path) -> None:
    same = extract(config(photos, store, views=1, augment="strong"))
    assert same.spec.augmentation == Augmentation()
