"""What each cloud says in its own way: who asks, what is wrong, and what an object is. All else: tests/test_remote.py."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import pytest

pytest.importorskip("obstore", reason="object stores need the extra `remote`")

import obstore.exceptions

from headstart.cli import main
from headstart.features.places import place, remote, requests
from tests.conftest import raises, small_backbone_flags
from tests.proxy import SECRET, Server
from tests.servers import SERVERS

NOBODY = "http://127.0.0.1:1"
AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "account", "AZURE_STORAGE_ACCOUNT_KEY": SECRET}


@pytest.fixture
def told(
    photos: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, one_line: Callable[[], str]
) -> Iterator[Callable[[str, dict[str, str]], str]]:
    """The one line that an extraction into a place ends with when a process knows these variables and no others."""
    for name in [name for name in os.environ if name.startswith(tuple(requests.VARIABLES.values()))]:
        monkeypatch.delenv(name)

    def extract(root: str, environment: dict[str, str]) -> str:
        requests.client.cache_clear()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert main(["extract", str(photos), "--store", f"{root}/store", *small_backbone_flags()]) == 2
        line = one_line()
        assert SECRET.partition("/")[0] not in line  # as it is, or as part of an address
        return line

    yield extract
    requests.client.cache_clear()


@pytest.mark.parametrize(
    ("root", "environment", "expected"),
    [
        ("az://bucket", {}, "Account must be specified: look at AZURE_STORAGE_ACCOUNT_NAME"),
        ("az://bucket", {**AZURE, "AZURE_STORAGE_ACCOUNT_KEY": f"{SECRET}!"}, "Invalid Access Key"),
        ("az://bucket", {**AZURE, "AZURE_STORAGE_ENDPOINT": NOBODY}, "for an http:// server set AZURE_ALLOW_HTTP=true"),
        ("az://a.b", AZURE, "az://a.b"),
        ("gs://bucket", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/where"}, "/no/where: No such file"),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": f'"{SECRET}"'}, "invalid type: string ..., expected"),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": f'"{SECRET * 20}"'}, "invalid type: string ...: look"),
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": SECRET}, "look at GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://bucket", {"GOOGLE_BEARER_TOKEN": SECRET, "GOOGLE_BASE_URL": NOBODY}, "GOOGLE_ALLOW_HTTP=true"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "key"}, "Missing SecretAccessKey: look at AWS_ACCESS_KEY_ID"),
        (
            "s3://bucket",
            {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": NOBODY},
            "AWS_ALLOW_HTTP=true",
        ),
    ],
)
def test_variables_that_do_not_say_who_asks_are_told_of_at_once(
    root: str, environment: dict[str, str], expected: str, told: Callable[[str, dict[str, str]], str]
) -> None:
    assert expected in told(root, environment)


@pytest.mark.parametrize(
    ("name", "key"),
    [("AZURE_STORAGE_ACCOUNT_KEY", "b3RoZXI="), ("AZURE_STORAGE_SAS_TOKEN", f"sv=2021-08-06&sig={SECRET}")],
)
def test_a_wrong_key_is_told_of_and_not_told(name: str, key: str, told: Callable[[str, dict[str, str]], str]) -> None:
    with SERVERS["az"]() as server:
        others = {other: value for other, value in server.environment.items() if value != SECRET}
        line = told(server.root, {**others, name: key})
    assert "access denied" in line and key not in line


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("GET http://169.254.169.254/token - HTTP error: error sending request", "no-access", "who asks: set GOOGLE"),
        ("list request - status code: 403 Forbidden: <Error><Code>AuthorizationFailure</Code>", "no-access", "(Authorization"),
        ("token request: POST https://oauth2 - status code: 400 Bad Request: invalid_grant", "no-access", "invalid_grant"),
        ("Bulk delete request failed for key k: Not allowed (code: 403)", "no-access", "access denied"),
        ("list request - status code: 404 Not Found: <Error><Code>ContainerNotFound</Code>", "missing-input", "'gs://bucket'"),
        ("Bulk delete: The specified container does not exist. (code: 404)", "missing-input", "there is no bucket"),
    ],
)
def test_what_will_not_change_is_asked_once(text: str, code: str, expected: str) -> None:
    asked = list[str]()

    def request() -> None:
        asked.append(text)
        raise obstore.exceptions.GenericError(f"Generic GCS error: {text}")

    with raises(code) as caught:
        requests.asked("gs://bucket/key", request)
    assert expected in str(caught.value) and len(asked) == 1


def test_a_conflict_is_not_always_an_object_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAUSES_S", (0.0, 0.0))
    answers = ["ContainerBeingDeleted", "ContainerBeingDeleted", "BlobAlreadyExists"]

    def request() -> None:
        raise obstore.exceptions.AlreadyExistsError(f"status code: 409 Conflict: <Error><Code>{answers.pop(0)}</Code>")

    with pytest.raises(FileExistsError):
        requests.asked("az://bucket/key", request)
    assert not answers


def test_a_listing_and_an_answer_say_the_same_of_an_object() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    answer = {"size": 1, "e_tag": '"0x8D"', "last_modified": when}
    listed = {"size": 1, "e_tag": "0x8D", "last_modified": when + timedelta(milliseconds=999)}
    assert remote._entry(listed, "name") == remote._entry(answer, "name")
    assert remote._entry({**answer, "e_tag": None}, "name").version == ""


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Server]:
    with SERVERS[request.param]() as server, server.spoken_to(str(tmp_path / "cache")):
        yield server


def test_of_many_to_remove_some_may_be_gone(server: Server) -> None:
    paths = [f"{server.root}/{number}" for number in range(300)]  # more than Azure takes in a request
    place.at_once(lambda path: place.write(path, b""), paths[::2], server.root)
    place.remove(paths)
    assert not place.names(server.root)
