"""Python loads this first where its folder is on PYTHONPATH: a process dies, or its disk is full, at a chosen operation.

SOAK_AT=N counts the calls of what makes files last (rename, link, remove, sync) below SOAK_FOLDER, and SOAK_END says what
comes of the Nth: kill (SIGKILL before it is done), interrupt (SIGINT), or full (no space left on device from then on).
"""

import errno
import os
import signal

OPERATIONS = ("replace", "link", "remove", "fsync", "rmdir", "unlink")
at, end, folder = int(os.environ.get("SOAK_AT", 0)), os.environ.get("SOAK_END", ""), os.environ.get("SOAK_FOLDER", "")
count = 0


def path_of(argument):
    """The path that an operation is about."""
    return os.readlink(f"/proc/self/fd/{argument}") if isinstance(argument, int) else os.fspath(argument)


def dying(name, real):
    """An operation that counts, and ends as it is asked to."""

    def operation(first, *others, **keywords):
        global count
        if folder in str(path_of(first)):
            count += 1
            if count == at and end in ("kill", "interrupt"):
                os.kill(os.getpid(), signal.SIGKILL if end == "kill" else signal.SIGINT)
            if count >= at and end == "full" and name in ("replace", "link", "fsync"):
                raise OSError(errno.ENOSPC, "No space left on device", str(path_of(first)))
        return real(first, *others, **keywords)

    return operation


if at and folder:
    for name in OPERATIONS:
        setattr(os, name, dying(name, getattr(os, name)))
