"""Dagster's home, and the Dagster instance in it. The UI and `taskdiv` share one home.

The home is a local folder with Dagster's databases and its settings, `dagster.yaml`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts import plain_yaml
from taskdiv_assets.storage import temporary
from taskdiv_assets.storage.machine import machine

if TYPE_CHECKING:
    from dagster import DagsterInstance

DAGSTER_YAML = """\
# Written by taskdiv once; change it as you like. The comments explain the settings. `taskdiv doctor` says which are missing.
telemetry: {{enabled: false}}
nux: {{enabled: false}}                 # no welcome dialog before the first click
concurrency:
  pools:
    granularity: op                   # only the steps that hold the model take a slot, not whole runs
    default_limit: {slots}                  # one for each visible GPU, or else for each worker
  runs: {{max_concurrent_runs: {runs}}}      # others wait in the queue; each is a process of about 1 GB
run_launcher: {{module: taskdiv_assets.launcher, class: WatchedRunLauncher}}  # detects that the process of a run is gone
run_monitoring:
  enabled: true
  poll_interval_seconds: 10           # how soon a run whose process was killed is noticed
  start_timeout_seconds: 180
  cancel_timeout_seconds: 60
  free_slots_after_run_end_seconds: 10  # otherwise a killed run would hold its slot for ever
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false # retry after a killed process; a failed step would fail again with the same error
freshness: {{enabled: true}}            # for experiments with `fresh_days`
retention:                            # ticks of sensors, which are many; runs and their events are kept
  sensor: {{purge_after_days: {{skipped: 3, success: 30, failure: 30}}}}
  auto_materialize: {{purge_after_days: {{skipped: 3, success: 30, failure: 30}}}}
"""


ACCELERATOR_POOL = "accelerator"  # the steps that hold a model take its slots
CORRECT_IT = "correct it, or move it away and run `taskdiv home-folder`, which writes the project's"
SAID_LENGTH = 200  # largest number of characters of Dagster's error that are shown
ALONE_S, ALONE_POLL_S = 120.0, 0.05  # longest wait for the lock that `open_instance` takes, and time between tries
RUNS_MAX = 4  # limit of concurrent runs on a machine without more slots: each run is a process that imports torch


def home_folder() -> Path:
    """Return `$DAGSTER_HOME` as an absolute path. The default is `.taskdiv/dagster` in the current folder."""
    return Path(machine().dagster_home).expanduser().resolve()


def prepare_home(workers_n: int | None = None) -> Path:
    """Create Dagster's home and its `dagster.yaml` if they do not exist. Set `$DAGSTER_HOME`, and return the home's path.

    The limits in a new `dagster.yaml` come from `slots(workers_n)`.
    """
    folder = home_folder()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "dagster.yaml"
    if not settings.exists():  # written atomically, because another process may read the file at any time
        with temporary.replacing(str(settings)) as file:
            file.write(settings_text(workers_n).encode())
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def make_home() -> Path:
    """Create Dagster's home and its databases if they do not exist, and return the home's path.

    Call this function before Dagster starts several processes at the same time: in an empty home, each of them would try to
    create the databases. For errors, see `open_instance`.
    """
    with open_instance():
        return home_folder()


def settings_text(workers_n: int | None = None) -> str:
    slots_n = slots(workers_n)
    return DAGSTER_YAML.format(slots=slots_n, runs=max(slots_n, min(os.cpu_count() or 1, RUNS_MAX)))


def warnings() -> Iterator[str]:
    """Yield a sentence if `$DAGSTER_HOME` is not set, or if Dagster's home has no `dagster.yaml`."""
    if "dagster_home" not in machine().model_fields_set:
        yield (
            "DAGSTER_HOME is not set: Dagster keeps its runs in a temporary folder that is removed at the end. "
            'Use `make ui`, or `export DAGSTER_HOME="$(taskdiv home-folder)"`'
        )
    elif not (home_folder() / "dagster.yaml").exists():
        yield (
            f"{home_folder()} has no dagster.yaml: pools, limits and run monitoring have Dagster's defaults. "
            "Run `taskdiv home-folder`, which writes the project's settings, and start again"
        )


def slots(workers_n: int | None = None) -> int:
    """Return how many steps may load a model at the same time.

    The result is the number of GPUs of the cluster (`$TASKDIV_ACCELERATORS`) or of this machine. Without GPUs, it is
    `workers_n`, or the number of processors if `workers_n` is None.
    """
    return machine().accelerators or gpus_n() or workers_n or os.cpu_count() or 1


