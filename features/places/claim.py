"""A claim on a folder: of several jobs that would write to it, one does. Made of small files that are created, never locked.

The holder is whoever made the claim with the highest number. It renews its own file while it runs; a claim that was not
renewed in time is dead, and so is, at once, one of a process on this machine that is no more. Taking over a dead one means
creating the next number, which only one of several can do. So it holds over NFS and between machines, where locks may not.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import psutil

from headstart.features.errors import UserError
from headstart.features.files import TEMPORARY_SUFFIX
from headstart.features.places import place

CLAIMS = "claims"  # below the folder
TTL_S = 60.0  # a claim that was not renewed for so long is dead
RENEWALS = 3  # in that time
TRIES = 50  # to be the first to create the next claim
BOOT, NAMESPACE = "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"  # of Linux


@dataclass(frozen=True)
class Claim:
    """Who writes to a folder: a token of its own, its machine and process, and until when, in seconds since the epoch.

    host is for people; machine tells one from any other, and the containers in it, whose processes have numbers of their own.
    """

    number: int
    token: str
    host: str
    machine: str
    process: int
    started: float
    until: float

    @property
    def is_mine(self) -> bool:
        """Whether its process has its number on this machine, and in this container."""
        return self.machine == _machine()

    def is_dead(self, now: float) -> bool:
        """Whether nobody holds it any more."""
        if self.is_mine and _process_started(self.process) != self.started:
            return True
        return now > self.until


@functools.cache
def _machine() -> str:
    """This boot of this machine, and what its process numbers are counted in."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [place.read(BOOT).decode().strip(), os.readlink(NAMESPACE)]
    return " ".join(parts)


def _process_started(process: int) -> float | None:
    """When a process of this machine began, by a clock that nobody sets; None when it is no more, or waits to be collected."""
    if os.path.exists("/proc/self/stat"):
        try:
            state = place.read(f"/proc/{process}/stat").rpartition(b")")[2].split()  # proc(5): the third field and on
        except OSError:
            return None
        return None if state[0] in (b"Z", b"X") else float(state[19])
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.Error:
        return None


@contextlib.contextmanager
def claimed(folder: str, who: str, flag: str, clock: Callable[[], float] = time.time) -> Iterator[Claim]:
    """Holds the claim on a folder for the length of the block; leaves nothing behind, nor folders that it made for that.

    Args:
        folder: what is to be written to; it is made when it is not there.
        who: what writes, for messages: `extraction`.
        flag: that names the folder, for messages.
        clock: seconds since the epoch.

    Raises:
        UserError: when another holds it.
    """
    made, ended = _not_there(folder), threading.Event()
    mine = _take(folder, who, flag, clock)

    def renew() -> None:
        while not ended.wait(TTL_S / RENEWALS):
            with contextlib.suppress(OSError, UserError):  # a full disk ends a job elsewhere, and tells of it
                if not _is_held_by(folder, mine.token):  # nothing to renew: its files would outlive the next holder's
                    return
                _write(folder, replace(mine, until=clock() + TTL_S))

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield mine
    finally:
        ended.set()
        renewing.join()
        _release(folder, mine, made)


def check_claim(folder: str, token: str) -> None:
    """Raises UserError when a claim is not the one that holds: whoever works under it was left behind, and must not write."""
    if not _is_held_by(folder, token):
        raise UserError("in-use", f"another job has taken {folder!r} over, and this one is no longer to write to it")


def _is_held_by(folder: str, token: str) -> bool:
    held = _held(folder)
    return held is not None and held.token == token


def _take(folder: str, who: str, flag: str, clock: Callable[[], float]) -> Claim:
    for attempt in range(TRIES):
        numbers = _numbers(folder)  # one look decides both who holds it and which number comes next
        held = _read(folder, max(numbers)) if numbers else None
        if numbers and held is None and attempt < TRIES // 2:  # released since it was listed, or not written yet: look again
            continue
        if held and not held.is_dead(clock()):
            since = time.strftime("%H:%M:%S", time.localtime(held.until - TTL_S))
            where = f"process {held.process}" if held.is_mine else f"{held.host}, process {held.process}"
            raise UserError(
                "in-use",
                f"another {who} is writing to {folder!r} ({where}, last heard of at {since}): wait for it, or give another "
                f"{flag}",
            )
        process, number = os.getpid(), max(numbers, default=0) + 1
        started = _process_started(process) or 0.0
        mine = Claim(number, uuid.uuid4().hex, socket.gethostname(), _machine(), process, started, clock() + TTL_S)
        with contextlib.suppress(FileNotFoundError):  # its folder went away with the claim before
            if place.create(_path(folder, number), json.dumps(asdict(mine)).encode()) and _held(folder) == mine:
                return mine
    raise UserError("in-use", f"others come and go at {folder!r} all the time: try again, or give another {flag}")


def _not_there(folder: str) -> list[str]:
    """A folder of this machine and those that it lies in, as far as they are not there yet, the deepest first."""
    found = list[str]()
    while folder and not place.is_remote(folder) and not place.is_folder(folder):
        found.append(folder)
        folder = place.folder_of(folder)
    return found


def _release(folder: str, mine: Claim, made: list[str]) -> None:
    claims = place.join(folder, CLAIMS)
    names = [entry.name for entry in place.entries(claims)]  # those that a killed start left go while nobody else may claim
    place.remove(place.join(claims, name) for name in names if name.endswith(TEMPORARY_SUFFIX))
    place.remove(_path(folder, number) for number in _numbers(folder) if number <= mine.number)
    place.remove_empty([claims, *made])


def _write(folder: str, claim: Claim) -> None:
    place.write(_path(folder, claim.number), json.dumps(asdict(claim)).encode())


def _held(folder: str) -> Claim | None:
    """The claim with the highest number."""
    found = (_read(folder, number) for number in sorted(_numbers(folder), reverse=True))
    return next(filter(None, found), None)


def _read(folder: str, number: int) -> Claim | None:
    """A claim; None when it was released, or is not written yet."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Claim(**place.read_json(_path(folder, number)))
    return None


def _path(folder: str, number: int) -> str:
    return place.join(folder, CLAIMS, f"{number:06}.json")


def _numbers(folder: str) -> list[int]:
    """The numbers of all claims, dead ones too."""
    stems = [entry.name.removesuffix(".json") for entry in place.entries(place.join(folder, CLAIMS))]
    return [int(stem) for stem in stems if stem.isdigit()]
