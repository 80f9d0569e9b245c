"""The code inside a worker process of `taskdiv run`. The process loads an experiment once, then executes one run at a time.

The process receives messages through a pipe: a task, "warm up", "stop", or None to end. It sends outcomes, exceptions, "warm",
progress and notes through the same pipe. A thread always reads the pipe, so that the process ends when its parent has ended.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import Any

from taskdiv_assets.commands.stopping import SIGNALS
from taskdiv_assets.commands.workers import Task, execute, load, quiet
from taskdiv_assets.language_model import devices as cards
from taskdiv_assets.orchestration import troubles
from taskdiv_assets.storage import progress
from taskdiv_assets.storage.machine import machine

STOPPED, ORPHANED = 130, 137
_is_busy = False
_is_stopping = False


def serve(handle: int, experiment: str) -> None:
    """Load an experiment, and execute tasks from the pipe `handle` (a file descriptor) until None arrives or loading fails."""
    for number in SIGNALS:  # although SIGINT is blocked: Dagster copies SIGINT's handler to SIGTERM after each run
        signal.signal(number, _stop)
    pipe: Connection[Any, Any] = Connection(handle)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, messages), daemon=True).start()
    try:
        if not _is_prepared(pipe, experiment):
            return
        while (message := messages.get()) is not None:
            _send(pipe, _run(experiment, message) if isinstance(message, Task) else _warm_up())
    except KeyboardInterrupt:  # the signal came outside of `execute`
        os._exit(STOPPED)


def _is_prepared(pipe: Connection[Any, Any], experiment: str) -> bool:
    """Load the experiment. If an error occurs, send the error to the parent process and return False."""
    try:
        if machine().executor != "in_process":  # Dagster stops the processes of steps by SIGINT
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        progress.listen(lambda *tick: _send(pipe, tick), lambda sentence: _send(pipe, sentence))
        quiet()
        load(experiment)
        import torch

        torch.set_num_threads(1)
    except Exception as error:
        _send(pipe, _sent_as(error))
        return False
    return True


def _sent_as(error: Exception) -> Exception:
    sentence = troubles.sentence(error)
    return error if sentence is None else RuntimeError(sentence)


def _read(pipe: Connection[Any, Any], messages: queue.SimpleQueue[Any]) -> None:
    """Put the messages of the pipe in the queue, but call `_end_now` for "stop". End the process if its parent has ended."""
    try:
        while True:
            message = pipe.recv()
            if message == "stop":
                _end_now(messages)
            else:
                messages.put(message)
    except (EOFError, OSError):
        os._exit(ORPHANED)


def _end_now(messages: queue.SimpleQueue[Any]) -> None:
    """Interrupt the running step, and end the process when the step has ended. The process prints nothing any more."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    messages.put(None)
    os.kill(os.getpid(), signal.SIGTERM)


def _stop(*_: object) -> None:
    """If no run is active, end the process at once. Otherwise raise KeyboardInterrupt once, so that Dagster ends the run."""
    global _is_stopping
    if not _is_busy:
        os._exit(STOPPED)
    if not _is_stopping:
        _is_stopping = True
        raise KeyboardInterrupt


def _run(experiment: str, task: Task) -> Any:
    global _is_busy
    _is_busy = True
    try:
        return execute(experiment, task)
    except Exception as error:
        return _sent_as(error)
    finally:
        _is_busy = False
        cards.release()


def _warm_up() -> str:
    """Import the libraries of later steps that take longest to import, while other processes compute the first assets."""
    for name in ("lm_eval", "peft", "trl"):
        importlib.import_module(name)
    return "warm"


def _send(pipe: Connection[Any, Any], message: object) -> None:
    try:
        data = pickle.dumps(message)
        pickle.loads(data)
    except Exception:  # some exceptions cannot be pickled or unpickled
        data = pickle.dumps(RuntimeError(f"{type(message).__name__}: {message}"))
    pipe.send_bytes(data)
