"""A command's body, run to its end: errors in one line with exit status 2; Ctrl-C and SIGTERM in one with 130 or 143."""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from headstart.features.errors import UserError, extract_user_error

GRACE_S = 3.0  # for temporary files to be removed; what waits longer than that is left to the next run


class Ending:
    """Whether a command was asked to end, and its end."""

    def __init__(self, prog: str) -> None:
        self.prog, self.signal, self.at_once, self.stderr = prog, 0, False, 2
        self.listening, self.told = os.pipe()

    def take(self, number: int, frame: Any) -> None:
        """The signal's handler: what is under way unwinds; asked again, or while libraries are loaded, it ends at once."""
        again, self.signal = bool(self.signal), number
        if again or self.at_once:
            self.end()
        logging.disable(logging.CRITICAL)  # threads that lose their work have much to say
        threading.excepthook = lambda _: None
        sys.unraisablehook = lambda _: None  # a finaliser takes the exception for its own
        os.write(self.told, b"!")
        raise KeyboardInterrupt

    def watch(self) -> None:
        """Ends a process that does not unwind in time: the exception may be swallowed, a runner may wait for its threads."""
        if os.read(self.listening, 1):
            time.sleep(GRACE_S)
            self.end()
        os.close(self.listening)

    def end(self) -> NoReturn:
        """One line, and out: Beam's worker threads outlive its runner, and a normal exit would wait for them."""
        word = "terminated" if self.signal == signal.SIGTERM else "interrupted"
        line = "\n" if os.isatty(self.stderr) else ""  # after a bar
        line += f"{self.prog}: {word}; run the same command again to go on\n"
        os.write(self.stderr, line.encode("utf-8", "surrogateescape"))
        os._exit(128 + (self.signal or signal.SIGINT))


_current: Ending | None = None


@contextlib.contextmanager
def ending(prog: str) -> Iterator[Ending]:
    """Takes care of the signals inside the block, those aside that are ignored, as they are in the background."""
    global _current
    outer, here = _current, Ending(prog)
    handlers: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # signals belong to it
        numbers = (signal.SIGINT, signal.SIGTERM)
        handlers = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    threading.Thread(target=here.watch, daemon=True).start()
    _current = here
    try:
        for number in handlers:
            signal.signal(number, here.take)
        yield here
    except KeyboardInterrupt:
        _flush()
        here.end()
    finally:
        if here.signal:  # whatever became of its exception on the way
            _flush()
            here.end()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _current = outer
        os.close(here.told)  # the watch ends


@contextlib.contextmanager
def at_once(stderr: int) -> Iterator[None]:
    """A signal inside the block ends the process at once, for a library's C++ may not outlive an exception in its start.

    Args:
        stderr: the file descriptor to tell it on.
    """
    here = _current
    if here is None:  # no command: signals are the host's
        yield
        return
    here.at_once, here.stderr = True, stderr
    try:
        yield
    finally:
        here.at_once, here.stderr = False, 2


def check() -> None:
    """Ends a command that was asked to end and did not unwind: a runner, or a finaliser, may have taken the exception.

    Raises:
        KeyboardInterrupt: then.
    """
    if _current and _current.signal:
        raise KeyboardInterrupt


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


leaves_threads = False  # whether something has threads that Python's end and they would wait for each other, for ever


def run(prog: str, body: Callable[[], int | None]) -> int:
    """Runs a command's body; a mistake of the user's becomes one line on stderr and exit status 2, Ctrl-C one and 130."""
    for stream in (sys.stdout, sys.stderr):  # file names need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    status = 1
    try:
        with ending(prog) as here:
            status = _in_one_line(prog, lambda: _unless_interrupted(here, body))
        return status
    finally:
        if leaves_threads:
            atexit.register(_leave, status)


def _leave(status: int) -> None:
    """Ends the process once all that it had to say is said, without waiting for threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _unless_interrupted(here: Ending, body: Callable[[], int | None]) -> int | None:
    """A body's status. A runner makes another error of Ctrl-C's, which is nobody's mistake."""
    try:
        return body()
    except BaseException:
        if here.signal:
            raise KeyboardInterrupt from None
        raise


def _in_one_line(prog: str, body: Callable[[], int | None]) -> int:
    try:
        return body() or 0
    except UserError as error:
        return _fail(prog, str(error))
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(
                prog, f"the disk is full ({error.filename or 'while writing'}): make room and run the same command again"
            )
        if not error.filename:
            raise
        if error.errno in (errno.EACCES, errno.EROFS):
            return _fail(prog, f"no permission for {error.filename}: choose another folder or change its owner")
        return _fail(prog, f"{error.filename}: {error.strerror}")
    except Exception as error:
        told = extract_user_error(error)  # by TensorFlow, of a mistake that was met inside a tf.data pipeline
        if told is None:
            raise
        return _fail(prog, told)


def _fail(prog: str, message: str) -> int:
    if os.environ.get("HEADSTART_TRACEBACK"):
        traceback.print_exc()
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
