"""Transient failures: a network, a hub or an object store that did not answer this time.

Libraries wrap errors, and each has its own classes. So the whole chain of causes is checked: base classes, class names, and the
HTTP status that an error carries.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

# Request timeout, too early, too many requests, and server errors: statuses for which servers themselves ask for a retry.
STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ECONNRESET})
_HTTPX = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError"})
# Classes of a lost or refused connection, by package.
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
# Subclasses and causes of these that a retry does not change: the user's choice, an address, a certificate, a repository or a
# revision that does not exist, or that this user may not read.
LASTING = frozenset(
    {OFFLINE, "SSLError", "ProxyError", "BrokenPipeError", "ClientConnectorCertificateError"}
    | {"RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError", "DatasetNotFoundError"}
)


def is_transient(error: BaseException) -> bool:
    """Return True if a retry may succeed within a minute: no connection, a time-out, a server that was busy or broken.

    >>> is_transient(TimeoutError()), is_transient(ValueError("row 7 has no prompt"))
    (True, False)
    """
    causes = list(chain(error))
    return any(_may_pass(cause) for cause in causes) and not any(_lasts(cause) for cause in causes)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes; the context too, unless `from None` suppresses it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def answered(error: BaseException) -> int | None:
    """Return the HTTP status of a server's answer, whatever library wrapped it; None if there was no answer."""
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
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None
