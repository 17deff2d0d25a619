"""What an extraction says at its end: what became of images, why some are lost, and where the time went."""

from __future__ import annotations

import pathlib

import pytest

from headstart.features.store.manifest import ShardEntry
from headstart.pipelines import summary
from headstart.pipelines.extract import dry_run, extract
from headstart.pipelines.extract_config import ExtractConfig
from headstart.pipelines.units.markers import ShardMarker
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


def test_images_of_earlier_starts_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "LONG_S", 0.0)

    def marker(examples: int) -> ShardMarker:
        return ShardMarker(ShardEntry("shard", examples, 1, 1, "", ""), "train", examples, examples, None, (), {"read": 1.0})

    (line,) = summary.work_lines([marker(302), marker(176)], [marker(302)])
    told = "478 images computed, 0 copied (302 images by earlier starts, whose time counts too); of all threads together: "
    assert line == f"work       {told}read 2.0 s"


def test_a_dry_run_names_files_that_are_no_images_and_says_what_would_stop_the_job(tmp_path: pathlib.Path) -> None:
    photos = write_photos(tmp_path / "photos", {"train": {"fern": 6, "gentian": 6}})
    for number in range(4):
        (photos / "train" / "fern" / f"broken{number}.jpg").write_text("no image")
    asked = {"input": str(photos), "store": str(tmp_path / "store"), **small_backbone()}
    told = "\n".join(dry_run(ExtractConfig(**asked, max_bad_fraction=0.25)))
    assert "unread    4 files will be dead letters: train/fern/broken0.jpg (text, not a JPEG" in told
    assert "broken2.jpg" in told and "broken3.jpg" not in told
    assert "goes on with 4 at most (--max_bad_fraction): one more that can't be decoded stops it" in told
    assert "goes on with 8 at most (--max_bad_fraction): 4 more may fail when decoded" in "\n".join(
        dry_run(ExtractConfig(**asked, max_bad_fraction=0.5))
    )
