"""One example's layout on disk: a tf.train.Example, encoded and parsed side by side.

| field       | type        | content                                                       |
|-------------|-------------|---------------------------------------------------------------|
| key         | bytes       | the image's path below the input, UTF-8                        |
| digest      | bytes       | sha256 of the image file, hex                                  |
| label       | int64 list  | class ids: one, or as many as the image has                    |
| view        | int64       | which view of the image: 0 is the plain one, others are augmented |
| LAYER:POOL  | bytes       | the tap's feature, C order, little endian, in the store's dtype |
| padding     | bytes       | zeros, so that all records of a shard have one length           |
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from headstart.features.errors import UserError
from headstart.features.runtime import load_tensorflow
from headstart.features.spec import DTYPE_BYTES, FeatureSpec, Tap
from headstart.features.tfrecord import HEADER_BYTES, framed_length, unframed_length

LARGEST = {"float16": 65_520.0, "bfloat16": 3.3961775e38, "float32": float("inf")}  # from here on, infinity

ALIGNMENT = 64  # bytes that a record of a shard takes are a multiple of this, so that records begin at such places


def numpy_dtype(name: str) -> np.dtype[Any]:
    """A store dtype's name as a numpy dtype; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<")


def pack(feature: np.ndarray, tap: Tap, store_dtype: str) -> bytes:
    """A float32 feature as the bytes that are stored.

    Raises:
        UserError: when a value is beyond the storage dtype (float16 ends at 65,504) or not finite.
    """
    largest = float(np.abs(feature).max(initial=0))
    if not largest < LARGEST[store_dtype]:  # NaN is not either
        if not np.isfinite(largest):
            raise UserError(
                "bad-numbers", f"tap {tap.name} gives {largest:g} before it is stored: these weights do not suit these images"
            )
        raise UserError(
            "bad-numbers",
            f"tap {tap.name} gives {largest:g}, which {store_dtype} can't hold: take --store_dtype bfloat16 or float32",
        )
    return feature.astype(numpy_dtype(store_dtype)).tobytes()


def encode(key: str, digest: str, labels: Sequence[int], packed: dict[str, bytes], length: int = 0, view: int = 0) -> bytes:
    """One record's bytes; equal arguments give equal bytes.

    Args:
        key: the image's path below the input.
        digest: sha256 of the image file, hex.
        labels: class ids.
        packed: each tap's bytes by the tap's name.
        length: bytes that the record shall have, from `common_length`; 0 for what it needs.
        view: which view of the image it is.

    The encoding is protobuf's own, written by hand because the order matters: taps first, so that they lie at the same place
    in every record of a shard, then what varies, then the padding that makes up for it.
    Source: https://protobuf.dev/programming-guides/encoding
    """
    entries = b"".join(_entry(name, _bytes_feature(packed[name])) for name in sorted(packed))
    entries += _identity(key, digest, labels, view)
    if length:
        entries += _padding(length - (_header_of_example(length) or 0) - len(entries))
    record = _delimited(1, entries)
    if length and len(record) != length:
        raise AssertionError(f"the record of {key!r} takes {len(record):,} bytes, {length:,} were asked for")
    return record


def record_lengths(spec: FeatureSpec, rows: Iterable[tuple[str, str, Sequence[int]]], views: int = 1) -> list[int]:
    """The lengths that the records of (key, digest, labels) will have at most in a store of the spec, before any padding."""
    sizes = ((tap.name, tap.size * DTYPE_BYTES[spec.store_dtype]) for tap in spec.taps)
    taps = sum(len(_entry(name, _bytes_feature(bytes(size)))) for name, size in sizes)
    entries = (taps + len(_identity(*row, view=views - 1)) for row in rows)
    return [1 + len(_varint(size)) + size for size in entries]


