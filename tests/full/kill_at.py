"""Kill this process at a given point of its writes to the store, so that a test does not depend on time.

A point is "METHOD FOLDER N before" or "METHOD FOLDER N after". It is reached before or after the N-th call of this method of
the store with FOLDER as an argument (`*` for any). Examples: "put scores 3 before", "write_table * 1 before".
"""

from __future__ import annotations

import os
import signal
from typing import Any

from taskdiv_assets.storage.store import Store


def kill_at(point: str) -> None:
    """Make this process kill itself with SIGKILL at the point. An empty point changes nothing."""
    if not point:
        return
    method, folder, number, when = point.split()
    original, seen = getattr(Store, method), [0]

    def counting(self: Store, *arguments: Any, **options: Any) -> Any:
        if folder == "*" or folder in arguments:
            seen[0] += 1
        is_here = seen[0] == int(number) and (folder == "*" or folder in arguments)
        if is_here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *arguments, **options)
        if is_here and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(Store, method, counting)
