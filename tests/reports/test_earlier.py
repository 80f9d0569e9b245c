"""The section "Since the last report", and the earlier reports that the asset keeps."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reports
from data_contracts.footer import FOOTER_KEY, Footer
from reports import analysis, envelope, numbers, results, writing
from reports.earlier import changes as changing
from reports.earlier.changes import SAME, Counts, compare, differs
from reports.earlier.changes_part import since_section
from reports.earlier.stored_reports import IDENTITY, KEPT_N, Figure, StoredReport, name_of
from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.assets.strategy_report import present_report, remove_oldest
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.graph.lineage import sha256
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store
from tests import golden
from tests.home import MINIATURE
from tests.reports.make_results import Recipe, make_results

pytestmark = pytest.mark.usefixtures("without_pictures")

SMALL = Recipe(
    tasks=("copy", "flip"), items_per_task=8, budgets=(32, 64), reader="table", full_pool_seeds=(), has_effects=False,
    strategies=("random", "min_margin", "task_diversity", "weighted_task_diversity"),
)  # fmt: skip
START = datetime(2026, 11, 30, 4, 6, 25, 846_000, UTC)
EMPTY = "00000000000000000000000000000000"


def text_of(page: str) -> str:
    section = re.search(r'<section id="since".*?</section>', page, re.DOTALL)
    plain = re.sub(r"<[^>]*>", " ", re.sub(r"</?(wbr|bdi)/?>", "", section.group() if section else ""))
    return " ".join(html.unescape(plain).split())


def render(store: Store) -> tuple[str, pa.Table, dict[str, str]]:
    """Return the section, the results table and the identities of the used tables. The whole page takes seconds."""
    found = results.load(store.url)
    table = numbers.results_table(found, analysis.sections(found))
    found = found._replace(changes=changing.changes_since(store.url, found, table))
    section = envelope.environment().get_template("since.html.j2").render(since=since_section(found))
    return section, table, changing.identities_of(found)


def publish(store: Store, after_s: int) -> str:
    """Store a report as the asset does, `after_s` seconds after the first one, and return its page: only the section."""
    page, table, identities = render(store)
    files = {**present_report(store, page.encode()), "report/results.csv": b"", "report/index.html": page.encode()}
    for path, content in files.items():
        store.put(content, *path.split("/"))
    made_at = (START + timedelta(seconds=after_s)).isoformat(timespec="milliseconds")
    inputs = {**identities, "ranking/left_out": "stale"}
    store.write_table(table, Footer("strategy_report", identity=EMPTY, inputs=inputs, finished_at=made_at))
    remove_oldest(SimpleNamespace(store=store))  # type: ignore[arg-type]
    return page


def make_again(store: Store, asset: str, key: str, identity: str, score: float | None = None) -> None:
    """Give a stored table another identity and, if `score` is given, this score in all rows."""
    budget, strategy = key.split("|")
    table = store.read_table(asset, key).table
    if score is not None:
        place = table.column_names.index("score")
        table = table.set_column(place, "score", pa.array([score] * table.num_rows))
    raw = json.loads(table.schema.metadata[FOOTER_KEY]) | {"identity": identity}
    path = store.path("tables", asset, strategy, f"{budget}.parquet")
    with store.fs.open(path, "wb") as file:
        pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(raw).encode()}), file)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder with its first report."""
    folder = make_results(tmp_path_factory.mktemp("published"), SMALL)
    publish(Store(folder.name, str(folder.parent)), 0)
    return folder


@pytest.fixture
def store(tmp_path: Path, published: Path) -> Store:
    """Return the store of a copy of the published results."""
    shutil.copytree(published, tmp_path / published.name)
    return Store(published.name, str(tmp_path))


def page_of(store: Store) -> str:
    return store.read(store.path("report", "index.html")).decode()


def kept(store: Store) -> list[str]:
    return store.names_below("report", "earlier")


def test_the_first_report_says_so_also_when_it_is_stored(store: Store) -> None:
    assert "this is the first one, or nothing changed since." in text_of(page_of(store))
    assert render(store)[0] == page_of(store)
    assert kept(store) == []


