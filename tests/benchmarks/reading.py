"""From a store to batches of features: headstart's reader against the usual ones, on features of 16 kB, in page cache.

Each round runs every reader over the same shards, and a ratio is taken inside its round.

    python -m tests.benchmarks.reading [--examples 16384] [--rounds 7]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np

from tests.benchmarks.made import arguments, machine, write_store

BATCH = 64
BASELINE = "batched parse_example + decode_raw"
HANDED_OVER = "tf.data, ready batches, nothing copied"


def readers(store: Any, folder: str) -> dict[str, Callable[[], Iterable[Any]]]:
    """Each way of reading the training split once, as batches."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tap, (shape, count) = store.spec.taps[0], (store.spec.taps[0].shape, store.count("train"))

    def parsed() -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(store.shard_paths("train")).batch(BATCH)
        return records.map(parse, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def parse(batch: tf.Tensor) -> dict[str, tf.Tensor]:  # batched: 4 times as fast as records one by one
        strings = {name: tf.io.FixedLenFeature((), tf.string) for name in ("key", "digest", tap.name)}
        found = tf.io.parse_example(batch, {**strings, "label": tf.io.FixedLenFeature((1,), tf.int64)})
        flat = tf.io.decode_raw(found.pop(tap.name), tf.dtypes.as_dtype(store.spec.store_dtype))  # [B, tap.size]
        return {**found, "label": found["label"][:, 0], "feature": tf.reshape(flat, (-1, *shape))}

    builder = tfds.builder_from_directory(store.tfds_folders[0])
    table = f"{folder}/features.npy"
    np.save(table, store.to_numpy("train").features)
    held = store.dataset("train", BATCH, shuffle=True, in_memory=True)
    ready = handed_over(store)
    held_in_numpy = store.batches("train", BATCH, shuffle=True, in_memory=True)

    def gathered() -> Iterable[np.ndarray]:
        mapped, order = np.load(table, mmap_mode="r"), np.random.default_rng(0).permutation(count)
        assert mapped.shape == (count, *shape)
        return (mapped[order[at : at + BATCH]] for at in range(0, count, BATCH))

    return {
        BASELINE: parsed,
        "TFDS as_dataset": lambda: builder.as_dataset(split="train", batch_size=BATCH),
        "numpy memory map, shuffled, no tf.data": gathered,
        "headstart, in order": lambda: store.dataset("train", BATCH, in_memory=False),
        "headstart, shuffled": lambda: store.dataset("train", BATCH, shuffle=True, in_memory=False),
        "headstart, shuffled, in memory": lambda: held,
        HANDED_OVER: lambda: ready,
        "headstart, numpy, shuffled": lambda: store.batches("train", BATCH, shuffle=True, in_memory=False),
        "headstart, numpy, shuffled, in memory": lambda: held_in_numpy,
    }


def handed_over(store: Any) -> Any:
    """Full batches that lie in memory as they are: what tf.data itself takes to give one to Python, the least it can."""
    import tensorflow as tf

    split = store.to_numpy("train")
    whole = len(split.features) // BATCH * BATCH
    ready = (part[:whole].reshape(-1, BATCH, *part.shape[1:]) for part in (split.features, split.labels))
    return tf.data.Dataset.from_tensor_slices(tuple(ready)).prefetch(tf.data.AUTOTUNE)


def measure(rounds: int, examples: int) -> list[dict[str, Any]]:
    """A row for each reader: thousand examples/s, and the ratio to the baseline, medians over rounds."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(folder, examples, 2)
        ways = readers(store, folder)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                batches = way()
                started = time.perf_counter()
                for _ in batches:
                    pass
                if number:  # the first round warms up
                    rates[name].append(examples / (time.perf_counter() - started) / 1000)
    base = rates[BASELINE]
    return [
        {
            "reader": name,
            "thousand examples/s": round(median(found), 1),
            "ratio": round(median(mine / theirs for mine, theirs in zip(found, base)), 2),
        }
        for name, found in rates.items()
    ]


def main() -> None:
    """Prints the table."""
    args = arguments(__doc__, examples=16384, rounds=7)
    rows = measure(args.rounds, args.examples)
    print(f"{machine()}; {args.examples:,} features of 16 kB, batches of {BATCH}, medians of {args.rounds} rounds")
    for row in rows:
        print(f"  {row['reader']:<40}{row['thousand examples/s']:8.1f} k/s{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
