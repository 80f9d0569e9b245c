"""A real Postgres for tests: a cluster in a temporary folder, on a free loopback port, ended after the block."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "postgres"


def binaries() -> Path:
    """Return the folder that contains `initdb`. Skip the test if there is none."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve()] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no Postgres here (Debian package postgresql)")
    return found[-1].parent


def as_its_user(*command: str, **variables: str) -> None:
    """Run a command as the user of the Postgres package if this process is root, because Postgres does not run as root."""
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *command], check=True, capture_output=True, env={**os.environ, **variables}, cwd="/", timeout=60
    )


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the variables that docs/deploy/dagster.yaml names, for a server with a password."""
    tools, password = binaries(), secrets.token_hex(8)
    if os.geteuid() == 0:
        folder = Path("/tmp") / f"taskdiv-postgres-{os.getpid()}"  # pytest's folders are closed to other users
    folder.mkdir(mode=0o700)
    (folder / "password").write_text(password)
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
        shutil.chown(folder / "password", USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    try:
        where = ("-D", str(folder / "data"))
        how = ("-U", "taskdiv", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync")
        as_its_user(str(tools / "initdb"), *where, *how)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        as_its_user(str(tools / "pg_ctl"), "-w", *where, "-l", str(folder / "log"), "-o", options, "start")
        try:
            url = ("-h", "127.0.0.1", "-p", port, "-U", "taskdiv", "taskdiv")
            as_its_user(str(tools / "createdb"), *url, PGPASSWORD=password)
            yield {
                "DAGSTER_PG_HOST": "127.0.0.1",
                "DAGSTER_PG_USERNAME": "taskdiv",
                "DAGSTER_PG_PASSWORD": password,
                "DAGSTER_PG_DB": "taskdiv",
                "port": port,
            }
        finally:
            as_its_user(str(tools / "pg_ctl"), *where, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
