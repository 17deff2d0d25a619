"""The last check of a training: what was trained, on features, against the saved model on the images they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import keras
import numpy as np

from headstart.features.engines.factory import make_engine
from headstart.features.engines.noise import check_noise, noise_of
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import ImageToRead, Unreadable, image_loader, stream_features
from headstart.features.errors import UserError
from headstart.features.images.decode import decoder
from headstart.features.images.resize import resizer
from headstart.features.places import place
from headstart.features.spec import FeatureSpec, Tap
from headstart.features.store.feature_store import FeatureStore
from headstart.training.runs.run_folder import Run
from headstart.training.runs.shared_model import shared_model
from headstart.training.tasks.task import Task, task_of

STORED, ROUNDING = "the features it was trained on", "rounding"


def check_agreement(
    run: Run, store: FeatureStore, tap: Tap, head: keras.Model, backbone: keras.Model | None = None
) -> dict[str, Any]:
    """Compares the head on stored features with `model.keras` on the images that the store keeps.

    What may differ is what storing does to a feature: the head is run again on features moved by half a step of the storage
    dtype, up or down at random, and the largest change that this makes, three times over, is the tolerance.

    Where the store's features were computed in another dtype than float32, the saved model's backbone computes them again in
    float32: stored features may differ from those by noise, and the saved model's probabilities must be the head's on them.

    Args:
        run: whose `model.keras` it is.
        store: what it was trained on.
        tap: whose features.
        head: from them to probabilities.
        backbone: from pixels to them, where the saved model's backbone goes further.

    Returns:
        Number of images, the largest difference in probability, and the tolerance; how far the compute dtype moved features,
        as a share of their size, and with another than float32 the most that it moves a probability.

    Raises:
        UserError: when a probability differs by more, or a class does where its margin is larger than that; when features
            differ by more than noise, or are another image's.
    """
    keys = [image.key for image in store.sample()]
    if not keys:
        raise UserError(
            "changed-images",
            f"{store.path!r} keeps no image to check the model on: none of its training images could be read again",
        )
    stored = _stored_features(store, tap, keys)  # [n, *tap.shape]
    model = shared_model(run)

    def images() -> Iterator[np.ndarray]:
        decode = decoder(store.spec, store.manifest.max_pixels)
        return (decode(image.encoded) for image in store.sample())

    task = task_of(run.label_delimiter)
    if store.spec.compute_dtype == "float32":
        because = f"float32 stored as {store.spec.store_dtype}"
        seen = _Seen(keys, images, stored)
        return {**_compare(model, head, seen, store.spec.store_dtype, because, task), "compute_noise": 0.0}
    exact = _exact_features(backbone or model.get_layer("backbone"), images(), store.spec)
    _check_own(keys, exact, stored)
    noise = check_noise(noise_of(exact, stored), store.spec.compute_dtype, store.spec.backbone)
    compared = _compare(model, head, _Seen(keys, images, exact), "float32", ROUNDING, task)
    moved = float(np.abs(_answers(head, exact) - _answers(head, stored)).max())
    return {**compared, "compute_noise": noise, "compute_difference": moved}


def check_images(
    run: Run,
    trained: keras.Model,
    below: tuple[Tap, keras.Model] | None,
    spec: FeatureSpec,
    files: Sequence[ImageToRead],
    max_pixels: int,
) -> dict[str, Any]:
    """Compares a network that was trained in two parts, frozen layers by the engine, with `model.keras` on image files.

    Args:
        run: whose `model.keras` it is.
        trained: the upper part, to probabilities.
        below: where it begins, and the frozen part up to there; None when it begins with the pixels.
        spec: how images become pixels.
        files: to compare on.
        max_pixels: an image of more is refused.

    Returns:
        Number of images, the largest difference in probability, and the tolerance.

    Raises:
        UserError: when they disagree by more than rounding.
    """
    if below is None:
        load = image_loader(spec, max_pixels)
        features = np.stack([np.asarray(load(file)) for file in files])
    else:
        boundary, frozen = below
        engine = make_engine(frozen, EngineOptions())
        rows = stream_features(files, replace(spec, compute_dtype="float32", taps=(boundary,)), engine, max_pixels)
        features = np.stack([row[0] for row in rows if not isinstance(row, Unreadable)])

    def images() -> Iterator[np.ndarray]:
        decode = decoder(spec, max_pixels)
        return (decode(place.read(file.path)) for file in files)

    seen = _Seen([file.path for file in files], images, features)
    return _compare(shared_model(run), trained, seen, "float32", ROUNDING, task_of(run.label_delimiter))


class _Seen(NamedTuple):
    """Images by two ways: pixels uint8 [any, any, 3], decoded one at a time, and features float32 [n, *shape]."""

    names: Sequence[str]
    images: Callable[[], Iterator[np.ndarray]]
    features: np.ndarray


def _compare(model: keras.Model, head: keras.Model, seen: _Seen, store_dtype: str, because: str, task: Task) -> dict[str, Any]:
    from_features = _answers(head, seen.features)  # [n, classes]
    several = task.several
    sums_to_1 = several or np.abs(from_features.sum(axis=1) - 1).max() <= 1e-3
    if not (from_features.min() >= 0 and from_features.max() <= 1 + 1e-3 and sums_to_1):  # NaN is none of it
        raise UserError(
            "bad-value",
            f"the head's outputs are not probabilities: end it with a {task.activation}, or take a loss with from_logits=True",
        )
    tolerance = storage_tolerance(head, seen.features, from_features, store_dtype)
    from_images = classify_images(model, seen.images())
    difference = np.abs(from_features - from_images).max(axis=1)
    worst = int(difference.argmax())
    mismatched = np.zeros(len(difference), bool)
    if not several:  # of several labels, none is the answer
        ordered = np.sort(from_features, axis=1)
        mismatched = (ordered[:, -1] - ordered[:, -2] > tolerance) & (from_features.argmax(1) != from_images.argmax(1))
    if not difference[worst] <= tolerance or mismatched.any():
        where = int(mismatched.argmax()) if mismatched.any() else worst
        what, remedy = ("what was trained", "train again") if because == ROUNDING else (STORED, "extract again")
        raise UserError(
            "model-disagrees",
            f"model.keras and {what} disagree: on {seen.names[where]!r} probabilities differ by {difference[where]:.2g}, more "
            f"than {because} explains ({tolerance:.2g}); {remedy}",
        )
    return {"images": len(seen.names), "largest_difference": float(difference[worst]), "tolerance": tolerance}


def _stored_features(store: FeatureStore, tap: Tap, keys: Sequence[str]) -> np.ndarray:
    """Training features by key, float32 [len(keys), *tap.shape]."""
    rows = {example.key: row for row, example in enumerate(store.examples("train"))}
    views = store.spec.views_of("train")
    return store.features("train", tap.name).take(np.array([rows[key] * views for key in keys])).astype(np.float32)


def _check_own(keys: Sequence[str], exact: np.ndarray, stored: np.ndarray) -> None:
    """Raises UserError where an image's stored features are clearly nearer to another image's than to its own."""
    one, other = (each.reshape(len(each), -1).astype(np.float64) for each in (stored, exact))
    products = -2 * one @ other.T
    apart = np.sqrt(np.maximum(np.square(one).sum(1)[:, None] + products + np.square(other).sum(1), 0))  # [n, n]
    strays = np.flatnonzero(np.diag(apart) > 2 * apart.min(axis=1))  # pictures of one series are about as near, all of them
    if strays.size:
        key, like = keys[strays[0]], keys[apart[strays[0]].argmin()]
        raise UserError(
            "model-disagrees",
            f"model.keras and {STORED} disagree: those of {key!r} are nearer to {like!r}'s than to its own; extract again",
        )


def _exact_features(backbone: keras.Model, images: Iterable[np.ndarray], spec: FeatureSpec) -> np.ndarray:
    """Features as the saved model computes them, in float32, of images uint8 [any, any, 3]."""
    resize = resizer(spec)
    return np.concatenate([np.asarray(backbone(resize(image)[None], training=False)) for image in images])


def storage_tolerance(
    head: keras.Model, stored: np.ndarray, probabilities: np.ndarray, store_dtype: str, draws: int = 8
) -> float:
    """How far a head's probabilities move when its features move by what storing them may: half a step of the dtype."""
    half_step = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}[store_dtype]
    generator = np.random.default_rng(0)
    moved = 0.0
    for _ in range(draws):
        signs = generator.choice(np.array([-1, 1], np.float32), stored.shape)
        answers = _answers(head, stored * (1 + half_step * signs))
        moved = max(moved, float(np.abs(answers - probabilities).max()))
    return 1e-3 + 3 * moved  # the first part: kernels that round in another order


def classify_images(model: keras.Model, images: Iterable[np.ndarray]) -> np.ndarray:
    """A saved model's probabilities for images of any size, uint8 [any, any, 3], float32 [n, classes]."""
    import tensorflow as tf

    def of_any_size(layer: Callable[[Any], Any]) -> np.ndarray:
        signature = [tf.TensorSpec((1, None, None, 3), tf.uint8)]  # one trace for all sizes
        traced = tf.function(layer, input_signature=signature)
        return np.concatenate([traced(tf.constant(image[None])).numpy() for image in images])

    if keras.backend.backend() == "tensorflow":
        return of_any_size(lambda image: model(image, training=False))
    # another backend compiles anew for each size of image: TensorFlow resizes, as Keras has it do in a tf.data pipeline
    resized = of_any_size(lambda image: model.get_layer("resizing")(tf.cast(image, tf.float32)))
    return _answers(model.get_layer("head"), model.get_layer("backbone").predict(resized, verbose=0))


def _answers(head: keras.Model, features: np.ndarray) -> np.ndarray:
    """A head's probabilities of a few features, float32 [n, classes]; `predict` would build a pipeline at each call."""
    return np.asarray(head(features, training=False))
