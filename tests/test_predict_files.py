"""`headstart predict --output DIR`: a table in parts, the same bytes however it came to be, and nothing lost."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features.places.claim import claimed
from headstart.predicting import predict_unit
from headstart.training.predicting.predict import predict
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.runs.run_folder import MODEL, Run
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import raises


@pytest.fixture(scope="module")
def images(photos: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Photos without classes, one of them cut short; and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    for number, path in enumerate(sorted(photos.rglob("*.*"))):
        shutil.copy(path, folder / f"{number:02}{path.suffix}")
    whole = (folder / "07.png" if (folder / "07.png").exists() else folder / "07.jpg").read_bytes()
    (folder / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def predicted(run: pathlib.Path, images: pathlib.Path, output: pathlib.Path, *flags: str) -> int:
    return main(["predict", str(run), str(images), "--output", str(output), "--images_per_file", "16", *flags])


def snapshot(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(run: pathlib.Path, images: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Undisturbed predictions."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert predicted(run, images, output, "--top_k", "2") == 1  # one image is damaged
    return output


def test_what_is_left(whole: pathlib.Path, run: pathlib.Path, images: pathlib.Path) -> None:
    assert {path.name for path in whole.iterdir()} == {"predictions", "dead_letters.jsonl", "summary.json"}
    summary = json.loads((whole / "summary.json").read_text(encoding="utf-8"))
    assert (summary["images"], summary["failed"], summary["dead_by_stage"]) == (61, 1, {"decode": 1})
    assert summary["model_sha256"] == hashlib.sha256((run / MODEL).read_bytes()).hexdigest()
    (letter,) = map(json.loads, (whole / "dead_letters.jsonl").read_text(encoding="utf-8").splitlines())
    assert letter["key"] == str(images / "cut short.jpg") and letter["stage"] == "decode" and letter["reason"]
    table = pq.read_table(whole / "predictions")
    assert table.column_names == ["key", "class_1", "probability_1", "class_2", "probability_2"]
    assert sum(file["rows"] for file in summary["files"]) == table.num_rows == 60
    expected = [row for row in predict(PredictConfig(str(run), (str(images),), top_k=2)) if not row.error]
    assert table["key"].to_pylist() == [row.key for row in expected]
    assert table["class_1"].to_pylist() == [row.classes[0] for row in expected]
    np.testing.assert_allclose(table["probability_2"].to_numpy(), [row.probabilities[1] for row in expected], atol=1e-5)


def test_the_other_forms(whole: pathlib.Path, run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path) -> None:
    table = pq.read_table(whole / "predictions").to_pylist()
    for form in ("csv", "jsonl"):
        assert predicted(run, images, tmp_path / form, "--top_k", "2", "--format", form) == 1
    parts = sorted((tmp_path / "csv" / "predictions").iterdir())
    assert [part.name for part in parts] == [f"part-{number:05}-of-00004.csv" for number in range(4)]
    rows = [row for part in parts for row in csv.DictReader(io.StringIO(part.read_text(encoding="utf-8")))]
    assert [row["key"] for row in rows] == [row["key"] for row in table]
    assert [row["class_2"] for row in rows] == [row["class_2"] for row in table]
    lines = "".join(part.read_text(encoding="utf-8") for part in sorted((tmp_path / "jsonl" / "predictions").iterdir()))
    assert [json.loads(line)["classes"] for line in lines.splitlines()] == [[row["class_1"], row["class_2"]] for row in table]


def test_features_beside_predictions(run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert predicted(run, images, tmp_path / "out", "--with_features") == 1
    features = np.array(pq.read_table(tmp_path / "out" / "predictions")["feature"].to_pylist(), np.float32)
    opened = Run.open(str(run))
    assert features.shape == (60, opened.tap.size)
    answers = opened.model().get_layer("head").predict_on_batch(features.reshape(60, *opened.tap.shape))
    found = pq.read_table(tmp_path / "out" / "predictions")["probability_1"].to_numpy()
    np.testing.assert_allclose(answers.max(1), found, atol=1e-5)


def test_again_there_is_nothing_to_do(
    whole: pathlib.Path,
    run: pathlib.Path,
    images: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert predicted(run, images, whole, "--top_k", "2") == 1
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before
    assert "60 of 61 images predicted; 1 dead letter, each with its reason" in capsys.readouterr().out
    assert predicted(run, images, whole, "--top_k", "1") == 2
    assert "holds predictions of another run, of other images or in another form" in capsys.readouterr().err


SLOW = """
import sys, time
from headstart.predicting import predict_unit
write, part = predict_unit.write_unit, []
def slowly(unit, job, begin):
    marker = write(unit, job, begin)
    print("part", flush=True)
    time.sleep(30 if len(part) == 1 else 0)
    part.append(unit)
    return marker
