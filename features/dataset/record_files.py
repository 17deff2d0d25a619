"""TFRecord files of tf.train.Example in, the images in them out, each as a stretch of its file. Nothing is decoded.

Messages are walked on the wire, because what is asked for is where an image lies and not only what it is.
Source: https://protobuf.dev/programming-guides/encoding/, tensorflow/core/example/example.proto
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from headstart.features import tfrecord
from headstart.features.dataset.labels import in_a_cell
from headstart.features.errors import UserError, nearest
from headstart.features.images.file_kinds import image_format, not_an_image
from headstart.features.places import place
from headstart.features.places.within import stretch

BYTES_LIST, INT64_LIST = 1, 3  # fields of tf.train.Feature


@dataclass(frozen=True)
class RecordFile:
    """A TFRecord file: its path, its name in keys, and the split of its images ('' when nobody says)."""

    path: str
    name: str
    split: str = ""


@dataclass(frozen=True)
class RecordFields:
    """Which fields of an Example are the image and its label, and what numbers of labels are called, by number.

    A label may be several where there is a delimiter, which joins them; with label '' nobody asks for labels.
    """

    image: str = "image/encoded"
    label: str = "image/class/label"
    names: tuple[str, ...] = ()
    delimiter: str = ""

    def __post_init__(self) -> None:
        if self.delimiter and (holding := [name for name in self.names if self.delimiter in name]):
            raise UserError(
                "bad-flag", f"the class {holding[0]!r} holds --label_delimiter {self.delimiter!r}: take another one"
            )

    @property
    def has_one_label(self) -> bool:
        """Whether an image must have one label: of several there may be none."""
        return bool(self.label) and not self.delimiter

    def class_of(self, label: int | bytes) -> str:
        """A label's name.

        Raises:
            ValueError: for a number without a name, or a name that holds the delimiter.
        """
        name = self._name(label)
        if self.delimiter and self.delimiter in name:
            raise ValueError(f"its label {name!r} holds the delimiter {self.delimiter!r}: take another --label_delimiter")
        return name

    def _name(self, label: int | bytes) -> str:
        if isinstance(label, bytes):
            return label.decode("utf-8", "surrogateescape")
        if self.names and not 0 <= label < len(self.names):
            raise ValueError(f"its label is {label}, and there are names for 0 to {len(self.names) - 1}")
        return self.names[label] if self.names else str(label)


class RecordImage(NamedTuple):
    """An image in a record: its key, where its bytes lie, how many, their digest, its label, and what is wrong with it."""

    key: str
    path: str
    size: int
    digest: str
    label: str
    problem: str = ""


class Value(NamedTuple):
    """A value of an Example's field: a number, or where its bytes begin in the Example, and end."""

    number: int = 0
    start: int = 0
    end: int = 0
    is_bytes: bool = False


def images_in(file: RecordFile, fields: RecordFields) -> Iterator[RecordImage]:
    """Every image of a file, in order; one that is damaged or lacks its label has no digest, and what is wrong with it.

    Raises:
        OSError: when the file can't be read.
        UserError: when its first record has no such fields, or it is no TFRecord file.
    """
    number, pieces = 0, place.opened(file.path)[1]
    for number, record in enumerate(tfrecord.framed(pieces)):
        key = f"{file.name}/{number}"
        if isinstance(record, tfrecord.Damage):
            if number == 0 and record.is_last:
                raise UserError("bad-input", f"{file.path!r} is no TFRecord file: {record}")
            rest = ", and what follows it is lost" if record.is_last else ""
            yield RecordImage(key, file.path, 0, "", "", f"{record}{rest}")
            continue
        try:
            yield _image(key, file, fields, record)
        except (ValueError, IndexError) as error:
            if number == 0:
                raise UserError("bad-input", f"{file.path!r}, record 0: {error}") from None
            yield RecordImage(key, file.path, 0, "", "", str(error))


