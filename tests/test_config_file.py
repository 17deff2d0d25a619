"""`--config`: flags from a TOML file; and the one that a run keeps, by which it is made again."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.cli import main
from headstart.commands.beam_flags import BeamFlags
from headstart.features.command_line import parse
from headstart.features.config_file import config_toml, read_config
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.runs.run_folder import Run
from headstart.training.train_config import TrainConfig
from tests.conftest import raises

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), TEXTS)


@given(values=st.dictionaries(st.from_regex("[a-z][a-z_]{0,8}", fullmatch=True), VALUES | st.lists(TEXTS, max_size=3)))
def test_what_is_written_is_read_again(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    values.pop("command", None)
    path = tmp_path_factory.getbasetemp() / "written.toml"
    path.write_bytes(config_toml("train", values))
    assert read_config(str(path), "train") == values


def test_a_name_that_is_not_utf_8(tmp_path: pathlib.Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    (tmp_path / "a.toml").write_bytes(config_toml("train", {"store": name}))
    assert read_config(str(tmp_path / "a.toml"), "train") == {"store": name}


def written(folder: pathlib.Path, text: str) -> str:
    path = folder / "flags.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_flags_of_the_command_line_win(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, 'store = "s"\nrun = "r"\nepochs = 7\nclass-weight = "balanced"\nrefit = false\nlearning_rate = 1')
    config, _ = parse(TrainConfig, "headstart train", ["--config", file])
    assert config == TrainConfig(store="s", run="r", epochs=7, class_weight="balanced", learning_rate=1.0)
    config, _ = parse(TrainConfig, "headstart train", ["other", f"--config={file}", "--epochs", "9", "--run=q"])
    assert config == TrainConfig(store="other", run="q", epochs=9, class_weight="balanced", learning_rate=1.0)


def test_what_may_be_repeated(tmp_path: pathlib.Path) -> None:
    file = written(tmp_path, 'stores = ["a", "b"]\nrun = "p"')
    assert parse(ProbeConfig, "headstart probe", ["--config", file])[0].stores == ("a", "b")
    assert parse(ProbeConfig, "headstart probe", ["c", "--config", file])[0].stores == ("c",)
    file = written(
        tmp_path, 'tap = ["auto", "auto:max"]\ninput = "photos"\nstore = "s"\nrunner = "SparkRunner"\nsave_main_session = true'
    )
    config, _ = parse(ExtractConfig, "headstart extract", ["--config", file], BeamFlags())
    assert config.taps == ("auto", "auto:max")
    assert config.pipeline_options == ("--runner=SparkRunner", "--save_main_session")
    config, _ = parse(ExtractConfig, "headstart extract", ["--config", file, "--tap", ":none", "--runner=X"], BeamFlags())
    assert config.taps == (":none",)
    assert config.pipeline_options[-1] == "--runner=X"  # Beam takes the last


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('run = "r"', "store must be given, in '"),
        ('store = "s"\nrun = "r"\nepoch = 3', "has an unknown flag epoch. Did you mean epochs"),
        ('store = "s"\nrun = "r"\nepochs = "many"', "--epochs takes a whole number, not 'many'"),
        ('store = "s"\nrun = "r"\nepochs = 0', "--epochs must be at least 1, not 0"),
        ('command = "probe"', "is of headstart probe, not of headstart train"),
        ("[train]\nepochs = 3", "holds tables (train)"),
        ("epochs", "is no TOML"),
        (None, "can't be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line(text: str | None, said: str, tmp_path: pathlib.Path, one_line: Callable[[], str]) -> None:
    file = str(tmp_path / "none.toml") if text is None else written(tmp_path, text)
    assert main(["train", "--config", file]) == 2
    assert said in one_line()


def test_a_run_is_made_again_from_its_own_folder(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    again = tmp_path / "again"
    assert main(["train", "--config", str(run / "command.toml"), "--run", str(again)]) == 0
    first, second = Run.open(str(run)), Run.open(str(again))
    assert first.config["identity"] == second.config["identity"]
    assert (run / "history.csv").read_bytes() == (again / "history.csv").read_bytes()
    assert (run / "command.toml").read_bytes() == (again / "command.toml").read_bytes()


def test_every_field_is_in_it(run: pathlib.Path) -> None:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(read_config(str(run / "command.toml"), "train")) == names - {"run"}
    with raises("bad-flag"):
        parse(PredictConfig, "headstart predict", ["--config", str(run / "command.toml")])
