"""What an extraction makes of a GPU: images a second of the whole job, of the network alone, of decoding alone on all cores;
and the share of the time that the GPU is busy, as nvidia-smi tells it twice a second.

The whole job can be no faster than the slower of the two others.

    python -m tests.benchmarks.gpu --folder PHOTOS [--backbone ResNet50] [--side 224] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from statistics import mean, median

from tests.benchmarks.extraction import BARE, DECODE, OURS, files_of, run_apart
from tests.benchmarks.made import machine

SAMPLE_S = 0.5
ASK = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")


@contextlib.contextmanager
def watched(samples: list[float]) -> Iterator[None]:
    """Adds how busy the first GPU is, 0..1, twice a second; nothing where nobody tells."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            done = subprocess.run(ASK, capture_output=True, text=True)
            if done.returncode == 0:
                samples.append(float(done.stdout.splitlines()[0]) / 100)

    watcher = threading.Thread(target=watch, daemon=True)
    if shutil.which(ASK[0]):
        watcher.start()
    try:
        yield
    finally:
        ended.set()
        if watcher.ident:
            watcher.join()


def measure(name: str, side: int, folder: str, rounds: int) -> tuple[dict[str, float], list[float]]:
    """Images a second of each way, medians over the rounds; and how busy the GPU was during the whole job, start-up left out.

    Start-up is left out by its time alone: samples of the first seconds of a run, when the network is built, are dropped.
    """
    rates: dict[str, list[float]] = {OURS: [], BARE: [], DECODE: []}
    busy: list[float] = []
    for _ in range(rounds):
        for way, found in rates.items():
            samples: list[float] = []
            with watched(samples) if way == OURS else contextlib.nullcontext():
                run = run_apart(way, name, side, folder)
            cores = len(os.sched_getaffinity(0))
            found.append(cores * 1000 / run["cpu ms/image"] if way == DECODE else run["images/s"])
            busy += samples[round(run["start-up s"] / SAMPLE_S) :]
    return {way: median(found) for way, found in rates.items()}, busy


def lines(rates: dict[str, float], busy: Sequence[float]) -> list[str]:
    """The table."""
    told = f"{mean(busy):.0%} busy" if busy else "nvidia-smi tells nothing"
    limit = min(rates[BARE], rates[DECODE])
    return [
        f"  the whole job                {rates[OURS]:9,.0f} images/s, {rates[OURS] / limit:.2f} of the limit; GPU: {told}",
        f"  the network alone            {rates[BARE]:9,.0f} images/s",
        f"  decoding alone, all cores    {rates[DECODE]:9,.0f} images/s",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--folder", required=True, help="of images, CLASS/NAME")
    parser.add_argument("--backbone", default="ResNet50")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    from headstart.features.engines.options import processor
    from headstart.features.runtime import gpu_available, import_tensorflow_quietly

    import_tensorflow_quietly()
    if not gpu_available():
        print("bench-gpu: TensorFlow sees no GPU here: headstart doctor says why", file=sys.stderr)
        return 2
    print(f"{processor('tensorflow')}, {machine()}; {len(files_of(args.folder)):,} images, medians of {args.rounds} rounds")
    print("\n".join(lines(*measure(args.backbone, args.side, args.folder, args.rounds))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