def _image(key: str, file: RecordFile, fields: RecordFields, record: tfrecord.Record) -> RecordImage:
    found = first_values(record.content)
    needed = (fields.image, fields.label) if fields.has_one_label else (fields.image,)
    missing = [name for name in needed if name not in found]
    if missing:
        flag = "--image_field" if missing[0] == fields.image else "--label_field"
        raise ValueError(f"it has no field {missing[0]!r} ({flag}).{nearest(missing[0], found)} It has: {', '.join(found)}")
    image = found[fields.image]
    if not image.is_bytes:
        raise ValueError(f"its field {fields.image!r} holds numbers, and not an encoded image")
    encoded = record.content[image.start : image.end]
    labels = [found[fields.label]] if fields.has_one_label else all_values(record.content, fields.label)
    names = [fields.class_of(record.content[each.start : each.end] if each.is_bytes else each.number) for each in labels]
    if fields.has_one_label and not names[0].strip():
        return RecordImage(key, file.path, 0, "", "", "its label is empty")
    path = stretch(file.path, record.offset + image.start, len(encoded))
    problem = "" if image_format(encoded) else not_an_image(encoded)
    return RecordImage(
        key, path, len(encoded), hashlib.sha256(encoded).hexdigest(), in_a_cell(names, fields.delimiter), problem
    )


def first_values(example: bytes) -> dict[str, Value]:
    """The first value of each field of a tf.train.Example that holds bytes or whole numbers.

    Raises:
        ValueError, IndexError: when it is none.
    """
    found = {}
    for name, start, end in _features(example):
        value = next(_values(example, start, end), Value())
        if value != Value() or not name:
            found[name] = value
    return found


def all_values(example: bytes, wanted: str) -> list[Value]:
    """All values of a field of a tf.train.Example that holds bytes or whole numbers; none where it has no such field.

    Raises:
        ValueError, IndexError: when it is no tf.train.Example.
    """
    return [value for name, *ends in _features(example) if name == wanted for value in _values(example, *ends)]


def _features(example: bytes) -> Iterator[tuple[str, int, int]]:
    """The name of each field, and where its tf.train.Feature begins and ends."""
    for _, start, end in _inside(example, 0, len(example), 1):  # Example.features
        for _, at, until in _inside(example, start, end, 1):  # Features.feature, a map
            name, ends = "", (0, 0)
            for field, first, last in _inside(example, at, until, 1, 2):
                if field == 1:
                    name = example[first:last].decode("utf-8", "surrogateescape")
                else:
                    ends = (first, last)
            yield name, *ends


def _values(example: bytes, start: int, end: int) -> Iterator[Value]:
    """The values of a tf.train.Feature."""
    for kind, at, until in _inside(example, start, end, BYTES_LIST, INT64_LIST):
        if kind == BYTES_LIST:
            for _, first, last in _inside(example, at, until, 1):
                yield Value(start=first, end=last, is_bytes=True)
            continue
        while at < until:  # a list of numbers, packed or not: a tag, then the length where it is packed
            tag, at = _varint(example, at)
            length, at = _varint(example, at) if tag & 7 == 2 else (1, at)
            stop = at + length
            while at < stop:
                number, after = _varint(example, at)
                yield Value(number=number - (1 << 64) if number >> 63 else number, start=at, end=at)
                at = after


def _inside(data: bytes, at: int, end: int, *wanted: int) -> Iterator[tuple[int, int, int]]:
    """(field, start, end) of the fields of a message that have lengths and are wanted; others are passed over."""
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 2:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("it is no tf.train.Example")
            if tag >> 3 in wanted:
                yield tag >> 3, at, at + length
            at += length
        elif kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("it is no tf.train.Example")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("it is no tf.train.Example")


def read_all(files: Iterable[RecordFile], fields: RecordFields) -> Iterator[RecordImage]:
    """The images of several files."""
    for file in files:
        yield from images_in(file, fields)
