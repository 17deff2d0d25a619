"""docs/output.md shows what the commands print: its lines begin with the words that theirs begin with."""

from __future__ import annotations

import pathlib
import re

import pytest

from headstart.cli import main

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "output.md"
OF_THE_SAMPLE = {"cats", "dogs", "store", "worst", "leaks", "as"}  # names, and lines that are there when something was found
COMMANDS = (
    "info {store}",
    "verify {store}",
    "probe {store} --run probe",
    "audit {store} --output audit",
    "train {store} --run run0 --epochs 5",
    "evaluate run0",
    "compare run0 run0 --metric balanced_accuracy",
    "runs .",
    "compact {store}",
)


def first_words(text: str) -> set[str]:
    """The words that lines begin with; no names of files, taps and numbers."""
    words = (line.split()[0].rstrip(":") for line in text.splitlines() if line.strip())
    return {word for word in words if word.isalpha()}


def sample(command: str) -> str:
    """The first block of a command's section."""
    section = re.search(rf"^## {command}.*?\n```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section, command
    return section[1]


@pytest.mark.slow
def test_the_lines_that_are_explained_are_printed(
    store_copy: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in COMMANDS:
        words = line.format(store=store_copy.name).split()
        assert main(words) == 0, line
        told = capsys.readouterr()
        assert first_words(sample(words[0])) - OF_THE_SAMPLE <= first_words(told.out + told.err), line


def test_every_command_is_explained() -> None:
    from headstart.cli import COMMANDS as ALL

    titles = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name for title in titles for name in title.split(", ")} == set(ALL)
