"""Files that an experiment names by URL: fetched once, recognised without their content, and errors in one sentence."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from data_contracts.footer import Footer
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.running import missing_units
from taskdiv_assets.commands.wanted import Filter
from taskdiv_assets.experiment import BaseModelSource, experiment_file
from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.graph.models import folder_hash
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools.read import fingerprint, read_pool
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store
from tests import many_cells
from tests.faults import LOST_ANSWER, Proxy
from tests.home import MINIATURE
from tests.s3 import BUCKET, moto, objects, proxied

pytestmark = pytest.mark.xdist_group("remote")
POOL = b'{"prompt": "one"}\n{"prompt": "two"}\n'


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto(tmp_path_factory.mktemp("s3") / "moto.log") as url:
        yield url


@pytest.fixture
def proxy(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv("TASKDIV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_hashes", {})
    with proxied(endpoint) as made:
        yield made


def put(endpoint: str, path: str, data: bytes) -> str:
    objects(endpoint).pipe_file(f"{BUCKET}/{path}", data)
    return f"s3://{BUCKET}/{path}"


def gets(proxy: Proxy) -> list[str]:
    return [one.path for one in proxy.requests if one.method == "GET" and "list-type" not in one.query]


def pool_at(path: str | list[str]) -> Pool:
    return Pool.model_validate({"reader": "table", "path": path, "columns": {"prompt": "prompt"}})


class TestSources:
    def test_a_pool_at_a_url_is_the_local_one(self, endpoint: str, proxy: Proxy, tmp_path: Path) -> None:
        url = put(endpoint, "pools/a.jsonl", POOL)
        local = tmp_path / "a.jsonl"
        local.write_bytes(POOL)
        here, there = pool_at(str(local)), pool_at(url)
        assert list(fingerprint(there).values()) == list(fingerprint(here).values())
        assert read_pool(there).table.equals(read_pool(here).table)
        assert len(gets(proxy)) == 1  # hashing and reading share one copy
        for path in (f"s3://{BUCKET}/pools", f"s3://{BUCKET}/pools/*.jsonl"):
            assert list(fingerprint(pool_at(path))) == [url]

    def test_a_source_is_downloaded_again_only_if_it_changed(self, endpoint: str, proxy: Proxy, tmp_path: Path) -> None:
        url = put(endpoint, "pools/b.jsonl", POOL)
        marks: dict[str, str] = {}
        first = fingerprint(pool_at(url), marks)
        shutil.rmtree(tmp_path / "cache")  # another worker, with an empty disk, that has read the footer
        remote._hashes.clear()
        proxy.requests.clear()
        assert fingerprint(pool_at(url), dict(marks)) == first and not gets(proxy)
        put(endpoint, "pools/b.jsonl", POOL + b'{"prompt": "three"}\n')
        assert fingerprint(pool_at(url), dict(marks)) != first and len(gets(proxy)) == 1
        assert read_pool(pool_at(url)).table.num_rows == 3

    def test_a_model_at_a_url_is_the_local_one(self, endpoint: str, proxy: Proxy, tmp_path: Path) -> None:
        model = tmp_path / "model"
        model.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json", "notes.txt"):
            (model / name).write_text(name)
            url = put(endpoint, f"models/one/{name}", name.encode()).rpartition("/")[0]
        marks: dict[str, str] = {}
        assert folder_hash(url, marks) == folder_hash(str(model), {})
        assert sorted(gets(proxy)) == [
            f"/{BUCKET}/models/one/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
        ]
        remote._hashes.clear()
        proxy.requests.clear()
        folder_hash(url, dict(marks))
        assert not gets(proxy) and len(proxy.listings()) == 1
        put(endpoint, "models/none/readme.txt", b"x")
        with pytest.raises(ValueError, match=f"base model s3://{BUCKET}/models/none: no config.json"):
            folder_hash(f"s3://{BUCKET}/models/none", {})
        assert BaseModelSource(path=url).label == "one"

    def test_the_stored_table_keeps_the_marks(self, endpoint: str, proxy: Proxy) -> None:
        url = put(endpoint, "pools/c.jsonl", POOL)
        text = MINIATURE.read_text().replace("name: miniature", "name: sources")
        text = "\n".join(
            line for line in text.splitlines() if not line.startswith(("pool:", "base_model:", "benchmarks:"))
        )
        text += f"\npool: {{reader: table, path: {url}, columns: {{prompt: prompt}}}}\ntask_labels: {{from: column}}\n"
        text += "base_model: {path: /nowhere}\nbenchmarks: [{name: mmlu, source: hub}]\n"
        text = text.replace("benchmark: lab, metric: exact_match", "benchmark: mmlu, metric: acc")
        text = text.replace("weighted_task_diversity", "k_center")  # which reads no task: this pool has none
        wanted = experiment_file.parse(text, "sources.yaml")
        store = Store("sources", f"s3://{BUCKET}/prefix")
        lineage = REGISTRY.look(wanted, store)
        expected = lineage.expect(Unit("raw_pool"))
        table = read_pool(wanted.pool).table
        notes = lineage.sources.noted("raw_pool")
        assert len(notes["source_marks"]) == 1
        footer = Footer("raw_pool", None, expected.identity, expected.inputs, 1, None, "", "", 0.0, (), {}, {}, notes)
        store.write_table(table, footer)
        remote._hashes.clear()
        proxy.requests.clear()
        assert REGISTRY.look(wanted, store).expect(Unit("raw_pool")) == expected
        assert not [path for path in gets(proxy) if "pools" in path]

    def test_a_source_that_is_gone_says_so(self, proxy: Proxy) -> None:
        with pytest.raises(ValueError, match=f"there is no file s3://{BUCKET}/pools/none.jsonl"):
            read_pool(pool_at(f"s3://{BUCKET}/pools/none.jsonl"))
        for call in (remote.mark, lambda url: remote.sha256_of(url, {})):
            with pytest.raises(FileNotFoundError, match="there is no s3://nowhere/a; check the address"):
                call("s3://nowhere/a")

    def test_without_credentials_it_says_so(
        self, endpoint: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        url = put(endpoint, "pools/d.jsonl", POOL)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(PermissionError, match="no credentials for s3://.*AWS_ACCESS_KEY_ID"):
            remote.mark(url)

    def test_a_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(protocol: str) -> Any:
            raise ImportError(f"Install {protocol}fs")

        monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
        with pytest.raises(ValueError, match=r"s3://b/a needs a package .* pip install 'taskdiv-assets\[s3\]'"):
            remote.filesystem("s3://b/a")
        with pytest.raises(ValueError, match="pip install gcsfs"):
            remote.filesystem("gs://b/a")

    def test_an_unknown_protocol_is_named(self) -> None:
        with pytest.raises(ValueError, match="unknown protocol 'nosuch'"):
            remote.filesystem("nosuch://b/a")


class TestExperimentsAtUrls:
    def test_relative_paths_are_relative_to_the_file(self, endpoint: str, proxy: Proxy) -> None:
        raw = {"pool": {"path": ["../pools/a.jsonl", "b.jsonl", "s3://other/c.jsonl"]}, "base_model": {"path": "./m"}}
        found = experiment_file.with_absolute_paths(raw, f"s3://{BUCKET}/experiments/one.yaml")
        assert found["pool"]["path"] == [
            f"s3://{BUCKET}/pools/a.jsonl",
            f"s3://{BUCKET}/experiments/b.jsonl",
            "s3://other/c.jsonl",
        ]
        assert found["base_model"]["path"] == f"s3://{BUCKET}/experiments/m"
        with pytest.raises(ValueError, match="leads out of s3://bucket"):
            remote.joined("s3://bucket/a", "../../x")

    def test_a_file_at_a_url_is_read(self, endpoint: str, proxy: Proxy) -> None:
        url = put(endpoint, "experiments/miniature.yaml", MINIATURE.read_bytes())
        assert experiment_file.load(url) == experiment_file.load(str(MINIATURE))
        with pytest.raises(experiment_file.ExperimentError, match="there is no experiment file"):
            experiment_file.load(f"s3://{BUCKET}/experiments/none.yaml")


class TestRequests:
    def test_a_footer_is_one_request_and_a_long_one_two(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        import pyarrow as pa

        store = Store("x", f"s3://{BUCKET}/prefix")
        module = importlib.import_module("taskdiv_assets.storage.store")
        footer = Footer("raw_pool", None, "i" * 32, {}, 1, None, "", "", 0.0, notes={"text": "long " * 4_000})
        store.write_table(pa.table({"a": list(range(50_000))}), footer)
        for tail_n, requests_n in ((64 * 1024, 1), (1024, 2), (10**9, 1)):
            monkeypatch.setattr(module, "TAIL_BYTES", tail_n)
            proxy.requests.clear()
            assert store.read_footer("raw_pool") == footer
            assert [one.method for one in proxy.requests] == ["GET"] * requests_n
            assert all(one.headers["range"].startswith("bytes=-") for one in proxy.requests)
        assert store.read_footer("ranking", "none") is None

    def test_a_look_at_many_cells_asks_for_each_thing_once(self, proxy: Proxy) -> None:
        wanted = many_cells.experiment(3, 2)
        many_cells.make(wanted, f"s3://{BUCKET}/prefix")
        proxy.requests.clear()
        missing = missing_units(wanted, Store(wanted.name, f"s3://{BUCKET}/prefix"), None, Filter())
        assert [str(unit) for unit in missing] == ["strategy_report"]
        asked = [(one.method, one.path, one.query.get("prefix"), one.headers.get("range")) for one in proxy.requests]
        # Budgets and annotations are small folders; the pool itself is read for its ids and for its answers.
        again = {one[1] for one in asked if one[2] is None and asked.count(one) > 1}
        assert again <= {f"/{BUCKET}/prefix/many/tables/raw_pool.parquet"}
        for listing in proxy.listings():
            assert listing.query["prefix"].startswith("prefix/many/")
            below = ("prefix/many/tables/", *(f"prefix/many/folders/{digit}" for digit in "0123456789abcdef"))
            assert listing.query.get("delimiter") == "/" or listing.query["prefix"].startswith(below)


class TestLostAnswers:
    """A request that was carried out, but whose response was lost, is sent again."""

    def test_a_put_that_meets_its_own_object_has_won(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store("lost", f"s3://{BUCKET}/prefix")
        faults = iter([LOST_ANSWER])
        monkeypatch.setattr(proxy, "draw", lambda method, _: next(faults, None) if method == "PUT" else None)
        assert store.put_new(b"mine", "locks", "a")
        puts = [one for one in proxy.requests if one.method == "PUT"]
        assert len(puts) == 2 and all(one.headers["if-none-match"] == "*" for one in puts)
        assert not store.put_new(b"another's", "locks", "a") and store.get("locks", "a") == b"mine"

    def test_a_removal_leaves_what_another_put_meanwhile(
        self, endpoint: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store("lost", f"s3://{BUCKET}/prefix")
        store.put(b"mine", "locks", "b")
        removals: list[str] = []

        def draw(method: str, _: int) -> str | None:
            if method != "DELETE":
                return None
            removals.append(method)
            if len(removals) == 2:  # the next owner was faster than the second try
                put(endpoint, "prefix/lost/locks/b", b"the next owner's")
            return LOST_ANSWER if len(removals) == 1 else None

        monkeypatch.setattr(proxy, "draw", draw)
        store.remove_own(b"mine", "locks", "b")
        assert len(removals) == 2 and store.get("locks", "b") == b"the next owner's"
