"""ShardReader: written, read back, byte-equal; and damage found with its path and offset."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.errors import UserError
from headstart.features.spec import STORE_DTYPES, FeatureSpec, Tap
from headstart.features.store.record import (
    ALIGNMENT,
    common_length,
    decode,
    encode,
    numpy_dtype,
    pack,
    packed_features,
    record_lengths,
    tap_offsets,
)
from headstart.features.tfrecord import framed_length, read_records, record_offsets, write_record

TAPS = (Tap("block5/out", "avg", (6,)), Tap("block4", "none", (2, 3, 4)))


def spec(store_dtype: str) -> FeatureSpec:
    return FeatureSpec("VGG16", "0" * 64, (32, 32), TAPS, "caffe", store_dtype=store_dtype)


def features(seed: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).normal(0, 100, tap.shape).astype(np.float32) for tap in TAPS]


def encoded(number: int, store_dtype: str = "float16") -> bytes:
    packed = {tap.name: pack(feature, tap, store_dtype) for tap, feature in zip(TAPS, features(number))}
    return encode(f"cat/ä {number}.jpg", f"{number:064x}", [number % 3], packed)


def written(path: Path, count: int = 5) -> list[bytes]:
    records = [encoded(number) for number in range(count)]
    with open(path, "wb") as file:
        for record in records:
            write_record(file, record)
    return records


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
@pytest.mark.parametrize("number", [0, 1])
def test_a_batch_reads_back_eagerly_and_inside_tf_data(store_dtype: str, number: int) -> None:
    import tensorflow as tf

    tap, records = TAPS[number], [encoded(i, store_dtype) for i in range(5)]
    expected = np.stack([features(i)[number] for i in range(5)]).astype(numpy_dtype(store_dtype))
    strings = {name: tf.io.FixedLenFeature((), tf.string) for name in ("key", "digest", tap.name)}
    fields = {**strings, "label": tf.io.FixedLenFeature((1,), tf.int64)}
    dataset = tf.data.Dataset.from_tensor_slices(records).batch(5).map(lambda batch: tf.io.parse_example(batch, fields))
    for batch in (tf.io.parse_example(tf.constant(records), fields), next(iter(dataset))):
        assert b"".join(batch[tap.name].numpy()) == expected.tobytes()
        assert [key.decode() for key in batch["key"].numpy()] == [f"cat/ä {i}.jpg" for i in range(5)]
        assert [key.decode() for key in batch["digest"].numpy()] == [f"{i:064x}" for i in range(5)]
        assert batch["label"].numpy().tolist() == [[0], [1], [2], [0], [1]] and batch["label"].dtype.name == "int64"


def test_float32_is_stored_as_it_is() -> None:
    feature = features(0)[0]
    assert pack(feature, TAPS[0], "float32") == feature.astype("<f4").tobytes()
    assert len(pack(feature, TAPS[0], "float16")) == len(pack(feature, TAPS[0], "bfloat16")) == 12


def test_equal_arguments_give_equal_bytes_in_any_order() -> None:
    packed = {tap.name: pack(feature, tap, "float16") for tap, feature in zip(TAPS, features(0))}
    backwards = dict(reversed(packed.items()))
    assert encode("a", "d", [1], packed) == encode("a", "d", [1], packed) == encode("a", "d", [1], backwards)


@pytest.mark.parametrize("store_dtype", STORE_DTYPES)
@pytest.mark.parametrize("taps", [TAPS, TAPS[::-1], TAPS[:1]])
def test_a_record_s_features_are_copied_as_they_are(taps: tuple[Tap, ...], store_dtype: str) -> None:
    packed = {tap.name: pack(feature, tap, store_dtype) for tap, feature in zip(TAPS, features(0)) if tap in taps}
    least = len(encode("a", "d", [1, 2], packed, view=3))
    for length in (0, least, common_length([least]), common_length([400]), common_length([5_000])):
        assert packed_features(encode("a", "d", [1, 2], packed, length, view=3), taps, store_dtype) == packed


def test_a_key_that_is_not_utf_8_is_stored_as_its_bytes() -> None:
    import tensorflow as tf

    record = encode(b"cat/\xff.jpg".decode("utf-8", "surrogateescape"), "d", [1], {})
    assert tf.train.Example.FromString(record).features.feature["key"].bytes_list.value[0] == b"cat/\xff.jpg"


@pytest.mark.parametrize(
    ("value", "store_dtype", "message"),
    [
        (
            70_000.0,
            "float16",
            "tap block5.out:avg gives 70000, which float16 can't hold: take --store_dtype bfloat16 or float32",
        ),
        (-1e6, "float16", r"gives 1e\+06, which float16"),
        (3.4e38, "bfloat16", r"gives 3.4e\+38, which bfloat16"),
        (np.nan, "float32", "gives nan before it is stored"),
        (np.inf, "float32", "gives inf before it is stored"),
    ],
)
def test_what_the_dtype_cannot_hold_is_refused(value: float, store_dtype: str, message: str) -> None:
    feature = np.zeros(6, np.float32)
    feature[3] = value
    with pytest.raises(UserError, match=message):
        pack(feature, TAPS[0], store_dtype)


def test_the_largest_float16_is_kept() -> None:
    feature = np.full(6, 65_504, np.float32)
    assert np.frombuffer(pack(feature, TAPS[0], "float16"), "<f2").tolist() == feature.tolist()


def test_a_file_is_the_one_that_tensorflow_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    records = [*written(tmp_path / "ours"), b""]
    with open(tmp_path / "ours", "ab") as file:
        write_record(file, b"")
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert list(tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()) == records
    assert list(read_records(str(tmp_path / "theirs"))) == records


def test_write_record_returns_what_it_wrote() -> None:
    file = io.BytesIO()
    framed = write_record(file, b"hello")
    assert framed == file.getvalue() and len(framed) == 12 + 5 + 4


def test_offsets_lead_to_each_record(tmp_path: Path) -> None:
    records = written(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    assert [content[at : at + length] for at, length in record_offsets(str(tmp_path / "file"))] == records
    (tmp_path / "empty").touch()
    assert record_offsets(str(tmp_path / "empty")) == []


def test_truncation_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, 3)
    content = path.read_bytes()
    starts = [at - 12 for at, _ in record_offsets(str(path))]
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        if size in starts:  # a whole number of records: only the manifest can tell
            assert len(record_offsets(str(path))) == starts.index(size)
            continue
        start = max(start for start in starts if start < size)
        with pytest.raises(ValueError, match=f"^{path} is damaged at byte {start}$"):
            record_offsets(str(path))


def test_a_flipped_byte_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, 2)
    content, (first, second) = path.read_bytes(), record_offsets(str(path))
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        offset = first[0] if at < second[0] - 12 else second[0]
        in_header = at < 12 or second[0] - 12 <= at < second[0]
        where = f"at byte {offset - 12}" if in_header else f"in the record at byte {offset}"
        with pytest.raises(ValueError, match=f"^{path} is damaged {where}$"):
            list(read_records(str(path)))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.text(max_size=300), st.integers(0, 2**40)), min_size=1, max_size=8), st.sampled_from(STORE_DTYPES)
)
def test_records_of_any_keys_get_one_length_and_their_taps_one_place(rows: list[tuple[str, int]], store_dtype: str) -> None:
    import tensorflow as tf

    keys = [key.encode("utf-8", "ignore").decode() for key, _ in rows]
    identities = [(key, f"{number:064x}", [label]) for number, (key, (_, label)) in enumerate(zip(keys, rows))]
    packed = {tap.name: pack(feature, tap, store_dtype) for tap, feature in zip(TAPS, features(0))}
    lengths = record_lengths(spec(store_dtype), identities)
    assert lengths == [len(encode(*identity, packed)) for identity in identities]
    length = common_length(lengths)
    records = [encode(*identity, packed, length) for identity in identities]
    assert (
        {len(record) for record in records} == {length}
        and length <= max(lengths) + 300
        and framed_length(length) % ALIGNMENT == 0
    )
    for record, (key, digest, labels) in zip(records, identities):
        field = tf.train.Example.FromString(record).features.feature
        assert field["key"].bytes_list.value[0] == key.encode() and list(field["label"].int64_list.value) == labels
        assert decode(record, spec(store_dtype))[:3] == (key, digest, tuple(labels))
        framed = b"x" * 12 + record
        for name, at in tap_offsets(TAPS, store_dtype, length).items():
            assert framed[at : at + len(packed[name])] == packed[name]


@pytest.mark.parametrize("size", [0, 100, 127, 128, 16_000, 16_384, 2_097_152])
def test_a_tap_of_any_size_is_found_at_its_place(size: int) -> None:
    taps = (Tap("a", "none", (size,)), Tap("b", "none", (3,)))
    packed = {tap.name: np.random.default_rng(0).bytes(4 * tap.size) for tap in taps}
    for key in ("k", "k" * 90, "k" * 200):
        content = encode(key, "d" * 64, [3], packed)
        offsets = tap_offsets(taps, "float32", len(content))
        for name, at in offsets.items():
            assert content[at - 12 : at - 12 + len(packed[name])] == packed[name]


def test_a_record_is_a_tensorflow_example_byte_for_byte_but_for_its_order() -> None:
    import tensorflow as tf

    example = tf.train.Example.FromString(encoded(1))
    assert len(example.SerializeToString()) == len(encoded(1)) and framed_length(len(encoded(1))) == len(encoded(1)) + 16
    assert sorted(example.features.feature) == ["block4:none", "block5.out:avg", "digest", "key", "label", "view"]


@pytest.mark.parametrize("more", [-1, 1, 5])
def test_a_record_has_the_length_that_it_is_asked_for_or_is_none(more: int) -> None:
    packed = {tap.name: pack(feature, tap, "float16") for tap, feature in zip(TAPS, features(0))}
    length = len(encode("a", "d", [1], packed)) + more  # less than it needs, or too little for an entry that pads
    with pytest.raises(AssertionError, match=rf"the record of 'a' takes \d+ bytes, {length:,} were asked for"):
        encode("a", "d", [1], packed, length)
