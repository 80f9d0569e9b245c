"""The miniature on an S3 server that fails, with an empty disk for each step: results are bit-identical to a local run's."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.table_paths import table_parts
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.orchestration import factory
from tests import faults
from tests.graph import Graph, failure
from tests.home import Home
from tests.s3 import BUCKET, S3Home, environment, objects

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("s3"), pytest.mark.timeout(1200)]
RATES = {
    faults.BUSY: 0.03,
    faults.DROPPED: 0.04,
    faults.CUT_ANSWER: 0.04,
    faults.CUT_UPLOAD: 0.1,
    faults.LOST_ANSWER: 0.15,
}
TIMES = {"score_s", "train_s"}  # columns that say how long something took


class Reader:
    """A thread that reads all objects continuously without the proxy. `wrong` lists the objects that were incomplete."""

    def __init__(self, endpoint: str) -> None:
        self.fs, self.seen, self.wrong, self.looks_n = objects(endpoint), set[tuple[str, str]](), list[str](), 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.is_set():
            found = self.fs.find(BUCKET, detail=True)
            self.looks_n += 1
            for path, info in found.items():
                if (path, info["ETag"]) not in self.seen:
                    self.seen.add((path, info["ETag"]))
                    self._look(path)
            time.sleep(0.1)

    def _look(self, path: str) -> None:
        try:
            data = self.fs.cat_file(path)
            if problem := self._problem(path, data):
                self.wrong.append(f"{path}: {problem}")
        except FileNotFoundError:  # a lock or a checkpoint that is gone already
            return
        except Exception as error:
            self.wrong.append(f"{path}: {error!r}")

    def _problem(self, path: str, data: bytes) -> str:
        if path.endswith("manifest.json"):
            for name, entry in json.loads(data)["files"].items():
                file = self.fs.cat_file(f"{path.rpartition('/')[0]}/{name}")
                if hashlib.sha256(file).hexdigest() != entry["sha256"]:
                    return f"{name} is not what the manifest says"
        elif path.endswith(".parquet"):
            pq.read_table(pa.BufferReader(data))
        elif path.endswith(".json") or "/locks/" in path or "/budgets/" in path:
            json.loads(data)
        elif path.endswith(".safetensors"):
            (head_n,) = struct.unpack("<Q", data[:8])
            head = json.loads(data[8 : 8 + head_n])
            ends = [tensor["data_offsets"][1] for name, tensor in head.items() if name != "__metadata__"]
            return "" if 8 + head_n + max(ends) == len(data) else "it is cut"
        return ""


def steps(experiment: Experiment) -> list[tuple[str, str, str | None]]:
    """Return job, asset and partition of each result, in data-flow order."""
    cells = [f"12|{strategy}" for strategy in ("random", "facility_location")]
    return [
        *(("pool", asset, None) for asset in factory.jobs(experiment)["pool"]),
        *(("rankings", "ranking", strategy) for strategy in ("random", "facility_location")),
        *(("cells", asset, cell) for cell in cells for asset in REGISTRY.by_cell),
        ("report", "strategy_report", None),
    ]


def run(path: Path, home: Home, monkeypatch: pytest.MonkeyPatch, disks: Path) -> Graph:
    """Run the whole graph in this process, each step with an empty disk."""
    with environment(home.variables()), dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(path, instance)
        instance.add_dynamic_partitions(f"{graph.experiment.name}_budget", ["12"])
        for number, (job, asset, key) in enumerate(steps(graph.experiment)):
            disk = disks / str(number)
            for name in ("cache", "tmp", "work"):
                (disk / name).mkdir(parents=True)
            monkeypatch.setenv("TASKDIV_CACHE", str(disk / "cache"))
            monkeypatch.setenv("TMPDIR", str(disk / "tmp"))
            monkeypatch.setattr(tempfile, "tempdir", None)
            monkeypatch.chdir(disk / "work")
            result = graph.run(job, asset, key=key)
            assert result.success, f"{asset} {key}: {failure(result)}"
            assert not list((disk / "tmp").glob("taskdiv-*/*")) and not list((disk / "work").iterdir())
    return graph


def renamed(computed: Home, here: Home, path: Path) -> Graph:
    """Copy the results of the miniature under the experiment's name, and recompute the results that depend on its budgets."""
    name = path.stem
    shutil.copytree(computed.folder / "results/miniature", here.folder / "results" / name)
    with environment(here.variables()), dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(path, instance)
        root = here.folder / "results" / name
        kept = {root.joinpath(*table_parts(asset, key)) for _, asset, key in steps(graph.experiment)}
        for table in set((root / "tables").rglob("*.parquet")) - kept:  # of cells that this experiment does not have
            table.unlink()
        shutil.rmtree(root / "budgets", ignore_errors=True)
        for job, *assets in (("pool", "confidence_comparison"), ("report",)):
            result = graph.run(job, *assets)
            assert result.success, failure(result)
    return graph


