"""`make bench-gpu`: what nvidia-smi says, what of it counts, and a machine without a GPU."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from headstart.features.runtime import gpu_available
from tests.benchmarks import gpu
from tests.benchmarks.extraction import BARE, DECODE, OURS


def test_how_busy_it_is(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 80\necho 20\n")  # of two GPUs the first
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpu, "SAMPLE_S", 0.01)
    samples: list[float] = []
    with gpu.watched(samples):
        while len(samples) < 2:
            time.sleep(0.01)
    assert set(samples) == {0.8}


def test_start_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {OURS: {"images/s": 90.0}, BARE: {"images/s": 300.0}, DECODE: {"images/s": 1.0}}
    busy = iter([0.0, 0.0, 0.9])

    def run(way: str, *_: object) -> dict[str, float]:
        return {**runs[way], "cpu ms/image": 10.0, "start-up s": 1.0}

    class Watched:
        def __init__(self, samples: list[float]) -> None:
            samples += busy

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(gpu, "run_apart", run)
    monkeypatch.setattr(gpu, "watched", Watched)
    rates, told = gpu.measure("ResNet50", 224, "photos", 1)
    cores = len(os.sched_getaffinity(0))
    assert (rates[OURS], rates[BARE], rates[DECODE], told) == (90.0, 300.0, cores * 100.0, [0.9])
    assert f"{90 / min(300, cores * 100):.2f} of the limit; GPU: 90% busy" in gpu.lines(rates, told)[0]


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if gpu_available():
        pytest.skip("there is a GPU")
    assert gpu.main(["--folder", "photos"]) == 2
    assert "TensorFlow sees no GPU here" in capsys.readouterr().err
