"""An S3 server for tests, and one before it that spoils requests: moto's, which other people wrote, behind a small proxy."""

from __future__ import annotations

import contextlib
import http.client
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from headstart.features.places import place, requests

BUCKET = "bucket"
HANG_S = 3.0  # longer than whoever asks waits, in tests


@dataclass
class Faults:
    """What becomes of requests: shares of them, drawn from a seed, and what is refused."""

    failing: float = 0.0  # half of them after they were done: the answer alone is lost
    cut: float = 0.0
    hanging: float = 0.0
    refused: Callable[[str, str], bool] = lambda method, path: False  # access denied
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    log: list[tuple[str, str]] = field(default_factory=list)  # (method, path) of each request
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


def _handler(port: int, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer's head and body leave together, else the one waits for a word of the other

        def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
            self.send_response_only(status)
            length = [("Content-Length", str(len(body)))]
            kept = [pair for pair in headers if pair[0].lower() not in ("content-length", "connection", "transfer-encoding")]
            if self.command == "HEAD":
                length = [pair for pair in headers if pair[0].lower() == "content-length"]
            for name, value in [*kept, *length]:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:sent])
            self.wfile.flush()

        def any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults.log.append((self.command, self.path))
            fault, seen = faults.next(), False
            if faults.refused(self.command, self.path):
                self.answer(403, [], b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
                return
            if fault == "failing" and faults.draw.random() < 0.5:
                self.answer(faults.draw.choice((429, 500, 503)), [], b"<Error><Code>SlowDown</Code></Error>")
                return
            connection = http.client.HTTPConnection("127.0.0.1", port)
            try:
                connection.request(self.command, self.path, content, dict(self.headers.items()))
                answer = connection.getresponse()
                status, headers, body = answer.status, answer.getheaders(), answer.read()
                seen = True
            finally:
                connection.close()
            assert seen
            self.close_connection = bool(fault)
            if fault == "failing":
                self.answer(500, [], b"<Error><Code>InternalError</Code></Error>")
            elif fault == "hanging":
                time.sleep(HANG_S)
            else:
                self.answer(status, headers, body, len(body) // 2 if fault == "cut" else None)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = any

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Proxy


@dataclass
class Server:
    """Where it is asked, and what becomes of requests."""

    endpoint: str
    faults: Faults

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know of it."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "never-to-be-told",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }


def empty(server: Server) -> None:
    """Leaves nothing in the bucket, and no faults."""
    server.faults.__init__()  # type: ignore[misc]
    place.remove_folder(f"s3://{BUCKET}")
    requests.client.cache_clear()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _, port = moto.get_host_and_port()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{BUCKET}", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=key/1/us-east-1/s3/x"})
    assert connection.getresponse().status == 200
    faults = Faults()
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), _handler(port, faults))
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        requests.client.cache_clear()  # another server's
        yield Server(f"http://127.0.0.1:{proxy.server_address[1]}", faults)
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()
