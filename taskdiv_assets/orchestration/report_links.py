"""Addresses under which `taskdiv ui` serves reports. Dagster stores the address with each report, so addresses must not change.

An address contains the mark of the results folder (`$TASKDIV_HOME`), a hash. A server of another folder rejects the address.
"""

import hashlib

from taskdiv_assets.assets.experiments_index import FOLDER
from taskdiv_assets.storage.machine import machine
from taskdiv_assets.storage.store import home

HOST = "127.0.0.1"
MARK_LENGTH = 12


def home_mark(url: str | None = None) -> str:
    """Return the mark of a results folder (default `$TASKDIV_HOME`). It is a hash, so it does not reveal the folder's path."""
    return hashlib.sha256((home() if url is None else url).encode()).hexdigest()[:MARK_LENGTH]


def address(experiment: str) -> str:
    return f"http://{HOST}:{machine().report_port}/{home_mark()}/{experiment}/index.html"


def index_address() -> str:
    """Return the address of the page of all experiments. Its relative links lead to the reports, as they do on a disk."""
    return f"http://{HOST}:{machine().report_port}/{home_mark()}/{FOLDER}/report/index.html"
