"""All experiments together: the asset `experiments_index` in Dagster, the command, and the links of the page on a server."""

from __future__ import annotations

import http.client
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import dagster as dg
import pytest
from typer.testing import CliRunner

import data_contracts
from data_contracts.footer import FOOTER_KEY, Footer
from reports.envelope import envelope
from taskdiv_assets.assets import experiments_index as index
from taskdiv_assets.cli import app
from taskdiv_assets.commands import report_server, together_page
from taskdiv_assets.orchestration import code_location, index_asset, report_links
from taskdiv_assets.storage.store import Store
from tests import golden
from tests.data_contracts import test_contract_loading
from tests.home import MINIATURE, Home
from tests.reports.make_results import Recipe, make_results
from tests.reports.test_together import SMALL, with_report

BROKEN = MINIATURE.read_text().replace("name: miniature", "name: mistaken").replace("budgets:", "budgetts:")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with the whole miniature without a report, an experiment with a report, and one that is broken."""
    folder = tmp_path_factory.mktemp("index") / "results"
    golden.unpack("miniature", folder)
    made = with_report(make_results(folder, Recipe(**SMALL, name="mine")))
    text = (made / "experiment.yaml").read_text()
    (made / "experiment.yaml").write_text(text.replace("reader: table", "reader: lab"))
    (made / "report/index.html").write_text(
        f'<meta http-equiv="Content-Security-Policy" content="{envelope().policy}"/>mine'
    )
    (folder / "mistaken").mkdir()
    (folder / "mistaken/experiment.yaml").write_text(BROKEN)
    return folder


@pytest.fixture
def home(results: Path, empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = empty_home.folder / "results"
    shutil.copytree(results, folder, dirs_exist_ok=True, copy_function=shutil.copy)
    yield folder


def test_it_depends_on_the_report_of_each_loaded_experiment_and_of_no_broken_one(home: Path) -> None:
    graph = code_location.build().resolve_asset_graph()
    parents = {key.path[0] for key in graph.get(index_asset.KEY).parent_keys}
    loaded = {key.path[0] for key in graph.get_all_asset_keys() if key.path[-1] == "strategy_report"}
    assert parents == loaded and "miniature" in loaded and "mistaken" not in loaded
    assert index_asset.KEY not in code_location.build(["miniature"]).resolve_asset_graph().get_all_asset_keys()


def test_a_user_materialises_it_and_a_broken_experiment_has_a_row(home: Path) -> None:
    asset = next(iter(index_asset.build(["miniature", "mine"]).assets or ()))
    assert isinstance(asset, dg.AssetsDefinition)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], instance=instance)
        assert result.success
        assert all(
            check.passed or check.severity == dg.AssetCheckSeverity.WARN
            for check in result.get_asset_check_evaluations()
        )
        (made,) = result.asset_materializations_for_node("experiments_index")
        again = dg.materialize([asset], instance=instance).asset_materializations_for_node("experiments_index")[0]
    assert made.tags["dagster/data_version"] == again.tags["dagster/data_version"]
    stored = Store(index.FOLDER).read_table(index.NAME)
    rows = {row["experiment"]: row for row in stored.table.to_pylist()}
    assert {name: row["state"] for name, row in rows.items()} == {
        "miniature": "no report", "mine": "out of date", "mistaken": "broken",
    }  # fmt: skip
    assert "did you mean `budgets`?" in rows["mistaken"]["problems"]
    assert stored.footer.inputs == {"mine/strategy_report": "0" * 32}
    assert made.tags["dagster/data_version"] == stored.footer.identity
    shown = str(made.metadata["experiments"].value)
    assert f"[mine]({report_links.address('mine')})" in shown and shown.count("\n") == 4
    assert made.metadata["open the page"].value == report_links.index_address()
    assert 'href="../../mine/report/index.html"' in (home / index.FOLDER / "report/index.html").read_text()


def test_a_new_report_gives_it_another_identity(home: Path) -> None:
    def identity() -> str:
        summaries = index.summaries_in(str(home))
        return index.identity_of(index.as_table(summaries), {one.name: one.identity for one in summaries})

    first = identity()
    assert identity() == first
    store = Store("mine")
    table = store.read_table("strategy_report").table
    store.write_table(table.replace_schema_metadata({FOOTER_KEY: b""}), Footer("strategy_report", identity="1" * 32))
    assert identity() != first


def test_the_command_writes_a_page_with_the_named_experiments_in_their_order(home: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["report", "mistaken", "mine", "mine", "nobody", "--together"])
    assert said.exit_code == 0, said.output
    page = home / "experiments-index/together/index.html"
    assert f"page: {page}" in said.output.replace("\n", "") and "note: nobody: there is no experiment" in said.stderr
    text = page.read_text()
    names = re.findall(r'<th scope="row">.*?<bdi>(.*?)</bdi>', text)
    assert names == ["mistaken", "mine", "nobody"]
    (link,) = re.findall(r'href="(\.\.[^"]*)"', text)
    assert (page.parent / link).resolve() == home / "mine/report/index.html"
    assert "Not found: there is no experiment" in text and "stored there: mine, miniature, mistaken" in text
    assert (
        "Not usable: mistaken/experiment.yaml has 2 mistake(s): mistaken/experiment.yaml:1:" in text
        and "not found</span>" in text
    )
    assert str(home) not in text and str(tmp_path) not in text
    out = tmp_path / "a b"
    assert CliRunner().invoke(app, ["report", "mine", "--together", "-o", str(out)]).exit_code == 0
    (link,) = re.findall(r'<th scope="row"><a href="([^"]*)"', (out / "index.html").read_text())
    assert (out / link).resolve() == home / "mine/report/index.html"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/h/x/experiment.yaml:2 is not valid", "x/experiment.yaml:2 is not valid"),
        ("there is no 'a' in /h; stored: b", "there is no 'a' in the home; stored: b"),
        ("read from '/tmp/of me/e.yaml' and file:///tmp/a/e.yaml", "read from 'of me/e.yaml' and e.yaml"),
        ("/home2/x.csv, 3/4, and/or, s3://b/c/d and 12|random", "x.csv, 3/4, and/or, s3://b/c/d and 12|random"),
    ],
)
def test_a_sentence_for_other_readers_has_no_folders_of_this_machine(text: str, said: str) -> None:
    assert index.without_folders(text, "/h") == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["demo", "mine"], "several experiments need --together"),
        (["demo", "demo"], "name each experiment once"),
        (["demo", "--together", "--format", "pdf"], "--together takes no --format"),
        (["demo", "--together", "--reference", "random"], "--together takes no --reference"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], said: str, empty_home: Home) -> None:
    result = CliRunner().invoke(app, ["report", *options])
    assert result.exit_code == 2 and said in result.stderr


def test_a_page_elsewhere_names_the_home_by_an_address(tmp_path: Path) -> None:
    remote = together_page.Files("memory://pages")
    assert together_page.address_of_home("/my home", remote) == "file:///my%20home"
    assert together_page.address_of_home("s3://bucket/x y", together_page.Files(str(tmp_path))) == "s3://bucket/x%20y"


def test_the_links_of_the_page_work_on_the_server(home: Path) -> None:
    together = Store(index.FOLDER)
    together.put(b'<a href="../../mine/report/index.html">', "report", "index.html")
    with report_server.serve(0) as port:

        def status(path: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        path = report_links.index_address().partition(":3939")[2]
        code, page = status(path)
        assert code == 200
        linked = urljoin(path, re.findall('href="(.*?)"', page)[0])
        assert status(linked) == (200, (home / "mine/report/index.html").read_text())
        assert status(path.replace("report/index.html", "together/index.html"))[0] == 404
        together.remove("report", "index.html")
        assert status(path) == (404, "There is no page of all experiments yet; materialise experiments_index.\n")


class TestTheContract:
    """The contract of the index belongs to a home, so the tests of every experiment's contracts do not include it."""

    def test_it_is_no_table_of_an_experiment(self) -> None:
        assert index.NAME not in data_contracts.names() and data_contracts.load(index.NAME).key == ("experiment",)

    def test_it_is_like_the_others(self) -> None:
        checks = test_contract_loading.TestEveryContract()
        checks.test_is_valid_by_the_standards_own_json_schema(index.NAME)
        checks.test_says_what_it_is_and_whose(index.NAME)
        checks.test_explains_every_column(index.NAME)
        checks.test_has_rules_with_distinct_names_and_views_that_exist(index.NAME)
        checks.test_survives_parquet(index.NAME)
        assert all(rule.severity in ("error", "warning") for rule in data_contracts.load(index.NAME).rules)

    @pytest.mark.parametrize(
        ("rule", "changed"),
        [
            ("states_known", {"state": "lost"}),
            ("interval_in_order", {"low": 0.2, "high": 0.1}),
            ("labels_in_order", {"labels_low": 2.0, "labels_high": 1.0}),
            ("broken_says_why", {"state": "broken", "problems_n": 0}),
            ("reports_up_to_date", {"state": "out of date"}),
        ],
    )
    def test_each_rule_has_a_table_that_breaks_it(self, rule: str, changed: dict[str, object]) -> None:
        contract = data_contracts.load(index.NAME)
        row = {field.name: None if field.nullable else "" for field in contract.arrow_schema}
        row |= {"experiment": "x", "state": "no report", "problems_n": 0}
        assert not data_contracts.validate(contract, _table(contract, row)).failed
        failed = data_contracts.validate(contract, _table(contract, row | changed)).failed
        assert rule in [one.rule for one in failed]


def _table(contract: data_contracts.Contract, row: dict[str, object]) -> object:
    import pyarrow as pa

    return pa.Table.from_pylist([row], schema=contract.arrow_schema)
