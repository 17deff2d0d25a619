"""What whole gradients and `--refit` gain where images are few: draws of N images a class from a store's training split.

Three heads for each: one is trained as `headstart train --solver adam` does, and one by whole gradients, its default, a fifth
of the draw deciding; the third is at its optimum on all of the draw, its regularisation chosen by cross-validation. All are
scored on the store's test split, or validation where it has none, which decides nothing.

    python -m tests.benchmarks.few STORE [--tap TAP] [--draws 5] [--per_class 5 10 20 50]
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
from scipy import stats

from headstart.features.runtime import import_tensorflow_quietly

STOPPING = 5  # one in so many images of a class


def main() -> None:
    """Prints a line a size: accuracies, and the gains over the first with their intervals over the draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--tap", default="")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--per_class", type=int, nargs="+", default=[5, 10, 20, 50])
    options = parser.parse_args()
    import_tensorflow_quietly()
    from headstart.features.store.feature_store import FeatureStore

    store = FeatureStore.open(options.store)
    tap = store.tap(options.tap or None)
    held_out = "test" if "test" in store.splits else "validation"
    read = {split: store.to_numpy(split, tap=tap.name) for split in ("train", held_out)}
    print(f"{store.path}, {tap.name}, {len(store.class_names)} classes, scored on {held_out}, {options.draws} draws")
    for count in options.per_class:
        draws = [_accuracies(store, tap, read["train"], read[held_out], count, seed) for seed in range(options.draws)]
        print(_told(count, np.array(draws)), flush=True)


def _told(count: int, draws: np.ndarray) -> str:
    trained, whole, refitted = draws.mean(0)
    return (
        f"{count:>4} a class: trained {trained:.2%}; by whole gradients {whole:.2%}, {_gain(draws[:, 1] - draws[:, 0])}; "
        f"refitted {refitted:.2%}, {_gain(draws[:, 2] - draws[:, 0])}"
    )


def _gain(gains: np.ndarray) -> str:
    points, half = 100 * gains.mean(), 100 * stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return f"{points:+.2f} points [{points - half:+.2f}, {points + half:+.2f}]"


def _accuracies(store, tap, train, test, count: int, seed: int) -> list[float]:  # type: ignore[no-untyped-def]
    """Of a head that was trained, of one by whole gradients, and of one that was refitted."""
    import keras

    from headstart.training.fitting.fit import fit_head
    from headstart.training.fitting.logistic import fit
    from headstart.training.fitting.recipe import Recipe
    from headstart.training.fitting.sources import ArraySource, moments
    from headstart.training.heads import build_head

    generator, classes = np.random.default_rng(seed), len(store.class_names)
    drawn = [generator.permutation(np.flatnonzero(train.labels == label))[:count] for label in range(classes)]
    rows = np.concatenate(drawn)
    stopping = np.concatenate([own[: max(1, count // STOPPING)] for own in drawn])
    parts = {"train": np.setdiff1d(rows, stopping), "validation": stopping}
    features = train.features.astype(np.float32)
    keras.utils.set_random_seed(seed)
    heads = [build_head("linear", tap, classes, moments([features[own]])) for own in (parts["train"], parts["train"], rows)]
    source = ArraySource({split: (features[own], train.labels[own]) for split, own in parts.items()}, 32, seed)
    recipe = Recipe(epochs=100, patience=10, monitor="val_loss", learning_rate=3e-4, max_steps_at_once=256, from_nothing=True)
    fit_head(heads[0], source, recipe)
    fit_head(heads[1], source, dataclasses.replace(recipe, solver="lbfgs"))
    body = keras.Model(heads[2].input, heads[2].get_layer("logits").input)
    seen = body.predict(features[rows], verbose=0)
    fitted = fit(seen, train.labels[rows], classes, [str(row) for row in rows], seed=seed)
    heads[2].get_layer("logits").set_weights([fitted.weights, fitted.bias])
    unseen = test.features.astype(np.float32)
    return [(head.predict(unseen, verbose=0, batch_size=256).argmax(1) == test.labels).mean() for head in heads]


if __name__ == "__main__":
    main()
