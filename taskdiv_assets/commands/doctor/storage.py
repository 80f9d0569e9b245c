"""Checks of `$TASKDIV_HOME`, a folder or an fsspec URL: files can be stored there, and the disk of a folder has enough space.

The checks remove their probe files if the storage permits it. They do not create a missing folder.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec

from taskdiv_assets.commands.doctor.findings import GIB, PROBE, Finding, reason, within
from taskdiv_assets.storage.room import existing
from taskdiv_assets.storage.store import Store

STORE_TIMEOUT_S = 10.0  # without a server, s3fs retries for longer than this
LEAST_FREE_BYTES = GIB // 4  # demo_quick and its Dagster records take 18 MB
ROOMY_BYTES = 30 * GIB  # 7B weights in 16 bits take 13.5 GB in the hub's cache, and may be copied to the store


def local_storage(url: str) -> Iterator[Finding]:
    """Check that a local `$TASKDIV_HOME` supports files and hard links, and has enough space. The probe files are removed."""
    try:
        folder = Path(fsspec.core.url_to_fs(url)[1])
        with tempfile.TemporaryDirectory(dir=existing(folder), prefix=PROBE) as scratch:
            yield probe(Store("probe", scratch), str(folder))
            yield free_space(shutil.disk_usage(scratch).free)
    except OSError as error:
        found = f"{url}: nothing can be written there: {reason(error)}"
        yield Finding("broken", "storage", found, "set $TASKDIV_HOME to a folder that you can write to")


def free_space(free_bytes: int) -> Finding:
    """Check that there is enough disk space for results."""
    found = f"{free_bytes / GIB:,.1f} GiB are free"
    if free_bytes < LEAST_FREE_BYTES:
        found += f", less than the {LEAST_FREE_BYTES / GIB} that the demo may take"
        return Finding("broken", "disk", found, "free some, or set $TASKDIV_HOME to another disk")
    if free_bytes < ROOMY_BYTES:
        advice = "`taskdiv plan EXPERIMENT` says what its adapters take"
        return Finding("look", "disk", f"{found}: enough for the demo, but 7B weights and a copy take 25", advice)
    return Finding("well", "disk", found)


def remote_storage(url: str, *, is_offline: bool = False, timeout_s: float = STORE_TIMEOUT_S) -> Iterator[Finding]:
    """Check a `$TASKDIV_HOME` that is an fsspec URL.

    First, the package for its protocol (for `s3`: s3fs) has to be installed. Then `probe` has to succeed within `timeout_s`;
    if `is_offline` is True, `probe` is skipped.
    """
    try:
        fsspec.get_filesystem_class(url.partition("://")[0])
    except (ValueError, ImportError) as error:
        advice = "install that protocol's package (s3: `pip install 'taskdiv-assets[s3]'`), or correct $TASKDIV_HOME"
        yield Finding("broken", "storage", f"{url} cannot be used: {reason(error)}", advice)
        return
    if is_offline:
        yield Finding("look", "storage", f"{url} and the experiments in it were not checked", "leave out --offline")
        return
    try:
        yield within(timeout_s, lambda: probe(Store(f"{PROBE}{uuid.uuid4().hex}", url), url))
    except TimeoutError:
        advice = "check the network and the endpoint's address"
        yield Finding("broken", "storage", f"{url} did not answer within {timeout_s:g} s", advice)


def probe(store: Store, place: str) -> Finding:
    """Write, read and remove a small file. Then write another file twice with `put_new`, which must refuse the second write."""
    data, doing = uuid.uuid4().hex.encode(), "written"
    advice = "check the address, your credentials, and that you may write, read and remove there"
    try:
        store.put(data, "file")
        doing = "read"
        is_kept = store.get("file") == data
        doing = "removed"
        store.remove("file")
        doing = "put only where there is none" + (" (a hard link)" if store.is_local else "")
        advice = f"use a {'file system with hard links' if store.is_local else 'store with conditional writes'}"
        is_new, is_again = store.put_new(data, "new"), store.put_new(data[::-1], "new")
        store.remove("new")
    except Exception as error:  # the protocol's library may raise anything
        return Finding("broken", "storage", f"{place}: no file can be {doing}: {reason(error)}", advice)
    if not is_kept or not is_new:
        return Finding("broken", "storage", f"{place} does not give back what was written", "use another store")
    if is_again:
        found = f"{place} overwrites a file that should be written only if it is new: two workers could hold one lock"
        return Finding("broken", "storage", found, advice)
    return Finding("well", "storage", f"{place}: files can be put, read and removed, and of two writers one wins")
