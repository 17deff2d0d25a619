"""Image files in, features out, in order: read, decode, resize, backbone, in batches, several under way at once.

Extraction, evaluation and prediction all go this way. There are more threads than an engine has streams, so that files are
read and decoded while the backbone computes, and what is in memory is bounded in bytes, for all streams of a process together.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import psutil

from headstart.features.batched import batched
from headstart.features.engines.base import Engine
from headstart.features.engines.stopwatch import Stopwatch
from headstart.features.errors import DecodeError, concerns_all
from headstart.features.images import decode as images
from headstart.features.images import jpeg
from headstart.features.images.augment import array_augmenter, view_seed
from headstart.features.images.resize import resizer
from headstart.features.places import place
from headstart.features.places.identity import read_same
from headstart.features.places.requests import REQUESTS_AT_ONCE
from headstart.features.runtime import cores
from headstart.features.spec import FeatureSpec

READ_AHEAD = 2  # threads beyond one a core: they wait for the disk, or for the engine with a batch in hand
DECODING_BYTES = 320 << 20  # of images while they are decoded and resized
UNDER_WAY_BYTES = 320 << 20  # of pixels and features of batches that were begun and not taken yet
UNDER_WAY_SHARE = 1 / 32  # of the memory that is free, where that is more

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageToRead:
    """A file, and the digest that its content must have ('' for any)."""

    path: str
    digest: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Why an image has no features: the stage that failed (read or decode), and the reason."""

    stage: str
    reason: str


def stream_features(
    files: Iterable[ImageToRead],
    spec: FeatureSpec,
    engine: Engine,
    max_pixels: int = images.MAX_PIXELS,
    views: int = 0,
    watch: Stopwatch | None = None,
) -> Iterator[list[np.ndarray] | Unreadable]:
    """One result for each file, in order: its features (float32 [*tap.shape] for each tap), or why there are none.

    With views, [views, *tap.shape]: the first of the plain image, the others of augmented ones, as the spec says.

    Args:
        files: any number; they are read as results are taken, a few batches ahead, so memory stays flat.
        spec: how they are decoded and resized.
        engine: the backbone, and the size of a batch.
        max_pixels: an image of more is refused before it is decoded.
        views: views of each image; files then carry their digests, which decide how they are augmented.
        watch: adds up what each step takes.

    Raises UserError when a place of files fails.
    """
    watch = watch or Stopwatch()
    load, turns = image_loader(spec, max_pixels, watch), threading.Semaphore(engine.streams)
    augment = array_augmenter(spec.augmentation) if views > 1 else None

    def pixels_of(file: ImageToRead, failed: dict[int, Unreadable], number: int) -> Iterator[np.ndarray]:
        pixels = load(file)
        if isinstance(pixels, Unreadable):
            failed[number] = pixels
            return
        yield pixels
        if augment is None:
            return
        for view in range(1, views):
            with watch.of("augment"):
                another = augment(pixels, view_seed(spec.augmentation, file.digest, view))
            yield another

    def through_engine(pixels: np.ndarray) -> list[np.ndarray]:
        with turns, watch.of("backbone"):
            return engine(pixels)  # [n, *tap.shape] for each tap

    def compute(files: list[ImageToRead]) -> list[list[np.ndarray] | Unreadable]:
        failed: dict[int, Unreadable] = {}
        pixels = itertools.chain.from_iterable(pixels_of(file, failed, number) for number, file in enumerate(files))
        parts = [through_engine(part) for part in _stacked(pixels, engine.batch_size, (*spec.image_size, 3))]
        rows = zip(*(part[0] if len(part) == 1 else np.concatenate(part) for part in zip(*parts)))  # a list of taps an image
        if not views:
            return [failed[number] if number in failed else list(next(rows)) for number in range(len(files))]
        return [
            failed[number] if number in failed else [np.stack(tap) for tap in zip(*islice(rows, views))]
            for number in range(len(files))
        ]

    at_once, size = _batch(spec, engine, max(1, views))
    files, ahead = _read_ahead(files)
    threads = max(engine.streams, cores()) + ahead
    with ThreadPoolExecutor(threads) as pool:
        for batch in _in_order(pool, compute, batched(files, at_once), 2 * threads, size):
            yield from batch


