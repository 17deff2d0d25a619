"""Requests to object stores: who is asked, and what is asked again. obstore speaks to all of them.

Who asks is known by environment variables, most of which each cloud's own tools read, or by what the machine is; none of it is
ever part of a path. What may be asked again is, for a while: answers of 408, 409, 429 and 5xx, lost connections, cut bodies,
silence.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from headstart.features.errors import RefusedError, UserError

VARIABLES = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}  # how the names of the variables begin that say who asks
SCHEMES = tuple(VARIABLES)
WHO_ASKS = {  # what to set first
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
REQUESTS_AT_ONCE = 16  # to a server, which answers each in some hundredths of a second
PATIENCE_S = 120.0  # for one request, with all its repetitions
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 12.8, 12.8)  # between them
CONNECT_S, SILENCE_S = 5.0, 15.0  # until a connection stands; without a byte of an answer
UPLOAD_BYTES_PER_S = 1 << 20  # slower than that is taken for a hanging request
AGAIN = {408, 409, 425, 429, *range(500, 600)}  # answers after which a request is repeated
STATUS = re.compile(r"(?:status code: |\(code: )(\d{3})")  # of a request; of one deletion among several
CODE, MESSAGE = re.compile(r"<Code>(.*?)</Code>"), re.compile(r"<Message>([^<\n]*)")
NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|container does not exist")  # S3 and Google; Azure, deleting too
CONFLICT = re.compile(
    "ConditionalRequestConflict|ContainerBeingDeleted|BlobImmutableDueToPolicy"
)  # other than an object there
BUILDER, TOKEN = "builder error", "token request"  # a request that is not even sent; one for a token, before the request
MACHINE = "169.254.169.254"  # where a machine of a cloud is told who it is; others have nobody there

Result = TypeVar("Result")


class CutShort(Exception):
    """A body that ended too early."""


def divided(path: str) -> tuple[str, str]:
    """A path's bucket, with its scheme, and the key."""
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UserError("bad-flag", f"{path!r} names no bucket: expected {scheme}://BUCKET/KEY")
    return f"{scheme}://{bucket}", key.strip("/")


def library() -> Any:
    """obstore.

    Raises:
        UserError: when it is not installed.
    """
    try:
        import obstore
        import obstore.exceptions
    except ImportError:
        raise UserError(
            "not-available", "s3://, gs://, az:// and http:// need a package: pip install 'headstart[remote]'"
        ) from None
    return obstore


@functools.lru_cache(64)
def client(root: str, upload_s: int = 0) -> Any:
    """Speaks to a bucket; one that writes waits longer for an answer.

    Raises:
        UserError: when obstore is not installed, or the variables do not say who asks as they should.
    """
    library()
    from obstore.store import from_url

    scheme = root.partition("://")[0]
    http = os.environ.get(f"{VARIABLES[scheme]}_ALLOW_HTTP", "").lower() in ("1", "true")
    try:
        return from_url(
            root,
            client_options={
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "read_timeout": timedelta(seconds=upload_s or SILENCE_S),
                "timeout": timedelta(hours=1),
                **({"allow_http": True} if http else {}),
            },
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=PATIENCE_S)},
        )
    except library().exceptions.BaseError as error:
        reason = re.sub(r"""(["`]).*?(\1|$)""", "...", _reason(error))  # which may quote a key, and be cut off within it
        raise UserError("no-access", f"{root}: {reason}: look at {WHO_ASKS[scheme]}") from None


def asked(path: str, request: Callable[[], Result]) -> Result:
    """A request's answer, asked for again where that may help.

    Raises:
        OSError: FileNotFoundError and FileExistsError.
        UserError: when the bucket is not there, access is denied, or all repetitions were in vain.
    """
    exceptions = library().exceptions
    until = time.monotonic() + PATIENCE_S
    for pause in (*PAUSES_S, None):
        try:
            return request()
        except FileNotFoundError as error:
            if NO_BUCKET.search(str(error)):
                raise _no_bucket(path) from None
            raise FileNotFoundError(2, "it is not there", path) from None
        except exceptions.InvalidPathError as error:
            raise UserError("bad-input", f"{path}: a key can't be used as a path ({_reason(error)}): rename it") from None
        except (exceptions.BaseError, CutShort) as error:
            if isinstance(error, exceptions.AlreadyExistsError) and not CONFLICT.search(str(error)):
                raise FileExistsError(17, "there is one already", path) from None
            if pause is None or time.monotonic() + pause > until or not _is_passing(error):
                raise _failed(path, error) from None
        time.sleep(pause)
    raise AssertionError


def _no_bucket(path: str) -> UserError:
    return UserError("missing-input", f"there is no bucket {divided(path)[0]!r}: make it, or give another place")


def _failed(path: str, error: Exception) -> UserError:
    """What a person is told of a request that failed for good."""
    text, status, scheme = str(error), _status(error), path.partition("://")[0]
    if NO_BUCKET.search(text):
        return _no_bucket(path)
    if scheme in VARIABLES and MACHINE in text:
        return UserError("no-access", f"{path}: nothing says who asks: set {WHO_ASKS[scheme]}")
    if scheme in VARIABLES and (status in (401, 403) or (status == 400 and TOKEN in text)):
        return UserError("no-access", f"{path}: access denied ({_reason(error)}): check the credentials' rights")
    if scheme in VARIABLES and BUILDER in text:
        return UserError(
            "place-failed", f"{path}: {_reason(error)}: for an http:// server set {VARIABLES[scheme]}_ALLOW_HTTP=true"
        )
    if scheme not in VARIABLES and 400 <= status < 500 and status not in AGAIN:
        return RefusedError("place-failed", f"{path}: {_reason(error)}")
    return UserError("place-failed", f"{path}: {_reason(error)}; run the same command again to go on")


def _status(error: Exception) -> int:
    """The status of an answer; 0 where none came."""
    found = STATUS.search(str(error))
    return int(found[1]) if found else 0


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone the next time."""
    text, status = str(error), _status(error)
    return status in AGAIN or not (status or MACHINE in text or BUILDER in text)


def _reason(error: Exception) -> str:
    """An error's reason in a line, without what a request was signed with."""
    text = str(error)
    if code := CODE.search(text):
        message = MESSAGE.search(text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    return re.sub(r"\?\S+", "", text.partition("\n")[0])[:200]
