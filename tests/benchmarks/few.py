"""What `--refit` gains where images are few: draws of N images a class from a store's training split, two heads for each.

One head is trained as `headstart train` does, a fifth of the draw deciding when to stop; the other is at its optimum on all of
the draw, its regularisation chosen by cross-validation. Both are scored on the store's test split, or validation where it has
none, which decides nothing.

    python -m tests.benchmarks.few STORE [--tap TAP] [--draws 5] [--per_class 5 10 20 50]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import stats

from headstart.features.runtime import import_tensorflow_quietly

STOPPING = 5  # one in so many images of a class


def main() -> None:
    """Prints a line a size: accuracies, and the gain with its interval over the draws."""
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
        pairs = np.array([_pair(store, tap, read["train"], read[held_out], count, seed) for seed in range(options.draws)])
        print(_told(count, pairs), flush=True)


def _told(count: int, pairs: np.ndarray) -> str:
    gains = 100 * (pairs[:, 1] - pairs[:, 0])
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    trained, refitted = pairs.mean(0)
    return (
        f"{count:>4} a class: trained {trained:.2%}, refitted {refitted:.2%}, gain {gains.mean():+.2f} points "
        f"[{gains.mean() - half:+.2f}, {gains.mean() + half:+.2f}]"
    )


def _pair(store, tap, train, test, count: int, seed: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Accuracies of a head that was trained, and of one that was refitted."""
    import keras

    from headstart.training.fitting.fit import fit_network
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
    heads = [build_head("linear", tap, classes, moments([features[own]])) for own in (parts["train"], rows)]
    source = ArraySource({split: (features[own], train.labels[own]) for split, own in parts.items()}, 32, seed)
    recipe = Recipe(epochs=100, patience=10, monitor="val_loss", learning_rate=3e-4, max_steps_at_once=256, from_nothing=True)
    fit_network(heads[0], source, recipe)
    body = keras.Model(heads[1].input, heads[1].get_layer("logits").input)
    seen = body.predict(features[rows], verbose=0)
    fitted = fit(seen, train.labels[rows], classes, [str(row) for row in rows], seed=seed)
    heads[1].get_layer("logits").set_weights([fitted.weights, fitted.bias])
    unseen = test.features.astype(np.float32)
    answers = [head.predict(unseen, verbose=0, batch_size=256).argmax(1) for head in heads]
    return (answers[0] == test.labels).mean(), (answers[1] == test.labels).mean()


if __name__ == "__main__":
    main()