def common_length(lengths: Sequence[int]) -> int:
    """The least length that records of these lengths can be padded to, taking a multiple of ALIGNMENT in a file."""
    first = -(-framed_length(max(lengths)) // ALIGNMENT) * ALIGNMENT
    candidates = (unframed_length(framed) for framed in itertools.count(first, ALIGNMENT))
    return next(length for length in candidates if all(_can_pad(own, length) for own in set(lengths)))


def _can_pad(own: int, length: int) -> bool:
    header = _header_of_example(length)
    if header is None:
        return False
    padding = (length - header) - (own - (_header_of_example(own) or 0))
    return padding == 0 or _pad_content(padding) is not None


def tap_offsets(taps: Sequence[Tap], store_dtype: str, length: int) -> dict[str, int]:
    """Where each tap's bytes begin in a record of a length, from the start of its framing."""
    offsets, at = {}, HEADER_BYTES + (_header_of_example(length) or 0)
    for tap in sorted(taps, key=lambda tap: tap.name):
        size = tap.size * DTYPE_BYTES[store_dtype]
        entry = len(_entry(tap.name, _bytes_feature(bytes(size))))
        offsets[tap.name] = at + entry - size
        at += entry
    return offsets


def _padding(size: int) -> bytes:
    """An entry of `size` bytes that nobody reads."""
    content = _pad_content(size)
    return b"" if content is None else _pad(content)


@functools.lru_cache(4096)
def _pad_content(size: int) -> int | None:
    """How much an entry of `size` bytes pads; None where none has that size, since lengths from 128 on take another byte."""
    return next((content for content in range(max(0, size - 40), size) if len(_pad(content)) == size), None)


def _identity(key: str, digest: str, labels: Sequence[int], view: int) -> bytes:
    return b"".join(
        (
            _entry("digest", _bytes_feature(digest.encode())),
            _integers("label", tuple(labels)),
            _integers("view", (view,)),
            _entry("key", _bytes_feature(key.encode("utf-8", "surrogateescape"))),
        )
    )


def _pad(content: int) -> bytes:
    return _entry("padding", _bytes_feature(bytes(content)))


@functools.lru_cache(4096)
def _header_of_example(length: int) -> int | None:
    """The bytes of a record before its first entry; None where no record has that length."""
    return next((size for size in range(2, 12) if size == 1 + len(_varint(length - size))), None)


def _entry(name: str, feature: bytes) -> bytes:
    """An entry of the map in Features."""
    return _delimited(1, _delimited(1, name.encode()) + _delimited(2, feature))


def _bytes_feature(value: bytes) -> bytes:
    return _delimited(1, _delimited(1, value))


@functools.lru_cache(4096)
def _integers(name: str, values: tuple[int, ...]) -> bytes:
    return _entry(name, _delimited(3, _delimited(1, b"".join(map(_varint, values)))))


def _delimited(field: int, content: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(content)) + content


@functools.lru_cache(4096)
def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


@functools.cache
def parser() -> Any:
    """`tf.train.Example`; TensorFlow is loaded for it as quietly as elsewhere, by whoever comes here first."""
    load_tensorflow()
    import tensorflow as tf

    return tf.train.Example


def packed_features(record: bytes, taps: tuple[Tap, ...], store_dtype: str) -> dict[str, bytes]:
    """The taps' bytes of a record, to be copied as they are."""
    return {name: record[place] for name, place in _places(taps, store_dtype, len(record)).items()}


@functools.lru_cache(64)
def _places(taps: tuple[Tap, ...], store_dtype: str, length: int) -> dict[str, slice]:
    """Where each tap's bytes lie in a record of a length, without its framing."""
    offsets = tap_offsets(taps, store_dtype, length)
    starts = {tap: offsets[tap.name] - HEADER_BYTES for tap in taps}
    return {tap.name: slice(start, start + tap.size * DTYPE_BYTES[store_dtype]) for tap, start in starts.items()}


class StoredExample(NamedTuple):
    """A record, decoded."""

    key: str
    digest: str
    labels: tuple[int, ...]
    features: dict[str, np.ndarray]  # tap name -> [*tap.shape], the store's dtype
    view: int = 0

    @property
    def label(self) -> int:
        """The only one."""
        (label,) = self.labels
        return label


def decode(record: bytes, spec: FeatureSpec) -> StoredExample:
    """A record's key, digest, labels and features."""
    field = parser().FromString(record).features.feature
    key, digest = (field[name].bytes_list.value[0] for name in ("key", "digest"))
    dtype = numpy_dtype(spec.store_dtype)
    features = {tap.name: np.frombuffer(field[tap.name].bytes_list.value[0], dtype).reshape(tap.shape) for tap in spec.taps}
    labels, (view,) = (tuple(field[name].int64_list.value) for name in ("label", "view"))
    return StoredExample(key.decode("utf-8", "surrogateescape"), digest.decode(), labels, features, view)
