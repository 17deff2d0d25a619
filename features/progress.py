"""Progress of long work: a bar on a terminal, a line now and then in a log, nothing when it is short."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from headstart.features.formatting import clock, counted, pace

LINE_EVERY_S = 15.0
BAR_WIDTH = 24


class Progress:
    """Counts toward a total and says so on stderr: done, rate, time left, dead letters."""

    def __init__(self, what: str, total: int, unit: str = "images", stream: TextIO | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self.started = self.last = time.monotonic()
        self.first: int | None = None  # what was there before this run must not count toward its rate
        self.shown = False

    def update(self, done: int, dead: int = 0) -> None:
        """Takes the count so far; prints at most 5 times a second on a terminal, every 15 seconds in a log."""
        self.first = done if self.first is None else self.first
        now = time.monotonic()
        if now - self.last < (0.2 if self.is_terminal else LINE_EVERY_S):
            return
        self.last, self.shown = now, True
        self._print(self.describe(done, dead, now - self.started), done / max(1, self.total))

    def describe(self, done: int, dead: int, elapsed: float) -> str:
        """The line itself."""
        rate = (done - (self.first or 0)) / elapsed if elapsed > 0 else 0.0
        left = f"{pace(rate)}, {clock((self.total - done) / rate)} left" if rate > 0 else f"after {clock(elapsed)}"
        letters = f", {counted(dead, 'dead letter')}" if dead else ""
        return f"{self.what}: {done:,}/{self.total:,} {self.unit}, {left}{letters}"

    def close(self) -> None:
        """Clears the bar."""
        if self.is_terminal and self.shown:
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _print(self, line: str, fraction: float) -> None:
        if self.is_terminal:
            full = int(BAR_WIDTH * min(1.0, fraction))
            line = f"\r\x1b[K[{'#' * full}{'.' * (BAR_WIDTH - full)}] {line}"
        self.stream.write(line if self.is_terminal else line + "\n")
        self.stream.flush()
