"""Handling of Ctrl-C and SIGTERM: end processes within a limited time, and protect code that a signal must not interrupt."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end(processes: Sequence[subprocess.Popen[bytes]], patience_s: float) -> None:
    """Wait up to `patience_s` seconds for processes to end. Then kill the processes that still run, and all descendants.

    The descendants are those that running processes had before the wait.
    """
    running = [process for process in processes if process.poll() is None]
    family = [other for process in running for other in _descendants(process.pid)]
    wait_for(running, patience_s)
    for process in running:
        process.kill()
    for other in family:
        with suppress(psutil.NoSuchProcess):
            other.kill()
    for process in processes:
        process.wait()


def wait_for(processes: Sequence[subprocess.Popen[bytes]], timeout_s: float) -> None:
    """Wait until all processes have ended, but at most `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0))


@contextmanager
def undisturbed() -> Iterator[None]:
    """In the main thread, delay Ctrl-C and SIGTERM to the block's end. Processes that the block starts have SIGINT blocked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: came.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """In the main thread, handle SIGTERM like Ctrl-C during the block. Service managers and batch systems send SIGTERM.

    If a KeyboardInterrupt comes while SQLAlchemy closes a connection, SQLAlchemy logs it as an error. During the block,
    Python's fallback log handler skips such records.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, printer = signal.signal(signal.SIGTERM, _interrupt), logging.lastResort
    if printer is not None:
        printer.addFilter(_is_no_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if printer is not None:
            printer.removeFilter(_is_no_interrupt)


def _is_no_interrupt(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], KeyboardInterrupt))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found
