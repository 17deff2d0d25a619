"""What an extraction says at its end: what became of images, why some are lost, and where the time went."""

from __future__ import annotations

import pathlib

import pytest

from headstart.pipelines import summary
from headstart.pipelines.extract import extract
from headstart.pipelines.extract_config import ExtractConfig
from tests.conftest import small_backbone, write_photos


def test_a_job_says_where_its_time_went_and_why_images_are_lost(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(summary, "LONG_S", 0.0)
    photos = write_photos(tmp_path / "photos", {"train": {"fern": 6, "gentian": 6}})
    for number in range(2):
        (photos / "train" / "fern" / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff no image")
    (photos / "train" / "gentian" / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    asked = ExtractConfig(input=str(photos), store=str(tmp_path / "store"), max_bad_fraction=0.5, **small_backbone())
    extract(asked)
    lines = capsys.readouterr().err.splitlines()
    (told,) = (line for line in lines if "dead letters" in line)
    path = pathlib.Path(told.rpartition(" in ")[2])
    assert path.is_file() and len(path.read_text().splitlines()) == 3
    dead = [line for line in lines if line.startswith("dead ")]
    assert dead[0].startswith("dead       2  decode: ") and dead[1] == "dead       1  read: No such file or directory"
    (work,) = (line for line in lines if line.startswith("work "))
    assert work.startswith("work       12 images computed, 0 copied; of all threads together: ")
    (photos / "train" / "fern" / "00.jpg").rename(photos / "train" / "gentian" / "moved.jpg")
    extract(asked)
    assert "0 images computed, 12 copied" in capsys.readouterr().err