def content(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if name not in TIMES]).replace_schema_metadata(None)


def test_faults_change_nothing_and_nobody_sees_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str, computed: Home
) -> None:
    here = Home(tmp_path / "here")
    here.folder.mkdir()
    changes = ("[random, facility_location, weighted_task_diversity]", "[random, facility_location, min_margin]")
    path = here.write_experiment(
        "tiny",
        changes,
        ("[12, 24]", "[12]"),
        ("full_pool_seeds: [0]", "full_pool_seeds: []"),
        ("primary: {strategy: weighted_task_diversity", "primary: {strategy: facility_location"),
    )
    local = renamed(computed, here, path)
    with Reader(endpoint) as reader, faults.Proxy(endpoint, rates=RATES, seed=7) as proxy:
        started = time.monotonic()
        there = S3Home(tmp_path, proxy.url)
        remote = run(path, there, monkeypatch, tmp_path / "disks-there")
        took_s = time.monotonic() - started
        listings = proxy.listings()
    print(f"{took_s:.0f} s, {len(proxy.requests)} requests, {dict(proxy.counts)}, {reader.looks_n} looks")
    assert set(proxy.counts) == set(faults.KINDS) and min(proxy.counts.values()) > 0
    assert not reader.wrong, reader.wrong
    assert len(reader.seen) > 50 and reader.looks_n > 20
    with environment(S3Home(tmp_path, endpoint).variables()):
        compared = same_tables(local, Graph(path, remote.instance))
    assert compared == len(steps(local.experiment))
    assert names(objects(endpoint), "locks") == names(objects(endpoint), "checkpoints") == []
    for listing in listings:
        check_listing(listing)


def same_tables(local: Graph, remote: Graph) -> int:
    """Compare every table, its identity, and the results of its contract. Return the number of tables."""
    count = 0
    for _, asset, key in steps(local.experiment):
        mine, theirs = local.store.read_table(asset, key), remote.store.read_table(asset, key)
        if asset != "strategy_report":  # it is made of identities too; its figures are compared all the same
            assert mine.footer.identity == theirs.footer.identity, (asset, key)
        assert content(mine.table).equals(content(theirs.table)), (asset, key)
        assert [rule.passed for rule in mine.footer.rules] == [rule.passed for rule in theirs.footer.rules]
        count += 1
    for footer in [local.store.read_footer("adapter", "12|random")]:
        assert footer is not None
        for identity in footer.inputs.values():
            manifests = [graph.store.read_manifest(identity) for graph in (local, remote)]
            weights = [(one or {})["files"]["adapter_model.safetensors"]["sha256"] for one in manifests]
            assert weights[0] == weights[1]
    return count


def names(fs: Any, folder: str) -> list[str]:
    return fs.find(f"{BUCKET}/prefix/tiny/{folder}")


def check_listing(listing: faults.Request) -> None:
    """Check that a listing covers one level of the experiment's folder, the folder of one result, or a small flat folder."""
    prefix = listing.query["prefix"]
    assert prefix.startswith("prefix/tiny/"), listing
    below = tuple(
        f"prefix/tiny/{name}/"
        for name in ("folders", "scores", "answers", "tables", "budgets", "annotations", "exports")
    )
    assert listing.query.get("delimiter") == "/" or prefix.startswith(below), listing
    assert prefix not in ("prefix/tiny/folders/", "prefix/tiny/scores/", "prefix/tiny/answers/"), listing
