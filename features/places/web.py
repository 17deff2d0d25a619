"""Files behind http and https: read, and nothing else. Their addresses are used as they are, with query and all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from headstart.features.places.entry import Entry
from headstart.features.places.requests import AGAIN, REQUESTS_AT_ONCE, SILENCE_S, CutShort, asked

SCHEMES = ("http", "https")
NO_HEADS = (*(set(range(400, 500)) - AGAIN), 501)  # to a HEAD, by servers that may answer a GET


def join(folder: str, *names: str) -> str:
    """The address of a file below a folder's; names are those of files, and not parts of an address: ? # % are letters."""
    import urllib.parse

    return urllib.parse.urljoin(f"{folder}/", urllib.parse.quote("/".join(names)))


def folder_of(path: str) -> str:
    """What comes before the last / of the address."""
    return path.partition("?")[0].rpartition("/")[0]


def absolute(path: str) -> str:
    """The same."""
    return path


def is_folder(path: str) -> bool:
    """Nothing behind http can be listed."""
    return False


def read(path: str) -> bytes:
    """All of it."""
    return next(opened(path)[1])


def opened(path: str) -> tuple[Entry, Iterator[bytes]]:
    """What is known of it, and its content in one piece."""
    headers, content = asked(path, lambda: _answer(path, "GET"))
    return _entry(path, headers, len(content)), iter([content])


def head(path: str, size: int) -> bytes:
    """Its first bytes."""
    _, content = asked(path, lambda: _answer(path, "GET", {"Range": f"bytes=0-{size - 1}"}))
    return content[:size]


class _NotTold(Exception):
    """A server does not say what it knows of a file that it may well give."""


def entry(path: str) -> Entry | None:
    """What is known of it; None when it is not there."""
    try:
        return _told(path)
    except _NotTold:
        with contextlib.suppress(FileNotFoundError):
            return opened(path)[0]
        return None


def _told(path: str) -> Entry | None:
    """What is known of it without reading it.

    Raises:
        _NotTold: when the server does not say that.
    """
    try:
        headers, _ = asked(path, lambda: _answer(path, "HEAD"))
    except FileNotFoundError:
        return None
    return _entry(path, headers, int(headers.get("Content-Length") or 0))


def entries_at(paths: Sequence[str]) -> list[Entry | None]:
    """What is known of several; nothing of those whose server tells no time by which a change would show, or nothing."""

    def dated(path: str) -> Entry | None:
        try:
            found = _told(path)
        except _NotTold:
            return None
        return found if found and found.time_ns else None

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(dated, paths))


def _entry(path: str, headers: Any, size: int) -> Entry:
    import email.utils

    changed = email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp() if "Last-Modified" in headers else 0
    return Entry(path.rpartition("/")[2], size, int(changed * 1e9), headers.get("ETag") or "")


def _answer(path: str, method: str, headers: dict[str, str] | None = None) -> tuple[Any, bytes]:
    """Headers and body of an answer.

    Raises:
        FileNotFoundError: for 404 and 410.
        _NotTold: for a HEAD that is not answered.
        CutShort: for anything else that went wrong; its text is what `asked` decides by.
    """
    import http.client  # here, for every command comes by this module when it starts
    import urllib.error
    import urllib.parse
    import urllib.request

    address = urllib.parse.quote(path, safe="/:?#[]@!$&'()*+,;=%~")  # as a browser's address bar does it
    request = urllib.request.Request(address, method=method, headers={"User-Agent": "headstart", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=SILENCE_S) as answer:
            content = answer.read()
            expected = answer.headers.get("Content-Length")
            if method == "GET" and expected is not None and len(content) != int(expected):
                raise CutShort(f"{len(content):,} of {int(expected):,} bytes came")
            return answer.headers, content
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise FileNotFoundError(2, "it is not there", path) from None
        if method == "HEAD" and error.code in NO_HEADS:
            raise _NotTold from None
        raise CutShort(f"status code: {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise CutShort(f"{type(error).__name__}: {error}") from None
