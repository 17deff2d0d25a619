"""What the tests share: generated photographs of three classes, others of several labels each, and a feature store and a
trained run made of each of the two.

Whatever is made once a session is read-only; a test that changes something takes a copy.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded: its first words come from C++
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # each process of tests with two, they would wait for each other

import atexit
import contextlib
import csv
import functools
import gc
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headstart.cli import COLLECT_EVERY
from headstart.features.errors import UserError
from headstart.features.runtime import CACHE, cores

if TYPE_CHECKING:
    from headstart.pipelines.extract_config import ExtractConfig

gc.set_threshold(COLLECT_EVERY)  # as in a command: a tenth of all tests would be spent on looking for garbage
CLASSES = ("anemone", "fern", "gentian")
PER_SPLIT = {"train": 12, "validation": 4, "test": 4}  # images of each class
COLOURS = {"anemone": (190, 80, 80), "fern": (80, 170, 80), "gentian": (90, 90, 190)}
SHAPES = {"blue": (40, 60, 230), "green": (40, 200, 60), "red": (220, 40, 40)}
SHARES = (0.2, 0.4, 0.5)  # of images that have each
IMAGE_SIZE = 32
TOP_CHANNELS = 1280  # of STAND_IN's last map


@pytest.fixture(autouse=True, scope="session")
def cache_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for what is made once a session: nothing goes into the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE, str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache for each test, its folder not there yet: what one keeps must not help another."""
    monkeypatch.setenv(CACHE, str(tmp_path_factory.getbasetemp() / f"cache-{uuid.uuid4().hex}"))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: a sixth of the time of some tests is waiting for processes that they start."""
    return cores() + 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed, in UTF-8, as it is sent between the processes that run tests: names of files need not be."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


def draw(kind: str, generator: np.random.Generator) -> Image.Image:
    """An image of a class: its colour, its texture, noise; 40 to 60 pixels a side."""
    height, width = generator.integers(40, 61, 2)
    y, x = np.mgrid[:height, :width] + generator.uniform(0, 10)
    texture = {"anemone": np.sin(x / 2), "fern": np.sin(y / 3), "gentian": np.sin(x / 3) * np.sin(y / 3)}[kind]
    pixels = np.array(COLOURS[kind]) + 40 * texture[..., None] + generator.normal(0, 20, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(root: pathlib.Path, counts: dict[str, dict[str, int]], seed: int = 0) -> pathlib.Path:
    """Writes root/SPLIT/CLASS/NUMBER.png or .jpg, as many as {split: {class: count}} says."""
    generator = np.random.default_rng(seed)
    for split, per_class in counts.items():
        for kind, count in per_class.items():
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(count):
                draw(kind, generator).save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}")
    return root


def stand_in(path: pathlib.Path, rescales: bool = False) -> pathlib.Path:
    """A network of 32,000 weights in place of one of millions, whose layers are named as EfficientNetLite0's are.

    Args:
        path: of its file.
        rescales: it takes pixels of 0..255, and brings them to what it wants by itself.
    """
    import keras

    def block(x: Any, name: str, channels: int, strides: int) -> Any:
        y = keras.layers.Conv2D(channels, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        y = keras.layers.BatchNormalization(name=f"{name}_bn")(y)
        z = keras.layers.Conv2D(channels, 1, name=f"{name}_project_conv")(y)
        return keras.layers.Add(name=f"{name}_add")([y, keras.layers.ReLU(6, name=f"{name}_activation")(z)])

    keras.utils.set_random_seed(0)
    pixels = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="rescaling")(pixels) if rescales else pixels
    x = keras.layers.Conv2D(8, 3, 2, padding="same", name="stem_conv")(x)
    for name, channels, strides in (("block2b", 24, 2), ("block3b", 40, 2), ("block5c", 16, 2)):
        x = block(x, name, channels, strides)
    x = keras.layers.Conv2D(TOP_CHANNELS, 1, name="top_conv")(x)
    base = keras.Model(pixels, keras.layers.ReLU(6, name="top_activation")(x), name="stand_in")
    base.save(path)
    return path


@functools.cache
def small_backbone() -> dict[str, str]:
    """What an extraction takes to run a stand-in, made once a process."""
    folder = tempfile.mkdtemp(prefix="headstart-tests-")
    atexit.register(shutil.rmtree, folder, True)
    path = stand_in(pathlib.Path(folder) / "stand_in.keras")
    return {"backbone": str(path), "preprocessing": "tf", "image_size": str(IMAGE_SIZE)}


def small_backbone_flags() -> list[str]:
    """The same as a command's flags."""
    return [word for name, value in small_backbone().items() for word in (f"--{name}", value)]


