"""Ctrl-C and SIGTERM, in processes of their own: one line, the status that shells expect, and a command that goes on."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.conftest import small_backbone_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
START = """
import os, signal, sys, threading, time

def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)

class OnImport:
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            press()

def press_before(owner, name, when=1):
    real, calls = getattr(owner, name), []
    def pressing(*arguments, **keywords):
        calls.append(1)
        if len(calls) == when:
            press()
        return real(*arguments, **keywords)
    setattr(owner, name, pressing)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background has it ignored
"""


def in_a_process(code: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = [sys.executable, "-c", START + code]
    return subprocess.run(whole, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("press(); time.sleep(60)", 130),
        ("press(signal.SIGTERM); time.sleep(60)", 143),
        (
            "try:\n        press(); time.sleep(60)\n    except BaseException:\n        raise UserError('in-use', 'lost')",
            130,
        ),
        ("try:\n        press(); time.sleep(60)\n    except BaseException:\n        raise RuntimeError('runner')", 130),
        ("try:\n        press(); time.sleep(60)\n    except BaseException:\n        time.sleep(60)", 130),
        ("try:\n        press(); time.sleep(60)\n    except BaseException:\n        press(); time.sleep(60)", 130),
        ("try:\n        press(); time.sleep(60)\n    except BaseException:\n        return 0", 130),
        ("threading.Thread(target=lambda: time.sleep(60)).start(); press(); time.sleep(60)", 130),
        ("raise KeyboardInterrupt", 130),
        ("class Gone:\n        def __del__(self):\n            press(); time.sleep(60)\n    Gone(); time.sleep(60)", 130),
    ],
    ids=[
        "Ctrl-C",
        "SIGTERM",
        "another error",
        "a crash",
        "swallowed",
        "twice",
        "ignored",
        "a thread stays",
        "by hand",
        "collecting garbage",
    ],
)
def test_a_command_ends_in_one_line(body: str, status: int, tmp_path: pathlib.Path) -> None:
    imports = "from headstart.features.errors import UserError\nfrom headstart.features.interruption import run"
    code = f"{imports}\ndef body():\n    {body}\nrun('p', body)"
    done = in_a_process(code, tmp_path)
    word = "terminated" if status == 143 else "interrupted"
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"p: {word}; run the same command again to go on\n"


def test_signals_are_the_host_s_again_afterwards(tmp_path: pathlib.Path) -> None:
    code = """
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
from headstart.features.interruption import run
run("p", lambda: None)
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
signal.signal(signal.SIGINT, signal.SIG_IGN)
run("p", lambda: print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN))
"""
    done = in_a_process(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


QUIETLY = "from headstart.features.runtime import import_tensorflow_quietly; import_tensorflow_quietly()"
PLACES = {
    "importing the command": "sys.meta_path.insert(0, OnImport('headstart.pipelines.extract_config'))",
    "importing TensorFlow": "sys.meta_path.insert(0, OnImport('tensorflow.python.framework.ops'))",
    "surveying": f"{QUIETLY}; from headstart.pipelines import survey; press_before(survey, 'survey_file', 20)",
    "extracting": f"{QUIETLY}; from headstart.features import tfrecord; press_before(tfrecord, 'write_record', 30)",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_an_extraction_is_interrupted_anywhere(place: str, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = ["extract", str(photos), "--store", "store", *small_backbone_flags()]
    code = f"{PLACES[place]}\nfrom headstart.cli import main\nsys.exit(main({[*flags, '--examples_per_shard', '8']!r}))"
    done = in_a_process(code, tmp_path)
    assert done.returncode == 130, done.stderr
    last = "headstart extract: interrupted; run the same command again to go on"
    lines = done.stderr.splitlines()
    assert lines.pop() == last
    assert [line for line in lines if not line.startswith(("class ", "extract: ", "engine ", "time "))] == []
    left = set(os.listdir(tmp_path / "store")) if (tmp_path / "store").exists() else set()
    assert left <= {".work", "claims", "generations", ".digests.parquet"}


@pytest.mark.slow
def test_a_training_is_interrupted(store: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = ["train", str(store), "--run", "run", "--epochs", "50"]
    code = f"""
sys.meta_path.insert(0, OnImport("headstart.training.fitting.adam"))  # Keras is about to fit
from headstart.cli import main
sys.exit(main({flags!r}))
"""
    done = in_a_process(code, tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "headstart train: interrupted; run the same command again to go on\n"
    assert not (tmp_path / "run").exists()  # there was nothing to keep yet
