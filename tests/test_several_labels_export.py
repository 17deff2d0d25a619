"""A model of several labels an image to ship: the same labels as model.keras, thresholds beside it, a card that says so."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features.images.decode import decode_image
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.exporting import to_saved_model
from headstart.training.exporting.call import calls
from headstart.training.exporting.check import check
from headstart.training.exporting.formats import FLOAT, INT8, Tolerance
from headstart.training.exporting.kinds import SetOfClasses
from headstart.training.runs.run_folder import Run
from tests.conftest import raises

RUN_CARD = """
import re, sys
code = re.search(r"```python\\n(.*?)```", open("model_card.md", encoding="utf-8").read(), re.DOTALL)[1]
exec(code, {})
assert not [name for name in sys.modules if name.startswith("headstart")]
"""


@pytest.fixture(scope="module")
def evaluated(several_run: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run, with an evaluation."""
    copy = shutil.copytree(several_run, tmp_path_factory.mktemp("evaluated") / "run")
    evaluate(EvaluateConfig(run=str(copy)))
    return pathlib.Path(copy)


def labels_of(run: Run, photo: np.ndarray) -> list[str]:
    """What model.keras and the run's thresholds decide."""
    shares = np.asarray(run.model()(photo[None], training=False))[0].tolist()
    return [each["name"] for each, share in zip(run.metrics["thresholds"], shares) if share >= each["threshold"]]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_a_card_decides_by_thresholds(
    form: str, evaluated: pathlib.Path, table: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(form)
    folder = tmp_path / "export"
    flags = ["--format", form, "--output", str(folder), "--require", "mean_average_precision.low>=0.3"]
    assert main(["export", str(evaluated), *flags]) == 0
    assert "images get the same labels" in capsys.readouterr().out
    run = Run.open(str(evaluated))
    facts, card = json.loads((folder / "export.json").read_text()), (folder / "model_card.md").read_text()
    assert facts["thresholds"] == run.metrics["thresholds"] and "operating_point" not in facts
    agreement = next(iter(facts["agreement"].values()))
    assert agreement["same"] == agreement["images"] and agreement["answer"] == "labels"
    assert "any of `blue`, `green`, `red` for every image, or none" in card and "| mean average precision | 0." in card
    assert "| mean average precision of an order that knows nothing | 0." in card
    train = [example.labels for example in run.table.examples("train")]
    assert f"blue {sum('blue' in labels for labels in train)}, green" in card
    photo = decode_image((table.parent / "003.png").read_bytes())
    Image.fromarray(photo).save(folder / "photo.jpg", format="PNG")  # by its content, a PNG, which loses nothing
    done = subprocess.run([sys.executable, "-c", RUN_CARD], capture_output=True, text=True, cwd=folder)
    assert [line.split()[0] for line in done.stdout.splitlines()] == labels_of(run, photo) != [], done.stderr


def test_a_saved_model_gives_thresholds(
    several_run: pathlib.Path,
    table: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, photo = Run.open(str(several_run)), table.parent / "003.png"
    to_saved_model.write(run.model(), run, (), str(tmp_path))
    shutil.copy(photo, tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(calls("labels")["saved_model"].split("```")[1].removeprefix("python"), names)
    assert capsys.readouterr().out.split() == labels_of(run, decode_image(photo.read_bytes()))
    assert names["answer"]["thresholds"].shape == (1, 3)


def test_a_requirement_of_sets(evaluated: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["export", str(evaluated), "--format", "keras", "--output", str(tmp_path / "out"), "--require"]
    assert main([*argv, "micro_f1>1"]) == 1
    assert "micro_f1>1 is required, and micro_f1 on 'test' is 0." in capsys.readouterr().out
    assert main([*argv, "accuracy>=0.5"]) == 2
    assert "There are chance, log_loss, macro_f1, mean_average_precision, micro_f1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("received", "tolerance", "same"),
    [
        ([[0.9, 0.19, 0.7]], FLOAT, 1),
        ([[0.9005, 0.19, 0.7]], FLOAT, 1),
        ([[0.9, 0.19, 0.6999]], FLOAT, 0),  # at the threshold, which decides nothing
        ([[0.902, 0.19, 0.7]], FLOAT, None),
        ([[0.9, float("nan"), 0.7]], FLOAT, None),
        ([[0.9, 0.24, 0.68]], INT8, 0),
        ([[0.9, 0.33, 0.7], *[[0.9, 0.19, 0.7]] * 2], INT8, None),  # one of three, 0.05 and more above its threshold
        ([[0.9, 0.31, 0.7], *[[0.9, 0.19, 0.7]] * 29], INT8, 29),
    ],
)
def test_which_labels_agree(received: list[list[float]], tolerance: Tolerance, same: int | None) -> None:
    kind = SetOfClasses([{"name": name, "threshold": at, "f1": 1.0} for name, at in (("a", 0.5), ("b", 0.25), ("c", 0.7))])
    expected = np.array([[0.9, 0.19, 0.7]] * len(received))
    if same is None:
        with raises("model-disagrees"):
            check("it", kind, list(map(str, received)), expected, np.array(received), tolerance)
    else:
        assert check("it", kind, list(map(str, received)), expected, np.array(received), tolerance).same == same
