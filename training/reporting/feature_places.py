"""A place in the plane for each image: features in, t-SNE's two dimensions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.features.engines.factory import make_engine
from headstart.features.engines.options import EngineOptions
from headstart.features.engines.stream import ImageToRead, Unreadable, stream_features
from headstart.features.errors import UserError
from headstart.features.store.feature_store import FeatureStore
from headstart.features.store.manifest import is_store
from headstart.training.predicting.pictures import Pictures
from headstart.training.reporting.evaluated import Evaluated

if TYPE_CHECKING:
    import keras

FIRST = 50  # principal components that t-SNE takes
PERPLEXITY = 30.0
FEWEST = 8  # images: below, there is nothing to see


def features_of(evaluated: Evaluated, pictures: Pictures, model: keras.Model, rows: list[int]) -> dict[int, np.ndarray]:
    """What the head was given of each image, float32 [D], by row: from the store, or from the images where there is none.

    Raises:
        UserError: when neither is there.
    """
    if is_store(evaluated.metrics["input"]):
        found = _stored(evaluated, rows)
    elif pictures.why_not:
        raise UserError("missing-input", pictures.why_not)
    else:
        found = _computed(evaluated, pictures, model, rows)
    return {row: feature.reshape(-1, feature.shape[-1]).mean(0) for row, feature in found.items()}


def _stored(evaluated: Evaluated, rows: list[int]) -> dict[int, np.ndarray]:
    store, split = FeatureStore.open(evaluated.metrics["input"]), evaluated.metrics["split"]
    numbers = {key: number for number, key in enumerate(store.examples(split).keys.values())}
    known = [row for row in rows if evaluated.keys[row] in numbers]
    plain = np.array([numbers[evaluated.keys[row]] for row in known]) * store.spec.views_of(split)
    taken = store.features(split, evaluated.run.tap.name).take(plain).astype(np.float32)
    return dict(zip(known, taken))


def _computed(evaluated: Evaluated, pictures: Pictures, model: keras.Model, rows: list[int]) -> dict[int, np.ndarray]:
    run = evaluated.run
    engine = make_engine(model.get_layer("backbone"), EngineOptions(), run.spec.model_dtype)
    files = [ImageToRead(pictures.paths.get(evaluated.keys[row], "")) for row in rows]
    found = stream_features(files, run.spec, engine, run.config["max_pixels"])
    return {row: feature[0] for row, feature in zip(rows, found) if not isinstance(feature, Unreadable)}


def places(features: np.ndarray, seed: int) -> np.ndarray:
    """t-SNE of the first principal components, float [N, 2]: near is alike, far says nothing, and there are no units.

    Args:
        features: float [N, D], N at least 8.
        seed: of the components and of the descent.

    Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", https://jmlr.org/papers/v9/vandermaaten08a.html
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # sums in one order
        first = PCA(min(FIRST, *features.shape), random_state=seed).fit_transform(features.astype(np.float64))
        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        found: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(first)
    return found
