"""Random damage without end: files of every format into the decoder, shards into the reader.

    python -m tests.fuzz [--seconds 60] [--seed 0]          (make fuzz)

Whatever comes in, a decoder gives pixels or a DecodeError and a reader records, a ValueError or a UserError. What breaks
that is kept as a file, and its name and seed are printed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
import warnings

import numpy as np

from headstart.features import tfrecord
from headstart.features.errors import DecodeError, UserError
from headstart.features.images.decode import decode_image
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store import record
from tests import corpus

SPEC = FeatureSpec("EfficientNetLite0", "0" * 64, (8, 8), (Tap("a", "avg", (4,)), Tap("b", "none", (2, 2, 3))), "none")
MAX_PIXELS = 4_000_000


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """One to eight changes: bits flipped, bytes set, parts cut out, doubled or zeroed."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 9)):
        if not changed:
            break
        at, size = int(generator.integers(len(changed))), int(generator.integers(1, 33))
        match generator.integers(5):
            case 0:
                changed[at] ^= 1 << int(generator.integers(8))
            case 1:
                changed[at] = int(generator.choice([0, 1, 0x7F, 0x80, 0xFF]))
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size]
            case _:
                changed[at : at + size] = bytes(min(size, len(changed) - at))
    return bytes(changed)


def decoded(content: bytes) -> None:
    """Decodes a file's bytes whole and at a fraction.

    Raises:
        AssertionError: when what comes out are no pixels.
    """
    for least in (None, (8, 8)):
        try:
            pixels = decode_image(content, MAX_PIXELS, least, "auto")
        except DecodeError:
            continue
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise AssertionError(f"the decoder gave {pixels.dtype} {pixels.shape}")


def read(content: bytes) -> None:
    """Reads a shard's bytes as records."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            for found in tfrecord.read_records(file.name):
                record.decode(found, SPEC)
        except (ValueError, UserError):
            pass


def shard() -> bytes:
    """A few records, as a shard has them."""
    features = {"a:avg": bytes(8), "b:none": bytes(24)}
    with tempfile.TemporaryFile() as file:
        return b"".join(tfrecord.write_record(file, record.encode(f"k{n}", "0" * 64, [n], features)) for n in range(4))


def fuzz(seed: int, seconds: float, most: int | None = None) -> int:
    """Damages files until the time, or the number of tries, is over; returns how many were tried.

    Raises:
        AssertionError: naming the file that the first wrong outcome was kept in.
    """
    images, records = [content for _, content in corpus.whole_files() if len(content) < 20_000], shard()
    until = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > until or number == most:
            return number
        generator = np.random.default_rng([seed, number])
        aim, content = (read, records) if number % 4 == 0 else (decoded, images[int(generator.integers(len(images)))])
        content = damaged(content, generator)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                aim(content)
        except Exception as error:
            path = os.path.join(tempfile.gettempdir(), f"fuzz-{seed}-{number}")
            with open(path, "wb") as file:
                file.write(content)
            raise AssertionError(f"{aim.__name__} failed on {path} (seed {seed}, try {number})") from error
    raise AssertionError


def main() -> None:
    """Fuzzes, and says how much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"{fuzz(args.seed, args.seconds):,} damaged files, each decoded or refused", file=sys.stderr)


if __name__ == "__main__":
    main()
