"""Flags of a dataclass, and errors for people: one line, exit status 2, no traceback."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from headstart.features.command_line import parse
from headstart.features.config import check_fields, flag, positional, required
from headstart.features.errors import UserError, nearest
from headstart.features.interruption import run
from headstart.features.spec import parse_image_size
from headstart.pipelines.extract_config import ExtractConfig


@dataclass(frozen=True)
class Config:
    """Does a thing.

    Not shown.
    """

    input: str = positional("what to read", metavar="INPUT")
    store: str = required("where to write", metavar="FOLDER")
    image_size: int = flag(224, "pixels a side")
    learning_rate: float | None = flag(None, "of the head")
    resize_mode: str = flag("squash", "how", choices=("squash", "crop"))
    tap: tuple[str, ...] = flag((), "may be repeated", metavar="LAYER", aliases=("--layer",))
    dry_run: bool = flag(False, "only say")
    streams: int = flag(0, "batches at once (default: what suits the machine)")
    hidden: int = 7
    pipeline_options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


LEAST = ["photos", "--store", "out"]


class Others:
    def parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--runner")
        parser.add_argument("--direct_num_workers", type=int)
        parser.add_argument("--streaming", action="store_true")
        return parser

    def names(self) -> set[str]:
        return {*Others.parser(self)._option_string_actions, "--of_another_version"}


def parsed(*argv: str) -> Config:
    given = LEAST[1:] if "--" in argv else LEAST
    config, manner = parse(Config, "headstart thing", [*given, *argv])
    assert manner == (False, False)
    return config


def test_defaults() -> None:
    assert parsed() == Config("photos", "out")
    assert parsed().tap == () and parsed().learning_rate is None and parsed().hidden == 7


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--image_size", "32"], "image_size", 32),
        (["--image-size", "32"], "image_size", 32),
        (["--image-size=32"], "image_size", 32),
        (["--learning-rate=1e-3"], "learning_rate", 0.001),
        (["--resize_mode", "crop"], "resize_mode", "crop"),
        (["--dry-run"], "dry_run", True),
        (["--tap", "a-b:avg", "--layer=c-d"], "tap", ("a-b:avg", "c-d")),
        (["--store=my-new-store"], "store", "my-new-store"),
        (["--dry_run", "--", "--photos"], "input", "--photos"),
    ],
)
def test_flags_are_taken_with_dashes_or_underscores(argv: list[str], field: str, value: object) -> None:
    assert getattr(parsed(*argv), field) == value


def test_verbose_is_every_command_s() -> None:
    assert parse(Config, "p", [*LEAST, "--verbose"])[1] == (True, False)
    assert parse(Config, "p", [*LEAST, "--json"])[1] == (False, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*LEAST, "--image-sise", "32"], r"^unknown flag --image_sise\. Did you mean --image_size or --cache_size\?$"),
        (
            [*LEAST, "--image_siz=32"],
            r"^unknown flag --image_siz\. Did you mean --image_size or --cache_size\?$",
        ),  # no abbreviations
        ([*LEAST, "--zzzzzz"], r"^unknown flag --zzzzzz\.$"),
        ([*LEAST, "--resize_mode", "crob"], r"^--resize_mode is one of squash, crop, not 'crob'\. Did you mean crop\?$"),
        ([*LEAST, "--image_size", "big"], "^--image_size takes a whole number, not 'big'$"),
        ([*LEAST, "--image_size"], "--image_size: expected one argument; `headstart thing --help` lists what it takes"),
        (["photos"], "the following arguments are required: --store"),
        (["--store", "out"], "the following arguments are required: INPUT"),
        ([*LEAST, "more"], "unrecognized arguments: more"),
        ([*LEAST, "-x"], "unrecognized arguments: -x"),
    ],
)
def test_bad_flags_are_refused(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(Config, "headstart thing", argv)


def test_another_s_flags_are_set_apart_with_their_values() -> None:
    argv = ["--runner", "DirectRunner", *LEAST, "--direct-num-workers=2", "--streaming", "--image_size", "32"]
    theirs = ("--runner", "DirectRunner", "--direct_num_workers=2", "--streaming")
    assert parse(Config, "p", argv, Others())[0] == Config("photos", "out", image_size=32, pipeline_options=theirs)
    with pytest.raises(UserError, match=r"unknown flag --runer\. Did you mean --runner or --dry_run\?"):
        parse(Config, "p", [*LEAST, "--runer", "x"], Others())
    with pytest.raises(UserError, match=r"unknown flag --of_another_version\."):
        parse(Config, "p", [*LEAST, "--of_another_version", "x"], Others())


def test_the_other_parser_is_not_made_without_need() -> None:
    class Never(Others):
        def parser(self) -> argparse.ArgumentParser:
            raise AssertionError("it imports Beam")

    assert parse(Config, "p", LEAST, Never())[0] == Config("photos", "out")
    with pytest.raises(UserError, match=r"unknown flag --runer"):
        parse(Config, "p", [*LEAST, "--runer", "x"], Never())


def test_help_names_every_flag_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(Config, "headstart thing", ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "Does a thing." in text and "Not shown" not in text and "--hidden" not in text
    assert text.count("(default: what suits the machine)") == 1 and "(default: 0)" not in text
    assert "--image_size" in text and "pixels a side (default: 224)" in text and "--tap LAYER, --layer LAYER" in text


def test_a_user_error_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise UserError("bad-value", "expected this,\n  received that")

    assert run("headstart thing", body) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err == "headstart thing: error: expected this, received that\n"


def test_the_traceback_can_be_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def body() -> None:
        raise UserError("bad-flag", "no")

    monkeypatch.setenv("HEADSTART_TRACEBACK", "1")
    assert run("p", body) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/y"), "the disk is full (x/y): make room"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full (while writing): make room"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "no permission for /root/x"),
    ],
)
def test_the_disk_s_own_errors_are_one_line_too(error: OSError, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise error

    assert run("p", body) == 2
    assert capsys.readouterr().err.startswith(f"p: error: {message}")


def test_a_fault_of_the_program_is_not_hidden() -> None:
    def body() -> None:
        raise OSError(errno.EIO, "broken")

    def zero() -> None:
        raise ZeroDivisionError

    with pytest.raises(OSError, match="broken"):
        run("p", body)
    with pytest.raises(ZeroDivisionError):
        run("p", zero)


def test_the_body_s_status_is_the_command_s() -> None:
    assert run("p", lambda: None) == 0
    assert run("p", lambda: 1) == 1


@dataclass(frozen=True)
class Checked:
    """What a program may make by itself."""

    stores: Sequence[str] = positional("what to read", default=())
    image_size: str | int | tuple[int, int] = flag("", "pixels a side")
    epochs: int = flag(1, "at most", least=1)
    rate: float | None = flag(None, "of the head")
    taps: tuple[str, ...] = flag((), "may be repeated", flag="--tap")
    mode: str = flag("squash", "how", choices=("squash", "crop"))
    dry: bool = flag(False, "only say")

    def __post_init__(self) -> None:
        check_fields(self)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("image_size", 64, 64),
        ("image_size", [64, 48], (64, 48)),
        ("image_size", "64", "64"),
        ("epochs", np.int64(3), 3),
        ("rate", 1, 1.0),
        ("rate", None, None),
        ("taps", ["a", "b"], ("a", "b")),
        ("stores", [Path("a"), "b"], ("a", "b")),
        ("mode", "crop", "crop"),
    ],
)
def test_values_that_are_natural_in_python_are_taken(field: str, value: object, kept: object) -> None:
    found = getattr(Checked(**{field: value}), field)  # type: ignore[arg-type]
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", "5", r"^--epochs takes a whole number, not '5' \(str\)$"),
        ("epochs", True, r"^--epochs takes a whole number, not True \(bool\)$"),
        ("epochs", 2.5, r"^--epochs takes a whole number, not 2.5 \(float\)$"),
        ("epochs", 0, r"^--epochs must be at least 1, not 0$"),
        ("rate", "fast", r"^--rate takes a number or None, not 'fast'"),
        ("taps", "avg", r"^--tap takes a list of text, not 'avg' \(str\)$"),
        ("stores", ["a", 1], r"^stores takes a list of text, not \['a', 1\]"),
        ("image_size", (1, 2, 3), r"^--image_size takes text or a whole number or \(a whole number, a whole number\), not "),
        ("mode", "crob", r"^--mode is one of squash, crop, not 'crob'\. Did you mean crop\?$"),
        ("dry", 1, r"^--dry takes True or False, not 1 \(int\)$"),
    ],
)
def test_a_wrong_value_names_field_expected_and_received(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Checked(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("values", ["augment='bogus'", "epochs_='5'", "image_size=(64,)", "taps=('x:mean',)", "image_size=0"])
def test_values_are_checked_where_python_leaves_assertions_out(values: str) -> None:
    code = f"""if True:
        from headstart.features.errors import UserError
        from headstart.pipelines.extract_config import ExtractConfig
        try:
            ExtractConfig(input="photos", store="store", {values.replace("epochs_", "examples_per_shard")})
        except UserError as error:
            print(error)"""
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == 1 and not done.stderr


def test_an_image_size_is_text_or_numbers() -> None:
    for size in ("64", 64, (64, 64), "64,64"):
        config = ExtractConfig(input="photos", store="store", image_size=size)  # type: ignore[arg-type]
        assert parse_image_size(config.image_size) == (64, 64)


def headstart(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "headstart", *argv], capture_output=True, text=True, timeout=60)


def test_the_commands_themselves_fail_in_one_line(tmp_path: Path) -> None:
    for argv, message in (
        (("info", str(tmp_path / "nothing")), "headstart info: error: there is no feature store at"),
        (("info",), "headstart info: error: the following arguments are required: STORE"),
        (("inf", "x"), "Did you mean info"),
        (("info", "x", "--verbos"), "headstart info: error: unknown flag --verbos. Did you mean --verbose?"),
    ):
        done = headstart(*argv)
        assert done.returncode == 2 and done.stdout == ""
        assert message in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    body = "[print('x' * 999, flush=True) for _ in range(999)] and None"
    code = f"import sys; from headstart.features.interruption import run; sys.exit(run('p', lambda: {body}))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.read(10)
    writer.stdout.close()
    assert writer.wait(timeout=30) == 0
    assert writer.stderr.read() == b""
    writer.stderr.close()


def test_the_nearest_names() -> None:
    assert nearest("vgg61", ["VGG16", "ResNet50"]) == " Did you mean VGG16?"
    assert nearest("ResNet5O", ["ResNet50", "ResNet50V2"]) == " Did you mean ResNet50 or ResNet50V2?"
    assert nearest("zebra", ["VGG16"]) == ""
    assert nearest("", []) == ""


@pytest.mark.slow
def test_what_keras_only_wraps_is_left_out_of_the_start_and_there_afterwards() -> None:
    code = (
        "import sys; from headstart.features.runtime import import_tensorflow_quietly; import_tensorflow_quietly(); "
        "assert 'tensorflow' in sys.modules and not {'sklearn', 'matplotlib', 'jax'} & set(sys.modules); "
        "import sklearn.datasets, matplotlib.figure, keras; assert keras.Model"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    if importlib.util.find_spec("jax"):
        code = code.replace(", 'jax'", "") + "; import jax; assert keras.backend.backend() == 'jax'"
        environment = {**os.environ, "KERAS_BACKEND": "jax"}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)


def test_an_error_keeps_its_code_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UserError("in-use", "another training is writing")))
    assert (error.code, str(error)) == ("in-use", "another training is writing")
