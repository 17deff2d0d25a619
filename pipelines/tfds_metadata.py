"""A generation's splits in, the metadata that TensorFlow Datasets reads beside its shards out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from headstart.features import files
from headstart.features.spec import FeatureSpec
from headstart.features.store import record
from headstart.features.store.feature_store import DATASET_NAME
from headstart.features.store.manifest import SplitEntry


def tfds_metadata(
    spec: FeatureSpec, class_names: Sequence[str], splits: Mapping[str, SplitEntry], folder: str
) -> dict[str, bytes]:
    """The files by which `tfds.builder_from_directory` reads the folder of the shards with equal values.

    Args:
        spec: of the features; each tap is a tensor.
        class_names: a label is an index into them.
        splits: their shards.
        folder: an empty one, for TFDS to write into.

    Returns:
        Name to content.
    """
    taps = {
        tap.name: tfds.features.Tensor(
            shape=tap.shape, dtype=record.numpy_dtype(spec.store_dtype).type, encoding=tfds.features.Encoding.BYTES
        )
        for tap in spec.taps
    }
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in class_names]
    features = tfds.features.FeaturesDict(
        {
            "key": tfds.features.Text(),
            "digest": tfds.features.Text(),
            "view": tfds.features.Scalar(np.int64),
            "label": tfds.features.Sequence(tfds.features.ClassLabel(names=[name.replace("\n", "\\n") for name in names])),
            **taps,
        }
    )
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=DATASET_NAME, filetype_suffix="tfrecord")
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[shard.examples * spec.views_of(name) for shard in split.shards],
            num_bytes=split.bytes,
            filename_template=template.replace(split=name),
        )
        for name, split in splits.items()
    ]
    stand_ins = {shard.name for split in splits.values() for shard in split.shards}
    for name in stand_ins:  # it looks for files of these names, and into none of them
        files.write_bytes(os.path.join(folder, name), b"")
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=infos, filename_template=template, check_data=False
    )
    written = sorted(set(os.listdir(folder)) - stand_ins)
    return {name: files.read_bytes(os.path.join(folder, name)) for name in written}
