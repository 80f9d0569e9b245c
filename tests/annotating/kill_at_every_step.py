"""Run one `taskdiv` command again and again, killed just before the first change it makes on the disk, the second, … .

    python kill_at_every_step.py HOME WORK ARGUMENT…

Each run starts from a copy of HOME in WORK/<step>, with `$OUT` in the arguments standing for a folder inside it. What the
kill left is copied to WORK/<step>-killed, and the command is run once more, to its end. The process forks after its imports,
so that a step takes a tenth of a second; the kill is a real SIGKILL, at the interpreter's own audit events.
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

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate")
assert exporting and pd and pq


def is_change(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """True before something below the folder changes, and when its folder is synced: the write before is done then."""
    if event not in CHANGES or not isinstance(arguments[0], str) or not arguments[0].startswith(folder):
        return False
    return event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or Path(arguments[0]).is_dir()


def run(folder: Path, arguments: list[str], kill_at: int | None) -> int:
    """Run the command in a child; its wait status."""
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

    sys.addaudithook(audit)
    sys.argv = ["taskdiv", *arguments]
    cli.main()
    os._exit(1)  # main ends the process itself


def main() -> None:
    """Kill at each step in turn until the command comes to its end."""
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
