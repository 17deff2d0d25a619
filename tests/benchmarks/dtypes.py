"""What the backbone's compute dtypes cost and bring: the engine alone in images a second on all cores, rounds in turn; and, on
photos and with weights that are worth it, how far features move and what a head on them gets.

    python -m tests.benchmarks.dtypes ResNet50 224
    python -m tests.benchmarks.dtypes MobileNetV2 224 --weights FILE --photos PHOTOS

PHOTOS has splits train and validation. Random weights where none are named; int8 is calibrated on noise where no photos are.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from headstart.features.runtime import import_tensorflow_quietly, limit_intra_op_threads
from tests.benchmarks.made import machine

if TYPE_CHECKING:
    from headstart.features.engines.base import Engine

DTYPES, BATCHES, NOISE = ("float32", "bfloat16", "int8"), 40, 32


def main() -> None:
    """Prints a line a dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbone")
    parser.add_argument("side", type=int)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--photos", default="")
    parser.add_argument("--tap", default="", help="of the features on photos; default: the last map, averaged")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    limit_intra_op_threads()
    import_tensorflow_quietly()
    print(f"{machine()}; {options.backbone} at {options.side}, weights {os.path.basename(options.weights)}")
    engines = _engines(options)
    rounds = [{dtype: _rate(engine, options.side) for dtype, engine in engines.items()} for _ in range(options.rounds + 1)]
    learned = _learned(options, list(engines)) if options.photos else {}
    for dtype in engines:
        rates = [each[dtype] for each in rounds[1:]]  # the first round warms up
        against = [each[dtype] / each["float32"] for each in rounds[1:]]
        print(f"{dtype:<10}{median(rates):8.1f} images/s, {median(against):.2f} times float32{learned.get(dtype, '')}")


def _engines(options: argparse.Namespace) -> dict[str, Engine]:
    """An engine for each dtype that this processor has."""
    from headstart.features.backbones.backbone import resolve_backbone
    from headstart.features.backbones.source import BackboneSource
    from headstart.features.engines.factory import make_engine, network_engine
    from headstart.features.engines.openvino_engine import network_of
    from headstart.features.engines.options import EngineOptions, has_bfloat16
    from headstart.features.engines.quantized import quantize, read

    side, wanted = options.side, EngineOptions("openvino")
    model = resolve_backbone(BackboneSource.parse(options.backbone, options.weights), (side, side)).extractor
    made: dict[str, Engine] = {"float32": make_engine(model, wanted)}
    if has_bfloat16():
        made["bfloat16"] = make_engine(model, wanted, "bfloat16")
    noise = np.random.default_rng(0).uniform(0, 255, (NOISE, side, side, 3)).astype(np.float32)
    made["int8"] = network_engine(read(quantize(network_of(lambda: model), list(noise))), wanted, "int8")
    return made


def _rate(engine: Engine, side: int) -> float:
    """Images a second, all streams busy."""
    pixels = np.random.default_rng(0).uniform(0, 255, (engine.batch_size, side, side, 3)).astype(np.float32)
    with ThreadPoolExecutor(engine.streams) as pool:
        started = time.perf_counter()
        list(pool.map(engine, [pixels] * BATCHES))
        return BATCHES * engine.batch_size / (time.perf_counter() - started)


def _learned(options: argparse.Namespace, dtypes: list[str]) -> dict[str, str]:
    """How far the features of each dtype lie from float32's, and the accuracy of a linear head on them."""
    from headstart.pipelines.extract import extract
    from headstart.pipelines.extract_config import ExtractConfig
    from headstart.training.train import train
    from headstart.training.train_config import TrainConfig

    told, exact = {}, np.empty(0)
    with tempfile.TemporaryDirectory() as folder:
        for dtype in dtypes:
            store = extract(
                ExtractConfig(
                    input=options.photos,
                    store=os.path.join(folder, dtype),
                    backbone=options.backbone,
                    weights=options.weights,
                    image_size=str(options.side),
                    taps=(options.tap,) if options.tap else (),
                    compute_dtype=dtype,
                    engine="openvino",
                )
            )
            features = store.to_numpy("validation").features.astype(np.float32)
            exact = features if dtype == "float32" else exact
            moved = np.abs(features - exact).mean() / np.abs(exact).mean()
            run = train(TrainConfig(store=store.path, run=os.path.join(folder, f"run {dtype}")))
            right = run.metrics["val_accuracy"]
            told[dtype] = f"; features moved by {moved:.1%} of their mean, validation accuracy {right:.1%}"
    return told


if __name__ == "__main__":
    main()
