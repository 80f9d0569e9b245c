"""Run programs of the tests as processes that are forked from one server, which has imported the heavy packages before.

A new interpreter would need about ten processor seconds for these imports. Otherwise such a process is like any other: it has its
own environment, folder and output, and a test can kill it.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.graph",
        "great_expectations",
        "transformers.models.llama.modeling_llama",
        "peft",
        "trl.trainer.sft_trainer",
        "lm_eval.evaluator",
    ]
)


class Forked:
    """A running program. `stdout` can be read line by line; the errors go to a file, so that no pipe can be full."""

    def __init__(self, program: str, *arguments: str, variables: Mapping[str, str], folder: Path) -> None:
        """Start a program, the name of a module or the path of a `.py` file, with these environment variables in a folder."""
        descriptor, name = tempfile.mkstemp(suffix=".stderr")
        os.close(descriptor)
        self._errors = Path(name)
        reader, writer = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(
            target=_run, args=(program, arguments, dict(variables), str(folder), writer, name), daemon=True
        )
        self._process.start()
        writer.close()
        self.stdout = io.TextIOWrapper(io.FileIO(os.dup(reader.fileno())))
        reader.close()
        self.pid = int(self._process.pid or 0)

    def wait(self, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        """Return exit code, the rest of the output, and errors after the end of the program."""
        out = self.stdout.read()
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"the program did not end within {timeout_s:g} s"
        self.stdout.close()
        errors = self._errors.read_text()
        self._errors.unlink()
        return subprocess.CompletedProcess((), self._process.exitcode, out, errors)


def _run(
    program: str, arguments: tuple[str, ...], variables: dict[str, str], folder: str, writer: Connection, errors: str
) -> None:
    """Become the program: take over its environment, folder, output and arguments, and execute it."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    tempfile.tempdir = None  # the server's folder for temporary files was looked up in another environment
    os.dup2(writer.fileno(), 1)
    writer.close()
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), line_buffering=True) for number in (1, 2)
    )
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