predict_unit.write_unit = slowly
from headstart.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_half_way_it_goes_on(
    how: signal.Signals, whole: pathlib.Path, run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out"
    flags = ["predict", str(run), str(images), "--output", str(output), "--images_per_file", "16", "--top_k", "2"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["part\n"] * 2
    process.send_signal(how)
    told = process.communicate()[1]
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), told
    assert not (output / "summary.json").exists()
    done = {path.name: path.stat().st_ino for path in (output / "predictions").iterdir() if path.suffix == ".parquet"}
    assert len(done) == 2
    assert predicted(run, images, output, "--top_k", "1") == 2  # what is done is not thrown away for another question
    assert "holds unfinished predictions of another run" in capsys.readouterr().err
    assert predicted(run, images, output, "--top_k", "2") == 1
    assert snapshot(output) == snapshot(whole)
    kept = {name: (output / "predictions" / name).stat().st_ino for name in done}
    assert kept == done  # not done again


def test_two_at_once_and_what_is_taken(
    run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path, one_line: Callable[[], str]
) -> None:
    with claimed(str(tmp_path / "out"), "prediction", "--output"):
        assert predicted(run, images, tmp_path / "out") == 2
        assert "prediction" in one_line()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert predicted(run, images, tmp_path / "mine") == 2
    assert "holds something else than predictions" in one_line()


def test_names_that_give_no_image(run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    output = str(tmp_path / "out")
    given = [str(tmp_path / "gone.jpg"), str(tmp_path / "empty"), str(images / "03.png"), str(images / "03.jpg")]
    assert main(["predict", str(run), *given, "--output", output]) == 1
    letters = [json.loads(line) for line in (tmp_path / "out" / "dead_letters.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {(letter["stage"], letter["reason"]) for letter in letters} == {
        ("read", "it does not exist"), ("read", "the folder holds no images")
    }  # fmt: skip
    assert pq.read_table(tmp_path / "out" / "predictions").num_rows == 1


def said_by(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Puts content into standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))


def test_names_on_standard_input_need_not_be_utf_8(
    run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copy(next(images.glob("*.jpg")), name)
    said_by(monkeypatch, name + b"\r\n\n")
    (row,) = predict(PredictConfig(str(run), ("-",)))
    assert row.key == os.fsdecode(name)


def table_of(folder: pathlib.Path, image: pathlib.Path) -> pathlib.Path:
    """A table of one image, which is called the same in every folder, and of a name that can't be read."""
    (folder / "sub.jpg").mkdir(parents=True)
    shutil.copy(image, folder / "a.png")
    (folder / "table.csv").write_text("path\na.png\nsub.jpg\n", encoding="utf-8")
    return folder / "table.csv"


def test_what_can_not_be_read_is_a_dead_letter_and_the_rest_is_done(
    run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert predicted(run, table_of(tmp_path / "x", next(images.glob("*.png"))), tmp_path / "out") == 1
    (letter,) = map(json.loads, (tmp_path / "out" / "dead_letters.jsonl").read_text(encoding="utf-8").splitlines())
    assert (letter["key"], letter["stage"]) == ("sub.jpg", "read")
    assert pq.read_table(tmp_path / "out" / "predictions")["key"].to_pylist() == ["a.png"]


def test_other_images_of_the_same_names_are_others(
    run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = (table_of(tmp_path / name, image) for name, image in zip("xy", images.glob("*.png")))
    assert predicted(run, one, tmp_path / "out") == 1
    assert predicted(run, other, tmp_path / "out") == 2
    assert "other images" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_was_trained_again_answers_anew(
    run_copy: pathlib.Path, store: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """From one process, which has the older model loaded."""
    assert predicted(run_copy, images, tmp_path / "before") == 1
    train(TrainConfig(store=str(store), run=str(run_copy), epochs=1, batch_size=12, seed=5))
    assert predicted(run_copy, images, tmp_path / "after") == 1
    before, after = (pq.read_table(tmp_path / name / "predictions")["probability_1"] for name in ("before", "after"))
    expected = [row.probabilities[0] for row in predict(PredictConfig(str(run_copy), (str(images),))) if not row.error]
    np.testing.assert_allclose(after.to_numpy(), expected, atol=1e-5)
    assert np.abs(before.to_numpy() - after.to_numpy()).max() > 1e-3
    with raises("replaced"):
        predict_unit._load(str(run_copy), False, "of the run before", 1)


def test_what_a_start_left_that_was_killed_once_it_was_done_goes(
    whole: pathlib.Path, run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = shutil.copytree(whole, tmp_path / "out")
    (output / ".work" / "job" / "token").mkdir(parents=True)
    (output / ".work" / "job" / "token" / "part.json").write_text("{}", encoding="utf-8")
    assert predicted(run, images, output, "--top_k", "2") == 1
    assert snapshot(output) == snapshot(whole)


def test_a_table_and_standard_input(
    run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    Image.new("RGB", (30, 20), "blue").save(tmp_path / "b.png")
    (tmp_path / "table.csv").write_text("path,note\na.png,x\nb.png,y\n,z\n", encoding="utf-8")
    assert main(["predict", str(run), str(tmp_path / "table.csv")]) == 1
    first, second, third = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert (first["key"], second["key"], third["error"]) == ("a.png", "b.png", "read: the row names no image")
    said_by(monkeypatch, f"{tmp_path / 'a.png'}\n{tmp_path / 'b.png'}\n".encode())
    assert main(["predict", str(run), "-", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["key"] for row in rows] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert [row["classes"] for row in rows] == [[first["class_1"]], [second["class_1"]]]
    (tmp_path / "table.csv").write_text("image\na.png\n", encoding="utf-8")
    assert main(["predict", str(run), str(tmp_path / "table.csv")]) == 2
    assert "has no column 'path'; it has image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "xml", "output": "out"},
        {"with_features": True},
        {"with_features": True, "output": "out", "format": "csv"},
        {"pipeline_options": ("--runner=X",)},
        {"format": "csv", "output": "out.csv"},
        {"images_per_file": 5},
        {"review": 3, "output": "out"},
    ],
)
def test_what_can_not_be(changes: dict[str, Any]) -> None:
    with raises("bad-flag"):
        PredictConfig("run", ("a.png",), **changes)


@pytest.mark.slow
def test_workers_in_processes_of_their_own(
    whole: pathlib.Path, run: pathlib.Path, images: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    several = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing", "--top_k", "2"]
    assert predicted(run, images, tmp_path / "out", *several) == 1
    assert snapshot(tmp_path / "out") == snapshot(whole)
