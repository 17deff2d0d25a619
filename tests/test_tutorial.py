"""The tutorial's commands, one after the other, as they stand, on photos made here, with the weights that come along."""

from __future__ import annotations

import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main

TUTORIAL = pathlib.Path(__file__).parent.parent / "docs" / "tutorial.md"
A_CLASS = 30
NAMED = "cat.252.jpg"  # in the tutorial


def commands() -> list[str]:
    """Every line of a block of commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def make_photos(folder: pathlib.Path) -> None:
    """Light and dark noise, of its own in each photo."""
    generator = np.random.default_rng(0)
    for label, brightness in (("cat", 60), ("dog", 190)):
        for number in range(A_CLASS):
            path = folder / f"{label}s" / (NAMED if label == "cat" and number == 0 else f"{label}.{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(generator.normal(brightness, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_the_tutorial(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tf2onnx")
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos")
    lines = commands()
    assert len(lines) >= 14 and all(line.startswith("headstart ") for line in lines)
    for line in lines:
        words = shlex.split(line.replace("--epochs 8", "--epochs 1"))[1:]
        assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
    assert (tmp_path / "run2" / "report.html").exists() and (tmp_path / "shipped" / "model.onnx").exists()
