"""From a folder of JPEGs to features: headstart against the usual way, `image_dataset_from_directory` and `predict`.

Each round runs both, one after the other, each in a process of its own, and the ratio is taken inside the round. Imports
and the building of the network are not counted; reading, decoding, resizing, the backbone, and on headstart's side the
survey, writing and closing of the store, are. The images are crops of the two photographs that ship with scikit-learn.

    python -m tests.benchmarks.extraction [--images 400] [--rounds 5] [--backbone MobileNetV2] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PEER, OURS = "keras", "headstart"


def write_photos(folder: str, count: int) -> None:
    """JPEGs of 375x500 pixels in two classes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    for number in range(count):
        photo = load_sample_images().images[number % 2]
        top, left = (int(generator.integers(0, extent)) for extent in (photo.shape[0] - 374, photo.shape[1] - 499))
        path = os.path.join(folder, ("temple", "flower")[number % 2], f"{number:05}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.fromarray(photo[top : top + 375, left : left + 500]).save(path, quality=90)


def run_headstart(folder: str, backbone: str, store: str) -> float:
    """Seconds of `extract` into a new store."""
    from features.backbone import Origin
    from features.command import load_quietly, one_thread_a_stream
    from features.engine import shared_base
    from pipelines.extract import extract
    from pipelines.extract_config import ExtractConfig

    one_thread_a_stream()
    load_quietly()
    import apache_beam  # noqa: F401

    shared_base(Origin(backbone, "random:0"), (224, 224))
    started = time.monotonic()
    extract(ExtractConfig(input=folder, store=store, backbone=backbone, weights="random:0", image_size="224"))
    return time.monotonic() - started


def run_keras(folder: str, backbone: str) -> float:
    """Seconds of `predict` over `image_dataset_from_directory`, the features left in memory."""
    from features.command import load_quietly

    load_quietly()
    import keras

    network = getattr(keras.applications, backbone)(include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3))
    started = time.monotonic()
    images = keras.utils.image_dataset_from_directory(
        folder, image_size=(224, 224), batch_size=32, shuffle=False, verbose=False
    )
    network.predict(images.map(lambda pixels, _: pixels / 127.5 - 1), verbose=0)
    return time.monotonic() - started


def timed(which: str, folder: str, backbone: str) -> float:
    """One run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.extraction",
        "--only",
        which,
        "--folder",
        folder,
        "--backbone",
        backbone,
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Prints images a second of both, and the median ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backbone", default="MobileNetV2")
    parser.add_argument("--folder", help="an image folder of your own")
    parser.add_argument("--only", choices=(PEER, OURS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if args.only:
            store = os.path.join(scratch, "store")
            print(
                run_keras(args.folder, args.backbone)
                if args.only == PEER
                else run_headstart(args.folder, args.backbone, store)
            )
            return
        folder = args.folder or os.path.join(scratch, "photos")
        if not args.folder:
            write_photos(folder, args.images)
        compare(folder, args.backbone, args.rounds)
        shutil.rmtree(scratch, ignore_errors=True)


def compare(folder: str, backbone: str, rounds: int) -> None:
    """Alternates the two and prints medians."""
    images = sum(len(names) for _, _, names in os.walk(folder))
    rates: dict[str, list[float]] = {PEER: [], OURS: []}
    for _ in range(rounds):
        for which in (PEER, OURS):
            rates[which].append(images / timed(which, folder, backbone))
    ratios = [ours / peer for ours, peer in zip(rates[OURS], rates[PEER])]
    print(f"{backbone} at 224, {images} images, {os.cpu_count()} cores, {processor()}, medians of {rounds} rounds")
    for which, found in rates.items():
        print(f"  {which:<10}{statistics.median(found):7.1f} images/s  (from {min(found):.1f} to {max(found):.1f})")
    print(f"  ratio     {statistics.median(ratios):7.2f}  (from {min(ratios):.2f} to {max(ratios):.2f})")


def processor() -> str:
    """The processor's name where Linux tells it."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
