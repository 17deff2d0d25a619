"""Records in, a TFRecord file out, and back: lengths and checksums around each record, whatever it holds.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
HEADER_BYTES, FOOTER_BYTES = 12, 4


def framed_length(length: int) -> int:
    """The bytes that a record takes in its file."""
    return HEADER_BYTES + length + FOOTER_BYTES


def write_record(file: BinaryIO, record: bytes) -> bytes:
    """Appends one record to a TFRecord file and returns the bytes written, framing and checksums included."""
    length = _LENGTH.pack(len(record))
    framed = b"".join((length, masked_crc(length), record, masked_crc(record)))
    file.write(framed)
    return framed


def masked_crc(data: bytes) -> bytes:
    """The checksum that a TFRecord file carries beside each record's length and content, 4 bytes."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return _CRC.pack((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def record_offsets(path: str) -> list[tuple[int, int]]:
    """Where each record of a TFRecord file lies: (offset, length) of its bytes, by reading the framing alone.

    Raises:
        ValueError: naming the path and the offset, when the file ends inside a record.
    """
    offsets, position, size = [], 0, os.path.getsize(path)
    with open(path, "rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(HEADER_BYTES)
            length = _LENGTH.unpack(header[:8])[0] if len(header) == HEADER_BYTES else size
            end = position + HEADER_BYTES + length + FOOTER_BYTES
            if end > size or header[8:] != masked_crc(header[:8]):
                raise ValueError(f"{path} is damaged at byte {position}")
            offsets.append((position + HEADER_BYTES, length))
            position = end
    return offsets


def read_records(path: str) -> Iterator[bytes]:
    """Every record of a TFRecord file, each compared with its checksum.

    Raises:
        ValueError: naming the path and the offset, at the first that does not hold.
    """
    offsets = record_offsets(path)
    with open(path, "rb") as file:
        for offset, length in offsets:
            file.seek(offset)
            record = file.read(length)
            if file.read(FOOTER_BYTES) != masked_crc(record):
                raise ValueError(f"{path} is damaged in the record at byte {offset}")
            yield record


class Record(NamedTuple):
    """A record: where its content begins in its file, and the content."""

    offset: int
    content: bytes


class Damage(NamedTuple):
    """A record that is not what its checksums say, by where it begins; after a damaged length nothing else can be read."""

    offset: int
    is_last: bool

    def __str__(self) -> str:
        return f"its record is damaged at byte {self.offset}"


def framed(pieces: Iterable[bytes]) -> Iterator[Record | Damage]:
    """Every record of a TFRecord file that comes in pieces of any size, damaged ones too."""
    waiting, position, held = iter(pieces), 0, bytearray()

    def has(size: int) -> bool:
        while len(held) < size:
            piece = next(waiting, None)
            if piece is None:
                return False
            held.extend(piece)
        return True

    while has(1):
        if not has(HEADER_BYTES) or held[8:HEADER_BYTES] != masked_crc(bytes(held[:8])):
            yield Damage(position, True)
            return
        length = _LENGTH.unpack(held[:8])[0]
        if not has(framed_length(length)):
            yield Damage(position, True)
            return
        content = bytes(held[HEADER_BYTES : HEADER_BYTES + length])
        sound = held[HEADER_BYTES + length : framed_length(length)] == masked_crc(content)
        yield Record(position + HEADER_BYTES, content) if sound else Damage(position, False)
        del held[: framed_length(length)]
        position += framed_length(length)


def unframed_length(framed: int) -> int:
    """The inverse of `framed_length`."""
    return framed - HEADER_BYTES - FOOTER_BYTES


def unframed(framed: bytes) -> bytes:
    """A record's content, out of what it takes in its file."""
    return framed[HEADER_BYTES:-FOOTER_BYTES]


def is_intact(framed: bytes) -> bool:
    """Whether a record's length and content are what its checksums say."""
    length = _LENGTH.pack(len(framed) - HEADER_BYTES - FOOTER_BYTES)
    return framed[:HEADER_BYTES] == length + masked_crc(length) and framed[-FOOTER_BYTES:] == masked_crc(unframed(framed))