def test_a_changed_cell_moves_numbers_flips_verdicts_and_is_named(store: Store) -> None:
    make_again(store, "adapter", "64|weighted_task_diversity", "a" * 32)
    make_again(store, "benchmark_scores", "64|weighted_task_diversity", "b" * 32, score=0.0)
    page = publish(store, 1)
    said = text_of(page)
    assert "The last report with other results was made on 2026-11-30, 04:06 UTC." in said
    assert "Of the cells with scores, 1 was scored again." in said
    assert "adapter: trained again (weighted_task_diversity, 64)." in said
    assert "mean score: weighted_task_diversity 64" in said
    assert "report/earlier/2026-11-30T04-06-25.846Z/index.html" in said
    assert render(store)[0] == page, "the same tables give the same page, before and after it is stored"
    assert publish(store, 2) == page
    assert kept(store) == [f"2026-11-30T04-06-25.846Z/{name}" for name in ("index.html", "results.parquet")]


def test_the_counts_are_those_of_the_two_stored_tables(store: Store) -> None:
    """A second definition: the two files, row by row, with pandas."""
    before = store.read_table("strategy_report").table
    make_again(store, "benchmark_scores", "32|task_diversity", "b" * 32, score=1.0)
    found = results.load(store.url)
    now = numbers.results_table(found, analysis.sections(found))
    said = changing.changes_since(store.url, found, now)
    left_out = ["score", "task_mean", "pair", "detectable_difference", "detectable_area"]
    columns = ["quantity", "benchmark", "metric", "strategy", "reference", "budget_n"]
    first, second = (
        one.to_pandas()
        .query("task == '' and training_seed.isna()")
        .loc[lambda rows: ~rows["quantity"].isin(left_out)]
        .set_index(columns)[["estimate", "low", "high", "verdict"]]
        for one in (before, now)
    )
    assert set(first.index) == set(second.index)
    gap = (first[["estimate", "low", "high"]] - second.loc[first.index, ["estimate", "low", "high"]]).abs() > SAME
    turned = first[["low", "high", "estimate"]].isna() != second.loc[first.index, ["low", "high", "estimate"]].isna()
    other = gap.any(axis=1) | turned.any(axis=1) | (first["verdict"] != second.loc[first.index, "verdict"])
    assert said.numbers == Counts(0, int(other.sum()), 0)
    areas = first.xs("area")["verdict"] != second.xs("area")["verdict"]
    assert len(said.flipped) == int(areas.sum()) > 0
    assert said.comparisons == Counts(0, len(said.flipped), 0)
    widths = [pair.in_half_widths for pair in said.moved]
    assert widths == sorted(widths, reverse=True)


def test_a_comparison_that_is_gone_is_counted(store: Store) -> None:
    for budget in (32, 64):
        store.remove("tables", "benchmark_scores", "min_margin", f"{budget}.parquet")
    said = text_of(publish(store, 1))
    assert "Of the cells with scores, 2 are gone." in said
    assert "Of the comparisons of two strategies, 1 is gone." in said
    assert "benchmark_scores: gone (min_margin, 32; min_margin, 64)." in said


def test_settings_alone_can_change_numbers(store: Store) -> None:
    text = (store.get("experiment.yaml") or b"").decode()
    store.put(text.replace("reference: random", "reference: min_margin").encode(), "experiment.yaml")
    said = text_of(publish(store, 1))
    assert "No cell with scores changed." in said
    assert "No stored table changed. So the experiment file's settings changed, or the program's version." in said


def test_a_setting_that_changes_no_result_is_no_change(store: Store) -> None:
    text = (store.get("experiment.yaml") or b"").decode()
    store.put(text.replace("price: null", "price: 0.5").encode(), "experiment.yaml")
    assert "or nothing changed since." in text_of(publish(store, 1))


def test_new_tables_with_the_same_numbers_change_nothing(store: Store) -> None:
    make_again(store, "adapter", "64|random", "a" * 32)
    said = text_of(publish(store, 1))
    assert "No cell with scores changed. No number changed. No verdict on two strategies changed." in said
    assert "adapter: trained again (random, 64)." in said


def test_results_that_come_back_are_compared_with_those_between(store: Store) -> None:
    old = store.read(store.path("tables", "benchmark_scores", "random", "64.parquet"))
    make_again(store, "benchmark_scores", "64|random", "b" * 32, score=1.0)
    publish(store, 60)
    store.put(old, "tables", "benchmark_scores", "random", "64.parquet")
    page = publish(store, 120)
    assert "was made on 2026-11-30, 04:07 UTC" in text_of(page)
    assert render(store)[0] == page


