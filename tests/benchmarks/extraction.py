"""From a folder of images to features: headstart against the ways people use now, each in a process of its own.

A round runs every way once, one after the other (the two slowest in the first round alone), and a ratio is taken inside its
round. What counts begins when the network has been built and 16 images have gone the whole way, and ends when the last feature
is there: in a complete store on headstart's side, its survey, estimate, manifest and network file included; in memory on the
others'. What came before is told apart, as start-up. Weights are random: nothing is downloaded, speed is the same.

    python -m tests.benchmarks.extraction MobileNetV2 224 --folder PHOTOS [--rounds 3] [--large]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from tests.benchmarks.made import machine

WARM_IMAGES = 16
LIMIT_IMAGES = 300  # that decoding and the backbone alone are timed on
BATCH = 32  # of the ways people use now
KERAS, NOTEBOOK, BEAM = (
    "image_dataset_from_directory + predict",
    "flow_from_directory + predict",
    "Beam RunInference, Keras handler",
)
KERAS_BY_HAND = "the same, mapped in parallel and prefetched"
OURS, OURS_BFLOAT16, OURS_SCALED = "headstart float32", "headstart bfloat16", "headstart float32, --decode scaled"
BARE, BARE_BFLOAT16 = "bare engine float32, pixels decoded", "bare engine bfloat16, pixels decoded"
DECODE = "decode and resize alone"
BARE_OF = {OURS: BARE, OURS_BFLOAT16: BARE_BFLOAT16}
ONCE = (NOTEBOOK, BEAM)  # the slowest by far, in the first round only
USUAL = (KERAS, KERAS_BY_HAND, NOTEBOOK, BEAM, OURS, OURS_BFLOAT16, BARE, BARE_BFLOAT16, DECODE)
LARGE = (KERAS, KERAS_BY_HAND, OURS, OURS_SCALED, DECODE)  # for photographs as phones make them
Job = Callable[[str], int]  # a folder of images -> how many were done


def network(name: str, side: int) -> tuple[Any, Any]:
    """The network as its users build it, and what it wants done to a batch of pixels."""
    import keras

    from headstart.features.backbones import efficientnet_lite

    if name in efficientnet_lite.VARIANTS:
        base = efficientnet_lite.build(name, (side, side))
        pooled = keras.layers.GlobalAveragePooling2D()(base.output)
        return keras.Model(base.input, pooled), lambda pixels: (pixels - 127) / 128
    module = {"MobileNetV2": "mobilenet_v2", "ResNet50": "resnet", "VGG16": "vgg16"}[name]
    built = getattr(keras.applications, name)(include_top=False, weights=None, pooling="avg", input_shape=(side, side, 3))
    return built, getattr(keras.applications, module).preprocess_input


def keras_job(name: str, side: int, by_hand: bool = False) -> Job:
    """`image_dataset_from_directory`, mapped by the preprocessing, into `predict`; tuned `by_hand`, or as it comes."""
    import keras
    import tensorflow as tf

    model, preprocess = network(name, side)

    def job(folder: str) -> int:
        images = keras.utils.image_dataset_from_directory(
            folder, image_size=(side, side), batch_size=BATCH, shuffle=False, verbose=False
        )
        prepared = images.map(lambda pixels, _: preprocess(pixels), tf.data.AUTOTUNE if by_hand else None)
        return len(model.predict(prepared.prefetch(tf.data.AUTOTUNE) if by_hand else prepared, verbose=0))

    return job


def notebook_job(name: str, side: int) -> Job:
    """The notebook's loop: a generator, `predict` for each batch, into numpy arrays."""
    import tensorflow as tf

    model, preprocess = network(name, side)

    def job(folder: str) -> int:
        generator = tf.keras.preprocessing.image.ImageDataGenerator(preprocessing_function=preprocess).flow_from_directory(
            folder, target_size=(side, side), batch_size=BATCH, class_mode="binary", shuffle=False
        )
        features, labels = np.zeros((generator.n, *model.output_shape[1:])), np.zeros(generator.n)
        done = 0
        for inputs, truth in generator:
            features[done : done + len(inputs)], labels[done : done + len(inputs)] = model.predict(inputs, verbose=0), truth
            done += len(inputs)
            if done >= generator.n:
                break
        return done

    return job


