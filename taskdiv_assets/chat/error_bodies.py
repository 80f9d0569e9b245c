"""A limit on the text of an error reply, which the client library `openai` reads whole before it raises the error.

The library's HTTP client is httpx in its older versions and httpx2 in its newer ones. So the classes are taken from the response.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

ERROR_BYTES_MAX = 64 * 2**10
ERROR_S_MAX = 60.0  # for the whole text, however slowly its pieces come


def limit(response: Any) -> None:
    """Cut the text of an error reply at `ERROR_BYTES_MAX` bytes or after `ERROR_S_MAX` seconds.

    This is a hook of the HTTP client, which calls it with each response before the text is read.
    """
    stream, base = response.stream, import_module(type(response).__module__.partition(".")[0]).SyncByteStream
    if not response.is_error or not isinstance(stream, base):
        return

    def pieces(_: object) -> Iterator[bytes]:
        left_n, until = ERROR_BYTES_MAX, time.monotonic() + ERROR_S_MAX
        for piece in stream:
            yield piece[:left_n]
            left_n -= len(piece)
            if left_n <= 0 or time.monotonic() > until:
                return

    response.stream = type("Cut", (base,), {"__iter__": pieces, "close": lambda _: stream.close()})()
