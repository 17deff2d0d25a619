"""Image files in, features out, in order: read, decode, resize, backbone, in batches, several under way at once.

Extraction, evaluation and prediction all go this way.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from features import images
from features.engine import Engine
from features.errors import DecodeError
from features.spec import FeatureSpec

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
    files: Iterable[ImageToRead], spec: FeatureSpec, engine: Engine, streams: int, max_pixels: int = images.MAX_PIXELS
) -> Iterator[list[np.ndarray] | Unreadable]:
    """One result for each file, in order: its features (float32 [*tap.shape] for each tap), or why there are none.

    Args:
        files: any number; they are read as results are taken, a few batches ahead, so memory stays flat.
        spec: how they are resized.
        engine: the backbone, and the size of a batch.
        streams: batches under way at once.
        max_pixels: an image of more is refused before it is decoded.
    """
    resize = images.resizer(spec)

    def compute(batch: list[ImageToRead]) -> list[list[np.ndarray] | Unreadable]:
        loaded = [_load(file, resize, max_pixels) for file in batch]
        pixels = [item for item in loaded if not isinstance(item, Unreadable)]
        maps = engine(np.stack(pixels)) if pixels else []  # [n, *tap.shape] for each tap
        features = (list(row) for row in zip(*maps))
        return [item if isinstance(item, Unreadable) else next(features) for item in loaded]

    with ThreadPoolExecutor(streams) as pool:
        for batch in _in_order(pool, compute, _batches(files, engine.batch_size), ahead=2 * streams):
            yield from batch


def _load(file: ImageToRead, resize: Callable[[np.ndarray], np.ndarray], max_pixels: int) -> np.ndarray | Unreadable:
    """An image's pixels, float32 [H, W, 3] in 0..255, or why there are none."""
    try:
        with open(file.path, "rb") as opened:
            data = opened.read()
    except (OSError, ValueError) as error:
        return Unreadable("read", getattr(error, "strerror", None) or str(error))
    if file.digest and hashlib.sha256(data).hexdigest() != file.digest:
        return Unreadable("read", "the file changed after it was surveyed")
    try:
        return resize(images.decode_image(data, max_pixels))
    except DecodeError as error:
        return Unreadable("decode", str(error))


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