def gpus_n() -> int:
    """Return the number of visible GPUs: NVIDIA devices in /dev, limited by `$CUDA_VISIBLE_DEVICES`. Torch is not imported."""
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = machine().visible_gpus
    if visible is None:
        return present
    return min(present, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


@contextmanager
def open_instance(workers_n: int | None = None) -> Iterator[DagsterInstance]:
    """Yield the Dagster instance of the home. Create the home and its databases first if they do not exist.

    A lock lets one process at a time create the databases. If `workers_n` is given, the limit of the accelerator pool is raised
    to `slots(workers_n)`.

    Raises:
        ValueError: `dagster.yaml` is not valid (see `read_settings`), or Dagster rejects its settings.
        RuntimeError: another process kept the lock for more than `ALONE_S` seconds.
    """
    folder = prepare_home(workers_n)
    with _alone(folder):
        read_settings(folder)
        instance = _opened(folder)
        instance.get_runs(limit=1)  # creates the tables of an empty home
        instance.event_log_storage.get_pool_limits()
    with instance:
        if workers_n is not None:
            raise_pool_limit(instance, slots(workers_n))
        yield instance


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock for creating a home's databases. Raise RuntimeError after `ALONE_S` seconds without the lock.

    The kernel releases the lock of a dead process.
    """
    path = folder / "taskdiv.lock"
    with path.open("a+b") as file:
        deadline = time.monotonic() + ALONE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    whose = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
                    raise RuntimeError(
                        f"process {whose} has been opening Dagster's records in {folder} for more than {ALONE_S:.0f} s; "
                        "stop it if it hangs, and run the same command again"
                    ) from None
                time.sleep(ALONE_POLL_S)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def read_settings(folder: Path) -> Mapping[str, Any]:
    """Return the settings in a home's `dagster.yaml`; {} if the file is empty.

    Raise ValueError if the file is not a YAML mapping in UTF-8, FileNotFoundError if it does not exist.
    """
    path = folder / "dagster.yaml"
    try:
        found = plain_yaml.read(path.read_text(encoding="utf-8"), str(path)).value
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; {CORRECT_IT}") from None
    except plain_yaml.YamlError as error:
        raise ValueError(f"{error}; {CORRECT_IT}") from None
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected settings such as `key: value`; {CORRECT_IT}")
    return found or {}


def _opened(folder: Path) -> DagsterInstance:
    from dagster import DagsterError, DagsterInstance

    from taskdiv_assets.orchestration.dagster_private import CheckError

    try:
        return DagsterInstance.get()
    except (DagsterError, CheckError, TypeError, KeyError, AttributeError, ImportError) as error:
        said = " ".join(str(error).split()).partition(" Expected: ")[0][:SAID_LENGTH]
        raise ValueError(f"Dagster refuses {folder / 'dagster.yaml'} ({said}); {CORRECT_IT}") from error


def budgets_of_ui(experiment: str) -> set[str]:
    """Return the keys of an experiment's budget partitions in Dagster; an empty set if Dagster's home has no dagster.yaml.

    For errors, see `open_instance`.
    """
    if not (home_folder() / "dagster.yaml").exists():
        return set()
    with open_instance() as instance:
        return {*instance.get_dynamic_partitions(f"{experiment}_budget")}


def open_for_run() -> DagsterInstance:
    """Return the Dagster instance for a process of `taskdiv run`, with the faster event log of `event_log`.

    If the user's `dagster.yaml` names a storage, such as Postgres, the instance uses that storage instead. `dagster.yaml` must
    exist (for errors, see `read_settings`).
    """
    from dagster import DagsterInstance

    from taskdiv_assets.orchestration.dagster_private import InstanceRef

    folder = home_folder()
    settings = read_settings(folder)
    if "storage" in settings or "event_log_storage" in settings:
        return DagsterInstance.get()
    ours = {"module": "taskdiv_assets.orchestration.event_log", "class": "KeptOpenEventLog"}
    overrides = {"event_log_storage": {**ours, "config": {"base_dir": str(folder / "history" / "runs")}}}
    return DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides=overrides))


def raise_pool_limit(instance: DagsterInstance, limit: int) -> None:
    """Raise the stored limit of the accelerator pool to `limit`. A higher stored limit is not lowered: its slots may be in use.

    A pool that no step has used yet has no stored limit. It gets `limit`, even if `default_limit` in dagster.yaml is higher.
    """
    storage = instance.event_log_storage
    known = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    if known.get(ACCELERATOR_POOL, 0) < limit:
        storage.set_concurrency_slots(ACCELERATOR_POOL, limit)
