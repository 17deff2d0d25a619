"""The feature store, opened: what it holds, and its features as a tf.data pipeline or as arrays.

What its folder holds, file by file: docs/store-format.md. The manifest is the only file that is ever replaced.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.features.dataset.dataset_table import DatasetTable
from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.dataset.examples import Examples
from headstart.features.dataset.labels import label_array
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.cache import RemoteFile, local_paths
from headstart.features.shown import Shown, thumbnails
from headstart.features.spec import FeatureSpec, Tap, find_tap
from headstart.features.store import record
from headstart.features.store.epochs import Position
from headstart.features.store.exports import Arrays, MapStyle, write_parquet
from headstart.features.store.manifest import Manifest, no_store, read_manifest
from headstart.features.store.numpy_batches import NumpyBatches
from headstart.features.store.record import StoredExample
from headstart.features.store.sample import SAMPLE, SampleImage, read_sample
from headstart.features.store.shard_reader import Shard, ShardReader, TapReader
from headstart.features.store.store_files import BACKBONE, check_whole, load_base, local_file, read_spec, read_verified

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

DATASET_NAME = "features"
SHOWN = 8  # images in a notebook


@dataclasses.dataclass(frozen=True, repr=False)
class FeatureStore(Shown):
    """A complete store. `FeatureStore.open(path)` makes one."""

    path: str
    spec: FeatureSpec
    manifest: Manifest
    unsafe: bool

    @classmethod
    def open(cls, path: str, spec: FeatureSpec | None = None, unsafe: bool = False) -> FeatureStore:
        """Opens a complete store.

        Args:
            path: its folder.
            spec: when given, the spec that the store must have.
            unsafe: run Python code that its backbone brings along in Lambda layers.

        Raises:
            UserError: when there is no store, when it is not complete (with the command that finishes it), when it is damaged,
                or when its spec is another than the one asked for (with both values).
        """
        try:
            manifest = read_manifest(path)
        except (FileNotFoundError, NotADirectoryError):
            raise no_store(path) from None
        store = cls(path, read_spec(path, manifest), manifest, unsafe)
        if spec is not None:
            store.spec.check_same(spec, path)
        check_whole(path, manifest)
        return store

    def words(self) -> str:
        """What it holds."""
        splits = ", ".join(f"{name} {self.count(name):,}" for name in self.splits)
        return f"feature store {self.path!r}, {len(self.class_names)} classes: {splits}\n{self.spec.words}"

    def pictures(self) -> Iterable[tuple[str, bytes]]:
        """The first of the images that it keeps, small."""
        return thumbnails(image.encoded for image in itertools.islice(self.sample(), SHOWN))

    @property
    def class_names(self) -> list[str]:
        """Class names; a label is an index into them."""
        return list(self.manifest.class_names)

    @property
    def label_delimiter(self) -> str:
        """What parts an image's labels in a cell; '' where each image has one."""
        return self.manifest.label_delimiter

    @property
    def splits(self) -> list[str]:
        """The names of the splits that hold examples."""
        return [name for name, examples in self.manifest.splits.items() if examples]

    def count(self, split: str) -> int:
        """The number of stored examples of a split."""
        self._check_split(split)
        return self.manifest.splits[split]

    def tap(self, name: str | None = None) -> Tap:
        """One of the spec's taps; the deepest when no name is given, and the first of several that are as deep.

        Args:
            name: as it is stored, or LAYER:POOL as `headstart extract --tap` takes it, or a layer alone: its average where
                that is stored, else what is stored of it.

        Raises:
            UserError: when there is no such tap, or a layer alone may mean several.
        """
        if name is None:
            return max(self.spec.taps, key=lambda tap: tap.depth)
        return find_tap(self.spec.taps, name, self.path)

    def dataset(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        tap: str | None = None,
        keys: bool = False,
        in_memory: bool | None = None,
        position: Position | None = None,
    ) -> tf.data.Dataset:
        """A split as batches.

        Args:
            split: its name.
            batch_size: examples a batch; the last one may be smaller.
            shuffle: all examples in another order in each epoch, the same orders for the same seed, each in one of its views;
                without it, the store's order, and examples as they are.
            seed: of the shuffling.
            tap: the tap's name; the deepest when not given, as `tap` gives it.
            keys: give dictionaries with key, digest, label and feature, in place of pairs.
            in_memory: read the split once, now, and not in each epoch; when not given, if it takes less than a quarter of
                the memory that is free.
            position: says which epoch an iteration is, for a training that is taken up; when not given, each is the next one.

        Returns:
            A dataset of (feature [B, *tap.shape] in the store's dtype, label int64 [B]), its cardinality known; each iteration
            is an epoch. Of several labels an image, label is uint8 [B, classes], 1 for each of them.

        Raises:
            UserError: when there is no such split or tap, or a record is damaged.
        """
        from headstart.features.store.tf_dataset import dataset

        features = self.features(split, tap)
        columns: dict[str, Any] = {"label": self.labels(split)}
        if keys:
            examples = self.examples(split)
            columns["key"] = [example.key.encode("utf-8", "surrogateescape") for example in examples]
            columns["digest"] = [example.digest.encode() for example in examples]

        def element(feature: tf.Tensor, beside: dict[str, tf.Tensor]) -> Any:
            return {"feature": feature, **beside} if keys else (feature, beside["label"])

        return dataset(
            features, columns, batch_size, seed if shuffle else None, features.is_held(in_memory), element, position
        )

    def batches(
        self,
        split: str,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        tap: str | None = None,
        in_memory: bool | None = None,
    ) -> NumpyBatches:
        """The same as numpy arrays (feature [B, *tap.shape], label int64 [B]), without tf.data; each iteration is an epoch."""
        features = self.features(split, tap)
        held = features.is_held(in_memory)
        return NumpyBatches(features, self.labels(split), batch_size, seed if shuffle else None, held)

    def features(self, split: str, tap: str | None = None) -> TapReader:
        """A split's features of one tap, to be taken row by row in any order without reading the rest."""
        return TapReader(self._reader(split), self.spec, self.tap(tap), self.spec.views_of(split))

    def example(self, split: str, row: int, view: int = 0) -> StoredExample:
        """One example, found without reading its shard.

        Args:
            split: its name.
            row: its number in the store's order, from 0.
            view: which of its views, from 0, the plain one.

        Raises:
            IndexError: when there is no such row or view.
            UserError: when its record is damaged.
        """
        views = self.spec.views_of(split)
        if not 0 <= view < views:
            raise IndexError(f"the split has {views} views of each example, numbered from 0: there is no {view}")
        return record.decode(self._reader(split).content(row * views + view), self.spec)

    def labels(self, split: str) -> np.ndarray:
        """A split's labels, in the store's order: int64 [N]; of several an image, uint8 [N, classes], 1 for each of them."""
        return label_array(self.examples(split).labels, self.class_names, bool(self.label_delimiter))

    def to_numpy(self, split: str, tap: str | None = None) -> Arrays:
        """A whole split in memory, in the store's order, each example as it is."""
        features = self.features(split, tap)
        return Arrays(features.unaugmented(), self.labels(split), self.examples(split).keys.values())

    def map_style(self, split: str, tap: str | None = None) -> MapStyle:
        """A split as PyTorch's `DataLoader` takes it: a sequence of (feature, label), each example as it is."""
        return MapStyle(self.features(split, tap), self.labels(split))

    def to_parquet(self, split: str, path: str, tap: str | None = None) -> int:
        """Writes a split to a Parquet file of this machine: key, label (or a list of them), digest, feature. How many rows."""
        return write_parquet(path, self.features(split, tap), self.examples(split), bool(self.label_delimiter))

    def _reader(self, split: str) -> ShardReader:
        if split not in self._readers:
            self._check_split(split)
            views, shards = self.spec.views_of(split), self.manifest.shards(split)
            self._readers[split] = ShardReader(
                [
                    Shard(place.join(self.path, path), shard.examples * views, shard.record_bytes, shard.sha256)
                    for path, shard in shards
                ]
            )
        return self._readers[split]

    @functools.cached_property
    def _readers(self) -> dict[str, ShardReader]:
        return {}

    @functools.cached_property
    def dataset_table(self) -> DatasetTable:
        """The table and the dead letters of all generations."""
        return DatasetTable(lambda name: [self._content(f"{each.folder}/{name}") for each in self.manifest.generations])

    @property
    def table(self) -> Examples:
        """Every example that was planned and has a content, in the store's order."""
        return self.dataset_table.table

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What could not be stored."""
        return self.dataset_table.dead_letters

    def examples(self, split: str) -> Examples:
        """The stored examples of a split, row for row what `to_numpy` and an unshuffled `dataset` give."""
        return self.dataset_table.examples(split)

    def sample(self) -> Iterator[SampleImage]:
        """The encoded images that the store keeps of its training split."""
        self._content(self.manifest.path_of(SAMPLE))
        return read_sample(self._local(SAMPLE))

    def backbone(self, tap: Tap) -> keras.Model:
        """The backbone that made the features, up to one tap: float32 [B, H, W, 3] in 0..255 to float32 [B, *tap.shape].

        Raises:
            UserError: when the network beside the shards is not the one of the spec, or brings code along and is not trusted.
        """
        from headstart.features.backbones.feature_extractor import build_feature_extractor

        return build_feature_extractor(self.base(), [tap], self.spec.preprocessing, self.spec.image_size)[0]

    def base(self) -> keras.Model:
        """The network beside the shards, from preprocessed images to its last map.

        Raises:
            UserError: as `backbone` does.
        """
        return load_base(self._local(BACKBONE), self.spec, self.unsafe)

    def shard_paths(self, split: str) -> list[str]:
        """The paths of a split's shards, in order; of a remote store, those of copies on this machine, fetched if need be."""
        self._check_split(split)
        shards = self.manifest.shards(split)
        return local_paths([RemoteFile(place.join(self.path, path), shard.bytes, shard.sha256) for path, shard in shards])

    @property
    def tfds_folders(self) -> list[str]:
        """The folders that TFDS reads: `builder_from_directory` takes one, `builder_from_directories` several."""
        return [place.join(self.path, generation.folder) for generation in self.manifest.generations]

    def _local(self, name: str) -> str:
        """The path of a file beside the shards, or of its copy on this machine."""
        return local_file(self.path, self.manifest.path_of(name))

    def _content(self, path: str) -> bytes:
        return read_verified(self.path, path, self.manifest.digests)

    def _check_split(self, name: str) -> None:
        if name not in self.splits:
            raise UserError("missing-split", f"{self.path!r} has no split {name!r}; it has {', '.join(self.splits)}")
