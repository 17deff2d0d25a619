"""Images that come in TFRecord files, by a pattern or by their name in TFDS: the same store as from files in a folder."""

from __future__ import annotations

import contextlib
import csv
import pathlib
import struct
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from headstart.cli import main
from headstart.features import tfrecord
from headstart.features.dataset.record_files import Value, first_values
from headstart.features.dataset.sources import SourceOptions, read_source
from headstart.features.places import place
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.verify import faults
from tests.conftest import CLASSES, raises, small_backbone_flags

NUMBERS = {name: number for number, name in enumerate(CLASSES)}


def example(image: bytes, label: int | bytes) -> bytes:
    """What ImageNet's own scripts write: the two fields that count, and others."""
    feature = tf.train.Feature
    kind = (
        feature(bytes_list=tf.train.BytesList(value=[label]))
        if isinstance(label, bytes)
        else feature(int64_list=tf.train.Int64List(value=[label]))
    )
    fields = {
        "image/height": feature(int64_list=tf.train.Int64List(value=[48])),
        "image/mean": feature(float_list=tf.train.FloatList(value=[0.5, 0.25])),
        "image/encoded": feature(bytes_list=tf.train.BytesList(value=[image])),
        "image/class/label": kind,
    }
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


def write(path: pathlib.Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def images_of(photos: pathlib.Path, split: str) -> list[tuple[bytes, str]]:
    """(encoded, class) of a split's photos."""
    return [(path.read_bytes(), path.parent.name) for path in sorted(photos.glob(f"{split}/*/*"))]


@pytest.fixture
def folder(photos: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The photos as two files of records to train on, and one each to validate and test; and a file of the classes' names."""
    for split in ("train", "validation", "test"):
        records = [example(image, NUMBERS[name]) for image, name in images_of(photos, split)]
        parts = [records[::2], records[1::2]] if split == "train" else [records]
        for number, part in enumerate(parts):
            write(tmp_path / "records" / f"{split}-{number:05}-of-{len(parts):05}", part)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8-sig")  # as Windows writes it
    return tmp_path


def extract(source: str, store: pathlib.Path, *flags: str) -> int:
    return main(["extract", source, "--store", str(store), *flags, *small_backbone_flags()])


def features_of(store: str | pathlib.Path) -> dict[str, dict[str, tuple[str, bytes]]]:
    """Split to content digest to label and feature."""
    opened = FeatureStore.open(str(store))
    found: dict[str, dict[str, tuple[str, bytes]]] = {}
    for split in opened.splits:
        arrays = opened.to_numpy(split)
        for each, feature in zip(opened.examples(split), arrays.features):
            found.setdefault(split, {})[each.digest] = (each.labels[0], feature.tobytes())
    return found


def test_records_are_the_images_of_a_folder(
    folder: pathlib.Path, store: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, names = f"tfrecord:{folder}/records/*", ["--label_names", str(folder / "names.txt")]
    assert extract(source, folder / "store", *names) == 0
    assert features_of(folder / "store") == features_of(store) and not list(faults(str(folder / "store")))
    opened = FeatureStore.open(str(folder / "store"))
    assert opened.class_names == list(CLASSES) and opened.manifest.division.ready_made
    assert opened.manifest.provenance.input == source
    keys = {each.key for each in opened.examples("train")}
    assert keys == {f"train-{part:05}-of-00002/{number}" for part in (0, 1) for number in range(18)}
    capsys.readouterr()
    assert extract(source, folder / "store", *names) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_labels_may_be_text_and_splits_may_be_missing(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "all.tfrecord", [example(image, name.encode()) for image, name in images_of(photos, "train")])
    assert extract(f"tfrecord:{tmp_path}/all.tfrecord", tmp_path / "store") == 0
    store = FeatureStore.open(str(tmp_path / "store"))
    assert store.class_names == list(CLASSES) and not store.manifest.division.ready_made
    assert sum(store.manifest.splits.values()) == 36 and set(store.splits) == {"train", "validation", "test"}


def test_a_refused_run_leaves_nothing_of_the_files_before(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    images = images_of(photos, "validation")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    write(tmp_path / "records" / "one", [example(image, NUMBERS[name]) for image, name in images])
    write(tmp_path / "records" / "two", [example(images[0][0], 7)])
    assert extract(f"tfrecord:{tmp_path}/records/*", tmp_path / "store", "--label_names", str(tmp_path / "names.txt")) == 2
    assert not (tmp_path / "store").exists()


def test_records_without_labels_are_predicted(
    run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path, loaded_once: None, capsys: pytest.CaptureFixture[str]
) -> None:
    feature, paths = tf.train.Feature, sorted(map(str, photos.glob("test/*/*")))
    files = [pathlib.Path(path).read_bytes() for path in paths]
    fields = [{"jpg": feature(bytes_list=tf.train.BytesList(value=[content]))} for content in (*files, b"no image")]
    records = [tf.train.Example(features=tf.train.Features(feature=each)).SerializeToString() for each in fields]
    write(tmp_path / "records", records)
    assert main(["predict", str(run), *paths]) == 0
    from_files = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert main(["predict", str(run), f"tfrecord:{tmp_path}/records", "--image_field", "jpg"]) == 1
    *from_records, bad = csv.reader(capsys.readouterr().out.splitlines())
    assert [row[1:] for row in from_records] == [row[1:] for row in from_files]
    assert [row[0] for row in from_records[1:]] == [f"records/{number}" for number in range(len(files))]
    assert bad[0] == f"records/{len(files)}" and bad[-1].startswith("decode: ")
    assert main(["predict", str(run), f"tfrecord:{tmp_path}/records"]) == 2
    assert "no field 'image/encoded' (--image_field)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_head_is_trained_and_fine_tuned_from_records(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, names = f"tfrecord:{folder}/records/*", ["--label_names", str(folder / "names.txt")]
    assert extract(source, folder / "store", *names) == 0
    assert main(["train", str(folder / "store"), "--run", str(folder / "run0"), "--epochs", "2"]) == 0
    tune = ["finetune", source, *names, "--init_from", str(folder / "run0"), "--run", str(folder / "run1")]
    assert main([*tune, "--epochs", "1", "--unfreeze_last", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder / "run1")]) == 0
    assert "12 examples" in capsys.readouterr().out


def spoiled(record: bytes) -> bytes:
    """A record whose content is not what its checksum says."""
    length = struct.pack("<Q", len(record))
    return length + tfrecord.masked_crc(length) + record[:-1] + bytes([record[-1] ^ 1]) + tfrecord.masked_crc(record)


def test_a_damaged_record_is_a_dead_letter(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records = [example(image, name.encode()) for image, name in images_of(photos, "train")]
    records.append(example(b"no image", b"fern"))
    with open(tmp_path / "all.tfrecord", "wb") as file:
        for number, record in enumerate(records):
            if number == 7:
                file.write(spoiled(record))
            else:
                tfrecord.write_record(file, record)
        file.write(b"torn off here")
    flags = ["--max_bad_fraction", "0.1"]
    assert extract(f"tfrecord:{tmp_path}/all.tfrecord", tmp_path / "store", *flags) == 0
    store = FeatureStore.open(str(tmp_path / "store"))
    assert store.manifest.totals.stored == 35 and store.manifest.totals.dead == 3
    letters = {letter.key.rpartition("/")[2]: letter for letter in store.dead_letters}
    assert letters.keys() == {"7", "36", "37"}
    assert letters["7"].reason.startswith("its record is damaged at byte ")
    assert letters["37"].reason.endswith(", and what follows it is lost")
    assert (letters["36"].stage, letters["36"].label) == ("decode", "fern")


def test_an_empty_label_is_a_dead_letter(photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    records = [example(image, name.encode()) for image, name in images_of(photos, "train")]
    records[0] = example(images_of(photos, "train")[0][0], b"")  # the first as any other
    write(tmp_path / "all.tfrecord", [*records, example(images_of(photos, "test")[0][0], b" ")])
    assert extract(f"tfrecord:{tmp_path}/all.tfrecord", tmp_path / "store", "--max_bad_fraction", "0.1") == 0
    store = FeatureStore.open(str(tmp_path / "store"))
    assert store.class_names == list(CLASSES) and store.manifest.totals.stored == 35 and not list(faults(store.path))
    letters = [(letter.key, letter.stage, letter.reason) for letter in store.dead_letters]
    assert letters == [(f"all.tfrecord/{number}", "read", "its label is empty") for number in (0, 36)]


@pytest.mark.parametrize("damage", ["no label", "no record that holds"])
def test_records_without_any_label_are_refused(
    damage: str, photos: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    image, name = images_of(photos, "test")[0]
    if damage == "no label":
        write(tmp_path / "records", [example(image, b"")])
    else:
        (tmp_path / "records").write_bytes(spoiled(example(image, name.encode())))
    assert extract(f"tfrecord:{tmp_path}/records", tmp_path / "store") == 2
    assert "holds no label at all: every image is without one, or can't be read" in one_line()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--image_field", "image/encodd"], "(--image_field). Did you mean image/encoded? It has: image/"),
        (["--label_field", "label"], "it has no field 'label' (--label_field)"),
        (["--image_field", "image/height"], "its field 'image/height' holds numbers, and not an encoded image"),
        (["--label_names", "none.txt"], "--label_names 'none.txt' can't be read"),
        (["--label_names", "SHORT"], "its label is 2, and there are names for 0 to 1"),
    ],
)
def test_mistakes_are_told_in_a_line(
    flags: list[str], told: str, folder: pathlib.Path, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "short.txt").write_text("anemone\nfern\n", encoding="utf-8")
    given = [flag.replace("SHORT", str(tmp_path / "short.txt")) for flag in flags]
    assert extract(f"tfrecord:{folder}/records/validation*", tmp_path / "store", *given, "--max_bad_fraction", "0") == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("tfrecord:nothing-*", "no file matches 'nothing-*'"),
        ("tfrecord:FOLDER/names.txt", "is no TFRecord file"),
        ("tfds:flowrs", "no dataset 'flowrs' is prepared in 'FOLDER/tfds' (--data_dir). Did you mean flowers?"),
        ("tfds:flowers:9.9.9", "tfds:flowers:9.9.9 is not prepared in 'FOLDER/tfds'. There are: 1.0.0"),
    ],
)
def test_what_is_not_there(source: str, told: str, folder: pathlib.Path, one_line: Callable[[], str]) -> None:
    (folder / "tfds" / "flowers" / "1.0.0").mkdir(parents=True)
    given = source.replace("FOLDER", str(folder))
    assert extract(given, folder / "store", "--data_dir", str(folder / "tfds")) == 2
    assert told.replace("FOLDER", str(folder)) in one_line()
    assert not (folder / "store").exists()


@pytest.fixture(scope="module")
def prepared(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The PNGs as TFDS keeps them: two shards to train on, one each to validate and test, and its own metadata."""
    root = tmp_path_factory.mktemp("tfds")
    folder = root / "flowers" / "1.2.0"
    folder.mkdir(parents=True)
    names = ["none", *CLASSES]
    features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=names)})
    template = tfds.core.ShardedFileTemplate(data_dir=str(folder), dataset_name="flowers", filetype_suffix="tfrecord")
    infos = []
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        paths = sorted(photos.glob(f"{split}/*/*.png"))
        rows = [{"image": str(path), "label": names.index(path.parent.name)} for path in paths]
        serialized = [features.serialize_example(features.encode_example(row)) for row in rows]
        for number in range(count):
            write(folder / f"flowers-{split}.tfrecord-{number:05}-of-{count:05}", serialized[number::count])
        lengths = [len(serialized[number::count]) for number in range(count)]
        files = template.replace(split=split)
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=1, filename_template=files))
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder), features=features, split_infos=infos, filename_template=template, check_data=False
    )
    return root


