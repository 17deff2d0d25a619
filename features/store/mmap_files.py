"""Files in, one array of bytes out: all of them mapped side by side into memory, so that any byte of any file has one index.

Nothing is read before it is touched, and what was read stays in the page cache, to be dropped when memory is needed elsewhere.
Source: mmap(2), MAP_FIXED over a reserved range.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import weakref
from collections.abc import Sequence

import numpy as np

_PROT_NONE, _MAP_FIXED = 0, 0x10  # on Linux and macOS; Python's mmap has no names for them
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def map_files(paths: Sequence[str]) -> tuple[np.ndarray, list[int]]:
    """Maps files one after the other.

    Args:
        paths: of files that do not change while they are mapped.

    Returns:
        uint8 [total], never to be written to, and where each file begins in it, a multiple of a page's size. The bytes between
        a file's end and its last page's are zero.

    Raises:
        OSError: when a file can't be mapped.
    """
    sizes = [os.path.getsize(path) for path in paths]
    pages = [-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in sizes]
    starts = [0, *itertools.accumulate(pages)]
    total = max(starts[-1], mmap.PAGESIZE)
    base = _map(None, total, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
    memory = (ctypes.c_uint8 * total).from_address(base)
    unmapping = weakref.finalize(memory, _LIBC.munmap, base, total)  # when no array of it is left
    unmapping.atexit = False  # a thread that outlives the main one may be reading still; the process takes its memory along
    for path, start, size in zip(paths, starts, sizes):
        if size:
            file = os.open(path, os.O_RDONLY)
            try:  # private and writable, because TensorFlow takes no read-only memory; nobody writes to it
                _map(base + start, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _MAP_FIXED, file)
            finally:
                os.close(file)
    return np.ctypeslib.as_array(memory), starts[:-1]


def _map(address: int | None, size: int, protection: int, flags: int, file: int) -> int:
    found: int = _LIBC.mmap(address, size, protection, flags, file, 0)
    if found == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"can't map {size:,} bytes into memory: {os.strerror(error)}")
    return found
