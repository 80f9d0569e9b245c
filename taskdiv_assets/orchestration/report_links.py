"""Addresses under which `taskdiv ui` serves the reports: stored with each report in Dagster, so they must not change.

An address names the home that its report lies in. A server of another home says so, and does not show its own report of that
name.
"""

from __future__ import annotations

import hashlib

from taskdiv_assets.settings import whole_number
from taskdiv_assets.storage.store import home

HOST = "127.0.0.1"
PORT_VARIABLE = "TASKDIV_REPORT_PORT"
DEFAULT_PORT = 3939
MARK_LENGTH = 12


def port() -> int:
    """Return the port of the report server: `$TASKDIV_REPORT_PORT`, else 3939.

    Raises:
        ValueError: the variable is no whole number from 1 to 65535.
    """
    found = whole_number(PORT_VARIABLE, DEFAULT_PORT)
    if not 1 <= found <= 65_535:
        raise ValueError(f"${PORT_VARIABLE} is {found}; expected a port from 1 to 65535")
    return found


def home_mark(url: str | None = None) -> str:
    """Return the part of an address that names a home: a hash, so that no path of the machine is in it."""
    return hashlib.sha256((home() if url is None else url).encode()).hexdigest()[:MARK_LENGTH]


def address(experiment: str) -> str:
    """Return the address of an experiment's report."""
    return f"http://{HOST}:{port()}/{home_mark()}/{experiment}/index.html"
