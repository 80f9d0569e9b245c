"""Failures that may pass by themselves: a network, a hub or an object store that did not answer this time.

In: an exception. Out: whether another try is worth its wait. Libraries wrap what happened, and each has classes of its own, so
the whole chain of causes is looked at, by what a class descends from, by its name, and by the HTTP status that it carries.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

# Request timeout, too early, too many requests, and the server's own troubles: what servers themselves ask to be tried again.
STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ECONNRESET})
_HTTPX = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError"})
# Classes that stand for a lost or refused connection, by the package that they are in.
NAMES = {
    "requests": frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError"}),
    "httpx": _HTTPX,
    "httpx2": _HTTPX,  # what huggingface_hub 2 uses
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "botocore": frozenset({"ConnectionError", "HTTPClientError"}),
    "urllib3": frozenset({"ProtocolError", "NewConnectionError", "MaxRetryError", "ReadTimeoutError"}),
    "http": frozenset({"IncompleteRead"}),
}
OFFLINE = (
    "OfflineModeIsEnabled"  # of huggingface_hub; `datasets` keeps no cause, and names it in its own ConnectionError
)
# Some of those, and what they are raised from, that will be the same in a minute: the user's choice, an address, a certificate,
# a repository or a revision that is not there, or not for this user.
LASTING = frozenset(
    {OFFLINE, "SSLError", "ProxyError", "BrokenPipeError", "ClientConnectorCertificateError"}
    | {"RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError", "DatasetNotFoundError"}
)


def is_transient(error: BaseException) -> bool:
    """True if what failed may well work in a minute: no connection, a time-out, a server that was busy or broken.

    >>> is_transient(TimeoutError()), is_transient(ValueError("row 7 has no prompt"))
    (True, False)
    """
    causes = list(chain(error))
    return any(_may_pass(cause) for cause in causes) and not any(_lasts(cause) for cause in causes)


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from; or while handling what, unless `from None` says that it does not count."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def answered(error: BaseException) -> int | None:
    """The HTTP status that came back from a server, whatever library wrapped it; None if none did."""
    return next((status for cause in chain(error) if (status := _status(cause)) is not None), None)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or _status(error) in STATUSES:
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, OSError) and error.errno in ERRNOS:
        return True
    return any(
        base.__name__ in NAMES.get(base.__module__.partition(".")[0], frozenset()) for base in type(error).__mro__
    )


def _lasts(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ConnectionError) and OFFLINE in str(error)
    ):
        return True
    return any(base.__name__ in LASTING for base in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    """The HTTP status that came back: as botocore, requests, httpx and the hub, or aiohttp carry it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None