def test_another_reference_is_not_compared(store: Store) -> None:
    page = reports.render(store.url, reference="min_margin").html
    assert "Not compared: this page has another reference strategy than the stored reports." in text_of(page)


@pytest.mark.parametrize("damage", [b"", b"PAR1 not a table PAR1"])
def test_a_report_that_cannot_be_read_is_named_and_left_out(store: Store, damage: bytes) -> None:
    make_again(store, "benchmark_scores", "64|random", "b" * 32)
    publish(store, 1)
    store.put(damage, "report", "results.parquet")
    said = text_of(render(store)[0])
    assert "Left out, because they cannot be read: report/results.parquet." in said
    assert "2026-11-30, 04:06 UTC" in said, "the report before it is compared instead"
    store.put(damage, "report", "earlier", "2026-11-30T04-06-25.846Z", "results.parquet")
    assert text_of(render(store)[0]).endswith("No other report is stored.")


def test_a_table_of_another_form_is_left_out(store: Store) -> None:
    footer = Footer("strategy_report", finished_at=START.isoformat())
    store.write_table(pa.table({"quantity": ["mean"], "estimate": ["<b>"]}), footer)
    assert "cannot be read: report/results.parquet." in text_of(render(store)[0])


def test_only_the_newest_twenty_are_kept_and_other_files_stay(store: Store) -> None:
    store.put(b"mine", "report", "earlier", "my own", "notes.txt")
    table = writing.as_csv(pa.table({}))  # the content does not matter
    for second in range(KEPT_N + 3):
        name = name_of((START + timedelta(seconds=second)).isoformat())
        store.put(table, "report", "earlier", name, "index.html")
        store.put(table, "report", "earlier", name, "results.parquet")
    remove_oldest(SimpleNamespace(store=store))  # type: ignore[arg-type]
    names = store.names("report", "earlier")
    assert len(names) == KEPT_N + 1 and "my own" in names
    assert names[0] == name_of((START + timedelta(seconds=3)).isoformat()) == "2026-11-30T04-06-28.846Z"


def test_without_a_time_nothing_is_kept(store: Store) -> None:
    assert [name_of(text) for text in ("", "yesterday", "2026-11-30T04:06:25", "0001-01-01T00:00:00+14:00")] == [""] * 4
    store.put(b"<p>old</p>", "report", "index.html")
    store.put(b"no table", "report", "results.parquet")
    assert present_report(store, b"new") == {}


class KilledError(Exception):
    """Raised where a test wants the process to be killed."""


@contextmanager
def killed_at(store: Store, writes_n: int) -> Iterator[None]:
    """Stop the block at its write number `writes_n`, before this write."""
    left, put = [writes_n], store.put

    def counted(data: bytes, *parts: str) -> str:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        return put(data, *parts)

    store.put = counted  # type: ignore[method-assign]
    try:
        with suppress(KilledError):
            yield
    finally:
        store.put = put  # type: ignore[method-assign]


@pytest.mark.parametrize("writes_n", range(6))
def test_a_kill_at_any_write_never_loses_the_present_report(store: Store, writes_n: int) -> None:
    first = store.read(store.path("report", "index.html"))
    table = store.read(store.path("report", "results.parquet"))
    make_again(store, "benchmark_scores", "64|random", "b" * 32, score=1.0)
    with killed_at(store, writes_n):
        publish(store, 1)
    folder = ("report", "earlier", "2026-11-30T04-06-25.846Z")
    present = (store.get("report", "index.html"), store.get("report", "results.parquet"))
    earlier = (store.get(*folder, "index.html"), store.get(*folder, "results.parquet"))
    assert (first, table) in (present, earlier)
    page = publish(store, 2)
    assert (store.get(*folder, "index.html"), store.get(*folder, "results.parquet")) == (first, table)
    assert render(store)[0] == page


