"""The definitions that Dagster gets for an experiment, and its view of one that cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.utils import is_valid_owner
from hypothesis import given
from hypothesis import strategies as st

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.declaration import OWNER_PATTERN
from taskdiv_assets.experiment.experiment_file import ExperimentError
from taskdiv_assets.graph.units import run_tags
from taskdiv_assets.orchestration import code_location, engines, factory, index_asset, instance, produce
from taskdiv_assets.storage.store import Store
from tests.home import MINIATURE, Home

BROKEN = {
    "no_yaml": "name: [",
    "no_mapping": "- a\n- b\n",
    "mistaken": MINIATURE.read_text().replace("name: miniature", "name: mistaken").replace("budgets:", "budgetts:"),
    "other_name": MINIATURE.read_text(),
    "nested": "name: " + "[" * 5000,
    "odd-name": MINIATURE.read_text(),
    "odd.name": MINIATURE.read_text(),
    "fenced": "name: fenced\n'```': '<script>alert(1)</script>'\n",
}


@pytest.fixture
def home(empty_home: Home) -> Iterator[Home]:
    """Yield a home with one valid experiment of a user, and many that cannot be used."""
    texts = {"good": MINIATURE.read_text().replace("name: miniature", "name: good"), **BROKEN}
    for name, text in texts.items():
        folder = empty_home.folder / "results" / name
        folder.mkdir(parents=True)
        (folder / "experiment.yaml").write_text(text)
    (empty_home.folder / "results/binary").mkdir()
    (empty_home.folder / "results/binary/experiment.yaml").write_bytes(b"\xff\xfe\x00\x01")
    yield empty_home


def groups(defs: dg.Definitions) -> dict[str, list[dg.AssetKey]]:
    found: dict[str, list[dg.AssetKey]] = {}
    for node in defs.resolve_asset_graph().asset_nodes:
        found.setdefault(str(node.group_name), []).append(node.key)
    return found


def test_broken_files_disable_their_own_groups_only(home: Home) -> None:
    defs = code_location.build()
    dg.Definitions.validate_loadable(defs)
    found = groups(defs)
    assert found.pop(index_asset.GROUP) == [index_asset.KEY]
    whole = {"good", *code_location.DEMOS}
    assert {name for name, keys in found.items() if len(keys) > 1} == whole
    odd = {name for name in found if name.startswith("odd_name_")}
    assert len(odd) == 2 and set(found) - whole - odd == {name for name in [*BROKEN, "binary"] if name.isidentifier()}
    assert all(found[name] == [dg.AssetKey([name, code_location.ERROR_ASSET])] for name in set(found) - whole)


def test_the_ui_says_what_is_wrong_with_a_file_and_where(home: Home) -> None:
    graph = code_location.build(["mistaken", "other_name", "fenced"]).resolve_asset_graph()
    description = graph.get(dg.AssetKey(["mistaken", code_location.ERROR_ASSET])).description or ""
    assert "did you mean `budgets`?" in description and "mistaken/experiment.yaml:" in description
    assert "reload" in description
    other = graph.get(dg.AssetKey(["other_name", code_location.ERROR_ASSET])).description or ""
    assert "names itself 'miniature'" in other
    fenced = graph.get(dg.AssetKey(["fenced", code_location.ERROR_ASSET])).description or ""
    assert fenced.count("```") == 2  # what is in the file does not end the block that shows it


def test_to_materialise_a_broken_file_reads_it_again(home: Home) -> None:
    key = dg.AssetKey(["mistaken", code_location.ERROR_ASSET])
    (asset,) = code_location.build(["mistaken"]).assets or ()
    assert isinstance(asset, dg.AssetsDefinition)
    result = dg.materialize([asset], raise_on_error=False)
    assert not result.success
    failed = next(event for event in result.all_events if event.is_step_failure).step_failure_data
    assert failed.user_failure_data is not None and "budgetts" in str(failed.user_failure_data.description)
    path = home.folder / "results/mistaken/experiment.yaml"
    path.write_text(path.read_text().replace("budgetts:", "budgets:"))
    repaired = dg.materialize([asset])
    assert "reload" in str(repaired.asset_materializations_for_node(repaired.all_node_events[0].node_name)[0].metadata)
    assert key not in code_location.build(["mistaken"]).resolve_asset_graph().get_all_asset_keys()


def test_a_store_without_experiments_loads_the_demos(empty_home: Home) -> None:
    assert sorted(groups(code_location.build())) == [index_asset.GROUP, "demo", "demo_quick"]


def test_a_larger_experiment_is_loaded_once_it_was_run_or_is_asked_for(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(groups(code_location.build(["dolly"]))) == ["dolly"]  # as the workers of `taskdiv run dolly` do
    monkeypatch.setenv("TASKDIV_EXPERIMENTS", " flan, ")
    assert sorted(groups(code_location.build())) == [index_asset.GROUP, "demo", "demo_quick", "flan"]
    monkeypatch.delenv("TASKDIV_EXPERIMENTS")
    produce.keep_text(Store("dolly"), experiment_file.read_text("dolly")[0])
    assert sorted(groups(code_location.build())) == [index_asset.GROUP, "demo", "demo_quick", "dolly"]


def test_a_name_that_is_asked_for_and_not_there_is_said_in_the_ui(
    empty_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKDIV_EXPERIMENTS", "doly")
    graph = code_location.build().resolve_asset_graph()
    description = graph.get(dg.AssetKey(["doly", code_location.ERROR_ASSET])).description or ""
    assert (
        "$TASKDIV_EXPERIMENTS names 'doly'; expected names out of demo, demo_quick, dolly, dolly_small, flan"
        in description
    )
    assert dg.AssetKey(["demo", "raw_pool"]) in graph.get_all_asset_keys()


def test_steps_elsewhere_load_a_larger_experiment_too(empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's process gets a pointer to one job of one experiment, and builds no other."""
    built: list[str] = []
    build = factory.build
    monkeypatch.setattr(factory, "build", lambda found, text: (built.append(found.name), build(found, text))[1])
    job = code_location.job_of("dolly", "dolly_pool")
    assert {key.path[0] for key in job.asset_layer.executable_asset_keys} == {"dolly"} == {*built}
    assert not [entry for entry in engines.passed_variables() if entry.startswith("TASKDIV_EXPERIMENTS=")]


