"""A handler of Ctrl-C that ends `taskdiv` without a traceback during the imports. `cli` imports this module first."""

import os
import signal
import sys
from pathlib import Path

STOPPED = 130
IS_COMMAND = Path(sys.argv[0] if sys.argv else "").name in ("taskdiv", "cli.py")


def _end(*_: object) -> None:
    os.write(2, b"\nstopped; nothing was started\n")
    os._exit(STOPPED)


def is_over() -> None:
    """If `_end` handles Ctrl-C, replace it by Python's handler, which raises KeyboardInterrupt. The commands catch it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Background jobs of a shell must still ignore Ctrl-C. A program that imports `cli` keeps its own handler.
if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
