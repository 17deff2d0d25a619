"""A TFLite model and its class names in, the same model out that carries them, as MediaPipe's image classifier reads them.

The format is a table in the model (`TFLITE_METADATA`), which says what goes in and which file names what comes out; the files
are a zip archive behind the model: `unzip -p model.tflite labels.txt`. The package that writes it, tflite-support, is for an
older Python. Source: https://github.com/tensorflow/tflite-support, metadata_schema.fbs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

TABLE, IDENTIFIER = "TFLITE_METADATA", b"M001"
NORMALIZATION, IMAGE = 1, 2  # of the schema's unions
RGB, AXIS_LABELS = 1, 2  # of its enumerations


def with_metadata(model: bytes, labels: bytes, labels_name: str, texts: Mapping[str, str]) -> bytes:
    """The model with what there is to know of its input and output.

    Args:
        model: of one input, an image of 0..255, and one output, a probability for each class.
        labels: a name a line, in the order of the classes.
        labels_name: what their file is called.
        texts: more of it by name, for programs: what other formats carry in their metadata.
    """
    read = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    read.metadata = read.metadata or []
    for name, content in {**{name: text.encode() for name, text in texts.items()}, TABLE: _table_of(labels_name)}.items():
        entry, buffer = schema.MetadataT(), schema.BufferT()
        buffer.data = content
        entry.name, entry.buffer = name, len(read.buffers)
        read.buffers.append(buffer)
        read.metadata.append(entry)
    packed = io.BytesIO(bytes(flatbuffer_utils.convert_object_to_bytearray(read)))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(zipfile.ZipInfo(labels_name), labels)  # not compressed, and without the time of day
    return packed.getvalue()


def _table_of(labels_name: str) -> bytes:
    """The table: an RGB image that is taken as it is, and an output whose classes a file names."""
    builder = flatbuffers.Builder()
    names = _offsets(builder, [_table(builder, {0: builder.CreateString(labels_name), 2: _byte(AXIS_LABELS)})])
    as_it_is = _table(builder, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})  # mean and deviation
    unit = _offsets(builder, [_table(builder, {0: _byte(NORMALIZATION), 1: as_it_is})])
    content = _table(builder, {0: _byte(IMAGE), 1: _table(builder, {0: _byte(RGB)})})
    image = _offsets(builder, [_table(builder, {0: builder.CreateString("image"), 3: content, 4: unit})])
    answers = _offsets(builder, [_table(builder, {0: builder.CreateString("probabilities"), 6: names})])
    graph = _offsets(builder, [_table(builder, {2: image, 3: answers})])
    builder.Finish(_table(builder, {3: graph, 7: builder.CreateString("1.0.0")}), IDENTIFIER)
    return bytes(builder.Output())


def _byte(value: int) -> bytes:
    return bytes([value])


def _table(builder: flatbuffers.Builder, slots: Mapping[int, Any]) -> int:
    """A table of bytes and of offsets, by their numbers in the schema."""
    builder.StartObject(max(slots) + 1)
    for slot, value in slots.items():
        if isinstance(value, bytes):
            builder.PrependUint8Slot(slot, value[0], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _offsets(builder: flatbuffers.Builder, values: Sequence[int]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependUOffsetTRelative(value)
    return builder.EndVector()


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return builder.EndVector()
