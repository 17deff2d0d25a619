"""Encoded images of a store's training split, kept beside its shards: written, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

from headstart.features import tfrecord
from headstart.features.store import record

SAMPLE = "sample.tfrecord"
MAX_IMAGES, MIN_IMAGES, MAX_BYTES = 64, 8, 16 << 20  # images at most; as many as the least even where they take more bytes


class SampleImage(NamedTuple):
    """One of the encoded images that the store keeps of its training split."""

    key: str
    digest: str
    labels: tuple[int, ...]
    encoded: bytes

    @property
    def label(self) -> int:
        """The only one."""
        (label,) = self.labels
        return label


def write_sample(file: BinaryIO, images: Iterable[SampleImage]) -> None:
    """Writes the first images, as many as a sample takes; no more of them are asked for."""
    for kept, image in enumerate(images, 1):
        content = record.encode(image.key, image.digest, image.labels, {"encoded": image.encoded})
        tfrecord.write_record(file, content)
        if kept == MAX_IMAGES or (kept >= MIN_IMAGES and file.tell() > MAX_BYTES):
            break


def read_sample(path: str) -> Iterator[SampleImage]:
    """Reads what `write_sample` wrote.

    Raises:
        ValueError: at the first record that is damaged.
    """
    for content in tfrecord.read_records(path):
        field = record.parser().FromString(content).features.feature
        key, digest, encoded = (field[name].bytes_list.value[0] for name in ("key", "digest", "encoded"))
        labels = tuple(field["label"].int64_list.value)
        yield SampleImage(key.decode("utf-8", "surrogateescape"), digest.decode(), labels, encoded)
