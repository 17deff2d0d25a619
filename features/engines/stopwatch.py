"""How long the steps of many threads take, added up: read, decode, augment, backbone, write."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

STEPS = ("read", "decode", "augment", "backbone", "write")


class Stopwatch:
    """Seconds by step, of all threads together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - started
            with self._lock:
                self.seconds[step] = self.seconds.get(step, 0.0) + passed