def beam_job(name: str, side: int) -> Job:
    """RunInference with a model handler of a Keras model, as Beam's guide to custom handlers shows one."""
    import apache_beam as beam
    import tensorflow as tf
    from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    model, preprocess = network(name, side)

    class KerasHandler(ModelHandler[np.ndarray, PredictionResult, Any]):
        def load_model(self) -> Any:
            return model

        def run_inference(self, batch: Any, model: Any, inference_args: Any = None) -> Any:
            return [PredictionResult(x, y) for x, y in zip(batch, model.predict(np.stack(batch), verbose=0))]

        def batch_elements_kwargs(self) -> dict[str, int]:
            return {"min_batch_size": BATCH, "max_batch_size": BATCH}

    def decode(path: str) -> np.ndarray:
        with open(path, "rb") as file:
            image = tf.image.decode_image(file.read(), 3, expand_animations=False)
        return np.asarray(preprocess(tf.image.resize(image, (side, side)).numpy()))

    def job(folder: str) -> int:
        paths = files_of(folder)
        with tempfile.TemporaryDirectory() as out, beam.Pipeline(runner=FnApiRunner()) as pipeline:
            results = pipeline | beam.Create(paths) | beam.Map(decode) | RunInference(KerasHandler())
            features = results | beam.Map(lambda result: json.dumps(result.inference.tolist()))
            _ = features | beam.io.WriteToText(os.path.join(out, "features"))
        return len(paths)

    return job


def headstart_job(name: str, side: int, compute_dtype: str, decode: str = "full") -> Job:
    """`headstart extract` into a new store, which ends complete."""
    from headstart.features.runtime import limit_intra_op_threads

    limit_intra_op_threads()
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig

    def job(folder: str) -> int:
        with tempfile.TemporaryDirectory() as scratch:
            config = ExtractConfig(
                input=folder, store=os.path.join(scratch, "store"), backbone=name, weights="random:0", image_size=str(side),
                compute_dtype=compute_dtype, decode=decode, layout="class",
            )  # fmt: skip
            return int(extract(config).manifest.totals.stored)

    return job


