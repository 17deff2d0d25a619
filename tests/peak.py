"""The most memory that a process had, for those that tests start: getrusage's peak counts who started it, too."""

from __future__ import annotations

import re
from pathlib import Path

STATUS = Path("/proc/self/status")  # of Linux


def peak_mb() -> float:
    """The largest resident set of this process so far, in megabytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    assert found
    return int(found[1]) / 1024
