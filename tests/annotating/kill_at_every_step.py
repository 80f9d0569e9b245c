"""Run a `taskdiv` command many times. Kill it before its first change on the disk, then before its second change, and so on.

    python kill_at_every_step.py HOME WORK ARGUMENT…

Each run starts with a copy of HOME in WORK/<step>. In the arguments, `$OUT` is a folder in this copy. The state after the kill
is copied to WORK/<step>-killed. Then the command is run again without a kill. The process forks after its imports, so that a
step takes a tenth of a second. The kill is a SIGKILL in an audit hook of the interpreter. An import ends after it stored the
answers: the tables that are computed from them afterwards are results of a run like any other.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

# What the command imports when it needs it is imported before the fork: it takes longest.
import pandas as pd
import pyarrow.parquet as pq

from taskdiv_assets import cli
from taskdiv_assets.annotating import exporting
from taskdiv_assets.commands import annotation_commands

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate")
assert exporting and pd and pq


def is_change(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """Return True before a change below the folder, and before a sync of its folder, when the previous write is complete."""
    if event not in CHANGES or not isinstance(arguments[0], str) or not arguments[0].startswith(folder):
        return False
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or Path(arguments[0]).is_dir()


def run(folder: Path, arguments: list[str], kill_at: int | None) -> int:
    """Run the command in a child process, and return the wait status of the child."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.environ["TASKDIV_HOME"] = str(folder / "results")
    (folder / "out").mkdir(exist_ok=True)
    os.chdir(folder)
    seen = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if kill_at is not None and is_change(event, arguments, str(folder)):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    annotation_commands._materialise = lambda experiment: None
    sys.addaudithook(audit)
    sys.argv = ["taskdiv", *arguments]
    cli.main()
    os._exit(1)  # main ends the process itself


def main() -> None:
    """Kill the command at each step in turn until one run ends without a kill."""
    home, work, *given = sys.argv[1:]
    for step in range(1, 200):
        folder = Path(work).resolve() / str(step)
        shutil.copytree(Path(home) / "results", folder / "results")
        status = run(folder, given, step)
        shutil.copytree(folder, folder.with_name(f"{step}-killed"))
        if os.WIFEXITED(status):  # it came to its end before there was a change of this number
            sys.exit(os.WEXITSTATUS(status))
        if os.WEXITSTATUS(run(folder, given, None)):
            sys.exit(f"the run after the kill at step {step} failed")
    sys.exit("the command never came to its end")


if __name__ == "__main__":
    main()