def _batch(spec: FeatureSpec, engine: Engine, views: int) -> tuple[int, int]:
    """How many images go through an engine at once, and the bytes of their pixels and features."""
    at_once = max(1, engine.batch_size // views)
    pixels = engine.batch_size * 3 * math.prod(spec.image_size)
    return at_once, 4 * (pixels + at_once * views * sum(tap.size for tap in spec.taps))


def _read_ahead(files: Iterable[ImageToRead]) -> tuple[Iterable[ImageToRead], int]:
    """The files, and how many threads beyond one a core read them: more where the first one's place answers late."""
    waiting = iter(files)
    first = list(islice(waiting, 1))
    far = any(place.is_remote(file.path) for file in first)
    return itertools.chain(first, waiting), REQUESTS_AT_ONCE if far else READ_AHEAD


def image_loader(
    spec: FeatureSpec, max_pixels: int, watch: Stopwatch | None = None
) -> Callable[[ImageToRead], np.ndarray | Unreadable]:
    """From a file to its pixels, float32 [H, W, 3] in 0..255, or why there are none."""
    watch = watch or Stopwatch()
    resize, least = resizer(spec), images.least_size(spec)
    decode = images.decoder(spec, max_pixels, SCRATCH)

    def load(file: ImageToRead) -> np.ndarray | Unreadable:
        with watch.of("read"):
            data = _read(file)
        if isinstance(data, Unreadable):
            return data
        try:
            with DECODING.held(images.decoding_bytes(data, least)), watch.of("decode"):
                return resize(decode(data))
        except DecodeError as error:
            return Unreadable("decode", str(error))

    return load


def _read(file: ImageToRead) -> bytes | Unreadable:
    """A file's content, if it is still the one that was surveyed.

    Raises:
        UserError: when it is its place that fails.
    """
    try:
        data = read_same(file.path, file.digest)
    except (OSError, ValueError) as error:
        if concerns_all(error):
            raise
        return Unreadable("read", getattr(error, "strerror", None) or str(error))
    return Unreadable("read", "the file changed after it was surveyed") if data is None else data


class ByteBudget:
    """How many bytes all threads of a process may hold together; a thread that asks for more than that gets all of it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.in_use = limit, 0
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Waits for room, and gives it back."""
        size = min(size, self.limit)
        with self.changed:
            self.changed.wait_for(lambda: self.in_use + size <= self.limit)
            self.in_use += size
        try:
            yield
        finally:
            self.give_back(size)

    def take(self, size: int, anyway: bool = False) -> bool:
        """Takes room without waiting, if there is enough of it; with `anyway`, even if there is not."""
        with self.changed:
            if not anyway and self.in_use + size > self.limit:
                return False
            self.in_use += size
            return True

    def give_back(self, size: int) -> None:
        """Gives back what `take` took."""
        with self.changed:
            self.in_use -= size
            self.changed.notify_all()


DECODING = ByteBudget(DECODING_BYTES)
SCRATCH = jpeg.Scratch()
UNDER_WAY = ByteBudget(max(UNDER_WAY_BYTES, int(UNDER_WAY_SHARE * psutil.virtual_memory().available)))


def _stacked(images: Iterator[np.ndarray], size: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Images as batches, float32 [n, *shape], of which one is held at a time."""
    while True:
        batch, count = np.empty((size, *shape), np.float32), 0
        for count, image in enumerate(islice(images, size), 1):
            batch[count - 1] = image
        if not count:
            return
        yield batch[:count]


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int, size: int
) -> Iterator[Result]:
    """Like pool.map, but with at most `ahead` items of `size` bytes under way, and fewer where the process has no room.

    A stream always has one item under way, so that streams that share the room never wait for each other.
    """
    under_way: deque[Future[Result]] = deque()

    def next_result() -> Result:
        try:
            return under_way.popleft().result()
        finally:
            UNDER_WAY.give_back(size)

    try:
        for item in items:
            while under_way and (len(under_way) >= ahead or not UNDER_WAY.take(size)):
                yield next_result()
            if not under_way:
                UNDER_WAY.take(size, anyway=True)
            under_way.append(pool.submit(function, item))
        while under_way:
            yield next_result()
    finally:
        for future in under_way:
            future.cancel()
            UNDER_WAY.give_back(size)
