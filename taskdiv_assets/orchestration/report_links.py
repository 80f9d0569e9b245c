"""Addresses under which `taskdiv ui` serves reports. Dagster stores them with each report, so they must not change.

An address contains a mark of the home that holds the report. A server of another home refuses it, instead of showing its own
report of the same name.
"""

from __future__ import annotations

import hashlib

from taskdiv_assets.settings import machine
from taskdiv_assets.storage.store import home

HOST = "127.0.0.1"
MARK_LENGTH = 12


def home_mark(url: str | None = None) -> str:
    """Return the part of an address that identifies a home: a hash, so that it contains no path of the machine."""
    return hashlib.sha256((home() if url is None else url).encode()).hexdigest()[:MARK_LENGTH]


def address(experiment: str) -> str:
    """Return the address of an experiment's report."""
    return f"http://{HOST}:{machine().report_port}/{home_mark()}/{experiment}/index.html"
