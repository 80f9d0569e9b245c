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
        """Return the addresses to which steps are submitted and `ray.init` connects."""
        addresses = {
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
        }
        return {**addresses, **NO_TOKEN}

    def ray(self, *arguments: str) -> None:
        """Run `ray …` with this environment first on the path, so that Ray finds a step's command."""
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
        """Start the head. It takes no step, so a killed worker never ends the cluster."""
        ports = (f"--port={self.port}", f"--dashboard-port={self.dashboard}", agent_port())
        self.ray("start", "--head", "--num-cpus=0", "--disable-usage-stats", f"--temp-dir={self.folder}", *ports)

    def add_worker(self, cpus_n: int) -> psutil.Process:
        """Start another node, and return its raylet."""
        before = {process.pid for process in self.raylets()}
        self.ray("start", f"--address=127.0.0.1:{self.port}", f"--num-cpus={cpus_n}", agent_port())
        (raylet,) = [process for process in self.raylets() if process.pid not in before]
        self.workers.append(raylet)
        return raylet

    def processes(self) -> list[psutil.Process]:
        """Return every process of this cluster, but of no other cluster on the machine."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.folder) in " ".join(process.cmdline()) or f":{self.port}" in " ".join(process.cmdline()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def raylets(self) -> list[psutil.Process]:
        """Return the raylets, one for each node. A node has gone when its raylet has."""
        return [process for process in self.processes() if process.name() == "raylet"]

    def worker_of(self, pid: int) -> psutil.Process | None:
        """Return the raylet of the node on which a process runs."""
        parents = {process.pid for process in psutil.Process(pid).parents()}
        return next((raylet for raylet in self.workers if raylet.pid in parents), None)

    def lose(self, raylet: psutil.Process) -> None:
        """Kill a node with all its processes, as if its machine failed. A killed raylet alone leaves a step running."""
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """End this cluster's processes and their children."""
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
    """Run a cluster with one worker for each number of processors."""
    cluster = RayCluster(folder)
    try:
        cluster.start()
        for cpus_n in workers:
            cluster.add_worker(cpus_n)
        yield cluster
    finally:
        cluster.stop()


def agent_port() -> str:
    """Return the option for a free agent port. By default all nodes of a machine want one port, and jobs need the head's."""
    return f"--dashboard-agent-listen-port={free_port()}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def step_process(asset: str) -> psutil.Process | None:
    """Return the process that now carries out an asset's step, whichever engine started it."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("DAGSTER_RUN_STEP_KEY", "").endswith(f"__{asset}") and is_python(process):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def is_python(process: psutil.Process) -> bool:
    """Return whether a process is a step's interpreter, not the shell from which Ray starts it."""
    line = process.cmdline()
    return "execute_step" in line and "python" in Path(line[0]).name