def test_it_works_on_storage_without_folders(published: Path) -> None:
    fs = fsspec.filesystem("memory")
    for path in published.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"/since/demo/{path.relative_to(published).as_posix()}", path.read_bytes())
    store = Store("demo", "memory://since")
    make_again(store, "benchmark_scores", "64|random", "b" * 32, score=1.0)
    page = publish(store, 1)
    assert "Of the cells with scores, 1 was scored again." in text_of(page)
    assert kept(store) == [f"2026-11-30T04-06-25.846Z/{name}" for name in ("index.html", "results.parquet")]


def test_the_report_of_the_graph_names_the_tables_that_the_page_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden.unpack("miniature", tmp_path)
    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
    lineage = REGISTRY.look(experiment_file.load(str(MINIATURE)), Store("miniature"))
    inputs = lineage.expect(Unit("strategy_report")).inputs
    used = {unit: identity for unit, identity in inputs.items() if IDENTITY.fullmatch(identity)}
    assert changing.identities_of(results.load(lineage.store.url, lineage.stale_units())) == used


@pytest.mark.parametrize("path", ["report/index.html", "report/results.csv"])
def test_a_report_with_a_file_of_another_writing_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A kill between the writing of the page and of the table leaves both of different results."""
    golden.unpack("miniature", tmp_path)
    monkeypatch.setenv("TASKDIV_HOME", str(tmp_path))
    store, unit = Store("miniature"), Unit("strategy_report")
    lineage = REGISTRY.look(experiment_file.load(str(MINIATURE)), store)
    texts = {name: name.encode() for name in REGISTRY[unit.asset].files}
    table = pa.table({"x": [1]})

    def state(notes: dict[str, Any]) -> tuple[str, str]:
        footer = Footer(unit.asset, identity=lineage.expect(unit).identity, notes=notes)
        store.write_table(table, footer)
        status, reason = lineage.again().state(unit)
        return status, reason

    for name, text in texts.items():
        store.put(text, *name.split("/"))
    noted = {"files": {name: sha256(text) for name, text in texts.items()}}
    assert state(noted) == ("fresh", "")
    said = f"{path} is not the file that was stored with strategy_report"
    store.put(b"of results that were undone", *path.split("/"))
    assert state(noted) == ("stale", said)
    store.remove(*path.split("/"))
    assert state(noted) == ("stale", said)
    assert {state({})[0], state({"files": [path]})[0]} == {"stale"}


def test_a_page_of_an_earlier_version_is_made_again() -> None:
    """The page changed, so reports of earlier versions are not up to date. No other table reads them, and the page is cheap."""
    assert REGISTRY["strategy_report"].code_version == 5
    assert all("strategy_report" not in REGISTRY.reads(name) for name in REGISTRY.order)


KEYS = st.sampled_from(["raw_pool", "adapter/8|random", "benchmark_scores/8|random", "benchmark_scores/16|ours"])
IDENTITIES = st.dictionaries(KEYS, st.sampled_from(["a" * 32, "b" * 32]))
FIGURES = st.dictionaries(st.integers(1, 4), st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["x", "y"])))


def made_of(identities: dict[str, str], rows: dict[int, tuple[float, str]]) -> StoredReport:
    every = [
        Figure("difference", "b", "m", "s", "r", n, value, value - 0.1, value + 0.1, verdict, "budgets")
        for n, (value, verdict) in rows.items()
    ]
    return StoredReport("", START, identities, {one.key: one for one in every})


@settings(max_examples=60, deadline=None)
@given(IDENTITIES, FIGURES, IDENTITIES, FIGURES)
def test_every_difference_is_counted_once(
    before: dict[str, str], rows: dict[int, Any], now: dict[str, str], new_rows: dict[int, Any]
) -> None:
    last, present = made_of(before, rows), made_of(now, new_rows)
    said = compare(last, present.identities, present.figures)
    assert differs(last, now, present.figures) == ((before, rows) != (now, new_rows))
    assert said.numbers == Counts(
        len(new_rows.keys() - rows.keys()),
        sum(rows[n] != new_rows[n] for n in rows.keys() & new_rows.keys()),
        len(rows.keys() - new_rows.keys()),
    )
    named = {
        f"{one.asset}/{key}" if key else one.asset for one in said.remade for key in (*one.new, *one.again, *one.gone)
    }
    assert named == {unit for unit in {*before, *now} if before.get(unit) != now.get(unit)}
    assert sum(len(one.new) + len(one.again) + len(one.gone) for one in said.remade) == len(named)
