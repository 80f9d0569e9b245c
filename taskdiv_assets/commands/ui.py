"""`taskdiv ui`: Dagster's UI over the results, and beside it the server that its links to reports lead to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from taskdiv_assets.commands import report_server
from taskdiv_assets.commands.consoles import console, plain_errors
from taskdiv_assets.settings import machine

WORKSPACE = """\
load_from:
  - python_module:
      module_name: taskdiv_assets.definitions
      location_name: taskdiv
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal was closed
END_S = 20.0  # that Dagster's processes have to end


def ui(port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the page, on this machine.")] = 3000) -> None:
    """Open Dagster's UI over the same results; Ctrl-C ends it.

    Reports that are linked from it are served at $TASKDIV_REPORT_PORT (3939) while it runs, to this machine alone.
    """
    from taskdiv_assets.orchestration.instance import make_home

    with plain_errors(), ExitStack() as stack:
        folder = make_home()
        workspace = workspace_in(folder)
        report_port = machine().report_port
        try:
            stack.enter_context(report_server.serve(report_port))
        except OSError as error:
            console.print(
                f"[yellow]note:[/] port {report_port} is taken ({error.strerror}), so links to reports do not open from "
                f"here: another `taskdiv ui` may be running; else set $TASKDIV_REPORT_PORT to a free port"
            )
        console.print(f"Dagster keeps its records in {folder}", markup=False, soft_wrap=True)
        console.print(f"open http://localhost:{port} in some 15 s; Ctrl-C ends it", soft_wrap=True)
        code = run_until_stopped([sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "--port", str(port)])
    raise typer.Exit(code)


def workspace_in(folder: Path) -> Path:
    """Return the file that names what Dagster loads, in its home; it is written if it is not there."""
    path = folder / "workspace.yaml"
    if not path.exists():
        path.write_text(WORKSPACE, encoding="utf-8")
    return path


def run_until_stopped(command: list[str]) -> int:
    """Run a command that Ctrl-C, SIGTERM or SIGHUP ends, together with the processes that it started; return its exit code.

    It has a process group of its own, so that it gets the signal once, from here, and is ended whole if it does not end.
    """
    process = subprocess.Popen(command, start_new_session=True, env=os.environ)
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        process.send_signal(signal.SIGINT if len(asked) == 1 else signal.SIGTERM)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        while process.poll() is None and not asked:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(ProcessLookupError):  # what is left of it, or all of it
            os.killpg(process.pid, signal.SIGKILL if process.poll() is None else signal.SIGTERM)
        process.wait()
    return 0 if asked else process.returncode
