"""Images as batches: each epoch whole, in an order and under an augmentation of its own, from any epoch on."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from headstart.features.augmentation import Augmentation
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import ImageToRead
from headstart.features.errors import UserError, extract_user_error
from headstart.features.files import sha256_file
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store.epochs import Position
from headstart.training.finetuning.augmentation_grid import GAP, save_grid
from headstart.training.finetuning.image_batches import ImageBatches, ImageSplit
from tests.conftest import CLASSES, IMAGE_SIZE, little_base

SPEC = FeatureSpec("little", "", (IMAGE_SIZE, IMAGE_SIZE), (Tap("", "none", (IMAGE_SIZE, IMAGE_SIZE, 3)),), "tf")
BATCH = 5  # of 12 images: 5, 5, 2


def split(folder: pathlib.Path) -> ImageSplit:
    paths = sorted(map(str, folder.rglob("*.*")))
    labels = np.array([CLASSES.index(pathlib.Path(path).parent.name) for path in paths], np.int64)
    return ImageSplit([ImageToRead(path, sha256_file(path)) for path in paths], labels)


@pytest.fixture
def batches(photos: pathlib.Path) -> ImageBatches:
    return ImageBatches(split(photos / "test"), SPEC, None, (IMAGE_SIZE, IMAGE_SIZE, 3), BATCH, 10**7)


def epochs(
    batches: ImageBatches, count: int, seed: int, augmentation: Augmentation, first: int = 0
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Epochs in a row, as batches."""
    position = Position(first)
    data, found = batches.shuffled(seed, augmentation, position), []
    for _ in range(count):
        found.append(list(data.as_numpy_iterator()))
        position.epoch += 1
    return found


def joined(epoch: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([pixels for pixels, _ in epoch]), np.concatenate([labels for _, labels in epoch])


def test_each_epoch_has_every_image_once_and_as_many_steps(batches: ImageBatches) -> None:
    plain, labels = joined(list(batches.in_order().as_numpy_iterator()))
    np.testing.assert_array_equal(labels, batches.split.labels)
    assert len(batches) == len(list(batches.in_order())) == 3
    orders = []
    for epoch in epochs(batches, 3, 0, Augmentation()):
        assert [len(pixels) for pixels, _ in epoch] == [5, 5, 2]
        pixels, given = joined(epoch)
        order = [int(np.abs(plain - image).reshape(12, -1).max(1).argmin()) for image in pixels]
        np.testing.assert_array_equal(pixels, plain[order])
        np.testing.assert_array_equal(given, labels[order])
        assert sorted(order) == list(range(12))
        orders.append(tuple(order))
    assert len(set(orders)) == 3


@pytest.mark.parametrize("policy", ["none", "standard"])
def test_a_later_epoch_is_the_same_from_wherever_it_began(policy: str, batches: ImageBatches) -> None:
    whole = epochs(batches, 4, 7, Augmentation(policy, seed=7))
    later = epochs(batches, 2, 7, Augmentation(policy, seed=7), first=2)
    for ours, theirs in zip([*whole[2], *whole[3]], [*later[0], *later[1]], strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    first, second = (joined(epoch)[0] for epoch in whole[:2])
    if policy == "standard":  # no image looks as it did
        assert min(np.abs(second - image).max(axis=(1, 2, 3)).min() for image in first) > 1


def test_what_the_picture_shows_is_what_the_network_sees(batches: ImageBatches, tmp_path: pathlib.Path) -> None:
    augmentation = Augmentation("standard", seed=3)
    views = batches.preview(augmentation, [0, 4], 2)
    assert views.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE, 3)
    plain, _ = joined(list(batches.in_order().as_numpy_iterator()))
    np.testing.assert_array_equal(views[:, 0], plain[[0, 4]])
    for number, epoch in enumerate(epochs(batches, 2, 3, augmentation)):
        pixels, _ = joined(epoch)
        for view in views[:, number + 1]:
            assert np.abs(pixels - view).max(axis=(1, 2, 3)).min() < 0.01
    save_grid(views, str(tmp_path / "views.png"))
    with Image.open(tmp_path / "views.png") as image:
        assert image.size == (3 * (IMAGE_SIZE + GAP) - GAP, 2 * (IMAGE_SIZE + GAP) - GAP)
        corner = np.asarray(image)[:IMAGE_SIZE, :IMAGE_SIZE]
    np.testing.assert_allclose(corner, np.round(views[0, 0]), atol=1)
    assert [path.name for path in tmp_path.iterdir()] == ["views.png"]


def test_large_looks_are_shrunk(tmp_path: pathlib.Path) -> None:
    save_grid(np.full((1, 2, 320, 640, 3), 300.0, np.float32), str(tmp_path / "large.png"))
    with Image.open(tmp_path / "large.png") as image:
        assert image.size == (2 * 160 + GAP, 80)


def test_the_frozen_part_runs_in_between(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    base = keras.saving.load_model(little_base(tmp_path / "little.keras"), compile=False)
    model = keras.Model(base.inputs, base.get_layer("a_add").output)
    engine = make_engine(model, EngineOptions(batch_size=4))
    through = ImageBatches(split(photos / "test"), SPEC, engine, (16, 16, 8), BATCH, 10**7)
    plain = ImageBatches(split(photos / "test"), SPEC, None, (IMAGE_SIZE, IMAGE_SIZE, 3), BATCH, 10**7)
    augmentation = Augmentation("light", seed=1)
    for ours, pixels in zip(epochs(through, 2, 1, augmentation), epochs(plain, 2, 1, augmentation)):
        assert [len(features) for features, _ in ours] == [5, 5, 2]
        features, labels = joined(ours)
        expected = np.asarray(model(joined(pixels)[0]))
        np.testing.assert_allclose(features, expected, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_array_equal(labels, joined(pixels)[1])


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "can't be any more: No such file or directory"),
        (
            lambda path: path.write_bytes(path.read_bytes() + b"\0"),
            "can't be any more: the file changed after it was surveyed",
        ),
    ],
    ids=["gone", "changed"],
)
def test_an_image_that_changes_meanwhile_ends_it(spoil: Any, told: str, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = pathlib.Path(shutil.copytree(photos / "test", tmp_path / "test"))
    images = split(folder)
    spoil(folder / "fern" / "00.jpg")
    data = ImageBatches(images, SPEC, None, (IMAGE_SIZE, IMAGE_SIZE, 3), BATCH, 10**7)
    with pytest.raises(tf.errors.OpError) as caught:
        epochs(data, 1, 0, Augmentation())
    assert told in (extract_user_error(caught.value) or "") and "fern/00.jpg" in (extract_user_error(caught.value) or "")
    with pytest.raises(UserError, match="can't be any more"):
        ImageBatches(images, SPEC, None, (IMAGE_SIZE, IMAGE_SIZE, 3), BATCH, 10**7).preview(Augmentation(), range(12), 1)
