"""The `taskdiv` command as a user types it: a real run, new budgets, bad input.

Tests here share one finished home and run in the order of the file. Each leaves the home complete, except for the budget 18.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from taskdiv_assets.commands import page_pdf
from tests.golden import copied, variables_of
from tests.graph import Graph, failure
from tests.home import Home

pytestmark = pytest.mark.xdist_group("cli")


def test_plan_says_that_all_is_done(miniature: Home) -> None:
    result = miniature.say("plan", "miniature")
    assert result.returncode == 0, result.stderr
    assert "7 done, 0 missing" in result.stdout
    assert "142 (full pool)" in result.stdout


@pytest.mark.full
def test_a_new_budget_does_its_own_cell_only_and_a_second_run_nothing(miniature: Home) -> None:
    before = miniature.files()
    assert miniature.say("budget", "add", "miniature", "18").returncode == 0
    planned = miniature.say("plan", "miniature").stdout
    assert "7 done, 3 missing" in planned
    command = ("run", "miniature", "--budget", "18", "--strategy", "random", "--workers", "1")
    result = miniature.taskdiv(*command)
    assert result.returncode == 0, result.stderr
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("report: ")
    assert Path(last.removeprefix("report: ")).read_text().startswith("<!DOCTYPE html>")
    after = miniature.files()
    changed = {name for name in after if name.startswith("miniature/tables/") and after[name] != before.get(name)}
    assert {Path(name).stem for name in changed} == {"18"}
    assert len(changed) == 4 + 1, "four tables, and the data card of the allocation"
    listed = miniature.say("budget", "list", "miniature").stdout
    assert "18" in listed and "1 of 3" in listed
    again = miniature.say(*command)
    assert again.returncode == 0
    assert "everything is up to date" in again.stderr
    assert {n: c for n, c in miniature.files().items() if "/locks/" not in n} == after


def test_a_budget_that_was_added_can_be_removed(miniature: Home) -> None:
    assert miniature.say("budget", "add", "miniature", "17").returncode == 0
    assert "missing" in miniature.say("plan", "miniature").stdout
    assert miniature.say("budget", "remove", "miniature", "17").returncode == 0
    assert "17" not in miniature.say("budget", "list", "miniature").stdout


@pytest.mark.full
def test_lost_weights_and_a_strangers_table_are_errors_and_a_run_mends_them(computed: Home, tmp_path: Path) -> None:
    home = copied(computed, tmp_path)
    root = home.folder / "results/miniature"
    folder = pq.read_table(root / "tables/adapter/random/12.parquet")["folder"][0].as_py()
    weights = root / "folders" / folder / "adapter_model.safetensors"
    kept = weights.read_bytes()
    weights.unlink()
    stranger = root / "tables/benchmark_scores/facility_location/12.parquet"
    pq.write_table(pq.read_table(stranger).replace_schema_metadata(None), stranger)
    assert home.say("report", "miniature").returncode == 0
    page = root / "report/index.html"
    without = page.read_text()  # up to date now, and not any more once the cells are mended
    checked = home.say("contracts", "check", "miniature")
    assert checked.returncode == 1
    assert "files_there" in checked.stdout and "readable" in checked.stdout
    mended = home.taskdiv("run", "miniature", "--budget", "12", "--workers", "1")
    assert mended.returncode == 0, mended.stderr
    assert weights.read_bytes() == kept  # trained again, and the same bytes
    assert page.read_text() != without
    assert without in [one.read_text() for one in (root / "report/earlier").glob("*/index.html")]
    assert home.say("contracts", "check", "miniature").returncode == 0


def test_contracts_check_finds_the_one_table_that_was_edited(golden: Home, tmp_path: Path) -> None:
    """Over the pool and the cells of one strategy: a check reads each table, and each takes half a second."""
    home = copied(golden, tmp_path)
    tables = home.folder / "results/miniature/tables"
    for path in tables.glob("*/*"):
        if path.stem != "random" or path.parent.name == "annotation_batch":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    path = tables / "benchmark_scores/random/12.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    broken = home.say("contracts", "check", "miniature")
    assert broken.returncode == 1
    found = [line for line in broken.stdout.splitlines() if line.startswith("broken ")]
    assert found and all(line.startswith("broken benchmark_scores/12|random: ") for line in found), broken.stdout


BAD_BUDGETS = ["0", "-5", "1.5", "many", "9999"]


@pytest.mark.parametrize("budget", BAD_BUDGETS)
def test_a_bad_budget_is_refused_and_nothing_is_written(miniature: Home, budget: str) -> None:
    before = miniature.files()
    result = miniature.say("budget", "add", "miniature", "--", budget)
    assert result.returncode == 2
    expected = "larger than the pool" if budget == "9999" else "not a positive whole number"
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert miniature.files() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "miniature", "--strategy", "randomm"], "unknown strategy 'randomm'"),
        (["run", "miniature", "--strategy", "min_margin"], "is not in miniature"),
        (["run", "nothing_of_the_kind"], "there is no experiment"),
        (["run", "nowhere.yaml"], "there is no experiment file"),
        (["run", "miniature", "--budget", "999"], "budget 999 is larger than the pool"),
        (["run", "miniature", "--budget", "99"], "99 is not a budget of miniature; it has 12, "),
        (["run", "miniature", "--budget", "x"], "not a positive whole number"),
        (["plan", "miniature", "--budget", "99", "--strategy", "random"], "`taskdiv budget add miniature 99` adds it"),
        (["run", "miniature", "--until", "nowhere"], "there is no asset"),
        (["report", "demo"], "nothing is stored for demo"),
        (["budget", "add", "demo", "5"], "has not been read yet"),
        (["budget", "add", "miniature", "142"], "is the whole pool"),
        (["budget", "remove", "miniature", "12"], "is in the experiment file"),
        (["budget", "remove", "miniature", "77"], "is not registered"),
        (["contracts", "check", "demo"], "nothing is stored for demo"),
        (
            ["annotations", "export", "miniature", "--budget", "12", "--strategy", "random"],
            "choose one of them with --seed",
        ),
        (
            ["annotations", "export", "miniature", "--budget", "12", "--strategy", "random", "--format", "xlsx"],
            "expected one of jsonl, csv, label-studio",
        ),
        (["annotations", "import", "nowhere.csv"], "there is no file nowhere.csv"),
        (["annotations", "rewrite", "miniature", "1"], "there is no export 1 of miniature"),
    ],
)
def test_a_mistake_is_one_clear_sentence(miniature: Home, arguments: list[str], said: str) -> None:
    before = miniature.files()
    result = miniature.say(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    assert miniature.files() == before


BAD_POOLS = {
    "missing column": ("pool.csv", b"text,kind\na,b\n", "{prompt: question, task: kind}", "has no column 'question'"),
    "empty prompt": ("pool.csv", b"question,kind\na,b\n ,b\n", "{prompt: question, task: kind}", "prompt"),
    "own id twice": ("pool.csv", b"question,id\na,1\nb,1\n", "{prompt: question, id: id, task: id}", "1"),
    "not what its name says": (
        "pool.parquet",
        b"question,id\na,1\n",
        "{prompt: question, task: id}",
        "is not a Parquet file",
    ),
    "not there": ("other.csv", b"", "{prompt: question, task: kind}", "there is no file"),
}


@pytest.fixture
def own(tmp_path: Path) -> Home:
    (tmp_path / "pool.csv").write_text("question,kind\nwhat?,a\n")
    return Home(tmp_path)


def said_by_a_step(home: Home, path: Path, *assets: str) -> str:
    """Run assets of the pool in this process, and return the error of the first step that fails."""
    with variables_of(home), dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        patch.chdir(home.folder)
        result = Graph(path, instance).run("pool", *assets)
    assert not result.success
    return failure(result)


@pytest.mark.parametrize("case", BAD_POOLS)
def test_a_bad_pool_is_one_clear_sentence_and_nothing_is_stored(own: Home, case: str) -> None:
    name, content, columns, said = BAD_POOLS[case]
    (own.folder / "pool.csv").unlink()
    if content:
        (own.folder / name).write_bytes(content)
    sentence = said_by_a_step(own, write_own(own, name, columns, model="model"), "raw_pool", "task_labels")
    assert said in sentence and "Traceback" not in sentence
    assert not [n for n in own.files() if n.endswith(".parquet")]


@pytest.mark.full
def test_a_run_over_a_bad_pool_ends_with_the_sentence(own: Home) -> None:
    path = write_own(own, "pool.csv", "{prompt: text, task: kind}", model="model")
    result = own.taskdiv("run", str(path), "--until", "task_labels", "--workers", "1")
    assert result.returncode in (1, 2)
    assert "has no column 'text'" in result.stderr and "Traceback" not in result.stderr
    assert not [n for n in own.files() if n.endswith(".parquet")]


def test_a_base_model_that_is_not_there_is_one_clear_sentence(own: Home) -> None:
    path = write_own(own, "pool.csv", "{prompt: question, task: kind}", model="nowhere")
    sentence = said_by_a_step(own, path, "base_model")
    assert "there is no such folder" in sentence and "Traceback" not in sentence


def test_a_built_in_name_cannot_be_taken(tmp_path: Path) -> None:
    home = Home(tmp_path)
    result = home.say("plan", str(home.write_experiment("demo")))
    assert result.returncode == 2 and "built-in" in result.stderr


def test_help_teaches() -> None:
    home = Home(Path("/"))
    for command in ([], ["run"], ["plan"], ["budget"], ["annotations"], ["contracts"], ["report"]):
        result = home.say(*command, "--help")
        assert result.returncode == 0 and "Usage" in result.stdout


def write_own(home: Home, pool: str, columns: str, *, model: str) -> Path:
    """Write an experiment over a user's own pool file and model folder."""
    path = home.folder / "own.yaml"
    path.write_text(
        f"""
name: own
purpose: campaign
pool: {{reader: table, path: {pool}, columns: {columns}}}
base_model: {{path: {model}}}
strategies: [random, task_diversity]
budgets: [2]
seeds: [0]
tuning: {{learning_rate: 1.0e-3, epochs: 1}}
benchmarks: [{{name: bbh, limit: 1}}]
primary: {{strategy: task_diversity, benchmark: bbh, metric: exact_match}}
"""
    )
    return path


