"""A split's features for other hands than tf.data: arrays, a map-style dataset as PyTorch takes it, a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.features.dataset.examples import Example
from headstart.features.store.shard_reader import TapReader

ROWS_AT_ONCE = 4096  # of a Parquet file's row group


class Arrays(NamedTuple):
    """A split in memory, in the store's order."""

    features: np.ndarray  # [N, *tap.shape], the store's dtype
    labels: np.ndarray  # int64 [N]; of several an image, uint8 [N, classes]
    keys: list[str]


class MapStyle:
    """A split as a sequence of (feature [*tap.shape], label), any of them found without reading the others.

    `torch.utils.data.DataLoader` takes it as it is, with workers too, and asks for whole batches at once by `__getitems__`.
    Source: https://pytorch.org/docs/stable/data.html#map-style-datasets
    """

    def __init__(self, features: TapReader, labels: np.ndarray) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int | np.ndarray]:
        """One example, as it is.

        Raises:
            IndexError: when there is no such row, which ends an iteration.
        """
        row = row + len(self) if row < 0 else row
        if not 0 <= row < len(self):
            raise IndexError(f"the split has {len(self)} examples, numbered from 0: there is no {row}")
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[np.ndarray, int | np.ndarray]]:
        """Several at once, in the order given."""
        found = self.features.take(np.asarray(rows, np.int64) * self.features.views)
        if self.labels.ndim > 1:
            return [(feature, self.labels[row]) for feature, row in zip(found, rows)]
        return [(feature, int(self.labels[row])) for feature, row in zip(found, rows)]


def write_parquet(path: str, features: TapReader, examples: Sequence[Example], several: bool = False) -> int:
    """Writes examples to a Parquet file: key, label, digest, and the feature as a list of fixed size, in C order.

    Args:
        path: of the file, on this machine.
        features: of a split; their shape is in the file's metadata, as `shape`.
        examples: of the same split, in the same order.
        several: whether they may have several labels: label is a list of them then.

    Returns:
        The number of rows. bfloat16 becomes float32, which Parquet has.

    Raises:
        UserError: when a record is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    taken = np.dtype(np.float16) if features.dtype == np.float16 else np.dtype(np.float32)
    size = int(np.prod(features.shape))
    columns = [("key", pa.string()), ("label", pa.list_(pa.string()) if several else pa.string()), ("digest", pa.string())]
    shape = ",".join(map(str, features.shape))
    schema = pa.schema([*columns, ("feature", pa.list_(pa.from_numpy_dtype(taken), size))], metadata={"shape": shape})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(examples), ROWS_AT_ONCE):
            some = examples[start : start + ROWS_AT_ONCE]
            values = features.take(np.arange(start, start + len(some)) * features.views).astype(taken).reshape(-1)
            keys, names = [_in_utf8(each.key) for each in some], [list(map(_in_utf8, each.labels)) for each in some]
            labels = pa.array(names if several else [name for (name,) in names], schema.field("label").type)
            digests = pa.array([each.digest for each in some])
            arrays = [pa.array(keys), labels, digests, pa.FixedSizeListArray.from_arrays(pa.array(values), size)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return len(examples)


def _in_utf8(name: str) -> str:
    """A file's or a folder's name, which need not be UTF-8, as Parquet takes it."""
    return name.encode("utf-8", "backslashreplace").decode()
