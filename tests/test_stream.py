"""Files in, features out, in order; what can't be read becomes a reason in its place."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.features.augmentation import Augmentation
from headstart.features.engines import stream
from headstart.features.engines.base import Engine
from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import READ_AHEAD, ByteBudget, ImageToRead, Unreadable, stream_features
from headstart.features.errors import RefusedError, UserError
from headstart.features.images.decode import decode_image
from headstart.features.images.resize import resizer
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec, Tap
from tests.conftest import raises

SPEC = FeatureSpec("EfficientNetLite0", "0" * 64, (8, 8), (Tap("mean"), Tap("conv", "none")), "none", store_dtype="float32")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """A network of one layer: the mean, and a map."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    outputs = [keras.layers.GlobalAveragePooling2D()(inputs), keras.layers.Conv2D(2, 3)(inputs)]
    return make_engine(keras.Model(inputs, outputs), EngineOptions(batch_size=4, streams=2))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """19 images, of which the 3rd, 4th, 9th and all of 13th to 16th can't be read, in three ways."""
    folder = tmp_path_factory.mktemp("images")
    generator, found = np.random.default_rng(0), []
    for number in range(19):
        path = folder / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(path)
        if number in (2, 13):
            path.write_text("no image")
        elif number in (3, 14, 15):
            path.write_bytes(path.read_bytes()[:100])
        elif number in (8, 12):
            path.unlink()
        found.append(str(path))
    return found


def to_read(paths: list[str]) -> list[ImageToRead]:
    return [ImageToRead(path) for path in paths]


def test_results_come_in_order_and_equal_one_by_one(engine: Engine, paths: list[str]) -> None:
    results = list(stream_features(to_read(paths), SPEC, engine))
    resize = resizer(SPEC)
    assert len(results) == len(paths)
    for path, result in zip(paths, results):
        if isinstance(result, Unreadable):
            continue
        expected = engine(resize(decode_image(Path(path).read_bytes()))[None])
        assert [feature.shape for feature in result] == [(3,), (6, 6, 2)]
        assert all(np.array_equal(found, wanted[0]) for found, wanted in zip(result, expected, strict=True))
    reasons = {number: result for number, result in enumerate(results) if isinstance(result, Unreadable)}
    assert list(reasons) == [2, 3, 8, 12, 13, 14, 15]
    assert reasons[2] == Unreadable("decode", "text, not a JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF or HEIC image")
    assert reasons[3].stage == "decode" and reasons[3].reason.startswith("damaged PNG: ")
    assert reasons[8] == Unreadable("read", "No such file or directory")


def test_a_file_that_changed_is_not_computed(engine: Engine, paths: list[str]) -> None:
    digest = hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest()
    same, other = stream_features([ImageToRead(paths[0], digest), ImageToRead(paths[1], digest)], SPEC, engine)
    assert not isinstance(same, Unreadable)
    assert other == Unreadable("read", "the file changed after it was surveyed")


def test_too_many_pixels_a_folder_and_an_impossible_name(engine: Engine, paths: list[str], tmp_path: Path) -> None:
    (large,) = stream_features(to_read(paths[:1]), SPEC, engine, max_pixels=119)
    assert large == Unreadable("decode", "12x10 pixels are more than the limit of 119")
    folder, impossible = stream_features(to_read([str(tmp_path), "a\0b"]), SPEC, engine)
    assert folder == Unreadable("read", "Is a directory")
    assert isinstance(impossible, Unreadable) and impossible.stage == "read" and impossible.reason


def test_a_place_that_fails_is_told(engine: Engine, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, digest: str) -> bytes:
        raise (RefusedError if path == paths[0] else UserError)("place-failed", "status code")

    monkeypatch.setattr(stream, "read_same", fail)
    assert list(stream_features(to_read(paths[:1]), SPEC, engine)) == [Unreadable("read", "status code")]
    with raises("place-failed"):
        list(stream_features(to_read(paths[:2]), SPEC, engine))