@pytest.mark.parametrize("spec", ["flowers", "flowers:1.2.0"])
def test_a_prepared_dataset_is_what_tfds_reads(spec: str, prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    by_tfds = tfds.builder_from_directory(str(prepared / "flowers" / "1.2.0"))
    assert extract(f"tfds:{spec}", tmp_path / "store", "--data_dir", str(prepared)) == 0
    store = FeatureStore.open(str(tmp_path / "store"))
    assert store.class_names == list(CLASSES)  # no image is of the class `none`
    assert store.splits == ["test", "train", "validation"]
    source = read_source(f"tfds:{spec}", SourceOptions(data_dir=str(prepared)))
    for split in ("train", "validation", "test"):
        seen = [(row["image"].tobytes(), CLASSES[row["label"] - 1]) for row in tfds.as_numpy(by_tfds.as_dataset(split))]
        decode = tf.io.decode_png
        mine = [
            (decode(place.read(each.path)).numpy().tobytes(), each.labels[0]) for each in source.images if each.split == split
        ]
        assert sorted(mine) == sorted(seen) and store.count(split) == len(seen)


def test_what_is_no_classification_of_images_is_refused(prepared: pathlib.Path, one_line: Callable[[], str]) -> None:
    argv = ["--data_dir", str(prepared), "--label_field", "lable"]
    assert extract("tfds:flowers", prepared / "store", *argv) == 2
    assert "tfds:flowers has no feature 'lable'. Did you mean label?" in one_line()


VALUES = some.one_of(
    some.binary(max_size=300).map(lambda value: ("bytes_list", tf.train.BytesList(value=[value]), value)),
    some.integers(-(2**63), 2**63 - 1).map(lambda value: ("int64_list", tf.train.Int64List(value=[value, 7]), value)),
)


@hypothesis.given(some.dictionaries(some.text(min_size=1, max_size=20), VALUES, max_size=6))
@hypothesis.settings(deadline=None, max_examples=200)
def test_any_example_is_walked_as_protobuf_parses_it(fields: dict[str, Any]) -> None:
    features = {name: tf.train.Feature(**{kind: values}) for name, (kind, values, _) in fields.items()}
    content = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    found = first_values(content)
    assert found.keys() == fields.keys()
    for name, (kind, _, value) in fields.items():
        each = found[name]
        assert (content[each.start : each.end] if kind == "bytes_list" else each.number) == value


@hypothesis.given(some.lists(some.binary(max_size=200), max_size=5), some.integers(1, 60))
@hypothesis.settings(deadline=None, max_examples=100)
def test_records_come_out_of_pieces_of_any_size(contents: list[bytes], size: int) -> None:
    whole = bytearray()

    class File:
        def write(self, piece: bytes) -> None:
            whole.extend(piece)

    for content in contents:
        tfrecord.write_record(File(), content)  # type: ignore[arg-type]
    pieces = [bytes(whole[at : at + size]) for at in range(0, len(whole), size)]
    found = list(tfrecord.framed(pieces))
    assert [record.content for record in found if isinstance(record, tfrecord.Record)] == contents
    for record in found:
        assert isinstance(record, tfrecord.Record)
        assert whole[record.offset : record.offset + len(record.content)] == record.content


def test_garbage_is_no_example() -> None:
    generator, taken = np.random.default_rng(0), dict[str, Value]()
    for size in range(1, 200):
        with contextlib.suppress(ValueError, IndexError):
            taken |= first_values(generator.integers(0, 256, size, np.uint8).tobytes())
    assert taken == {}


def test_an_unknown_record_input_is_refused(tmp_path: pathlib.Path) -> None:
    with raises("missing-input"):
        read_source(f"tfrecord:{tmp_path}/*")
