"""`taskdiv ui`: Dagster's UI over the results, and the server of the reports that it links to."""

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
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
END_S = 20.0  # for Dagster's processes to end


def ui(port: Annotated[int, typer.Option(min=1, max=65_535, help="Of the page, on this machine.")] = 3000) -> None:
    """Open Dagster's UI over the same results; Ctrl-C ends it.

    While it runs, the reports that it links to are served at $TASKDIV_REPORT_PORT (3939), to this machine only.
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
                f"[yellow]note:[/] port {report_port} is in use ({error.strerror}), so links to reports do not open from "
                f"here: another `taskdiv ui` may be running; else set $TASKDIV_REPORT_PORT to a free port"
            )
        console.print(f"Dagster keeps its records in {folder}", markup=False, soft_wrap=True)
        console.print(f"open http://localhost:{port} in about 15 s; Ctrl-C ends it", soft_wrap=True)
        code = run_until_stopped([sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "--port", str(port)])
    raise typer.Exit(code)


def workspace_in(folder: Path) -> Path:
    """Return the file in Dagster's home that names what Dagster loads; write it if it does not exist."""
    path = folder / "workspace.yaml"
    if not path.exists():
        path.write_text(WORKSPACE, encoding="utf-8")
    return path


def run_until_stopped(command: list[str]) -> int:
    """Run a command until it ends, or Ctrl-C, SIGTERM or SIGHUP ends it with all of its processes; return its exit code.

    It has its own process group, so that it gets the signal once, from here, and is killed as a whole if it does not end.
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
