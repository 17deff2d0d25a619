"""Image files in, features out, in order: read, decode, resize, backbone, in batches, several under way at once.

Extraction, evaluation and prediction all go this way. There are more threads than an engine has streams, so that files are
read and decoded while the backbone computes, and what waits in memory is bounded in bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from features import images
from features.engine import Engine
from features.engine_options import cores
from features.errors import DecodeError
from features.resize import resizer
from features.spec import FeatureSpec

READ_AHEAD = 2  # threads beyond one a core: they wait for the disk, or for the engine with a batch in hand
WAITING_BYTES = 256 << 20  # of features that nobody has taken yet
DECODED_BYTES = 512 << 20  # of images decoded at once, before they are resized

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageToRead:
    """A file, and the digest that its content must have ('' for any)."""

    path: str
    digest: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Why an image has no features: at which stage it fell (read or decode), and the reason."""

    stage: str
    reason: str


def stream_features(
    files: Iterable[ImageToRead],
    spec: FeatureSpec,
    engine: Engine,
    max_pixels: int = images.MAX_PIXELS,
    views: int = 0,
) -> Iterator[list[np.ndarray] | Unreadable]:
    """One result for each file, in order: its features (float32 [*tap.shape] for each tap), or why there are none.

    With views, [views, *tap.shape]: the first of the plain image, the others of augmented ones, as the spec says.

    Args:
        files: any number; they are read as results are taken, a few batches ahead, so memory stays flat.
        spec: how they are decoded and resized.
        engine: the backbone, and the size of a batch.
        max_pixels: an image of more is refused before it is decoded.
        views: looks at each image; files then carry their digests, which decide how they are augmented.
    """
    load, turns = image_loader(spec, max_pixels), threading.Semaphore(engine.streams)
    augment = spec.augmentation.of_arrays() if views > 1 else None

    def looks(file: ImageToRead) -> list[np.ndarray] | Unreadable:
        pixels = load(file)
        if isinstance(pixels, Unreadable):
            return pixels
        seeds = [spec.augmentation.seed_of(file.digest, view) for view in range(1, views)]
        return [pixels, *(augment(pixels, seed) for seed in seeds if augment)]

    def through_engine(pixels: list[np.ndarray]) -> list[np.ndarray]:
        with turns:
            return engine(np.stack(pixels))  # [n, *tap.shape] for each tap

    def compute(batch: list[ImageToRead]) -> list[list[np.ndarray] | Unreadable]:
        loaded = [looks(file) for file in batch]
        pixels = [look for found in loaded if not isinstance(found, Unreadable) for look in found]
        parts = [through_engine(part) for part in _batches(pixels, engine.batch_size)]
        rows = zip(*(part[0] if len(part) == 1 else np.concatenate(part) for part in zip(*parts)))  # a list of taps an image
        if not views:
            return [found if isinstance(found, Unreadable) else list(next(rows)) for found in loaded]
        return [
            found if isinstance(found, Unreadable) else [np.stack(tap) for tap in zip(*islice(rows, views))]
            for found in loaded
        ]

    threads = max(engine.streams, cores()) + READ_AHEAD
    size = engine.batch_size * max(1, views) * 4 * sum(tap.size for tap in spec.taps)  # bytes of a batch's features
    ahead = max(threads, min(2 * threads, WAITING_BYTES // max(1, size)))
    with ThreadPoolExecutor(threads) as pool:
        for batch in _in_order(pool, compute, _batches(files, engine.batch_size), ahead):
            yield from batch


def image_loader(spec: FeatureSpec, max_pixels: int) -> Callable[[ImageToRead], np.ndarray | Unreadable]:
    """From a file to its pixels, float32 [H, W, 3] in 0..255, or why there are none."""
    resize, least = resizer(spec), images.least_size(spec)
    room = ByteBudget(DECODED_BYTES)

    def load(file: ImageToRead) -> np.ndarray | Unreadable:
        data = _read(file)
        if isinstance(data, Unreadable):
            return data
        try:
            with room.held(images.decoded_bytes(data)):
                return resize(images.decode_image(data, max_pixels, least))
        except DecodeError as error:
            return Unreadable("decode", str(error))

    return load


def _read(file: ImageToRead) -> bytes | Unreadable:
    """A file's content, if it is still the one that was surveyed."""
    try:
        with open(file.path, "rb") as opened:
            data = opened.read()
    except (OSError, ValueError) as error:
        return Unreadable("read", getattr(error, "strerror", None) or str(error))
    if file.digest and hashlib.sha256(data).hexdigest() != file.digest:
        return Unreadable("read", "the file changed after it was surveyed")
    return data


class ByteBudget:
    """Lets threads hold so many bytes at once; who asks for more than all of them waits until nobody else holds any."""

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
            with self.changed:
                self.in_use -= size
                self.changed.notify_all()


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Like pool.map, but never more than `ahead` items before the one that is taken."""
    under_way: deque[Future[Result]] = deque()
    for item in items:
        under_way.append(pool.submit(function, item))
        if len(under_way) >= ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()
