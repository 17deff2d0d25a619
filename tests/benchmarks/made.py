"""What the benchmarks run on where no folder is given: photographs of mixed sizes, and a store of 4x4x512 features."""

from __future__ import annotations

import argparse
import os
import platform
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headstart.features.store.feature_store import FeatureStore

SIDES = ((500, 375), (375, 500), (640, 480), (320, 240), (240, 192), (1024, 768))  # width, height, in turn


def write_photos(folder: str, count: int) -> None:
    """JPEGs in two classes: crops of the two photographs that ship with scikit-learn, in sizes as people have them."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator, photos = np.random.default_rng(0), [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(count):
        photo, (width, height) = photos[number % 2], SIDES[number // 2 % len(SIDES)]
        share = generator.uniform(0.5, 1) * min(photo.width / width, photo.height / height)
        box = int(share * width), int(share * height)
        left, top = (int(generator.integers(0, whole - part + 1)) for whole, part in zip(photo.size, box))
        path = os.path.join(folder, ("temple", "flower")[number % 2], f"{number:05}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        photo.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + box[0], top + box[1])).save(
            path, quality=90
        )


def write_large_photos(folder: str, count: int, size: tuple[int, int] = (4000, 3000)) -> None:
    """JPEGs as a phone makes them, (width, height): parts of the same two photographs, with a sensor's grain."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator, photos = np.random.default_rng(0), [Image.fromarray(photo) for photo in load_sample_images().images]
    for number in range(count):
        photo = photos[number % 2]
        share = generator.uniform(0.6, 1) * min(photo.width / size[0], photo.height / size[1])
        box = int(share * size[0]), int(share * size[1])
        left, top = (int(generator.integers(0, whole - part + 1)) for whole, part in zip(photo.size, box))
        large = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + box[0], top + box[1]))
        pixels = np.asarray(large) + generator.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
        path = os.path.join(folder, ("temple", "flower")[number % 2], f"{number:05}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def write_run(folder: str, backbone: str, side: int, share: float, taps: tuple[str, ...] = ("",)) -> None:
    """Of folder/photos, by random weights: folder/store, with a share of them to validate on, and folder/begin, a run on its
    last tap."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    photos, store, begin = (os.path.join(folder, name) for name in ("photos", "store", "begin"))
    splits = f"train={1 - share},validation={share}"
    flags = {"backbone": backbone, "weights": "random:0", "image_size": str(side), "taps": taps, "splits": splits}
    made = extract(ExtractConfig(input=photos, store=store, **flags))  # type: ignore[arg-type]
    train(TrainConfig(store=store, run=begin, epochs=1, tap=made.spec.taps[-1].name))


def write_store(folder: str, training: int, validation: int) -> FeatureStore:
    """A store of 4x4x512 float16 features, 16 kB each, made by `extract` with a base of one convolution on noise."""
    import keras
    from PIL import Image

    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    generator = np.random.default_rng(0)
    for split, count in (("train", training), ("validation", validation)):
        for number in range(count):
            path = os.path.join(folder, "images", split, str(number % 2), f"{number}.bmp")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pixels = generator.integers(0, 256 - 32 * (number % 2), (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    base = keras.Model(image, keras.layers.Conv2D(512, 4, 4, activation="relu", name="conv")(image), name="noise")
    base.save(os.path.join(folder, "base.keras"))
    return extract(
        ExtractConfig(
            input=os.path.join(folder, "images"),
            store=os.path.join(folder, "store"),
            backbone=os.path.join(folder, "base.keras"),
            preprocessing="tf",
            image_size="16",
            taps=("conv:none",),
            streams=2,
            batch_size=32,
        )
    )


def arguments(doc: str | None, examples: int, rounds: int) -> argparse.Namespace:
    """The command line of a benchmark on a made store; hushes TensorFlow."""
    from headstart.features.runtime import import_tensorflow_quietly

    parser = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0])
    parser.add_argument("--examples", type=int, default=examples)
    parser.add_argument("--rounds", type=int, default=rounds)
    parsed = parser.parse_args()
    import_tensorflow_quietly()
    return parsed


def machine() -> str:
    """The machine's name for a table: cores, processor, memory."""
    import psutil

    return f"{len(os.sched_getaffinity(0))} cores, {_processor()}, {psutil.virtual_memory().total / 2**30:.0f} GiB"


def _processor() -> str:
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()
