"""From 2,000 features of 16 kB to a trained head: headstart against `fit` on numpy arrays, as notebooks do it.

Both train the same network, Dense 256, dropout, softmax, for 30 epochs of batches of 32, and look at the same 1,000 validation
examples after each. Each round runs both, and the ratio is taken inside it. headstart's side reads the store; whole runs of
`headstart train` also save the model, and compare it with the features it was trained on.

    python -m tests.benchmarks.training [--examples 2000] [--rounds 5]
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from statistics import median
from typing import Any

from tests.benchmarks.made import arguments, machine, write_store

EPOCHS, BATCH = 30, 32


def by_fit(store: Any) -> float:
    """Seconds of compiling and `fit`, the features in memory as float32 arrays already."""
    import keras
    import numpy as np

    arrays = {split: store.to_numpy(split) for split in ("train", "validation")}
    data = {split: (found.features.astype(np.float32), found.labels) for split, found in arrays.items()}
    started = time.perf_counter()
    head = keras.Sequential(
        [
            keras.Input(store.spec.taps[0].shape),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(len(store.class_names), activation="softmax"),
        ]
    )
    head.compile(keras.optimizers.Adam(3e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
    head.fit(*data["train"], batch_size=BATCH, epochs=EPOCHS, validation_data=data["validation"], verbose=0)
    return time.perf_counter() - started


def by_headstart(store: Any, folder: str) -> tuple[float, float]:
    """Seconds of a whole `train`, and of the fitting in it, from the store."""
    from headstart.training.fitting import fit as fitting
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    seconds, original = 0.0, fitting.fit_network

    def timed(*given: Any) -> Any:
        nonlocal seconds
        started = time.perf_counter()
        fitted = original(*given)
        seconds = time.perf_counter() - started
        return fitted

    run = os.path.join(folder, "run")
    shutil.rmtree(run, ignore_errors=True)
    fitting.fit_network = timed
    started = time.perf_counter()
    try:
        train(TrainConfig(store=store.path, run=run, head="mlp", epochs=EPOCHS, patience=EPOCHS, batch_size=BATCH))
    finally:
        fitting.fit_network = original
    return time.perf_counter() - started, seconds


def measure(rounds: int, examples: int) -> list[dict[str, Any]]:
    """A row for each way: seconds, and how many times as fast as `fit` on arrays, medians over rounds."""
    seconds: dict[str, list[float]] = {
        "fit on numpy arrays": [],
        "headstart, the fitting": [],
        "headstart train, all of it": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(folder, examples, examples // 2)
        for number in range(rounds + 1):
            found = (by_fit(store), *reversed(by_headstart(store, folder)))
            for name, value in zip(seconds, found):
                if number:  # the first round warms up
                    seconds[name].append(value)
    base = next(iter(seconds.values()))
    return [
        {
            "way": name,
            "seconds": round(median(found), 2),
            "ratio": round(median(theirs / mine for mine, theirs in zip(found, base)), 2),
        }
        for name, found in seconds.items()
    ]


def main() -> None:
    """Prints the table."""
    args = arguments(__doc__, examples=2000, rounds=5)
    rows = measure(args.rounds, args.examples)
    print(f"{machine()}; {args.examples:,} examples, {EPOCHS} epochs, batches of {BATCH}, medians of {args.rounds} rounds")
    for row in rows:
        print(f"  {row['way']:<40}{row['seconds']:8.2f} s{row['ratio']:8.2f} times as fast")


if __name__ == "__main__":
    main()
