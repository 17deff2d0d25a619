"""headstart train: a feature store in, a head trained from nothing and a model of images out. Reads the store alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from features import command, files
from features.command import flag, positional, required
from features.errors import UserError, nearest

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from features.spec import Tap
    from features.store import FeatureStore
    from training.run_folder import Run

# As in training.model, which is too heavy to import for --help.
HEADS = ("linear", "mlp")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
CLASS_WEIGHTS = ("none", "balanced")
MONITORS = ("val_loss", "val_accuracy", "loss", "accuracy")
SHARE_OF_MEMORY = 0.25


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a head on the features of a store."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    run: str = required("the folder to leave the model and its figures in", metavar="RUN")
    head: str = flag("linear", "linear: a linear probe; mlp: Dense 256, ReLU, dropout, softmax", choices=HEADS)
    tap: str = flag("", "which of the store's taps, as LAYER:POOL (default: its first)")
    epochs: int = flag(100, "at most; early stopping ends sooner where there is a validation split")
    patience: int = flag(10, "epochs without a better --monitor before it stops")
    batch_size: int = flag(32, "examples a step")
    learning_rate: float = flag(3e-4, "of Adam", aliases=("--lr",))
    dropout: float = flag(0.5, "share of the mlp's hidden units dropped")
    class_weight: str = flag(
        "none", "balanced: every class counts the same, however many examples it has", choices=CLASS_WEIGHTS
    )
    monitor: str = flag("val_loss", "what the best epoch is best at", choices=MONITORS)
    precision: str = flag("auto", "auto: mixed where the GPU has tensor cores, else float32", choices=PRECISIONS)
    seed: int = flag(0, "of the first weights, the order of examples and the dropout")

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} must be at least 1, not {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UserError(f"--learning_rate must be above 0, not {self.learning_rate}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"--dropout lies from 0 to below 1, not at {self.dropout}")
        for name, allowed in (
            ("head", HEADS),
            ("class_weight", CLASS_WEIGHTS),
            ("monitor", MONITORS),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise UserError(f"--{name} is one of {', '.join(allowed)}, not {value!r}.{nearest(value, allowed)}")


def train(config: TrainConfig, head: keras.Layer | None = None, loss: Any = None) -> Run:
    """Trains a head, keeps its best epoch, and saves `model.keras`: uint8 images in, probabilities out.

    Args:
        config: what `headstart train` takes.
        head: any Keras layer or model from [B, *tap.shape] to [B, classes], in place of the configuration's: probabilities,
            or logits with a loss that says `from_logits=True`.
        loss: any Keras loss, or its name; labels come as one-hot rows, or as ids for the sparse ones.

    Returns:
        The complete run.

    Raises:
        UserError: for a store that is not complete, a head that does not fit, a loss that is not finite (naming the step),
            or a saved model that does not agree with the features it was trained on.
    """
    import keras

    from features.engine import has_gpu
    from features.store import FeatureStore
    from training import run_folder
    from training.model import attach_head

    has_gpu()  # memory grows with need
    run_folder.check_free(config.run)
    store = FeatureStore.open(config.store)
    tap = store.tap(config.tap or None)
    if "train" not in store.splits:
        raise UserError(f"{config.store!r} has no examples in a train split; it has {', '.join(store.splits) or 'none'}")
    run_folder.clear(config.run)
    keras.utils.set_random_seed(config.seed)
    started = time.monotonic()
    trained, history = _fit(config, store, tap, head, keras.losses.get(loss or "sparse_categorical_crossentropy"))
    classifier = attach_head(store.spec, store.backbone(tap), trained)
    run = _save(config, store, tap, classifier, history)
    check = check_agreement(run, store, tap, trained)
    metrics = {**_best(config, history), "seconds": round(time.monotonic() - started, 2), "agreement": check}
    files.write_json(os.path.join(config.run, run_folder.METRICS), metrics)
    return run


def _fit(
    config: TrainConfig, store: FeatureStore, tap: Tap, custom: keras.Layer | None, loss: keras.Loss
) -> tuple[keras.Model, dict[str, list[float]]]:
    """The trained head in float32 with its best weights, and the figures of every epoch."""
    import keras

    from training.model import build_head, in_float32, resolve_precision, wrap_head

    classes, precision = len(store.class_names), resolve_precision(config.precision)
    training, validation = _splits(config, store, tap)
    from_logits, sparse = bool(getattr(loss, "from_logits", False)), _is_sparse(loss)
    moments = _moments(training) if custom is None else None
    if moments is None:
        head = layer = wrap_head(custom, tap, classes, from_logits=False)
    else:
        head = build_head(config.head, tap, classes, moments, config.dropout, precision)
    optimizer: Any = keras.optimizers.Adam(config.learning_rate)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)  # small gradients would vanish
    accuracy = keras.metrics.SparseCategoricalAccuracy if sparse else keras.metrics.CategoricalAccuracy
    head.compile(optimizer, loss=loss, metrics=[accuracy(name="accuracy")], jit_compile=False)
    history = head.fit(
        _for_loss(training.shuffle(config.seed), classes, sparse),
        validation_data=_for_loss(validation.in_order(), classes, sparse) if validation else None,
        epochs=config.epochs,
        class_weight=_class_weight(config, store),
        callbacks=_callbacks(config, validation is not None, len(training)),
        verbose=0,
    ).history
    if moments is not None:
        return in_float32(head, config.head, tap, classes, moments, config.dropout), history
    return (wrap_head(layer, tap, classes, from_logits=True) if from_logits else head), history


def _is_sparse(loss: Any) -> bool:
    """Whether a loss takes class ids, and not one-hot rows."""
    return "sparse" in str(getattr(loss, "name", None) or getattr(loss, "__name__", "")).lower()


class _Split:
    """A split's batches: from memory when they fit in a quarter of it, from disk when not."""

    def __init__(self, config: TrainConfig, store: FeatureStore, name: str, tap: Tap) -> None:
        import psutil

        self.config, self.store, self.name, self.tap = config, store, name, tap
        size = store.count(name) * tap.size * 4
        self.arrays = store.arrays(name, tap.name) if size < SHARE_OF_MEMORY * psutil.virtual_memory().available else None

    def __len__(self) -> int:
        return -(-self.store.count(self.name) // self.config.batch_size)

    def shuffle(self, seed: int) -> tf.data.Dataset:
        """In another order each epoch."""
        if self.arrays is None:
            return self.store.dataset(self.name, self.config.batch_size, shuffle=True, seed=seed, tap=self.tap.name)
        return self._rows().shuffle(len(self.arrays.labels), seed=seed).batch(self.config.batch_size)

    def in_order(self) -> tf.data.Dataset:
        """In the store's order."""
        if self.arrays is None:
            return self.store.dataset(self.name, self.config.batch_size, tap=self.tap.name)
        return self._rows().batch(self.config.batch_size)

    def _rows(self) -> tf.data.Dataset:
        import tensorflow as tf

        assert self.arrays is not None
        with tf.device("CPU"):
            return tf.data.Dataset.from_tensor_slices((self.arrays.features, self.arrays.labels))


def _splits(config: TrainConfig, store: FeatureStore, tap: Tap) -> tuple[_Split, _Split | None]:
    validation = _Split(config, store, "validation", tap) if "validation" in store.splits else None
    if validation is None:
        if config.monitor.startswith("val_") and config.monitor != "val_loss":
            raise UserError(
                f"--monitor {config.monitor} needs a validation split; {config.store!r} has {', '.join(store.splits)}"
            )
        print(
            f"warning: {config.store} has no validation split: no early stopping, the best epoch is told by the training loss",
            file=sys.stderr,
        )
    return _Split(config, store, "train", tap), validation


def _for_loss(batches: tf.data.Dataset, classes: int, sparse: bool) -> tf.data.Dataset:
    """Features as float32, labels as the loss wants them, the next batches under way."""
    import tensorflow as tf

    def convert(feature: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(feature, tf.float32), label if sparse else tf.one_hot(label, classes)

    return batches.map(convert, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _moments(split: _Split) -> tuple[np.ndarray, np.ndarray]:
    """Each channel's mean and deviation over a split, float32 [C]; one pass, in float64."""
    import numpy as np

    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for feature, _ in split.in_order().as_numpy_iterator():
        rows = feature.reshape(-1, feature.shape[-1]).astype(np.float64)  # [B * places, C]
        count, total, squares = count + len(rows), total + rows.sum(0), squares + np.square(rows).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    return mean.astype(np.float32), deviation.astype(np.float32)


def _class_weight(config: TrainConfig, store: FeatureStore) -> dict[int, float] | None:
    """Balanced: N / (classes * count), so that every class has the same say."""
    if config.class_weight == "none":
        return None
    counts = dict.fromkeys(range(len(store.class_names)), 0)
    for example in store.examples("train"):
        counts[store.class_names.index(example.labels[0])] += 1
    present = {label: count for label, count in counts.items() if count}
    return {label: sum(present.values()) / (len(present) * count) for label, count in present.items()}


def _callbacks(config: TrainConfig, has_validation: bool, steps: int) -> list[keras.callbacks.Callback]:
    import keras

    from training import run_folder

    monitor = config.monitor if has_validation else config.monitor.removeprefix("val_")
    mode = "max" if monitor.endswith("accuracy") else "min"
    patience = config.patience if has_validation else config.epochs
    return [
        _stop_when_not_finite(steps),
        _show_progress(config.epochs, monitor),
        keras.callbacks.EarlyStopping(monitor, patience=patience, mode=mode, restore_best_weights=True, start_from_epoch=0),
        keras.callbacks.TensorBoard(os.path.join(config.run, run_folder.LOGS), write_graph=False),
    ]


def _stop_when_not_finite(steps: int) -> keras.callbacks.Callback:
    """Ends the run at the first step whose loss is NaN or infinite."""
    import keras

    class StopWhenNotFinite(keras.callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if not math.isfinite(logs["loss"]):
                raise UserError(
                    f"the loss is {logs['loss']} at step {self.epoch * steps + batch + 1} (epoch {self.epoch + 1}, "
                    f"batch {batch + 1}): lower --learning_rate, or check the features"
                )

    return StopWhenNotFinite()


def _show_progress(epochs: int, monitor: str) -> keras.callbacks.Callback:
    import keras

    from features.progress import Progress

    class ShowProgress(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.progress = Progress("train", epochs, "epochs")

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.progress.update(epoch + 1)

        def on_train_end(self, logs: Any = None) -> None:
            self.progress.close()

    return ShowProgress()


def _best(config: TrainConfig, history: dict[str, list[float]]) -> dict[str, Any]:
    """The epoch whose weights were kept, and its figures; those of the validation split were used to choose it."""
    monitor = config.monitor if config.monitor in history else config.monitor.removeprefix("val_")
    values = history[monitor]
    best = values.index(max(values) if monitor.endswith("accuracy") else min(values))
    return {
        "best_epoch": best + 1,
        "epochs": len(values),
        "monitor": monitor,
        "used_for_selection": "validation" if monitor.startswith("val_") else "train",
        **{name: column[best] for name, column in history.items()},
    }


def _save(config: TrainConfig, store: FeatureStore, tap: Tap, classifier: keras.Model, history: dict[str, list[float]]) -> Run:
    from training import report, run_folder

    described = {
        "train": dataclasses.asdict(config),
        "store": os.path.abspath(config.store),
        "spec": store.spec.to_json(),
        "fingerprint": store.spec.fingerprint,
        "tap": dataclasses.asdict(tap),
        "class_names": store.class_names,
        "dataset_digest": store.manifest["dataset_digest"],
        "groups_declared": store.manifest["groups_declared"],
    }
    files.write_json(os.path.join(config.run, run_folder.CONFIG), described)
    files.write_bytes(os.path.join(config.run, run_folder.HISTORY), _history_csv(history))
    title, curve = f"{store.spec.backbone} {tap.name}, {config.head}", os.path.join(config.run, run_folder.CURVE)
    report.learning_curve(history, curve, title, _best(config, history)["best_epoch"])
    temporary = os.path.join(config.run, f"unfinished-{run_folder.MODEL}")
    classifier.save(temporary)
    os.replace(temporary, os.path.join(config.run, run_folder.MODEL))
    return run_folder.Run(config.run, described)


def _history_csv(history: dict[str, list[float]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("epoch", *history))
    writer.writerows((epoch, *row) for epoch, row in enumerate(zip(*history.values()), 1))
    return text.getvalue().encode()


def check_agreement(run: Run, store: FeatureStore, tap: Tap, head: keras.Model) -> dict[str, Any]:
    """Compares the head on stored features with `model.keras` on the images that the store keeps.

    What may differ is what storing does to a feature: the head is run again on features moved by half a step of the storage
    dtype, up or down at random, and the largest change that this makes, three times over, is the tolerance.

    Returns:
        Number of images, the largest difference in probability, and the tolerance.

    Raises:
        UserError: when a probability differs by more, or a class does where its margin is larger than that.
    """
    import numpy as np

    arrays = store.arrays("train", tap.name)
    row_of = {key: row for row, key in enumerate(arrays.keys)}
    sample = list(store.sample())
    stored = arrays.features[[row_of[image.key] for image in sample]].astype(np.float32)  # [n, *tap.shape]
    from_features = head.predict(stored, verbose=0)  # [n, classes]
    tolerance = storage_tolerance(head, stored, from_features, store.spec.store_dtype)
    from_images = _classify(run.model(), [image.encoded for image in sample])
    difference = np.abs(from_features - from_images).max(axis=1)
    worst = int(difference.argmax())
    ordered = np.sort(from_features, axis=1)
    torn = (ordered[:, -1] - ordered[:, -2] > tolerance) & (from_features.argmax(1) != from_images.argmax(1))
    if difference[worst] > tolerance or torn.any():
        where = int(torn.argmax()) if torn.any() else worst
        raise UserError(
            f"model.keras and the features it was trained on disagree: on {sample[where].key!r} probabilities differ by "
            f"{difference[where]:.2g}, more than {store.spec.store_dtype} explains ({tolerance:.2g}); extract again"
        )
    return {"images": len(sample), "largest_difference": float(difference[worst]), "tolerance": tolerance}


def storage_tolerance(
    head: keras.Model, stored: np.ndarray, probabilities: np.ndarray, store_dtype: str, draws: int = 8
) -> float:
    """How far a head's probabilities move when its features move by half a step of the dtype that they are stored in."""
    import numpy as np

    half_step = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}[store_dtype]
    generator = np.random.default_rng(0)
    moved = 0.0
    for _ in range(draws):
        signs = generator.choice(np.array([-1, 1], np.float32), stored.shape)
        moved = max(moved, float(np.abs(head.predict(stored * (1 + half_step * signs), verbose=0) - probabilities).max()))
    return 1e-3 + 3 * moved  # the first part: kernels that round in another order


def _classify(model: keras.Model, encoded: Sequence[bytes]) -> np.ndarray:
    """A saved model's probabilities for image files of any size, one by one, float32 [n, classes]."""
    import numpy as np
    import tensorflow as tf

    from features.images import decode_image

    signature = [tf.TensorSpec((1, None, None, 3), tf.uint8)]  # one trace for all sizes
    classify = tf.function(lambda image: model(image, training=False), input_signature=signature)
    return np.concatenate([classify(tf.constant(decode_image(data)[None])).numpy() for data in encoded])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    prog = "headstart train"

    def body() -> None:
        config, _, verbose = command.parse(TrainConfig, prog, sys.argv[1:] if argv is None else argv)
        command.load_quietly(verbose)
        run = train(config)
        print(describe(run))

    return command.run(prog, body)


def describe(run: Run) -> str:
    """What a training came to, in two lines."""
    from training import run_folder

    metrics = files.read_json(os.path.join(run.path, run_folder.METRICS))
    name = "val_accuracy" if "val_accuracy" in metrics else "accuracy"
    kind = "validation accuracy, used for selection" if name == "val_accuracy" else "training accuracy"
    return (
        f"trained {metrics['epochs']} epochs in {metrics['seconds']:.1f} s; the best, {metrics['best_epoch']}: "
        f"{metrics[name]:.4f} ({kind})\n{os.path.join(run.path, run_folder.MODEL)}: agrees with the stored features on "
        f"{metrics['agreement']['images']} images to {metrics['agreement']['largest_difference']:.1g}"
    )


if __name__ == "__main__":
    sys.exit(main())
