"""Progress: a bar on a terminal, a line now and then in a log, nothing when it is short."""

from __future__ import annotations

import io
import time

import pytest

from headstart.features.progress import BAR_WIDTH, LINE_EVERY_S, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_terminal_shows_a_bar_that_is_cleared_in_the_end(clock: Clock) -> None:
    terminal = Terminal()
    progress = Progress("extracting", 2000, stream=terminal)
    progress.update(0)
    assert terminal.getvalue() == ""
    clock.now += 10
    progress.update(500)
    bar = "#" * (BAR_WIDTH // 4) + "." * (BAR_WIDTH - BAR_WIDTH // 4)
    assert terminal.getvalue() == f"\r\x1b[K[{bar}] extracting: 500/2,000 images, 50/s, 0:30 left"
    clock.now += 0.1
    progress.update(600)
    assert terminal.getvalue().count("\r") == 1  # at most 5 a second
    clock.now += 0.2
    progress.update(2000, dead=3)
    assert terminal.getvalue().endswith(
        f"[{'#' * BAR_WIDTH}] extracting: 2,000/2,000 images, 194/s, 0:00 left, 3 dead letters"
    )
    assert "\n" not in terminal.getvalue()
    progress.close()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_log_has_a_line_now_and_then(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress("extracting", 100, stream=log)
    for _ in range(40):
        clock.now += 1
        progress.update(int(clock.now - 1000))
    progress.close()
    lines = log.getvalue().splitlines()
    assert lines == ["extracting: 15/100 images, 1.1 s each, 1:31 left", "extracting: 30/100 images, 1.0 s each, 1:12 left"]
    assert "\r" not in log.getvalue() and "\x1b" not in log.getvalue()
    assert LINE_EVERY_S == 15


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_short_work_says_nothing(clock: Clock, stream: type[io.StringIO]) -> None:
    output = stream()
    progress = Progress("extracting", 10, stream=output)
    for done in range(11):
        clock.now += 0.015
        progress.update(done)
    progress.close()
    assert output.getvalue() == ""


def test_what_was_there_before_does_not_count_toward_the_rate(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress("extracting", 1000, stream=log)
    progress.update(900)
    clock.now += 20
    progress.update(920)
    assert log.getvalue() == "extracting: 920/1,000 images, 1.0/s, 1:20 left\n"


def test_slow_work_says_how_long_each_takes(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress("training", 5, "epochs", stream=log)
    progress.update(0)
    clock.now += 100
    progress.update(2)
    assert log.getvalue() == "training: 2/5 epochs, 50 s each, 2:30 left\n"


def test_without_a_rate_the_time_so_far_is_told(clock: Clock) -> None:
    log = io.StringIO()
    progress = Progress("training", 5, "epochs", stream=log)
    clock.now += 16
    progress.update(0)
    assert log.getvalue() == "training: 0/5 epochs, after 0:16\n"


def test_hours_and_an_empty_total(clock: Clock) -> None:
    assert "2:46:30 left" in Progress("x", 10_000, stream=io.StringIO()).describe(10, 0, 10.0)
    log = io.StringIO()
    progress = Progress("x", 0, stream=log)
    clock.now += 16
    progress.update(0)
    assert log.getvalue() == "x: 0/0 images, after 0:16\n"


def test_stderr_is_where_it_goes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("x", 3)
    progress.update(0)
    clock.now += 16
    progress.update(1)
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("x: 1/3 images")
