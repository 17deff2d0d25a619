"""Fine-tuning the top of a network: seconds an epoch of Keras end to end, of headstart from images, and from stored maps.

    python -m tests.benchmarks.finetuning [--backbone VGG16 --after block4_pool --image_size 150 --images 400]

Photographs made by the benchmark, random weights, no augmentation, validation after each epoch. An epoch takes what more
epochs add, so starting and saving count on no side.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

import keras

from headstart.features.runtime import import_tensorflow_quietly
from tests.benchmarks.made import machine, write_photos, write_run

FEW, MANY = 1, 4  # epochs
BATCH, SHARE = 32, 0.2  # of images to validate on


def main() -> None:
    """Prints a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="VGG16")
    parser.add_argument("--after", default="block4_pool")
    parser.add_argument("--image_size", type=int, default=150)
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args()
    import_tensorflow_quietly()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(os.path.join(folder, "photos"), options.images)
        ways = _ways(options, folder)
        print(f"{machine()}; {options.backbone} {options.image_size}, above {options.after}, {options.images} images")
        for name, way in ways.items():
            times = []
            for epochs in (FEW, MANY):
                started = time.perf_counter()
                way(epochs)
                times.append(time.perf_counter() - started)
            print(f"{name:<32} {(times[1] - times[0]) / (MANY - FEW):6.2f} s an epoch", flush=True)


def _ways(options: argparse.Namespace, folder: str) -> dict[str, Callable[[int], object]]:
    from headstart.training.finetuning.finetune import finetune
    from headstart.training.finetuning.finetune_config import FinetuneConfig

    photos, store, begin = (os.path.join(folder, name) for name in ("photos", "store", "begin"))
    write_run(folder, options.backbone, options.image_size, SHARE, (f"{options.after}:none", ":avg"))

    def ours(epochs: int, **source: str) -> object:
        run = os.path.join(folder, f"run-{len(source)}-{epochs}")
        more = {"unfreeze_after": options.after, "init_from": begin, "augment": "none", **source}
        return finetune(FinetuneConfig(run=run, epochs=epochs, patience=99, **more))  # type: ignore[arg-type]

    return {
        "Keras, end to end": lambda epochs: _keras(options, photos, epochs),
        "headstart from images": lambda epochs: ours(epochs, input=photos),
        "headstart from stored maps": lambda epochs: ours(epochs, from_store=store),
    }


def _keras(options: argparse.Namespace, photos: str, epochs: int) -> None:
    """As Keras's guide writes it: https://keras.io/guides/transfer_learning."""
    size = (options.image_size, options.image_size)
    train, validation = keras.utils.image_dataset_from_directory(
        photos, image_size=size, batch_size=BATCH, validation_split=SHARE, subset="both", seed=0, verbose=False
    )
    base = getattr(keras.applications, options.backbone)(include_top=False, weights=None, input_shape=(*size, 3))
    base.trainable = True
    named = [layer.name for layer in base.layers]
    for layer in base.layers[: named.index(options.after) + 1]:
        layer.trainable = False
    inputs = keras.Input((*size, 3))
    features = keras.layers.GlobalAveragePooling2D()(base(inputs / 127.5 - 1.0, training=False))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(features))
    model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train.prefetch(2), validation_data=validation.prefetch(2), epochs=epochs, verbose=0)


if __name__ == "__main__":
    main()