@contextlib.contextmanager
def raises(code: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expects a UserError of this code; for its words, `pytest.raises`."""
    with pytest.raises(UserError) as caught:
        yield caught
    assert caught.value.code == code


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """60 images as SPLIT/CLASS/NUMBER: 12, 4 and 4 of each class to train, validate and test on."""
    counts = {split: dict.fromkeys(CLASSES, count) for split, count in PER_SPLIT.items()}
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", counts)


@pytest.fixture(scope="session")
def store(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The features of `photos`: a small network's last map at 32 pixels, averaged."""
    return extracted(photos, tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A store of 12 anemones and 4 ferns, all of them to train on."""
    folder = tmp_path_factory.mktemp("lopsided")
    write_photos(folder / "photos", {"train": {"anemone": 12, "fern": 4}}, seed=1)
    return extracted(folder / "photos", folder / "store")


def build_feature_extractor(name: str, base: Any, taps: Any) -> Any:
    """`build_feature_extractor` for a base of the table's, at the size that it was built for."""
    from headstart.features.backbones.catalogue import BACKBONES
    from headstart.features.backbones.feature_extractor import build_feature_extractor as tapped_at

    return tapped_at(base, taps, BACKBONES[name].preprocessing, tuple(base.inputs[0].shape[1:3]))


def extracted(folder: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
    """Extracts a folder as the session's store was."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    extract(ExtractConfig(input=str(folder), store=str(path), **small_backbone()))
    return path


def generation(store: str | pathlib.Path) -> pathlib.Path:
    """The folder of a store's last generation: its shards and what stands beside them."""
    from headstart.features.store.manifest import read_manifest

    return pathlib.Path(store, read_manifest(str(store)).generations[-1].folder)


def rewrite_manifest(store: pathlib.Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Makes a store's manifest say what its files are now, and something else, as if it had been written so."""
    from headstart.features.files import read_json, sha256_file, write_json
    from headstart.features.store.manifest import MANIFEST, sealed

    manifest = read_json(str(store / MANIFEST))
    for each in manifest["generations"]:
        each["files"] = {name: sha256_file(str(store / each["folder"] / name)) for name in each["files"]}
    change(manifest)
    write_json(str(store / MANIFEST), sealed(manifest))


def shift_sample(store: pathlib.Path) -> None:
    """Gives each image that a store keeps the pixels of the next one."""
    import tensorflow as tf

    from headstart.features.store.feature_store import FeatureStore

    path, images = generation(store) / "sample.tfrecord", list(FeatureStore.open(str(store)).sample())
    contents = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content, other in zip(contents, [*images[1:], images[0]], strict=True):
            example = tf.train.Example.FromString(content)
            example.features.feature["encoded"].bytes_list.value[0] = other.encoded
            writer.write(example.SerializeToString())
    rewrite_manifest(store)


@pytest.fixture
def store_copy(store: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of `store` that a test may spoil."""
    return pathlib.Path(shutil.copytree(store, tmp_path / "store-copy"))


@pytest.fixture(scope="session")
def run(store: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A linear probe on `store`, trained as anybody would, 20 epochs at most."""
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    path = tmp_path_factory.mktemp("run") / "run"
    train(TrainConfig(store=str(store), run=str(path), epochs=20, batch_size=12))
    return path


@pytest.fixture
def run_copy(run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of `run` that a test may write into."""
    return pathlib.Path(shutil.copytree(run, tmp_path / "run-copy"))


@pytest.fixture
def flat(photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The 12 test images as CLASS/NUMBER: without splits."""
    return pathlib.Path(shutil.copytree(photos / "test", tmp_path / "flat"))


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """What `loaded_once` has loaded: a saved file's digest to its model, a model's identity to its engine."""
    return {}


@pytest.fixture
def loaded_once(models: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads each saved model, and makes its engine, once for all tests: most of the time would go there."""
    from headstart.features.backbones.kept import Kept
    from headstart.features.engines.base import Engine
    from headstart.features.engines.factory import kept_engine
    from headstart.features.files import sha256_file
    from headstart.training.predicting import classify
    from headstart.training.runs.run_folder import MODEL, Run

    load = Run.model

    def model(self: Run) -> Any:
        digest = sha256_file(os.path.join(self.path, MODEL))
        if digest not in models:
            models[digest] = load(self)
        return models[digest]

    def engine(kept: Kept | None, built: Callable[[], Any], *options: Any) -> Engine:
        name = f"engine {id(built())} {options}"
        if name not in models:
            models[name] = kept_engine(kept, built, *options)
        return models[name]

    monkeypatch.setattr(Run, "model", model)
    monkeypatch.setattr(classify, "kept_engine", engine)


@pytest.fixture
def kept_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a checkpoint after each epoch, however short it is."""
    from headstart.training.fitting import fit

    monkeypatch.setattr(fit, "CHECKPOINT_SHARE", float("inf"))


def after_epoch(monkeypatch: pytest.MonkeyPatch, epoch: int, then: Callable[[], None]) -> None:
    """Does something right after an epoch's checkpoint was written."""
    from headstart.training.fitting import checkpoint

    original = checkpoint.BestCheckpoint.save

    def save(self: Any) -> None:
        original(self)
        if self.epochs == epoch:
            then()

    monkeypatch.setattr(checkpoint.BestCheckpoint, "save", save)


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Asserts that a command wrote one line on stderr and nothing on stdout; the line."""

    def check() -> str:
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1, captured.err
        assert captured.err.startswith("headstart")
        return captured.err.rstrip("\n")

    return check


def little_base(path: pathlib.Path) -> pathlib.Path:
    """A network of four blocks, two of them residual, whose BatchNorm has statistics worth keeping: stem, a, b, c."""
    import keras

    def block(x: Any, name: str, filters: int, strides: int = 1) -> Any:
        y = keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        y = keras.layers.ReLU(name=f"{name}_relu")(keras.layers.BatchNormalization(name=f"{name}_bn")(y))
        return y if strides == 2 else keras.layers.Add(name=f"{name}_add")([x, y])

    keras.utils.set_random_seed(3)
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    base = keras.Model(image, block(block(block(block(image, "stem", 8, 2), "a", 8), "b", 16, 2), "c", 16), name="little")
    generator = np.random.default_rng(0)
    for layer in base.layers:
        if layer.name.endswith("_bn"):
            gamma, beta, mean, _ = layer.get_weights()
            low, high = generator.uniform(0.5, 1.5, (2, *gamma.shape))
            layer.set_weights([low, generator.normal(0, 0.2, beta.shape), generator.normal(0, 0.2, mean.shape), high])
    base.save(path)
    return path


@pytest.fixture(scope="session")
def maps_store(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`photos` through a little network, float32: its end averaged; whole, a block's end and a map inside one."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    folder = tmp_path_factory.mktemp("maps")
    base = little_base(folder / "little.keras")
    extract(
        ExtractConfig(
            input=str(photos), store=str(folder / "store"), backbone=str(base), preprocessing="tf",
            image_size=str(IMAGE_SIZE), taps=("c_add", "a_add:none", "c_conv:none"), store_dtype="float32",
        )
    )  # fmt: skip
    return folder / "store"


@pytest.fixture(scope="session")
def maps_run(maps_store: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A linear probe on `maps_store`, trained for a few epochs: there is something left to learn."""
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    path = tmp_path_factory.mktemp("maps-run") / "run"
    train(TrainConfig(store=str(maps_store), run=str(path), epochs=5, batch_size=12, learning_rate=3e-3))
    return path


def draw_shapes(labels: tuple[str, ...], generator: np.random.Generator) -> Image.Image:
    """Noise, with a square of each colour."""
    image = Image.fromarray(generator.integers(90, 160, (40, 40, 3)).astype(np.uint8))
    for label in labels:
        x, y = generator.integers(0, 20, 2).tolist()
        ImageDraw.Draw(image).rectangle((x, y, x + 18, y + 18), fill=SHAPES[label])
    return image


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A table of 120 images of none to three shapes each."""
    folder, generator = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    rows = []
    for number in range(120):
        labels = tuple(name for name, share in zip(SHAPES, SHARES) if generator.random() < share)
        draw_shapes(labels, generator).save(folder / f"{number:03}.png")
        rows.append((f"{number:03}.png", "|".join(reversed(labels))))
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder / "table.csv"


def shapes_of(table: pathlib.Path) -> dict[str, tuple[str, ...]]:
    """Each file's labels."""
    from headstart.features.dataset.labels import labels_in

    with open(table, encoding="utf-8", newline="") as file:
        return {row["path"]: labels_in(row["label"], "|") for row in csv.DictReader(file)}


def several_config(table: pathlib.Path, store: pathlib.Path, **changes: Any) -> ExtractConfig:
    """An extraction of several labels an image."""
    from headstart.pipelines.extract_config import ExtractConfig

    values = {"input": str(table), "store": str(store), "label_delimiter": "|", "splits": "train=0.6,validation=0.2,test=0.2"}
    return ExtractConfig(**{**values, **small_backbone(), **changes})


@pytest.fixture(scope="session")
def several(table: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The table's features: a small network's last map, averaged, and a lower one whole."""
    from headstart.pipelines.extract import extract

    path = tmp_path_factory.mktemp("several") / "store"
    extract(several_config(table, path, taps=("top_activation:avg", "block5c_add:none")))
    return path


@pytest.fixture(scope="session")
def several_run(several: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A linear head on it."""
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    path = tmp_path_factory.mktemp("several-run") / "run"
    train(TrainConfig(store=str(several), run=str(path), tap="top_activation:avg", epochs=25, learning_rate=3e-3))
    return path
