"""Prediction: a row for every file, in the order given, whatever the files are called and whatever is wrong with them."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from headstart.cli import main
from headstart.features.errors import UserError
from headstart.training.predicting.predict import predict
from headstart.training.predicting.predict_config import PredictConfig

pytestmark = pytest.mark.usefixtures("loaded_once")

NAMES = ["anemone", "fern", "gentian"]


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def mixed(photos: pathlib.Path, tmp_path: pathlib.Path) -> list[str]:
    """Files and folders as somebody would name them, in an order of their own."""
    folder = tmp_path / "álbum"
    folder.mkdir()
    for name, kind in (("ねこ.png", "gentian"), ("b c.png", "anemone"), ("a,'\".png", "fern")):
        shutil.copy(photos / "test" / kind / "01.png", folder / name)
    (folder / "nested").mkdir()
    shutil.copy(photos / "test" / "fern" / "00.jpg", folder / "nested" / "деталь.jpg")
    (folder / ".hidden").write_bytes(b"left out")
    return [str(photos / "test" / "gentian" / "00.jpg"), str(folder), str(photos / "test" / "anemone" / "00.jpg")]


def expected_order(given: list[str]) -> list[str]:
    folder = given[1]
    inside = sorted(os.path.join(folder, name) for name in ("ねこ.png", "b c.png", "a,'\".png"))
    return [given[0], *inside, os.path.join(folder, "nested", "деталь.jpg"), given[2]]


def test_order_is_kept(run: pathlib.Path, mixed: list[str]) -> None:
    found = list(predict(PredictConfig(run=str(run), images=mixed)))
    assert [row.key for row in found] == expected_order(mixed)
    assert [row.classes for row in found] == [(n,) for n in ("gentian", "fern", "anemone", "gentian", "fern", "anemone")]
    assert all(len(row.probabilities) == 1 and 1 / 3 < row.probabilities[0] <= 1 and not row.error for row in found)


def test_same_answers_as_the_saved_model(run: pathlib.Path, photos: pathlib.Path) -> None:
    from headstart.features.images.decode import decode_image
    from headstart.training.runs.run_folder import Run

    paths = sorted(str(path) for path in (photos / "test").rglob("*.*"))
    model = Run.open(str(run)).model()
    for row, path in zip(predict(PredictConfig(run=str(run), images=paths, top_k=3)), paths, strict=True):
        expected = model(decode_image(pathlib.Path(path).read_bytes())[None])[0]
        np.testing.assert_allclose(row.probabilities, np.sort(expected)[::-1], atol=1e-5)
        assert row.classes[0] == NAMES[int(np.argmax(expected))]


def test_one_image_is_as_good_as_many(run: pathlib.Path, photos: pathlib.Path) -> None:
    paths = sorted(str(path) for path in (photos / "test").rglob("*.*"))
    together = list(predict(PredictConfig(run=str(run), images=paths)))
    (alone,) = predict(PredictConfig(run=str(run), images=paths[5:6]))
    assert alone.classes == together[5].classes
    assert alone.probabilities == pytest.approx(together[5].probabilities, abs=1e-6)


def test_same_file_twice_has_two_rows(run: pathlib.Path, photos: pathlib.Path) -> None:
    path = str(photos / "test" / "fern" / "00.jpg")
    first, second = predict(PredictConfig(run=str(run), images=[path, path]))
    assert first == second


def test_damaged_files_keep_their_rows(
    run: pathlib.Path, mixed: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, empty = tmp_path / "bad.jpg", tmp_path / "empty.png"
    bad.write_bytes(b"\xff\xd8\xff and no more")
    empty.touch()
    assert main(["predict", str(run), str(bad), mixed[0], str(empty), mixed[2]]) == 1
    told = capsys.readouterr()
    assert "headstart predict: 2 of 4 failed, each with its reason in `error`" in told.err
    rows = read_csv(told.out)
    assert [row["key"] for row in rows] == [str(bad), mixed[0], str(empty), mixed[2]]
    assert [row["class_1"] for row in rows] == ["", "gentian", "", "anemone"]
    assert rows[0]["error"].startswith("decode: damaged JPEG") and rows[0]["probability_1"] == ""
    assert rows[2]["error"] == "decode: the file is empty"
    assert rows[1]["error"] == rows[3]["error"] == ""


def test_nothing_but_damaged_files(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no")
    (row,) = predict(PredictConfig(run=str(run), images=[str(tmp_path)]))
    assert row.error.startswith("decode: text, not a JPEG") and row.classes == ()


def test_csv_reads_back(
    run: pathlib.Path, mixed: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, images = tmp_path / "out.csv", len(expected_order(mixed))
    assert main(["predict", str(run), *mixed, "--top-k", "2", "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}: {images} of {images} images predicted\n"
    rows = read_csv(output.read_text(encoding="utf-8"))
    assert list(rows[0]) == ["key", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert [row["key"] for row in rows] == expected_order(mixed)
    found = list(predict(PredictConfig(run=str(run), images=mixed, top_k=2)))
    for row, prediction in zip(rows, found, strict=True):
        assert (row["class_1"], row["class_2"]) == prediction.classes
        told = float(row["probability_1"]), float(row["probability_2"])
        assert told == pytest.approx(prediction.probabilities, abs=1e-5) and told[0] >= told[1]


def test_jsonl_reads_back(run: pathlib.Path, mixed: list[str], tmp_path: pathlib.Path) -> None:
    output, bad = tmp_path / "out.jsonl", tmp_path / "bad.png"
    bad.write_bytes(b"no")
    assert main(["predict", str(run), str(bad), *mixed, "--top_k=3", f"--output={output}"]) == 1
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["key"] for row in rows] == [str(bad), *expected_order(mixed)]
    assert rows[0]["error"].startswith("decode: ")
    for row in rows[1:]:
        assert sorted(row["classes"]) == NAMES and "error" not in row
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["probabilities"] == sorted(row["probabilities"], reverse=True)


def test_more_than_there_are_classes(run: pathlib.Path, mixed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run), mixed[0], "--top_k", "50"]) == 0
    (row,) = read_csv(capsys.readouterr().out)
    assert list(row) == ["key", *(f"{name}_{rank}" for rank in (1, 2, 3) for name in ("class", "probability")), "error"]


def test_name_that_is_not_utf_8(run: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = os.fsencode(tmp_path / "raw")
    os.mkdir(folder)
    shutil.copy(photos / "test" / "fern" / "00.jpg", os.path.join(folder, b"caf\xe9.jpg"))
    for kind in ("csv", "jsonl"):
        output = tmp_path / f"out.{kind}"
        assert main(["predict", str(run), os.fsdecode(folder), "--output", str(output)]) == 0
        assert b"fern" in (content := output.read_bytes())
        assert b"caf\xe9.jpg" in content or b"caf\\udce9.jpg" in content


def test_paths_that_give_no_image_have_their_rows(
    run: pathlib.Path, mixed: list[str], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty" / "nested").mkdir(parents=True)
    missing, empty = str(tmp_path / "nowhere.jpg"), str(tmp_path / "empty")
    assert main(["predict", str(run), missing, mixed[0], empty, mixed[2]]) == 1
    told = capsys.readouterr()
    assert "2 of 4 failed" in told.err
    rows = read_csv(told.out)
    assert [row["key"] for row in rows] == [missing, mixed[0], empty, mixed[2]]
    assert [row["class_1"] for row in rows] == ["", "gentian", "", "anemone"]
    assert [row["error"] for row in rows] == ["read: it does not exist", "", "read: the folder holds no images", ""]


def test_a_folder_that_cannot_be_listed_has_a_row(
    run: pathlib.Path, mixed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.path.basename(path) == "nested":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    rows = list(predict(PredictConfig(run=str(run), images=mixed[1:2])))
    assert [bool(row.classes) for row in rows] == [True, True, True, False]
    assert rows[3].key == os.path.join(mixed[1], "nested")
    assert rows[3].error == "read: the folder can't be listed: Permission denied"


def test_what_is_no_image_in_a_folder_is_left_out_and_told(
    run: pathlib.Path, mixed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    notes = pathlib.Path(mixed[1], "notes.txt")
    notes.write_text("not a picture")
    assert main(["predict", str(run), *mixed]) == 0
    told = capsys.readouterr()
    assert [row["key"] for row in read_csv(told.out)] == expected_order(mixed)
    assert f"1 files are no images and are left out, such as {notes}" in told.err
    assert main(["predict", str(run), str(notes)]) == 1  # asked for by name


def test_no_run(tmp_path: pathlib.Path, mixed: list[str], one_line: Callable[[], str]) -> None:
    assert main(["predict", str(tmp_path / "none"), mixed[0]]) == 2
    assert "headstart train STORE --run" in one_line()


def test_configuration_is_checked(run: pathlib.Path) -> None:
    with pytest.raises(UserError, match="--top_k must be at least 1, not 0"):
        PredictConfig(run=str(run), images=["a"], top_k=0)
    with pytest.raises(UserError, match=r"--output ends in .csv or .jsonl, or names a folder, not 'out.txt'"):
        PredictConfig(run=str(run), images=["a"], output="out.txt")


def test_an_output_that_cannot_be_written_is_one_line(
    run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "one.png")
    assert main(["predict", str(run), str(tmp_path / "one.png"), "--output", str(tmp_path / "no" / "such.csv")]) == 2
    err = capsys.readouterr().err.strip()
    assert "No such file or directory" in err and len(err.splitlines()) == 1