def test_nothing_to_read(engine: Engine) -> None:
    assert list(stream_features([], SPEC, engine)) == []


def test_files_are_asked_for_a_few_batches_ahead_only(engine: Engine, paths: list[str]) -> None:
    asked = 0

    def endless() -> Iterator[ImageToRead]:
        nonlocal asked
        while True:
            asked += 1
            yield ImageToRead(paths[0])

    results = stream_features(endless(), SPEC, engine)
    for _ in range(10):
        next(results)
    assert asked <= 10 + engine.batch_size * 2 * (max(engine.streams, cores()) + READ_AHEAD + 1)
    results.close()  # type: ignore[attr-defined]


def test_a_failure_that_is_not_the_image_s_is_not_swallowed(paths: list[str]) -> None:
    class Broken:
        batch_size, streams = 2, 1

        def __call__(self, pixels: Any) -> Any:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(stream_features(to_read(paths), SPEC, Broken()))  # type: ignore[arg-type]


def test_a_large_jpeg_is_decoded_scaled_where_the_spec_says_so(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    Image.fromarray(np.stack(np.broadcast_arrays(ramp[:, None], ramp, 128), axis=-1).astype(np.uint8)).save(file, quality=95)
    full, scaled = (
        next(stream_features(to_read([str(file)]), dataclasses.replace(SPEC, decode=decode), engine))
        for decode in ("full", "scaled")
    )
    assert not isinstance(full, Unreadable) and not isinstance(scaled, Unreadable)
    assert not np.array_equal(full[0], scaled[0]) and np.abs(full[0] - scaled[0]).max() < 2  # means of 0..255


def test_bytes_in_memory_are_bounded_and_one_large_image_still_goes_through() -> None:
    budget, most, held = ByteBudget(100), 0, []

    def hold(size: int) -> None:
        nonlocal most
        with budget.held(size):
            held.append(size)
            most = max(most, sum(held))
            time.sleep(0.005)
            held.remove(size)

    threads = [threading.Thread(target=hold, args=(size,)) for size in (60, 30, 10, 100, 50, 40, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 100 and budget.in_use == 0
    with budget.held(10_000):
        assert budget.in_use == 100  # all of it: nobody else decodes meanwhile
    assert budget.in_use == 0


def test_streams_share_one_room_and_never_wait_for_each_other(
    engine: Engine, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = ByteBudget(1)  # less than one batch: each stream goes on with one at a time
    monkeypatch.setattr("headstart.features.engines.stream.UNDER_WAY", room)
    readable = to_read(paths[:2] * 8)
    one, other = stream_features(readable, SPEC, engine), stream_features(readable, SPEC, engine)
    assert sum(1 for _ in zip(one, other)) == len(readable)
    with pytest.raises(StopIteration):
        next(one)
    assert list(other) == []
    assert room.in_use == 0


def test_a_stream_that_is_left_gives_its_room_back(engine: Engine, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    room = ByteBudget(1 << 30)
    monkeypatch.setattr("headstart.features.engines.stream.UNDER_WAY", room)
    results = stream_features(to_read(paths[:2] * 40), SPEC, engine)
    next(results)
    assert room.in_use > 0
    results.close()  # type: ignore[attr-defined]
    assert room.in_use == 0


def test_many_views_of_an_image_are_held_a_batch_at_a_time(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counting:
        batch_size, streams = 3, 1

        def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
            seen.append(len(pixels))
            return [pixels.mean((1, 2)), np.zeros((len(pixels), 6, 6, 2), np.float32)]

    spec = dataclasses.replace(SPEC, views=8, augmentation=Augmentation("light"))
    files = [ImageToRead(path, hashlib.sha256(Path(path).read_bytes()).hexdigest()) for path in paths[:2]]
    results = list(stream_features(files, spec, Counting(), views=8))  # type: ignore[arg-type]
    assert sorted(seen) == [2, 2, 3, 3, 3, 3]  # 8 views of each of two images
    assert all(not isinstance(result, Unreadable) and result[0].shape == (8, 3) for result in results)
