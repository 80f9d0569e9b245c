"""An interrupt ends a command without a traceback, even if a library logs the interrupt."""

import logging
import os
import signal

import pytest

from taskdiv_assets.commands.stopping import ended_by_sigterm


def test_an_interrupt_that_a_library_logs_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("tests.a_library_without_handlers")
    log.propagate = False  # as without pytest's own handlers: only the fallback handler prints
    with pytest.raises(KeyboardInterrupt), ended_by_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            log.exception("closing a connection")
            raise
    assert capfd.readouterr().err == ""
    with ended_by_sigterm():
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("closing a connection")
    assert "ValueError: broken" in capfd.readouterr().err
