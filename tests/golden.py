"""A finished miniature that need not be computed: the store in `tests/stores`, its report, and Dagster's record of every result.

Tests that only need finished results use a copy. Tests that compare a disturbed run with an undisturbed one use `computed`,
because two machines may differ in the last bit. `tests/test_graph.py` computes a part in this process, in every run.
"""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from tests.home import MINIATURE, Home

STORES = Path(__file__).parent / "stores"
NEWER = ("contamination",)  # assets of the miniature that are newer than `tests/stores`


def unpack(name: str, folder: Path) -> None:
    """Unpack one of the stores in the repository."""
    with tarfile.open(STORES / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")


@contextmanager
def variables_of(home: Home) -> Iterator[None]:
    """Set the environment of this process to a home."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        yield


def record(home: Home) -> None:
    """Record a materialization of every stored result in the Dagster instance of the home."""
    import dagster as dg

    from taskdiv_assets.assets import REGISTRY
    from taskdiv_assets.experiment import experiment_file
    from taskdiv_assets.graph import cells
    from taskdiv_assets.orchestration import instance
    from taskdiv_assets.orchestration.asset_paths import place
    from taskdiv_assets.storage.store import Store

    with variables_of(home), instance.open_instance() as opened:
        experiment = experiment_file.load(str(MINIATURE))
        lineage = REGISTRY.look(experiment, Store("miniature"))
        full_pool = cells.full_pool_of(experiment, lineage.pool_size)
        opened.add_dynamic_partitions("miniature_budget", [str(budget) for budget in experiment.budgets])
        for unit in REGISTRY.units(experiment, lineage.store, lineage.pool_size, REGISTRY.order):
            if (footer := lineage.store.read_footer(*unit)) is None:
                continue
            is_full_pool = full_pool is not None and unit.key == full_pool.key
            where = place("miniature", *unit, is_full_pool=is_full_pool)
            opened.report_runless_asset_event(
                dg.AssetMaterialization(
                    where.path, partition=where.partition, tags={"dagster/data_version": footer.identity}
                )
            )


def make_report(home: Home) -> None:
    """Make the report of the home's miniature, and results that `tests/stores` lacks, in runs of Dagster in this process."""
    from taskdiv_assets.orchestration import instance
    from tests.graph import Graph, failure

    with variables_of(home), instance.open_instance() as opened:
        graph = Graph(MINIATURE, opened)
        for result in (graph.run("pool", *NEWER), graph.run("report")):
            assert result.success, failure(result)


def make(folder: Path) -> Home:
    """Make the finished home, unless another test process of this run has made it."""
    with once(folder) as home:
        if home is not None:
            unpack("miniature", folder / "results")
            record(home)
            make_report(home)
    return Home(folder)


def compute(folder: Path) -> Home:
    """Run one budget of the miniature on this machine by the command, unless another test process of this run has done so."""
    with once(folder) as home:
        if home is not None:
            result = home.taskdiv("run", str(MINIATURE), "--budget", "12", "--workers", "2", timeout_s=900)
            assert result.returncode == 0, result.stderr
    return Home(folder)


@contextmanager
def once(folder: Path) -> Iterator[Home | None]:
    """Yield an empty home to the first test process that requests the folder, and None to later ones."""
    with FileLock(f"{folder}.lock"):
        if (folder / "done").exists():
            yield None
        else:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "results").mkdir(parents=True)
            yield Home(folder)
            (folder / "done").touch()


def copied(home: Home, folder: Path) -> Home:
    """Copy a home into another folder, and return the copy."""
    for name in ("results", "dagster"):
        shutil.copytree(home.folder / name, folder / name)
    return Home(folder)
