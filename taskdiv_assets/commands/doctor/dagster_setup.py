"""Checks of Dagster's setup: its home folder, settings, workspace, pools and threads.

The checks write only a probe database in a temporary folder, which they remove at once. They do not create Dagster's home.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psutil

from data_contracts import plain_yaml
from taskdiv_assets.commands.doctor.findings import PROBE, Finding, reason
from taskdiv_assets.storage.room import existing

NETWORK_FILE_SYSTEM = re.compile(r"nfs|cifs|smb|9p|ceph|lustre|gpfs|beegfs|glusterfs|fuse\.(sshfs|s3fs|gcsfuse|rclone)")


def threads(omp_num_threads: str, cores_n: int) -> Finding:
    """Check that $OMP_NUM_THREADS is 1. On two cores, two processes were 8 to 12 times slower with two threads than with one."""
    if omp_num_threads == "1":
        return Finding("well", "threads", "OMP_NUM_THREADS is 1")
    found = f"OMP_NUM_THREADS {f'is {omp_num_threads}' if omp_num_threads else 'is not set'}"
    found += f": runs that Dagster's UI starts at the same time compete for {cores_n} core(s)"
    return Finding("look", "threads", found, "export OMP_NUM_THREADS=1 before `dagster dev`, as `make ui` does")


def dagster_home(folder: Path, variable: str, settings: str) -> Iterator[Finding]:
    """Check that Dagster can store its records in a folder, and that the folder's dagster.yaml is complete.

    `variable` is the value of $DAGSTER_HOME, or "" if it is not set. `settings` is the text of the project's own dagster.yaml.
    """
    what, advice = "Dagster's home", "set $DAGSTER_HOME to a folder of this machine's own disk that you can write to"
    if "://" in variable:
        yield Finding("broken", what, f"DAGSTER_HOME is {variable}, but must be a local folder", advice)
        return
    if variable and not Path(variable).is_absolute():
        found = f"DAGSTER_HOME={variable} is not absolute: Dagster refuses it"
        yield Finding("look", what, found, f"set it to {folder}")
    try:
        with (
            tempfile.TemporaryDirectory(dir=existing(folder), prefix=PROBE) as scratch,
            closing(sqlite3.connect(Path(scratch) / "probe.db", timeout=1)) as connection,
        ):
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("CREATE TABLE probe (x)")
    except (OSError, sqlite3.Error) as error:
        yield Finding("broken", what, f"{folder}: sqlite cannot write there: {reason(error)}", advice)
        return
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    kind = next((mounts[path] for path in (folder, *folder.parents) if path in mounts), "unknown")
    if mode != "wal" or NETWORK_FILE_SYSTEM.match(kind):
        yield Finding("look", what, f"{folder}: sqlite's locks may not hold on its file system ({kind})", advice)
    else:
        yield Finding("well", what, f"{folder}{'' if variable else ' (the default)'}: sqlite can write there")
    yield dagster_yaml(folder / "dagster.yaml", settings)


def dagster_yaml(path: Path, settings: str) -> Finding:
    """Check that a dagster.yaml has all settings of `settings`, the text of the project's own file. The values may differ.

    Return a `well` finding if the folder of `path` is missing, because the next run creates it with the project's file.
    """
    if not path.parent.exists():
        return Finding("well", "dagster.yaml", "does not exist yet: the next `taskdiv run` or `make ui` writes it")
    if not path.exists():
        found = f"{path.parent} has none, so pools and limits are Dagster's defaults"
        return Finding("look", "dagster.yaml", found, "run `taskdiv home-folder`, which writes the project's")
    advice = "move it away and run `taskdiv home-folder` to get the project's"
    try:
        theirs = plain_yaml.read(path.read_text(encoding="utf-8"), path.name).value
    except (OSError, ValueError) as error:
        return Finding("broken", "dagster.yaml", f"{path} cannot be read: {reason(error)}", f"correct it, or {advice}")
    missing = ", ".join(lacking(plain_yaml.read(settings, path.name).value, theirs))
    if missing:
        return Finding("look", "dagster.yaml", f"{path} lacks {missing}", f"add what is missing, or {advice}")
    return Finding("well", "dagster.yaml", "has every setting of the project's")


def lacking(ours: Mapping[str, object], theirs: object, place: str = "") -> Iterator[str]:
    """Yield the dotted names of settings in `ours` that `theirs` lacks. A section that is a single value in `theirs` is skipped.

    >>> list(lacking({"a": {"b": 1, "c": 2}, "d": {"e": 3}}, {"a": {"b": 7}}))
    ['a.c', 'd']
    """
    for key, value in ours.items():
        if not isinstance(theirs, dict) or key not in theirs:
            yield f"{place}{key}"
        elif isinstance(value, dict) and isinstance(theirs[key], dict):
            yield from lacking(value, theirs[key], f"{place}{key}.")


def hidden_workspace(folder: Path) -> Iterator[Finding]:
    """Check that pyproject.toml has no section that makes `dagster dev` ignore workspace.yaml."""
    path = folder / "pyproject.toml"
    try:
        tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}) if path.is_file() else {}
    except (OSError, ValueError) as error:
        yield Finding("look", "workspace", f"{path} cannot be read: {reason(error)}", "correct it")
        return
    for name in sorted({"dagster", "dg"} & set(tools)):
        found = f"[tool.{name}] in {path} makes `dagster dev` ignore workspace.yaml"
        yield Finding("look", "workspace", found, "start `dagster dev -w workspace.yaml`, as `make ui` does")


def pool_limits(folder: Path, slots_n: int) -> Iterator[Finding]:
    """Check that each of Dagster's pools allows at most `slots_n` steps at once. Without Dagster's records, check nothing."""
    if not (folder / "dagster.yaml").is_file() or not (folder / "history/runs/index.db").is_file():
        return
    from dagster import DagsterInstance

    try:
        with DagsterInstance.from_config(str(folder)) as opened:
            pools = opened.event_log_storage.get_pool_limits()
    except Exception as error:  # Dagster, its storage or a missing launcher may raise anything
        advice = "`dagster instance migrate` helps where its records are of an older Dagster"
        yield Finding("broken", "pools", f"the instance in {folder} cannot be opened: {reason(error)}", advice)
        return
    for pool in pools:
        found, is_over = f"{pool.limit} step(s) of {pool.name} may run at once", pool.limit > slots_n
        advice = f"`dagster instance concurrency set {pool.name} {slots_n}`: it has so many GPUs, or cores if no GPU"
        yield Finding("look" if is_over else "well", "pools", found, advice if is_over else "")