def test_the_full_pool_has_assets_of_its_own_and_no_partition() -> None:
    defs = factory.build(experiment_file.load(str(MINIATURE)), "")
    graph = defs.resolve_asset_graph()
    cells = [dg.AssetKey(["miniature", f"full_pool_{name}"]) for name in REGISTRY.by_cell]
    assert all(graph.get(key).partitions_def is None for key in cells)
    assert defs.resolve_job_def("miniature_full_pool").asset_layer.executable_asset_keys == set(cells)
    read = graph.get(dg.AssetKey(["miniature", "strategy_report"])).parent_keys
    assert {dg.AssetKey(["miniature", "benchmark_scores"]), cells[-1]} <= read
    text = MINIATURE.read_text().replace("full_pool_seeds: [0]", "full_pool_seeds: []")
    without = factory.build(experiment_file.parse(text, "m.yaml"), text).resolve_asset_graph()
    assert not {*cells} & without.get_all_asset_keys()


def test_a_campaign_without_a_model_is_a_small_graph() -> None:
    text = "name: camp\npurpose: campaign\npool: {reader: lab}\nstrategies: [random]\nbudgets: [12]\nfresh_days: 8\n"
    defs = factory.build(experiment_file.parse(text, "c.yaml"), text)
    dg.Definitions.validate_loadable(defs)
    names = {key.path[-1] for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert names == {
        "raw_pool", "task_labels", "annotations", "ranking", "allocation", "annotation_batch", "strategy_report",
    }  # fmt: skip


def test_owners_freshness_tags_and_kinds_stand_on_the_assets() -> None:
    text = MINIATURE.read_text() + "owners: [ada@example.org, 'team:annotation']\nfresh_days: 8\n"
    defs = factory.build(experiment_file.parse(text, "m.yaml"), text)
    graph = defs.resolve_asset_graph()
    nodes = {node.key.path[-1]: node for node in graph.asset_nodes}
    assert all(list(node.owners) == ["ada@example.org", "team:annotation"] for node in nodes.values())
    assert all(node.kinds and node.description and node.tags["experiment"] == "miniature" for node in nodes.values())
    policies = {name: node.freshness_policy for name, node in nodes.items() if node.freshness_policy is not None}
    assert set(policies) == {"raw_pool", "strategy_report"}
    assert all(policy.fail_window.to_timedelta() == timedelta(days=8) for policy in policies.values())


@pytest.mark.parametrize(
    "owner", ["ada", "team:", "a@b", "<b>@x.org", "team:a b", "me@uni.engineering", "é@uni.edu", "b@t.b"]
)
def test_owners_that_dagster_would_refuse_are_refused_with_their_line(owner: str) -> None:
    text = MINIATURE.read_text() + f"owners: ['{owner}']\n"
    with pytest.raises(ExperimentError, match=r"m\.yaml:\d+: owners"):
        experiment_file.parse(text, "m.yaml")


@given(st.from_regex(OWNER_PATTERN, fullmatch=True))
def test_dagster_takes_every_owner_that_we_take(owner: str) -> None:
    assert is_valid_owner(owner)


@pytest.mark.parametrize("url", ["s3x://bucket/x", pytest.param("s3://bucket/x", marks=pytest.mark.full)])
def test_a_store_that_cannot_be_read_leaves_the_built_in_experiments(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKDIV_HOME", url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = groups(code_location.build())
    assert set(found) == {code_location.STORE_GROUP, index_asset.GROUP, *code_location.DEMOS}


def test_what_dagster_would_not_take_is_a_mistake_in_the_file() -> None:
    for old, new in (("name: miniature", f"name: {'n' * 64}"), ("seeds:", "fresh_days: 1000000000\nseeds:")):
        with pytest.raises(ExperimentError, match=r"m\.yaml:\d+"):
            experiment_file.parse(MINIATURE.read_text().replace(old, new, 1), "m.yaml")


def test_a_folder_of_another_name_stays_broken_until_it_is_renamed(home: Home) -> None:
    (asset,) = code_location.build(["other_name"]).assets or ()
    assert isinstance(asset, dg.AssetsDefinition)
    assert not dg.materialize([asset], raise_on_error=False).success


def test_every_job_carries_the_tags_that_filter_runs() -> None:
    defs = factory.build(experiment_file.load(str(MINIATURE)), "")
    for suffix in factory.JOB_DESCRIPTIONS:
        tags = defs.resolve_job_def(f"miniature_{suffix}").run_tags
        assert {name: tags[name] for name in ("experiment", "model")} == {"experiment": "miniature", "model": "lab"}


def test_run_tags_name_what_the_partition_names() -> None:
    experiment = experiment_file.load(str(MINIATURE))
    assert run_tags(experiment, "24|random") == {
        "experiment": "miniature", "model": "lab", "budget": "24", "strategy": "random",
    }  # fmt: skip
    assert run_tags(experiment, "random") == {"experiment": "miniature", "model": "lab", "strategy": "random"}


def test_a_home_without_settings_is_said_at_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert "removed at the end" in " ".join(instance.warnings())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert "taskdiv home-folder" in " ".join(instance.warnings())
    instance.prepare_home()
    assert list(instance.warnings()) == []
    with dg.DagsterInstance.get() as made:  # Dagster itself takes every setting of ours
        assert made.run_retries_enabled and not made.run_retries_retry_on_asset_or_op_failure
        assert type(made.run_launcher).__name__ == "WatchedRunLauncher"
        assert made.run_monitoring_enabled and made.freshness_enabled
