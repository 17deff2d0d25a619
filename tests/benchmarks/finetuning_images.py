"""Augmentation and fine-tuning from images: seconds an epoch of Keras as in its guide, of Keras tuned by hand, of headstart.

A fifth of the layers with weights is trained, the others are frozen; the same augmentation on all sides (flip, rotation, zoom,
shift, brightness, contrast), validation after each epoch, batches of 32. By hand means: decoded images in memory, augmented in
parallel. Photographs made by the benchmark, random weights. An epoch takes what more epochs add, so starting and saving count
on no side.

    python -m tests.benchmarks.finetuning_images [--backbone EfficientNetLite0 --image_size 224 --images 600 --rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import keras
import tensorflow as tf

from tests.benchmarks.extraction import network
from tests.benchmarks.made import machine, write_photos, write_run

FEW, MANY = 1, 3  # epochs
BATCH, SHARE = 32, 0.2  # of images to validate on
TRAINED = 0.2  # of the layers with weights
WAYS = GUIDE, BY_HAND, OURS = "Keras, as its guide writes it", "Keras, tuned by hand", "headstart finetune"


def main() -> None:
    """Prints a line a way: its median, and how it stands to both of Keras's in the same round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(_epoch(_way(options))))
        return
    print(f"{machine()}; {options.backbone} {options.image_size}, {options.images} images, {options.rounds} rounds")
    with tempfile.TemporaryDirectory() as options.folder:
        write_photos(os.path.join(options.folder, "photos"), options.images)
        write_run(options.folder, options.backbone, options.image_size, SHARE)
        rounds = [{way: _in_own_process(options, way) for way in WAYS} for _ in range(options.rounds)]
    for way in WAYS:
        seconds = [each[way] for each in rounds]
        against = [median(each[peer] / each[way] for each in rounds) for peer in (GUIDE, BY_HAND)]
        print(
            f"{way:<30} {median(seconds):6.2f} s an epoch ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{against[0]:.2f} and {against[1]:.2f} times as fast as Keras's two"
        )


def _in_own_process(options: argparse.Namespace, way: str) -> float:
    flags = [f"--{name}={getattr(options, name)}" for name in ("backbone", "image_size", "images", "folder")]
    command = [sys.executable, "-m", "tests.benchmarks.finetuning_images", *flags, f"--way={way}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _epoch(run: Callable[[int], object]) -> float:
    """Seconds that another epoch adds."""
    times = []
    for epochs in (FEW, MANY):
        started = time.perf_counter()
        run(epochs)
        times.append(time.perf_counter() - started)
    return (times[1] - times[0]) / (MANY - FEW)


def _way(options: argparse.Namespace) -> Callable[[int], object]:
    """From epochs to a training of so many."""
    photos, begin = (os.path.join(options.folder, name) for name in ("photos", "begin"))
    base, _ = network(options.backbone, options.image_size)
    trained = round(TRAINED * sum(1 for layer in base.layers if layer.weights))
    if options.way != OURS:
        return lambda epochs: _keras(options, photos, epochs, trained, options.way == BY_HAND)
    from headstart.training.finetuning.finetune import finetune
    from headstart.training.finetuning.finetune_config import FinetuneConfig

    flags = {"input": photos, "init_from": begin, "unfreeze_last": trained, "patience": 99}
    tried = iter(range(MANY))

    def ours(epochs: int) -> object:
        run = tempfile.mkdtemp(dir=options.folder)
        return finetune(FinetuneConfig(run=os.path.join(run, str(next(tried))), epochs=epochs, **flags))

    return ours


def _keras(options: argparse.Namespace, photos: str, epochs: int, trained: int, by_hand: bool) -> None:
    """As Keras's guide writes it: https://keras.io/guides/transfer_learning."""
    size = (options.image_size, options.image_size)
    train, validation = keras.utils.image_dataset_from_directory(
        photos, image_size=size, batch_size=BATCH, validation_split=SHARE, subset="both", seed=0, verbose=False
    )
    augment = keras.Sequential(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomRotation(0.1),
            keras.layers.RandomZoom(0.2),
            keras.layers.RandomTranslation(0.1, 0.1),
            keras.layers.RandomBrightness(0.2),
            keras.layers.RandomContrast(0.2),
        ]
    )
    if by_hand:
        train, validation = train.cache(), validation.cache()
    train = train.map(lambda pixels, label: (augment(pixels, training=True), label), tf.data.AUTOTUNE if by_hand else None)
    base, preprocess = network(options.backbone, options.image_size)
    with_weights = [layer for layer in base.layers if layer.weights]
    for layer in with_weights:
        layer.trainable = layer in with_weights[-trained:]
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(base(preprocess(inputs), training=False)))
    model.compile(keras.optimizers.Adam(1e-5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        train.prefetch(tf.data.AUTOTUNE), validation_data=validation.prefetch(tf.data.AUTOTUNE), epochs=epochs, verbose=0
    )


if __name__ == "__main__":
    main()
