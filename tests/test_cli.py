"""The command line: instant help, exit statuses, one line for a mistake, and names that are near."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import headstart
from headstart.cli import COMMANDS, main
from headstart.features.engines.options import processor
from headstart.features.store.feature_store import FeatureStore

HEAVY = ("tensorflow", "keras", "apache_beam", "numpy", "matplotlib", "PIL", "sklearn")
NEEDED = {  # what each command must be given
    "fit": ["photos", "--run", "run"],
    "demo": [],
    "extract": ["photos", "--store", "store"],
    "info": ["store"],
    "verify": ["store"],
    "clean": ["store"],
    "compact": ["store"],
    "audit": ["store", "--output", "audit"],
    "learning_curve": ["store", "--run", "run"],
    "compare": ["run", "run"],
    "report": ["run"],
    "runs": ["folder"],
    "doctor": [],
    "train": ["store", "--run", "run"],
    "finetune": ["photos", "--run", "run", "--init_from", "run0"],
    "evaluate": ["run"],
    "predict": ["run", "image.png"],
    "export": ["run", "--format", "keras", "--output", "out"],
    "backbones": [],
    "probe": ["store", "--run", "run"],
    "notebook": ["photos"],
}
MISSPELT = {
    "fit": ("--epoch", "--epochs"),
    "demo": ("--foldr", "--folder"),
    "extract": ("--image-sise", "--image_size"),
    "info": ("--verbos", "--verbose"),
    "doctor": ("--verbos", "--verbose"),
    "verify": ("--verbos", "--verbose"),
    "clean": ("--grac", "--grace"),
    "compact": ("--examples_per_shar", "--examples_per_shard"),
    "audit": ("--imges", "--images"),
    "learning_curve": ("--drws", "--draws"),
    "compare": ("--max_dro", "--max_drop"),
    "report": ("--spilt", "--split"),
    "runs": ("--spilt", "--split"),
    "train": ("--learning-rat", "--learning_rate"),
    "finetune": ("--unfreeze-lst", "--unfreeze_last"),
    "evaluate": ("--spilt", "--split"),
    "predict": ("--topk", "--top_k"),
    "export": ("--requir", "--require"),
    "backbones": ("--image-sise", "--image_size"),
    "probe": ("--max-example", "--max_examples"),
    "notebook": ("--seed", "--seeds"),
}
LIGHT = """
import sys
from headstart.cli import main
try:
    status = main({argv!r})
except SystemExit as error:
    status = error.code