def bare_job(name: str, side: int, compute_dtype: str) -> Job:
    """The engine alone, all streams busy, on pixels that are decoded and resized already."""
    from concurrent.futures import ThreadPoolExecutor

    from headstart.features.backbones.source import BackboneSource
    from headstart.features.engines.options import EngineOptions
    from headstart.features.runtime import limit_intra_op_threads

    limit_intra_op_threads()
    from headstart.features.backbones.backbone import resolve_backbone
    from headstart.features.engines.factory import make_engine

    backbone = resolve_backbone(BackboneSource(name, "random:0"), (side, side))
    engine = make_engine(backbone.extractor, EngineOptions(), compute_dtype)
    pixels = np.random.default_rng(0).uniform(0, 255, (engine.batch_size, side, side, 3)).astype(np.float32)

    def job(folder: str) -> int:
        batches = -(-len(files_of(folder)) // engine.batch_size)
        with ThreadPoolExecutor(engine.streams) as pool:
            list(pool.map(lambda _: engine(pixels), range(batches)))
        return batches * engine.batch_size

    return job


def decode_job(name: str, side: int) -> Job:
    """Reading, decoding and resizing alone, in one thread."""
    from headstart.features.images.decode import decode_image
    from headstart.features.images.resize import resize

    def job(folder: str) -> int:
        for path in files_of(folder):
            with open(path, "rb") as file:
                resize(decode_image(file.read()), (side, side), "squash", "bilinear")
        return len(files_of(folder))

    return job


WAYS: dict[str, Callable[[str, int], Job]] = {
    KERAS: keras_job,
    KERAS_BY_HAND: lambda name, side: keras_job(name, side, by_hand=True),
    NOTEBOOK: notebook_job,
    BEAM: beam_job,
    OURS: lambda name, side: headstart_job(name, side, "float32"),
    OURS_BFLOAT16: lambda name, side: headstart_job(name, side, "bfloat16"),
    OURS_SCALED: lambda name, side: headstart_job(name, side, "float32", "scaled"),
    BARE: lambda name, side: bare_job(name, side, "float32"),
    BARE_BFLOAT16: lambda name, side: bare_job(name, side, "bfloat16"),
    DECODE: decode_job,
}


def files_of(folder: str) -> list[str]:
    """Every file below a folder."""
    return sorted(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)


def few_of(folder: str, scratch: str, count: int = WARM_IMAGES) -> str:
    """A folder of links to a few of the images, as many of each class."""
    labels = sorted(os.listdir(folder))
    for label in labels:
        os.makedirs(os.path.join(scratch, label), exist_ok=True)
        for path in islice(files_of(os.path.join(folder, label)), count // len(labels)):
            os.symlink(os.path.abspath(path), os.path.join(scratch, label, os.path.basename(path)))
    return scratch


def run_alone(way: str, name: str, side: int, folder: str) -> dict[str, float]:
    """One run of one way, in this process; of headstart's with the share of what is possible, see `limit_of`."""
    began = time.monotonic()
    from headstart.features.runtime import silence_library_logs

    silence_library_logs()
    job = WAYS[way](name, side)
    with tempfile.TemporaryDirectory() as scratch:
        job(few_of(folder, scratch))
    started, cpu = time.monotonic(), time.process_time()
    images = job(folder)
    seconds = time.monotonic() - started
    row = {
        "start-up s": started - began,
        "images/s": images / seconds,
        "cpu ms/image": (time.process_time() - cpu) / images * 1000,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return row | ({"of the limit": row["images/s"] / limit_of(way, name, side, folder)} if way in BARE_OF else {})


def limit_of(way: str, name: str, side: int, folder: str) -> float:
    """Images a second that the cores could do if nothing but decoding and the backbone took time.

    That is their number divided by the sum of cpu-seconds an image of both, each alone, on a few hundred of the images. It is
    to be taken in the process of the run, right after it: a machine that is shared changes its speed by a third within
    minutes; and not before, for this engine would count in the run's memory.
    """
    bare, decode = WAYS[BARE_OF[way]](name, side), decode_job(name, side)
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryDirectory() as more:
        bare(few_of(folder, scratch))
        some = few_of(folder, more, LIMIT_IMAGES)
        return len(os.sched_getaffinity(0)) * 1000 / (_cpu_ms(bare, some) + _cpu_ms(decode, some))


def _cpu_ms(job: Job, folder: str) -> float:
    cpu = time.process_time()
    images = job(folder)
    return (time.process_time() - cpu) / images * 1000


def run_apart(way: str, name: str, side: int, folder: str) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.extraction", name, str(side), "--folder", folder, "--only", way]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{way} failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(name: str, side: int, folder: str, rounds: int, ways: Sequence[str] = USUAL) -> list[dict[str, Any]]:
    """A row for each way: medians over the rounds, the ratios to Keras's ways, and the share of what is possible.

    Those in bfloat16 are left out where the processor has none.
    """
    from headstart.features.engines.options import has_bfloat16

    ways = [way for way in ways if way not in (OURS_BFLOAT16, BARE_BFLOAT16) or has_bfloat16()]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            if number == 0 or way not in ONCE:
                found[way].append(run_apart(way, name, side, folder))
    rows = []
    for way, runs in found.items():
        row: dict[str, Any] = {"backbone": f"{name} {side}", "way": way, "rounds": len(runs)}
        row |= {key: round(median(run[key] for run in runs), 2 if key == "of the limit" else 1) for key in runs[0]}
        rates = [run["images/s"] for run in runs]
        row["lowest"], row["highest"] = round(min(rates), 1), round(max(rates), 1)
        row["against Keras"] = _ratio(runs, found[KERAS])
        row["against Keras by hand"] = _ratio(runs, found[KERAS_BY_HAND])
        rows.append(row)
    return rows


def _ratio(runs: Sequence[dict[str, float]], peers: Sequence[dict[str, float]]) -> float:
    return round(median(run["images/s"] / peer["images/s"] for run, peer in zip(runs, peers)), 2)


def main() -> None:
    """One way's figures as JSON, or all of them as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("backbone")
    parser.add_argument("side", type=int)
    parser.add_argument("--folder", required=True, help="of images, CLASS/NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="the ways for photographs as phones make them")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(run_alone(args.only, args.backbone, args.side, args.folder)))
        return
    print(f"{machine()}; {len(files_of(args.folder)):,} images, medians of {args.rounds} rounds")
    for row in measure(args.backbone, args.side, args.folder, args.rounds, LARGE if args.large else USUAL):
        print("  " + "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
