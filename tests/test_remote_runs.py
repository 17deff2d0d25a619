"""Runs in object stores: trained, taken up on another machine, measured, fine-tuned and asked, as on a disk."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("obstore", reason="object stores need the extra `remote`")
pytest.importorskip("moto", reason="an S3 server for tests comes with the extra `test`")

from headstart.cli import main
from headstart.features.places import mirror, place
from headstart.features.runtime import CACHE
from headstart.training.runs import run_folder
from headstart.training.runs.run_folder import METRICS, Run
from tests.conftest import after_epoch, raises
from tests.proxy import Server
from tests.servers import SERVERS

TRAIN = ["--epochs", "4", "--batch_size", "12"]


@pytest.fixture(scope="module", params=[name for name in SERVERS if name != "gs"])  # which is S3's server once more
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def machine(running: Server, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Makes this another machine, which has no copy of anything."""

    def another(name: str) -> None:
        monkeypatch.setenv(CACHE, str(tmp_path / name))

    with running.spoken_to(str(tmp_path / "first")):
        yield another


def named(folder: str) -> set[str]:
    return place.names(folder)


def same(one: str, other: str) -> None:
    weights = [Run.open(run).model().get_layer("head").get_weights() for run in (one, other)]
    assert all(map(np.array_equal, *weights))
    assert place.read(f"{one}/history.csv") == place.read(f"{other}/history.csv")


@pytest.mark.slow
def test_from_training_to_predictions(
    running: Server, machine: Callable[[str], None], maps_store: pathlib.Path, photos: pathlib.Path, tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    near = str(tmp_path / "run")
    for run in (near, f"{running.root}/runs/0"):
        assert main(["train", str(maps_store), "--run", run, *TRAIN]) == 0
    assert f"{running.root}/runs/0/model.keras: agrees" in capsys.readouterr().out
    assert named(near) == named(f"{running.root}/runs/0")
    same(near, f"{running.root}/runs/0")
    machine("second")
    assert main(["evaluate", f"{running.root}/runs/0"]) == 0
    assert f"{running.root}/runs/0/evaluation/test" in capsys.readouterr().out
    left = {"metrics.json", "predictions.csv", "confusion_matrix.png", "reliability.png"}
    assert named(f"{running.root}/runs/0/evaluation/test") == left
    assert main(["predict", f"{running.root}/runs/0", str(photos / "test" / "fern" / "00.jpg")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    tune = ["finetune", str(photos), "--init_from", f"{running.root}/runs/0", "--epochs", "1", "--unfreeze_last", "1"]
    assert main([*tune, "--run", f"{running.root}/runs/1"]) == 0
    assert main(["evaluate", f"{running.root}/runs/1", str(photos)]) == 0
    assert main(["probe", str(maps_store), "--run", f"{running.root}/probe"]) == 0
    assert named(f"{running.root}/probe") == {"probe.csv", "probe.json", "probe.png", "report.html"}


@pytest.mark.slow
def test_a_training_goes_on_on_another_machine(
    running: Server,
    machine: Callable[[str], None],
    maps_store: pathlib.Path,
    kept_each_epoch: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die() -> None:
        raise RuntimeError("pulled the plug")

    argv = ["train", str(maps_store), *TRAIN, "--run"]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="pulled the plug"):
        after_epoch(patch, 2, die)
        main([*argv, f"{running.root}/killed"])
    assert named(f"{running.root}/killed/.partial") == {"checkpoint.npz"}
    with raises("incomplete"):
        Run.open(f"{running.root}/killed")
    machine("second")
    steps: list[int] = []
    with monkeypatch.context() as patch:
        for epoch in (1, 2, 3, 4):
            after_epoch(patch, epoch, lambda epoch=epoch: steps.append(epoch))  # type: ignore[misc]
        assert main([*argv, f"{running.root}/killed"]) == 0
    assert steps == [3, 4]
    assert main([*argv, f"{running.root}/whole"]) == 0
    same(f"{running.root}/killed", f"{running.root}/whole")
    assert named(f"{running.root}/killed") == named(f"{running.root}/whole") and not place.exists(
        f"{running.root}/killed/claims"
    )


@pytest.mark.slow
def test_a_run_that_is_put_in_place_has_its_marker_last(
    running: Server, machine: Callable[[str], None], maps_store: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["train", str(maps_store), *TRAIN, "--run", f"{running.root}/run"]
    assert main(argv) == 0
    send = mirror._send

    def cut(path: str, name: str) -> None:
        if name == METRICS:
            raise RuntimeError("pulled the plug")
        send(path, name)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="pulled the plug"):
        patch.setattr(mirror, "_send", cut)
        main([*argv, "--seed", "1"])
    with raises("incomplete"):
        Run.open(f"{running.root}/run")
    assert main([*argv, "--seed", "1"]) == 0
    assert Run.open(f"{running.root}/run").config["train"]["seed"] == 1


def test_a_second_training_is_refused(
    running: Server, machine: Callable[[str], None], maps_store: pathlib.Path, one_line: Callable[[], str]
) -> None:
    argv = ["train", str(maps_store), *TRAIN, "--run", f"{running.root}/run"]
    with run_folder.claimed(f"{running.root}/run"):
        assert main(argv) == 2
    assert f"another training is writing to '{running.root}/run'" in one_line()
    assert not place.exists(f"{running.root}/run")


def test_what_is_no_run_is_left_alone(
    running: Server, machine: Callable[[str], None], maps_store: pathlib.Path, one_line: Callable[[], str]
) -> None:
    place.write(f"{running.root}/mine/letter.txt", b"dear")
    assert main(["train", str(maps_store), *TRAIN, "--run", f"{running.root}/mine"]) == 2
    assert "holds something else than a run" in one_line()
    assert named(f"{running.root}/mine") == {"letter.txt"}
    assert main(["evaluate", f"{running.root}/nothing"]) == 2
    assert f"there is no run at '{running.root}/nothing'" in one_line()
