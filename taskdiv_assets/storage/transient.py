"""Detection of transient failures: errors of a network, a model hub or an object store after which a retry may succeed.

Each library has its own error classes and wraps the errors of other libraries. So all causes of an exception are checked by
base class, class name, errno and HTTP status.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

# Statuses after which a retry may succeed: request timeout, too early, too many requests, server errors.
STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ECONNRESET})
_HTTPX = frozenset({"NetworkError", "TimeoutException", "RemoteProtocolError"})
# Classes of a lost or refused connection, by package.
NAMES = {
    "requests": frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError"}),
    "httpx": _HTTPX,
    "httpx2": _HTTPX,  # used by huggingface_hub 2
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "botocore": frozenset({"ConnectionError", "HTTPClientError"}),
    "urllib3": frozenset({"ProtocolError", "NewConnectionError", "MaxRetryError", "ReadTimeoutError"}),
    "http": frozenset({"IncompleteRead"}),
}
OFFLINE = "OfflineModeIsEnabled"  # error of huggingface_hub; `datasets` names it in the text of a ConnectionError
# Error classes after which a retry cannot help: the user chose offline mode, an address or certificate is wrong, or a repository
# or revision does not exist or may not be read by this user.
LASTING = frozenset(
    {OFFLINE, "SSLError", "ProxyError", "BrokenPipeError", "ClientConnectorCertificateError"}
    | {"RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError", "DatasetNotFoundError"}
)


def is_transient(error: BaseException) -> bool:
    """Return True if a retry may succeed within a minute, as after a lost connection, a timeout, or a busy server.

    >>> is_transient(TimeoutError()), is_transient(ValueError("row 7 has no prompt"))
    (True, False)
    """
    causes = list(chain(error))
    return any(_may_pass(cause) for cause in causes) and not any(_lasts(cause) for cause in causes)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of this cause, and so on.

    The cause is `__cause__`. If there is none, the cause is `__context__`, except after `raise … from None`.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def answered(error: BaseException) -> int | None:
    """Return the HTTP status in an exception or in one of its causes; None if no exception has a status."""
    return next((status for cause in chain(error) if (status := _status(cause)) is not None), None)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or _status(error) in STATUSES:
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, OSError) and error.errno in ERRNOS:
        return True
    return any(base.__name__ in NAMES.get(base.__module__.partition(".")[0], ()) for base in type(error).__mro__)


def _lasts(error: BaseException) -> bool:
    is_offline = isinstance(error, ConnectionError) and OFFLINE in str(error)
    is_untrusted = isinstance(error, ssl.SSLCertVerificationError)
    return is_offline or is_untrusted or any(base.__name__ in LASTING for base in type(error).__mro__)


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None
