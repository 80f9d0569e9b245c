"""A separate `$TASKDIV_HOME` with its Dagster home, and the `taskdiv` command for it, in this process or in a new one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from typer.testing import CliRunner

EXPERIMENTS = Path(__file__).parent / "experiments"
MINIATURE = EXPERIMENTS / "miniature.yaml"


class Home:
    """A folder with the results and the Dagster home of one group of tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def variables(self) -> dict[str, str]:
        """Return the environment variables that point to this home."""
        return {
            "TASKDIV_HOME": str(self.folder / "results"),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "OMP_NUM_THREADS": "1",
            "TASKDIV_QUIET": "1",
        }

    def taskdiv(self, *arguments: str, timeout_s: float = 420) -> subprocess.CompletedProcess[str]:
        """Run the command in a new process, and wait for its end."""
        return subprocess.run(
            [sys.executable, "-m", "taskdiv_assets.cli", *arguments],
            env={**os.environ, **self.variables(), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=self.folder,
        )

    def say(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command in this process, which saves the seconds of imports in a new interpreter."""
        from taskdiv_assets import cli
        from taskdiv_assets.commands import consoles

        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables().items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            for console in (consoles.console, consoles.out):
                patch.setattr(console, "width", 200)
            result = CliRunner().invoke(cli.app, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)

    def start(self, *arguments: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start the command in its own process group, so that the whole group can be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "taskdiv_assets.cli", *arguments],
            env={**os.environ, **self.variables()},
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            start_new_session=True,
            # Tests that run in the background of a shell inherit that Ctrl-C is ignored; a user's terminal does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def write_experiment(self, name: str, *replacements: tuple[str, str], source: Path = MINIATURE) -> Path:
        """Write a variant of an experiment file under another name, and return its path."""
        text = source.read_text().replace(f"name: {source.stem}", f"name: {name}", 1)
        for old, new in replacements:
            assert old in text, f"{old!r} is not in {source}"
            text = text.replace(old, new)
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return path

    def files(self) -> dict[str, bytes]:
        """Return the content of every stored file, by its path below the results."""
        root = self.folder / "results"
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
