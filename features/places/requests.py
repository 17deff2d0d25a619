"""Requests to object stores: who is asked, and what is asked again. obstore speaks to all of them.

Who asks is known by the environment variables that each cloud's own tools read, or by what the machine is; none of it is ever
part of a path. What may be asked again is, for a while: answers of 408, 429 and 5xx, lost connections, cut bodies, silence.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from headstart.features.errors import UserError

SCHEMES = ("s3", "gs", "az")
REQUESTS_AT_ONCE = 16  # to a server, which answers each in some hundredths of a second
PATIENCE_S = 120.0  # for one request, with all its repetitions
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 12.8, 12.8)  # between them
CONNECT_S, SILENCE_S = 5.0, 15.0  # until a connection stands; without a byte of an answer
UPLOAD_BYTES_PER_S = 1 << 20  # slower than that is taken for a hanging request
AGAIN = {408, 425, 429, *range(500, 600)}  # answers after which a request is repeated
STATUS, CODE, MESSAGE = re.compile(r"status code: (\d{3})"), re.compile(r"<Code>(.*?)</Code>"), re.compile(r"<Message>(.*?)</")


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
    """Speaks to a bucket; one that writes waits longer for an answer."""
    library()
    from obstore.store import from_url

    http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
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
        except exceptions.AlreadyExistsError:
            raise FileExistsError(17, "there is one already", path) from None
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise _no_bucket(path) from None
            raise FileNotFoundError(2, "it is not there", path) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise UserError("no-access", f"{path}: access denied ({_reason(error)}): check the credentials' rights") from None
        except exceptions.InvalidPathError as error:
            raise UserError("bad-input", f"{path}: a key can't be used as a path ({_reason(error)}): rename it") from None
        except (exceptions.BaseError, CutShort) as error:
            if "NoSuchBucket" in str(error):
                raise _no_bucket(path) from None
            if pause is None or time.monotonic() + pause > until or not _is_passing(error):
                raise UserError("place-failed", f"{path}: {_reason(error)}; run the same command again to go on") from None
        time.sleep(pause)
    raise AssertionError


def _no_bucket(path: str) -> UserError:
    return UserError("missing-input", f"there is no bucket {divided(path)[0]!r}: make it, or give another place")


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone the next time."""
    status = STATUS.search(str(error))
    return not status or int(status[1]) in AGAIN


def _reason(error: Exception) -> str:
    """An error's reason in a line, without what a request was signed with."""
    text = str(error)
    if code := CODE.search(text):
        message = MESSAGE.search(text)
        return f"{code[1]}: {message[1]}" if message else code[1]
    return re.sub(r"\?\S+", "", text.partition("\n")[0])[:200]
