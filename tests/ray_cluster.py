"""A Ray cluster on this machine: a head that takes no work, and workers that can be killed one by one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
# Where a `ray.init` once left a token in the user's home, Ray asks every later cluster of that user for one.
NO_TOKEN = {"RAY_AUTH_MODE": "disabled"}


class RayCluster:
    """A head and some workers, each with its own processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.dashboard = free_port(), free_port()
        self.workers: list[psutil.Process] = []

    @property
    def variables(self) -> dict[str, str]:
        """Where steps are submitted to, and where `ray.init` connects to."""
        addresses = {
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
        }
        return {**addresses, **NO_TOKEN}

    def ray(self, *arguments: str) -> None:
        """`ray …`, with this environment first on the path: a step's command is found by it."""
        variables = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **NO_TOKEN,
        }
        done = subprocess.run(
            [str(BIN / "ray"), *arguments], env={**os.environ, **variables}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """The head; it takes no step, so that a killed worker never takes the cluster along."""
        ports = (f"--port={self.port}", f"--dashboard-port={self.dashboard}", agent_port())
        self.ray("start", "--head", "--num-cpus=0", "--disable-usage-stats", f"--temp-dir={self.folder}", *ports)

    def add_worker(self, cpus_n: int) -> psutil.Process:
        """Another node; its raylet."""
        before = {process.pid for process in self.raylets()}
        self.ray("start", f"--address=127.0.0.1:{self.port}", f"--num-cpus={cpus_n}", agent_port())
        (raylet,) = [process for process in self.raylets() if process.pid not in before]
        self.workers.append(raylet)
        return raylet

    def processes(self) -> list[psutil.Process]:
        """Every process of this cluster, and of no other that the machine may have."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()) or f":{self.port}" in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def raylets(self) -> list[psutil.Process]:
        """The node's own processes: a node is gone when its raylet is."""
        return [process for process in self.processes() if process.name() == "raylet"]

    def worker_of(self, pid: int) -> psutil.Process | None:
        """The raylet of the node that a process runs on."""
        parents = {process.pid for process in psutil.Process(pid).parents()}
        return next((raylet for raylet in self.workers if raylet.pid in parents), None)

    def lose(self, raylet: psutil.Process) -> None:
        """A node is gone at once, as with its machine: a raylet that dies alone would leave the step's process going on."""
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """End this cluster's processes and theirs."""
        ended = [
            *self.processes(),
            *[child for process in self.processes() for child in process.children(recursive=True)],
        ]
        for process in ended:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ended, timeout=20)


@contextmanager
def ray_cluster(folder: Path, *workers: int) -> Iterator[RayCluster]:
    """A cluster with workers of so many processors each."""
    cluster = RayCluster(folder)
    try:
        cluster.start()
        for cpus_n in workers:
            cluster.add_worker(cpus_n)
        yield cluster
    finally:
        cluster.stop()


def agent_port() -> str:
    """A port of its own for a node's agent: by default all nodes of a machine want one port, and jobs need the head's."""
    return f"--dashboard-agent-listen-port={free_port()}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def step_process(asset: str) -> psutil.Process | None:
    """The process that carries out an asset's step now, wherever an engine started it."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("DAGSTER_RUN_STEP_KEY", "").endswith(f"__{asset}") and is_python(process):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def is_python(process: psutil.Process) -> bool:
    """True for the interpreter of a step, not for the shell that Ray starts it by."""
    line = process.cmdline()
    return "execute_step" in line and "python" in Path(line[0]).name
