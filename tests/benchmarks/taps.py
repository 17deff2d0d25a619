"""What several taps cost: one pass that reads every stage against one that reads the last map alone.

`python -m tests.benchmarks.taps [BACKBONE [ENGINE]]`: the engine alone, on decoded pixels, alternating rounds, median ratio.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np


def main(backbone: str = "EfficientNetLite0", engine_name: str = "auto", rounds: int = 7, images: int = 64) -> None:
    """Prints images/s of both and their ratio."""
    from headstart.features.runtime import import_tensorflow_quietly, limit_intra_op_threads

    limit_intra_op_threads()
    import_tensorflow_quietly()
    from headstart.features.backbones.build import build
    from headstart.features.backbones.catalogue import backbone_info
    from headstart.features.backbones.feature_extractor import build_feature_extractor
    from headstart.features.backbones.source import BackboneSource
    from headstart.features.engines.factory import make_engine
    from headstart.features.engines.options import CPU_BATCH_SIZE, EngineOptions
    from headstart.features.spec import Tap

    info = backbone_info(backbone)
    size = (info.size, info.size)
    base = build(BackboneSource(backbone, "random:0"), size)
    pixels = np.random.default_rng(0).uniform(0, 255, (CPU_BATCH_SIZE, *size, 3)).astype(np.float32)
    engines, taps = [], []
    for asked in ("", "auto"):
        model, found = build_feature_extractor(base, [Tap(asked)], info.preprocessing, size)
        engines.append(make_engine(model, EngineOptions(engine_name)))
        taps.append(len(found))
    ratios, rates = [], []
    for _ in range(rounds + 1):  # the first round warms up
        seconds = []
        for engine in engines:
            started = time.perf_counter()
            for _ in range(images // CPU_BATCH_SIZE):
                engine(pixels)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
        rates.append([images / each for each in seconds])
    one, many = (statistics.median(rate[i] for rate in rates[1:]) for i in (0, 1))
    print(
        f"{backbone} at {info.size}: {taps[0]} tap {one:.1f} images/s, {taps[1]} taps {many:.1f} images/s; "
        f"cost of all {statistics.median(ratios[1:]):.3f} ({min(ratios[1:]):.3f} to {max(ratios[1:]):.3f})"
    )


if __name__ == "__main__":
    main(*sys.argv[1:3])
