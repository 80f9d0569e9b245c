"""Own orders and a plug-in through the assets: rankings, lists, stale assets, and the parts that a report reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import reports.results
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.commands.planning import plan
from taskdiv_assets.experiment import plugins
from taskdiv_assets.graph.units import Unit
from tests.graph import Graph, failure
from tests.home import Home
from tests.selection.test_plugins import install

EXPERIMENT = """name: owners
pool: {reader: table, path: pool.csv, duplicates: drop, columns: {prompt: question, id: ticket}}
strategies:
  - random
  - {name: ours, scores: data/mine.csv, column: score, order: high_first}
  - {name: theirs, order_from: picked.csv}
  - shortest_first
budgets: [3, 8]
"""
QUESTIONS = [f"question {'x' * (7 * i % 11)} {i}" for i in range(12)]
OWN = ("ours", "theirs", "shortest_first")


class Campaign:
    """The files of a campaign, and the graph over their present state."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.home, self.instance = home, instance
        (home.folder / "data").mkdir()
        repeated = [*enumerate(QUESTIONS), (12, QUESTIONS[0])]  # t12 repeats t0, and is dropped
        self.write("pool.csv", "ticket,question\n" + "".join(f"t{i},{text}\n" for i, text in repeated))
        self.write("data/mine.csv", "ticket,score\n" + "".join(f"t{i},{i * 5 % 12}\n" for i in range(13)))
        self.write("picked.csv", "ticket\nt7\nt2\nt9\nt4\n")
        self.write("owners.yaml", EXPERIMENT)

    def write(self, name: str, text: str) -> None:
        (self.home.folder / name).write_text(text)

    @property
    def graph(self) -> Graph:
        return Graph(self.home.folder / "owners.yaml", self.instance)

    def run(self, *arguments: str, key: str | None = None) -> None:
        result = self.graph.run(*arguments, key=key)
        assert result.success, failure(result)

    def statuses(self) -> dict[str, str]:
        lineage = self.graph.lineage()
        return {name: lineage.state(Unit("ranking", name)).status for name in OWN}

    def tickets(self, strategy: str) -> list[str]:
        store = self.graph.store
        pool = store.read_table("raw_pool").table
        own = dict(zip(pool["prompt_id"].to_pylist(), pool["source_id"].to_pylist(), strict=True))
        return [own[one] for one in store.read_table("ranking", strategy).table["prompt_id"].to_pylist()]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path / "site")
    for cached in (plugins.installed, plugins.load):
        cached.cache_clear()
    yield install(tmp_path / "site")
    for cached in (plugins.installed, plugins.load):
        cached.cache_clear()


@pytest.mark.full
def test_the_whole_way(empty_home: Home, site: Path) -> None:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("owners_budget", ["3", "8"])
        campaign = Campaign(empty_home, instance)
        campaign.run("pool", "raw_pool", "task_labels", "annotations")
        for name in OWN:
            campaign.run("rankings", key=name)
        assert campaign.tickets("ours") == sorted((f"t{i}" for i in range(12)), key=lambda t: -(int(t[1:]) * 5 % 12))
        assert campaign.tickets("theirs") == ["t7", "t2", "t9", "t4"]
        lengths = [len(QUESTIONS[int(ticket[1:])]) for ticket in campaign.tickets("shortest_first")]
        assert lengths == sorted(lengths)
        notes = campaign.graph.store.read_table("ranking", "ours").footer.notes
        assert (notes["ranked_n"], notes["left_out_n"]) == (
            12,
            0,
        )  # the row of a dropped copy counts for the kept prompt
        _a_budget_deeper_than_the_file_is_refused(campaign)
        _what_becomes_stale(campaign)
        _files_that_do_not_fit(campaign)
        _other_ids_of_the_pool_make_orders_by_id_stale(campaign)
        _the_report_and_the_plan_have_the_names(campaign)


def _a_budget_deeper_than_the_file_is_refused(campaign: Campaign) -> None:
    result = campaign.graph.run("cells", "allocation", key="8|theirs")
    assert "budget 8 is deeper than the ranking of theirs, which has 4 prompts; add prompts to " in failure(result)
    campaign.run("cells", "allocation", key="8|ours")
    chosen = campaign.graph.store.read_table("allocation", "8|ours").table["prompt_id"].to_pylist()
    assert chosen == campaign.graph.store.read_table("ranking", "ours").table["prompt_id"].to_pylist()[:8]


def _what_becomes_stale(campaign: Campaign) -> None:
    fresh = dict.fromkeys(OWN, "fresh")
    assert campaign.statuses() == fresh
    folder = campaign.home.folder
    (folder / "data/mine.csv").rename(folder / "moved.csv")
    assert campaign.statuses() == fresh, "a file that is gone leaves what was made of it"
    campaign.write("owners.yaml", EXPERIMENT.replace("data/mine.csv", "moved.csv"))
    assert campaign.statuses() == fresh, "a path is no part of an identity"
    text = (folder / "moved.csv").read_text()
    campaign.write("moved.csv", text.replace("t3,3", "t3,99"))
    assert campaign.statuses() == fresh | {"ours": "stale"}
    campaign.run("rankings", key="ours")
    assert campaign.tickets("ours")[0] == "t3"
    (campaign.home.folder / "site/short_first-1.0.dist-info").rename(folder / "site/short_first-1.1.dist-info")
    metadata = folder / "site/short_first-1.1.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    plugins.installed.cache_clear()
    assert campaign.statuses() == fresh | {"shortest_first": "stale"}
    fresh["shortest_first"] = "stale"


def _other_ids_of_the_pool_make_orders_by_id_stale(campaign: Campaign) -> None:
    campaign.write("owners.yaml", EXPERIMENT)
    path = campaign.home.folder / "pool.csv"
    campaign.write("pool.csv", path.read_text().replace("t1,", "u1,"))  # the same prompts
    campaign.run("pool", "raw_pool", "task_labels")
    assert campaign.statuses() == dict.fromkeys(OWN, "stale")


def _the_report_and_the_plan_have_the_names(campaign: Campaign) -> None:
    graph = campaign.graph
    planned = plan(graph.experiment, graph.store)
    assert planned.rankings == {"random": "missing", **dict.fromkeys(OWN, "stale")}
    broken = {str(found.unit): found.failed for found in check_stored(graph.experiment, graph.store) if found.failed}
    assert {name: rules for name, rules in broken.items() if any(one.severity == "error" for one in rules)} == {}
    results = reports.results.load(str(campaign.home.folder / "results/owners"))
    assert results.experiment.strategies == ("random", *OWN)


def _files_that_do_not_fit(campaign: Campaign) -> None:
    campaign.write("moved.csv", "ticket,score\nt0,1\nt1,2\n")
    said = failure(campaign.graph.run("rankings", key="ours"))
    assert "has no score of 10 of 12 prompts" in said
    assert campaign.tickets("ours")[0] == "t3", "what is stored stays"
    campaign.write("owners.yaml", EXPERIMENT.replace("picked.csv", "none.csv").replace("theirs", "others"))
    lineage = REGISTRY.look(campaign.graph.experiment, campaign.graph.store)
    with pytest.raises(ValueError, match=r"there is no file .*/none.csv; check `order_from` of strategy 'others'"):
        lineage.state(Unit("ranking", "others"))
    assert lineage.is_fresh(Unit("ranking", "ours")), "its file is gone, and the other one has nothing to do with it"
