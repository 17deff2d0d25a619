"""What `python -m tests.soak` disturbs processes with: it does what it says, and nothing where it is not asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.__main__ import HOOK, ROOT, untimed

CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
from headstart.features.files import write_bytes
for name in ("first", "second"):
    write_bytes(sys.argv[1] + "/" + name, name.encode())
"""


@pytest.mark.parametrize(
    ("at", "end", "code", "held"),
    [
        (0, "", 0, {"first", "second"}),
        (9, "kill", 0, {"first", "second"}),
        (4, "kill", -signal.SIGKILL, {"first", "second.tmp"}),
        (3, "interrupt", -signal.SIGINT, {"first"}),
        (1, "full", 1, set()),
    ],
)
def test_a_process_ends_at_the_operation_that_was_chosen(at: int, end: str, code: int, held: set[str], tmp_path: Path) -> None:
    hook = {"PYTHONPATH": f"{HOOK}{os.pathsep}{ROOT}", "SOAK_AT": str(at), "SOAK_END": end, "SOAK_FOLDER": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)],
        env={**os.environ, **hook}, timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert {name if name.count(".") == 0 else f"{name.split('.')[0]}.tmp" for name in os.listdir(tmp_path)} == held
    assert ("No space left" in done.stderr) == (end == "full")


def test_times_are_not_compared_and_figures_are() -> None:
    assert untimed({"seconds": 1.5, "accuracy": 0.5, "rows": [{"seconds_each": 3, "name": "a"}]}) == {
        "accuracy": 0.5, "rows": [{"name": "a"}]
    }  # fmt: skip
