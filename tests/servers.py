"""Object stores' servers for tests, which other people wrote: moto's for S3 and, in Google's words, for Google Cloud Storage;
the emulators fake-gcs-server and Azurite, where FAKE_GCS_SERVER and AZURITE_BLOB name their binaries.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import json
import logging
import os
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from tests.proxy import SECRET, Answer, Ask, Request, Server, asking, before

BUCKET = "bucket"
AWS_USER = "AWS4-HMAC-SHA256 Credential=key/1/us-east-1/s3/x"  # enough for moto
READY_S = 30.0  # for an emulator to answer
ACCOUNT = "account"  # of Azurite


@contextlib.contextmanager
def _moto() -> Iterator[Ask]:
    """An S3 server with an empty bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    _, port = moto.get_host_and_port()
    try:
        ask = asking(port)
        ask(Request("POST", "/moto-api/reset", {}, b""))  # all of moto's servers in a process hold the same
        assert ask(Request("PUT", f"/{BUCKET}", {"authorization": AWS_USER}, b"")).status == 200
        yield ask
    finally:
        moto.stop()


@contextlib.contextmanager
def s3() -> Iterator[Server]:
    """moto's."""

    def environment(endpoint: str) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    with _moto() as ask, before(ask, f"s3://{BUCKET}", environment) as server:
        yield server


def _google(endpoint: str) -> dict[str, str]:
    return {"GOOGLE_BEARER_TOKEN": SECRET, "GOOGLE_BASE_URL": endpoint, "GOOGLE_ALLOW_HTTP": "true"}


@contextlib.contextmanager
def google() -> Iterator[Server]:
    """moto's, for S3: Google's XML API, which obstore speaks, differs from it by the names of some headers."""
    with _moto() as ask, before(_by_s3(ask), f"gs://{BUCKET}", _google) as server:
        yield server


def _by_s3(ask: Ask) -> Ask:
    def ask_s3(request: Request) -> Answer:
        headers = {**request.headers, "authorization": AWS_USER}
        if source := headers.pop("x-goog-copy-source", None):
            headers["x-amz-copy-source"] = source
        if headers.pop("x-goog-if-generation-match", None) == "0":
            headers["if-none-match"] = "*"
        return ask(request._replace(headers=headers))

    return ask_s3


@contextlib.contextmanager
def fake_gcs() -> Iterator[Server]:
    """fake-gcs-server, which writes and copies by Google's JSON API alone; what obstore asks is translated."""
    binary = _binary("FAKE_GCS_SERVER", "fake-gcs-server is a binary of its own: name it in FAKE_GCS_SERVER")
    options = ["-backend", "memory", "-scheme", "http", "-host", "127.0.0.1"]

    def flags(port: int) -> list[str]:
        return [binary, *options, "-port", str(port), "-public-host", f"127.0.0.1:{port}"]

    with _started(flags) as ask, before(_by_json(ask), f"gs://{BUCKET}", _google) as server:
        named = json.dumps({"name": BUCKET}).encode()
        assert ask(Request("POST", "/storage/v1/b?project=p", {}, named)).status == 200
        server.names_buckets = False
        yield server


def _by_json(ask: Ask) -> Ask:
    def ask_json(request: Request) -> Answer:
        if request.method != "PUT":
            return ask(request)
        name = urllib.parse.quote(urllib.parse.unquote(request.path.split("/", 2)[2]), safe="")
        if source := request.headers.get("x-goog-copy-source"):
            bucket, _, copied = source.partition("/")
            path = f"/storage/v1/b/{bucket}/o/{copied}/rewriteTo/b/{BUCKET}/o/{name}"
            return ask(Request("POST", path, {}, b""))
        first = "&ifGenerationMatch=0" if request.headers.get("x-goog-if-generation-match") == "0" else ""
        path = f"/upload/storage/v1/b/{request.path.split('/')[1]}/o?uploadType=media&name={name}{first}"
        answer = ask(Request("POST", path, {"Content-Type": request.headers["content-type"]}, request.body))
        version = json.loads(answer.body).get("etag", "")
        return answer._replace(headers=[("ETag", f'"{version}"')], body=b"") if version else answer

    return ask_json


@contextlib.contextmanager
def azure() -> Iterator[Server]:
    """Azurite."""
    binary = _binary("AZURITE_BLOB", "Azurite is a program of its own: name azurite-blob in AZURITE_BLOB")

    def flags(port: int) -> list[str]:
        options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        return [binary, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]

    def environment(endpoint: str) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": SECRET,
            "AZURE_STORAGE_ENDPOINT": f"{endpoint}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }

    with _started(flags) as ask, before(ask, f"az://{BUCKET}", environment) as server:
        _make_container(ask)
        yield server


def _make_container(ask: Ask) -> None:
    """Makes the container, which obstore can't; the request is signed with the account's key."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = [f"{name}:{value}" for name, value in headers.items()]
    signed = "\n".join(["PUT", *[""] * 11, *named, f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}", "restype:container"])
    signature = base64.b64encode(hmac.new(base64.b64decode(SECRET), signed.encode(), hashlib.sha256).digest()).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
    answer = ask(Request("PUT", f"/{ACCOUNT}/{BUCKET}?restype=container", headers, b""))
    assert answer.status == 201, answer


def _binary(variable: str, missing: str) -> str:
    if not (binary := os.environ.get(variable)):
        pytest.skip(missing)
    return binary


@contextlib.contextmanager
def _started(flags: Callable[[int], list[str]]) -> Iterator[Ask]:
    """A program that serves at a free port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{SECRET}"}
    process = subprocess.Popen(flags(port), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
                connection.connect()
                break
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield asking(port)
    finally:
        process.kill()
        process.wait()


SERVERS = {"s3": s3, "gs": google, "gs-fake": fake_gcs, "az": azure}
