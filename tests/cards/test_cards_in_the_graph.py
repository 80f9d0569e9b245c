"""Cards in the store: their names and scores. A card does not change its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from huggingface_hub import DatasetCard, ModelCard

from data_contracts.table_paths import table_parts
from taskdiv_assets.cards import stored_cards as cards_module
from taskdiv_assets.cards.stored_cards import data_card_path, put_cell_cards
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import Store
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("cards")]
RANDOM, DIVERSE = "24|random", "24|task_diversity"  # the whole pool: both choose the same prompts
METHOD = "method: lora, rank: 4, alpha: 8"
SMALL = (
    ("[copy, reverse, upper, first, max, flip], largest_n: 40", "[copy, upper], largest_n: 12"),
    ("steps: 40", "steps: 80"),  # so that it can do half of one task
    ("learning_rate: 2.0e-3, epochs: 1", "learning_rate: 2.0e-2, epochs: 4"),
    ("{name: lab}", "{name: lab, split: validation}"),
    ("[random, facility_location, weighted_task_diversity]", "[random, task_diversity]"),
    ("budgets: [12, 24]", "budgets: [24]"),
    ("full_pool_seeds: [0]", "full_pool_seeds: []"),
    ("strategy: weighted_task_diversity", "strategy: task_diversity"),
)

Make = Callable[..., Graph]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Yield a function that makes variants of one experiment over one store."""
    home = Home(tmp_path_factory.mktemp("cards"))
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        instance.add_dynamic_partitions("cards_budget", ["24"])
        yield lambda *changes: Graph(home.write_experiment("cards", *SMALL, *changes), instance)


@pytest.fixture(scope="module")
def graph(make: Make) -> Graph:
    """Return a graph with a pool, its base model, two equal selections, and the adapters of one selection."""
    graph = make()
    run(graph, "pool", "raw_pool", "task_labels", "annotations", "base_model")
    for strategy in ("random", "task_diversity"):
        run(graph, "rankings", key=strategy)
    run(graph, "cells", "allocation", "annotation_batch", "adapter", key=RANDOM)
    return graph


def run(graph: Graph, job: str, *assets: str, key: str | None = None) -> dg.ExecuteInProcessResult:
    result = graph.run(job, *assets, key=key)
    assert result.success, failure(result)
    return result


def folders(graph: Graph, key: str) -> list[str]:
    names: list[str] = graph.store.read_table("adapter", key).table["folder"].to_pylist()
    return names


def card(graph: Graph, folder: str) -> str:
    data = graph.store.get("folders", folder, "README.md")
    assert data is not None
    return data.decode()


def work_on(graph: Graph, asset: str, key: str) -> Work:
    lineage, unit = graph.lineage(), Unit(asset, key)
    return Work(graph.experiment, graph.store, lineage, unit, lineage.expect(unit), print)


def test_from_the_first_cell_to_the_base(graph: Graph) -> None:
    """One story: each table that changes a fact leaves a card that says it."""
    first, second = folders(graph, RANDOM)
    assert first != second
    assert "| random | 24 |" in card(graph, first) and "diversity |" not in card(graph, first)
    assert "Not scored yet." in card(graph, first)

    run(graph, "cells", key=DIVERSE)
    assert folders(graph, DIVERSE) == [first, second], "equal selections share their adapters"
    for folder in (first, second):
        said = card(graph, folder)
        assert "| random | 24 |" in said and "| task\\_diversity | 24 |" in said
        results = ModelCard(said).data.eval_results
        seed = [first, second].index(folder)
        scores = graph.store.read_table("benchmark_scores", DIVERSE).table.to_pandas().query(f"training_seed == {seed}")
        expected = scores.groupby("task")["score"].mean().mean()
        assert [(r.dataset_type, r.dataset_split) for r in results] == [("lab", "validation")]
        assert 0 < expected < 1
        assert results[0].metric_value == pytest.approx(expected, abs=1e-6)
        assert f"| {expected:.4f} | – | 40 | 2 |" in said

    run(graph, "pool", "base_scores")
    base = graph.store.read_table("base_scores").table.to_pandas().groupby("task")["score"].mean().mean()
    assert f"| {base:.4f} | 40 | 2 |" in card(graph, first)

    run(graph, "cells", "benchmark_scores", key=RANDOM)
    run(graph, "cells", key=RANDOM)


def test_a_card_changes_nothing_of_its_folder(graph: Graph) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = folders(graph, RANDOM)[0]
    manifest = graph.store.read_manifest(folder)
    assert manifest is not None and "README.md" not in manifest["files"]
    assert graph.store.is_whole(folder)
    base = graph.store.fetch_folder(graph.lineage().fresh(Unit("base_model")).identity)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), graph.store.fetch_folder(folder))
    assert model.peft_config["default"].r == 4
    failed = [rule for checked in check_stored(graph.experiment, graph.store) for rule in checked.failed]
    assert [rule for rule in failed if rule.severity == "error"] == []