heavy = [name for name in {heavy!r} if name in sys.modules]
sys.exit(f"loaded {{heavy}}" if heavy else status)
"""


def fresh(*argv: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *argv], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("argv", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(argv: list[str], tmp_path: pathlib.Path) -> None:
    done = fresh("-c", LIGHT.format(argv=argv, heavy=HEAVY), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_headstart_is_a_module_too(tmp_path: pathlib.Path) -> None:
    done = fresh("-m", "headstart", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: headstart" in done.stdout


def test_console_script(tmp_path: pathlib.Path) -> None:
    script = pathlib.Path(sys.executable).with_name("headstart")
    if not script.exists():
        pytest.skip("headstart is not installed beside this Python")
    for argv, status in ((["--help"], 0), (["train", "--help"], 0), (["trian"], 2)):
        done = subprocess.run([script, *argv], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == status
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]], ids=str)
def test_usage_lists_every_command(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_each_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: headstart {name}")
    assert "--verbose" in told and ("Beam" in told) is (name in ("fit", "extract", "predict"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{headstart.__version__}\n"


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert version("headstart") == headstart.__version__


@pytest.mark.parametrize(("name", "nearest"), [("trian", "train"), ("extracct", "extract"), ("Predict", "predict")])
def test_unknown_command(name: str, nearest: str, one_line: Callable[[], str]) -> None:
    assert main([name]) == 2
    line = one_line()
    assert f"unknown command {name!r}. Did you mean {nearest}?" in line
    assert all(command in line for command in COMMANDS)


def test_command_that_is_near_nothing(one_line: Callable[[], str]) -> None:
    assert main(["zzz"]) == 2
    assert "Did you mean" not in one_line()


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_flag(name: str, one_line: Callable[[], str]) -> None:
    wrong, right = MISSPELT[name]
    assert main([name, *NEEDED[name], wrong, "3"]) == 2
    line = one_line()
    assert line.startswith(f"headstart {name}: error: unknown flag {wrong.replace('-', '_').replace('__', '--', 1)}")
    assert f"Did you mean {right}" in line


@pytest.mark.parametrize("name", [name for name in COMMANDS if NEEDED[name]])
def test_nothing_given(name: str, one_line: Callable[[], str]) -> None:
    assert main([name]) == 2
    line = one_line()
    assert "the following arguments are required" in line and f"`headstart {name} --help`" in line


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train", "store", "--run", "run", "--epochs", "many"], "--epochs"),
        (["train", "store", "--run", "run", "--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["train", "store", "--run", "run", "--head", "conv"], "--head"),
        (["extract", "photos", "--store", "store", "--image_size", "big"], "--image_size is N or H,W"),
        (["extract", "photos", "--store", "store", "--splits", "train=0.5"], "must add up to 1"),
        (["fit", "photos", "--run", "run", "--splits", "train"], "--splits is written"),
        (["predict", "run", "a.png", "--top-k", "0"], "--top_k must be at least 1"),
        (["evaluate", "run", "--seed", "x"], "--seed"),
    ],
)
def test_bad_values(
    argv: list[str],
    told: str,
    photos: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    one_line: Callable[[], str],
) -> None:
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert told in one_line()
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]  # nothing left behind


@pytest.mark.parametrize("name", ["info", "verify", "train"])
def test_no_store(name: str, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    run = ["--run", str(tmp_path / "run")] if name == "train" else []
    assert main([name, str(tmp_path / "none"), *run]) == 2
    assert f"headstart extract INPUT --store {tmp_path / 'none'}" in one_line()
    assert not (tmp_path / "run").exists()


def dry(photos: pathlib.Path, tmp_path: pathlib.Path, *more: str) -> list[str]:
    return ["extract", str(photos), "--store", str(tmp_path / "store"), "--weights", "random:0", "--dry-run", *more]


@pytest.mark.parametrize("size", [["--image-size", "32"], ["--image_size", "32"], ["--image-size=32"], ["--image_size=32,32"]])
def test_dashes_and_underscores(
    size: list[str], photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(dry(photos, tmp_path, *size)) == 0
    told = capsys.readouterr().out
    assert "EfficientNetLite0 at 32x32" in told and "60 images" in told
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "options",
    [["--runner", "FnApiRunner"], ["--direct_num_workers=1"], ["--direct-num-workers", "1", "--streaming"]],
    ids=" ".join,
)
def test_beams_own_options_are_taken(
    options: list[str], photos: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(dry(photos, tmp_path, "--image_size", "32", *options)) == 0
    assert "60 images" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["extract", "fit"])
def test_beam_options_misspelt(name: str, one_line: Callable[[], str]) -> None:
    assert main([name, *NEEDED[name], "--direct_num_worker", "2"]) == 2
    assert "unknown flag --direct_num_worker. Did you mean --direct_num_workers" in one_line()


def test_beam_options_are_not_taken_by_others(one_line: Callable[[], str]) -> None:
    assert main(["train", *NEEDED["train"], "--runner", "FnApiRunner"]) == 2
    assert "unknown flag --runner" in one_line()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argv", "told"),
    [
        ("fit nosuch --run run", "the input 'nosuch' does not exist"),
        ("fit . --run FILE", "--run 'FILE' is a file"),
        ("extract nosuch --store store", "the input 'nosuch' does not exist"),
        ("extract . --store store --backbone VGG61", "unknown backbone 'VGG61'. Did you mean VGG"),
        ("extract . --store store --backbone no/such.keras", "there is no model 'no/such.keras'"),
        ("extract . --store store --weights no.h5", "there is no file 'no.h5'"),
        ("extract . --store store --weights FILE", "weights are read from .keras"),
        ("extract . --store store --weights random:x", "random weights are named random:SEED"),
        ("extract . --store store --tap x:mean", "pooling is none, avg, max or gridK"),
        ("extract . --store FILE", "--store 'FILE' is a file"),
        ("extract . --store store --direct_num_worker 2", "Did you mean --direct_num_workers"),
        ("extract . --store store --preprocessing tf", "was trained with the preprocessing lite, not tf"),
        ("train nosuch --run run", "there is no feature store at 'nosuch'"),
        ("finetune nosuch --run run --init_from run0", "the input 'nosuch' does not exist"),
        ("finetune . --run run --init_from run0", "there is no run at 'run0'"),
        ("finetune --run run --from_store nosuch --unfreeze_after x", "there is no feature store at 'nosuch'"),
        ("probe nosuch --run run", "there is no feature store at 'nosuch'"),
        ("evaluate nosuch", "there is no run at 'nosuch'"),
        ("predict nosuch image.png", "there is no run at 'nosuch'"),
        ("verify nosuch", "there is no feature store at 'nosuch'"),
        ("clean nosuch", "there is no feature store at 'nosuch'"),
        ("compact nosuch", "there is no feature store at 'nosuch'"),
        ("compare nosuch nosuch", "there is no run at 'nosuch'"),
        ("runs nosuch", "there is no folder 'nosuch'"),
        ("runs .", "no run lies below '.'"),
        ("notebook nosuch", "the input 'nosuch' does not exist"),
        ("backbones VGG61", "unknown backbone 'VGG61'"),
    ],
)
def test_what_is_not_there_is_told_before_anything_heavy_is_loaded(argv: str, told: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "FILE").write_text("x", encoding="utf-8")
    heavy = ("tensorflow", "keras", "apache_beam", "openvino")
    done = fresh("-c", LIGHT.format(argv=argv.split(), heavy=heavy), cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert os.listdir(tmp_path) == ["FILE"]


def test_a_path_that_is_not_there_needs_no_model(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    heavy = ("tensorflow", "keras", "openvino")
    done = fresh("-c", LIGHT.format(argv=["predict", str(run), "nosuch.png"], heavy=heavy), cwd=tmp_path)
    assert done.returncode == 1 and "nosuch.png,,,read: it does not exist" in done.stdout, done.stderr


def test_from_a_folder_to_predictions(
    photos: pathlib.Path, store: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(store)]) == 0
    assert "own:stand_in at 32x32" in (told := capsys.readouterr().out) and f" streams, on {processor('auto')}" in told
    assert main(["verify", str(store)]) == 0
    assert "sound, 60 examples and 0 dead letters" in capsys.readouterr().out
    assert main(["train", str(store), "--run", str(tmp_path / "run"), "--lr", "1e-3", "--epochs", "5"]) == 0
    assert "agrees with the stored features on 36 images" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.startswith("test: 12 examples in 12 groups")
    assert main(["predict", str(tmp_path / "run"), str(photos / "test")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 13


@pytest.mark.parametrize("share", [0.0, 0.25], ids=["from disk", "in memory"])
@pytest.mark.parametrize("command", ["train", "probe"])
def test_a_damaged_shard_is_one_line(
    store_copy: pathlib.Path,
    tmp_path: pathlib.Path,
    command: str,
    share: float,
    one_line: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headstart.features.runtime.SHARE_OF_MEMORY", share)
    path = FeatureStore.open(str(store_copy)).shard_paths("train")[0]
    with open(path, "r+b") as shard:
        shard.seek(os.path.getsize(path) // 2)
        shard.write(b"XXXX")
    assert main([command, str(store_copy), "--run", str(tmp_path / "run")]) == 2
    assert re.search(r"the shard '.*' is damaged in its record \d+: delete the store and extract again", one_line())
