"""What stands before an object store's server in tests, and writes down what is asked, or spoils it."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from headstart.features.places import place, requests
from headstart.features.runtime import CACHE

HANG_S = 3.0  # longer than whoever asks waits, in tests
SECRET = "neverToBeTold/00"  # base64, as the keys of Azure are


class Request(NamedTuple):
    """What is asked of a server; the path is as it was sent, with its query, headers' names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What a server says."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Ask = Callable[[Request], Answer]


@dataclass
class Faults:
    """What becomes of requests: shares of them, drawn from a seed, and what is refused."""

    failing: float = 0.0  # half of them after they were done: the answer alone is lost
    cut: float = 0.0
    hanging: float = 0.0
    refused: Callable[[str, str], bool] = lambda method, path: False  # access denied
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    log: list[tuple[str, str]] = field(default_factory=list)  # (method, path without its % and with its query) of each request
    spoiled: int = 0

    def next(self) -> str:
        """What the next request meets."""
        drawn = self.draw.random()
        for name in ("failing", "cut", "hanging"):
            if drawn < (share := getattr(self, name)):
                self.spoiled += 1
                return name
            drawn -= share
        return ""


@dataclass
class Server:
    """A bucket, what a process needs to know to ask for it, what becomes of its requests, and a way past all that."""

    root: str
    environment: dict[str, str]
    faults: Faults
    ask: Ask
    names_buckets: bool = True  # whether it says of a missing bucket what its cloud does

    def empty(self) -> None:
        """Leaves nothing in the bucket, and no faults."""
        self.faults.__init__()  # type: ignore[misc]
        place.remove_folder(self.root)
        requests.client.cache_clear()

    @contextlib.contextmanager
    def spoken_to(self, cache: str) -> Iterator[None]:
        """While the block lasts this process asks it, as any other would be asked; afterwards it is empty."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.environment, CACHE: cache}.items():
                patch.setenv(name, value)
            requests.client.cache_clear()
            yield
            self.empty()


def _handler(ask: Ask, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer's head and body leave together, else the one waits for a word of the other

        def answer(self, answer: Answer, sent: int | None = None) -> None:
            self.send_response_only(answer.status)
            length = [("Content-Length", str(len(answer.body)))]
            gone = ("content-length", "connection", "transfer-encoding")
            kept = [pair for pair in answer.headers if pair[0].lower() not in gone]
            if self.command == "HEAD":
                length = [pair for pair in answer.headers if pair[0].lower() == "content-length"]
            for name, value in [*kept, *length]:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[:sent])
            self.wfile.flush()

        def any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urllib.parse.unquote(self.path)
            faults.log.append((self.command, path))
            fault = faults.next()
            if faults.refused(self.command, path):
                self.answer(Answer(403, [], b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"))
                return
            if fault == "failing" and faults.draw.random() < 0.5:
                self.answer(Answer(faults.draw.choice((429, 500, 503)), [], b"<Error><Code>SlowDown</Code></Error>"))
                return
            answer = ask(
                Request(self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, content)
            )
            self.close_connection = bool(fault)
            if fault == "failing":
                self.answer(Answer(500, [], b"<Error><Code>InternalError</Code></Error>"))
            elif fault == "hanging":
                time.sleep(HANG_S)
            else:
                self.answer(answer, len(answer.body) // 2 if fault == "cut" else None)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = any

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Proxy


def asking(port: int) -> Ask:
    """Asks a server of this machine, by its own address."""

    def ask(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request(request.method, request.path, request.body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    return ask


@contextlib.contextmanager
def before(ask: Ask, root: str, environment: Callable[[str], dict[str, str]]) -> Iterator[Server]:
    """A server behind one that spoils its answers.

    Args:
        ask: what is behind.
        root: its bucket.
        environment: what a process needs to know of it, by the address of what stands before it.
    """
    faults = Faults()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(ask, faults))
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        requests.client.cache_clear()  # another server's
        yield Server(root, environment(f"http://127.0.0.1:{proxy.server_address[1]}"), faults, ask)
    finally:
        proxy.shutdown()
        proxy.server_close()