def test_a_report_against_another_reference_is_written_beside(
    miniature: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\nfor one; do case $one in --print-to-pdf=*) echo %PDF >${one#*=};; esac; done\n")
    browser.chmod(0o755)
    monkeypatch.setattr(page_pdf, "BROWSERS", (str(browser),))
    stored = miniature.folder / "results/miniature/report/index.html"
    before = stored.read_bytes()
    out = tmp_path / "other"
    result = miniature.say("report", "miniature", "--reference", "facility_location", "-o", str(out), "--format", "pdf")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"pdf: {out / 'miniature.pdf'}"
    assert (out / "miniature.pdf").read_bytes() == b"%PDF\n"
    assert {"b0-curves.svg", "b0-curves.png"} <= {path.name for path in (out / "figures").iterdir()}
    assert (
        "above facility_location" in (out / "index.html").read_text()
        or "below facility_location" in (out / "index.html").read_text()
    )
    assert stored.read_bytes() == before and "against facility_location" not in before.decode()
    alone = miniature.say("report", "miniature", "--reference", "random")
    assert alone.returncode == 2 and "--reference needs --output" in alone.stderr
    unknown = miniature.say("report", "miniature", "--reference", "nobody", "-o", str(out))
    assert unknown.returncode == 2 and "'nobody' is no strategy of miniature; expected one of random" in unknown.stderr
