"""headstart backbones: the table at once, and a network's layers with shapes and bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from headstart.cli import main
from headstart.features.backbones.catalogue import BACKBONES


def test_the_table_comes_without_tensorflow() -> None:
    code = "import sys; from headstart.cli import main; main(['backbones']); assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(BACKBONES) <= set(rows)
    assert rows["ResNet50"].split() == ["ResNet50", "224", "32", "23,587,712", "7x7x2048", "caffe"]


def test_a_network_s_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backbones", "VGG16", "--image_size", "150", "--store_dtype", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "VGG16 at 150x150" in lines[0] and "float32" in lines[0]
    rows = {line[2:].split()[0]: line for line in lines[2:]}
    assert rows["block5_pool"].split() == ["*", "block5_pool", "4x4x512", "100%", "32.8", "kB", "2.0", "kB", "18.4", "kB"]
    assert not rows["block5_conv3"].startswith("*")
    assert [name for name, line in rows.items() if line.startswith("*")] == [f"block{number}_pool" for number in range(1, 6)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["VGG61"], "unknown backbone 'VGG61'. Did you mean VGG19 or VGG16?"),
        (["VGG16", "--image_size", "20"], "VGG16 takes images of at least 32 pixels a side, not 20x20"),
        (["VGG16", "--image_size", "big"], "--image_size is N or H,W"),
        (["none.keras"], "there is no model 'none.keras'"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], message: str, one_line: Callable[[], str]) -> None:
    assert main(["backbones", *argv]) == 2
    assert message in one_line()
