"""Failures that may pass by themselves: a network, a hub or an object store that did not answer this time.

In: an exception. Out: whether another try is worth its wait. Libraries wrap what happened, and each has classes of its own, so
the whole chain of causes is looked at, by what a class descends from, by its name, and by the HTTP status that it carries.
"""

from __future__ import annotations

from collections.abc import Iterator

# Request timeout, too early, too many requests, and the server's own troubles: what servers themselves ask to be tried again.
STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Classes that stand for a lost or refused connection, by the package that they are in.
NAMES = {
    "requests": frozenset({"ConnectionError", "Timeout", "ChunkedEncodingError"}),
    "httpx": frozenset({"TransportError"}),
    "httpx2": frozenset({"TransportError"}),  # what huggingface_hub 2 uses
    "aiohttp": frozenset({"ClientConnectionError", "ClientPayloadError"}),
    "botocore": frozenset({"HTTPClientError"}),
    "urllib3": frozenset({"ProtocolError", "NewConnectionError", "MaxRetryError", "ReadTimeoutError"}),
}
# Descend from a class above, and stand for a decision of the user's.
DECIDED = frozenset({"OfflineModeIsEnabled"})


def is_transient(error: BaseException) -> bool:
    """True if what failed may well work in a minute: no connection, a time-out, a server that was busy or broken.

    >>> is_transient(TimeoutError()), is_transient(ValueError("row 7 has no prompt"))
    (True, False)
    """
    return any(_is_one(cause) for cause in chain(error)) and not any(
        type(cause).__name__ in DECIDED for cause in chain(error)
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and what it was raised from or while handling."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_one(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError) or _status(error) in STATUSES:
        return True
    return any(
        base.__name__ in NAMES.get(base.__module__.partition(".")[0], frozenset()) for base in type(error).__mro__
    )


def _status(error: BaseException) -> int | None:
    """The HTTP status that came back: as botocore, requests, httpx and the hub, or aiohttp carry it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", getattr(error, "status", None))
    return status if isinstance(status, int) else None