def test_no_card_names_a_folder_of_this_machine(graph: Graph) -> None:
    root = Path(graph.store.path())
    found = [*root.rglob("README.md"), *root.rglob("*.md")]
    assert found
    for path in found:
        said = path.read_text()
        assert str(root) not in said and str(Path.home()) not in said and str(Path.cwd()) not in said
        assert "/tmp" not in said


def test_a_second_run_writes_no_card_and_a_lost_one_comes_back(graph: Graph) -> None:
    first, second = (Path(graph.store.path("folders", folder, "README.md")) for folder in folders(graph, RANDOM))
    before, lost = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    run(graph, "cells", key=RANDOM)
    assert first.stat().st_mtime_ns == before and second.read_bytes() == lost


def test_two_that_publish_at_once_leave_both_named(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one writes a card, the other publishes its table and writes its own: the older look must not stay."""
    store, folder = graph.store, folders(graph, RANDOM)[0]
    true = card(graph, folder)
    other = store.path(*table_parts("adapter", DIVERSE))
    hidden = Path(f"{other}.hidden")
    Path(other).rename(hidden)
    original, put = Store.put, []

    def publishing(self: Store, data: bytes, *parts: str) -> str:
        if not put:
            hidden.rename(other)
        put.append(parts)
        return original(self, data, *parts)

    monkeypatch.setattr(Store, "put", publishing)
    put_cell_cards(work_on(graph, "adapter", RANDOM))
    assert card(graph, folder) == true and put.count(("folders", folder, "README.md")) == 2


def test_the_data_card(graph: Graph) -> None:
    path = data_card_path(graph.store, RANDOM)
    assert path == "tables/allocation/random/24.md"
    said = (graph.store.get(*path.split("/")) or b"").decode()
    assert DatasetCard(said).data.size_categories == ["n<1K"]
    chosen = graph.store.read_table("allocation", RANDOM).table.to_pandas()
    for task, rows in chosen.groupby("task"):
        pool_n = int((graph.store.read_table("task_labels").table.to_pandas()["task"] == task).sum())
        mean = len(rows) / 2
        line = f"| {task} | {pool_n} | {mean:.1f} | {mean / 24:.1%} | {mean / pool_n:.1%} |"
        assert line in said
    footer = graph.store.read_footer("allocation", RANDOM)
    assert footer is not None and footer.identity in said and "the lab's own, made by a procedure from seed 1" in said
    assert "| 0 | 24 | 24 | 0 |" in said


def test_answers_that_come_are_counted(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch is made again when answers come; the allocation is not."""
    chosen = graph.store.read_table("allocation", RANDOM).table
    work = work_on(graph, "annotation_batch", RANDOM)
    work.lineage.__dict__["_answers"] = dict.fromkeys(work.lineage.answers)  # as in a campaign before the first import
    (said,) = cards_module.data_card_file(work, chosen).values()
    assert b"| 0 | 24 | 0 | 24 |" in said
    footer = graph.store.read_footer("allocation", RANDOM)
    assert footer is not None and footer.identity.encode() in said


def test_where_the_cards_are_is_told_to_dagster(graph: Graph) -> None:
    def metadata(asset: str) -> Any:
        key = dg.AssetKey(["cards", asset])
        records = graph.instance.fetch_materializations(
            dg.AssetRecordsFilter(key, asset_partitions=[RANDOM]), limit=1
        ).records
        event = records[0].asset_materialization
        assert event is not None
        return event.metadata

    assert metadata("allocation")["data card"].value.endswith("cards/tables/allocation/random/24.md")
    paths = metadata("adapter")["model cards"].value
    assert [Path(path).parent.name for path in paths] == folders(graph, RANDOM)
    assert all(Path(path).is_file() for path in paths)


def test_a_fully_tuned_model_and_the_adapters_that_it_replaces(graph: Graph, make: Make) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = folders(graph, RANDOM)[0]
    other = make((METHOD, "method: full"))
    run(other, "cells", "adapter", key=RANDOM)
    folder = folders(other, RANDOM)[0]
    assert folder != before and other.store.is_whole(folder)
    assert ModelCard(card(other, folder)).data.library_name == "transformers"
    AutoModelForCausalLM.from_pretrained(other.store.path("folders", folder))
    AutoTokenizer.from_pretrained(other.store.path("folders", folder))
    # The adapters that the cell pointed at still say how they were trained, and serve the other cell alone.
    said = card(other, before)
    assert "| rank | 4 |" in said and "| random | 24 |" not in said and "| task\\_diversity | 24 |" in said
    assert "Not scored yet." not in said and "Not scored yet." in card(other, folder)
