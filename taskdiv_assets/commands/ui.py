"""`taskdiv ui`: start Dagster's UI, and the server of the reports to which the UI links."""

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
from taskdiv_assets.orchestration.instance import make_home
from taskdiv_assets.storage.machine import machine

WORKSPACE = """\
load_from:
  - python_module:
      module_name: taskdiv_assets.definitions
      location_name: taskdiv
"""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
END_S = 20.0  # time that Dagster's processes have to end


def ui(port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the page, on this machine.")] = 3000) -> None:
    """Start Dagster's UI, which also shows the results of `taskdiv run`. Ctrl-C ends the UI.

    Reports are served at the port $TASKDIV_REPORT_PORT (default 3939) while the UI runs, if this port is free.
    Only this machine can reach them.
    """
    with plain_errors(), ExitStack() as stack:
        folder = make_home()
        workspace = workspace_in(folder)
        report_port = machine().report_port
        try:
            stack.enter_context(report_server.serve(report_port))
        except OSError as error:
            console.print(
                f"[yellow]note:[/] port {report_port} is in use ({error.strerror}), so links to reports do not open from "
                f"here: another `taskdiv ui` may be running; else set $TASKDIV_REPORT_PORT to a free port"
            )
        console.print(f"Dagster keeps its records in {folder}", markup=False, soft_wrap=True)
        console.print(f"open http://localhost:{port} in about 15 s; Ctrl-C ends it", soft_wrap=True)
        code = run_until_stopped([sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "--port", str(port)])
    raise typer.Exit(code)


def workspace_in(folder: Path) -> Path:
    """Return the path of workspace.yaml in Dagster's home. Write the file if it does not exist."""
    path = folder / "workspace.yaml"
    if not path.exists():
        path.write_text(WORKSPACE, encoding="utf-8")
    return path


def run_until_stopped(command: list[str]) -> int:
    """Run a command until it ends or a signal stops it. Return its exit code, or 0 after a signal.

    The signals are Ctrl-C, SIGTERM and SIGHUP. The command has its own process group, so it gets signals only from this function:
    SIGINT after the first, SIGTERM after a later one. If it does not end within 20 s, its whole group is killed.
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
        with suppress(ProcessLookupError):  # the rest of the group, or all of it
            os.killpg(process.pid, signal.SIGKILL if process.poll() is None else signal.SIGTERM)
        process.wait()
    return 0 if asked else process.returncode
