"""Kill this process at a named point of its writes to the store, so that a test needs no random moment.

A point is "METHOD FOLDER N before" or "METHOD FOLDER N after": the N-th call of that method of the store whose first argument
is FOLDER (`*` for any), before its work or after it. Examples: "put scores 3 before", "write_table * 1 before".
"""

from __future__ import annotations

import os
import signal
from typing import Any

from taskdiv_assets.storage.store import Store


def kill_at(point: str) -> None:
    """Arrange that this process kills itself with SIGKILL at the point; an empty point changes nothing."""
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
