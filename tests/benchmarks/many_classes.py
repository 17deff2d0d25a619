"""A linear head where classes and images are many: Adam against whole gradients, on features that are made.

Each class has a centre, its images lie about it in directions that all classes share, and features are cut off below 0 as
networks do; so a tenth of the images can't be told. Seconds are of the fit alone, features in memory in float16; the log loss
is that of the validation split after its temperature.

    python -m tests.benchmarks.many_classes [--examples 100000] [--classes 1000] [--size 1280] [--solver lbfgs]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from tests.benchmarks.made import machine
from tests.peak import peak_mb

VALIDATION = 10_000


def features(count: int, classes: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float16 [count, size], and class ids."""
    shared = np.random.default_rng(0)
    spread = (1 + np.arange(size, dtype=np.float32)) ** -0.5
    centres = shared.normal(size=(classes, size)).astype(np.float32) * spread * 0.18
    turn = np.linalg.qr(shared.normal(size=(size, size)))[0].astype(np.float32)
    generator = np.random.default_rng(seed)
    labels, found = generator.integers(0, classes, count), np.empty((count, size), np.float16)
    for start in range(0, count, 4096):
        part = slice(start, start + 4096)
        noise = generator.standard_normal((len(labels[part]), size), np.float32) * spread
        found[part] = np.maximum((centres[labels[part]] + noise) @ turn * 4 + 0.3, 0)
    return found, labels


def measure(solver: str, splits: dict[str, tuple[np.ndarray, np.ndarray]], classes: int, patience: int) -> str:
    """A line of what a solver came to."""
    from headstart.features.spec import Tap
    from headstart.training.fitting.fit import fit_head
    from headstart.training.fitting.recipe import Recipe
    from headstart.training.fitting.sources import ArraySource, moments
    from headstart.training.heads import build_head
    from headstart.training.scoring.temperature import figures, fit_temperature, softmax
    from headstart.training.train import MAX_STEPS_AT_ONCE

    train, validation = splits["train"], splits["validation"]
    before, started = peak_mb(), time.perf_counter()
    standard = moments(train[0][start : start + 4096] for start in range(0, len(train[0]), 4096))
    head = build_head("linear", Tap("made", "avg", train[0].shape[1:]), classes, standard)
    recipe = Recipe(
        epochs=100,
        patience=patience,
        monitor="val_loss",
        learning_rate=3e-4,
        max_steps_at_once=MAX_STEPS_AT_ONCE,
        from_nothing=True,
        solver=solver,
    )
    fitted = fit_head(head, ArraySource(splits, 32, 0), recipe)
    seconds, peak = time.perf_counter() - started, peak_mb()
    logits = np.log(np.maximum(head.predict(validation[0].astype(np.float32), 1024, verbose=0), 1e-30))
    temperature = fit_temperature(validation[1], logits, [str(number) for number in range(len(logits))])
    told = figures(validation[1], softmax(logits, temperature))
    accuracy = (logits.argmax(1) == validation[1]).mean()
    return (
        f"  {solver:<6} {seconds:8.1f} s, {len(fitted.history['loss'])} epochs, the best {fitted.best_epoch}; accuracy "
        f"{accuracy:.2%}, log loss {told['log_loss']:.4f}; {peak - before:,.0f} MB beside the features"
    )


def main() -> None:
    """Prints a line for each solver."""
    from headstart.features.runtime import import_tensorflow_quietly

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    for name, value in (("examples", 100_000), ("classes", 1000), ("size", 1280), ("patience", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--solver", nargs="+", default=["adam", "lbfgs"])
    args = parser.parse_args()
    import_tensorflow_quietly()
    splits = {
        split: features(count, args.classes, args.size, seed)
        for seed, (split, count) in enumerate((("train", args.examples), ("validation", VALIDATION)), 1)
    }
    print(f"{machine()}; {args.examples:,} features of {args.size:,} numbers, {args.classes:,} classes")
    for solver in args.solver:
        print(measure(solver, splits, args.classes, args.patience), flush=True)


if __name__ == "__main__":
    main()
