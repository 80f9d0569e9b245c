"""A campaign from `taskdiv init` to its list, then edited, listed, shown, renamed and removed.

The list is made once. The tests use copies of its home, in this process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.cli import app
from taskdiv_assets.commands import consoles, edits, opening, stored_experiments
from taskdiv_assets.commands import experiment_commands as commands
from taskdiv_assets.commands.experiment_commands import as_yaml
from taskdiv_assets.commands.running import materialised, register_budgets
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.orchestration import instance
from taskdiv_assets.orchestration.code_location import build
from taskdiv_assets.storage.store import Store
from tests.graph import Graph
from tests.home import MINIATURE, Home

pytestmark = pytest.mark.xdist_group("questions")


def taskdiv(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments], input=typed)


def write_questions(folder: Path) -> None:
    rows = [f"T-{i},How do I reset password number {i}?,{('mail', 'chat')[i % 2]}" for i in range(60)]
    (folder / "questions.csv").write_text("\n".join(["ticket,question,channel", *rows]) + "\n")


def without_found_tasks(path: Path) -> None:
    """Leave the strategy `random` only: the tests are about a list, not about its order."""
    lines = path.read_text().replace("[task_diversity, random]", "[random]").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("task_labels:")))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Yield a home with a file from `init`. Its graph was run up to the list in this process."""
    home = Home(tmp_path_factory.mktemp("questions"))
    write_questions(home.folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.variables().items():
            patch.setenv(name, value)
        patch.chdir(home.folder)
        assert taskdiv("init", "questions.csv", "--yes").exit_code == 0
        without_found_tasks(home.folder / "questions.yaml")
        chosen = opening.open_experiment("questions.yaml")
        with instance.open_instance() as dagster:
            register_budgets(chosen, Store("questions"), dagster, ())
            graph = Graph(Path(Store("questions").locate("experiment.yaml")), dagster)
            for job, key in (("pool", None), ("rankings", "random"), ("cells", "12|random")):
                assert graph.run(job, key=key).success
    yield home


@pytest.fixture
def home(made: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Return a copy of the home `made`, and set the environment of this process to the copy."""
    copy = Home(tmp_path / "copy")
    shutil.copytree(made.folder, copy.folder)
    for name, value in copy.variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(copy.folder)
    monkeypatch.setattr(commands, "quietly", lambda: None)  # its silence would last for the tests that follow
    stored = copy.folder / "results/questions/experiment.yaml"
    stored.write_text(stored.read_text().replace(str(made.folder), str(copy.folder)))
    return copy


def question_file(home: Home) -> Path:
    return home.folder / "questions.yaml"


def edit(home: Home, old: str, new: str) -> None:
    path = question_file(home)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def fresh(name: str) -> set[str]:
    experiment = opening.open_experiment(name)
    lineage = REGISTRY.look(experiment, Store(name))
    return {str(unit) for unit in REGISTRY.units(experiment, Store(name), lineage.pool_size) if lineage.is_fresh(unit)}


# --- after an edit ---------------------------------------------------------------------------------------------------


def test_the_graph_of_what_init_writes_makes_the_list(home: Home) -> None:
    assert opening.open_experiment("questions").budgets == [12]
    assert Store("questions").read_table("annotation_batch", "12|random").table.num_rows == 12


@pytest.mark.full
def test_the_commands_that_init_names_lead_to_a_file_of_prompts(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_questions(home.folder)
    begun = home.say("init", "questions.csv")
    assert begun.returncode == 0, begun.stderr
    commands = [line.split()[2:] for line in begun.stdout.splitlines() if line.startswith(("next: ", "then: "))]
    assert len(commands) == 2
    for do, command in zip((home.taskdiv, home.say), commands, strict=True):
        result = do(*command)
        assert result.returncode == 0, result.stderr
    assert len((home.folder / "questions-task_diversity-12.jsonl").read_text().splitlines()) == 12
    told = home.say(*commands[0])
    assert told.returncode == 0
    made = [line.split()[1] for line in told.stderr.splitlines() if line.endswith(" started")]
    assert made == ["strategy_report"], "only the page that now says what was sent is made again"
    again = home.say(*commands[0])
    assert again.returncode == 0 and "everything is up to date" in again.stderr


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\n# a comment\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: yaml.safe_dump(dict(reversed(yaml.safe_load(text).items())), sort_keys=False),
        lambda text: text + "seeds: [0, 1, 2]\nchat_template: false\n",
    ],
)
def test_comments_blanks_line_ends_order_and_explicit_defaults_change_nothing(home: Home, change) -> None:
    before = fresh("questions")
    path = question_file(home)
    path.write_bytes(change(path.read_text()).encode())
    result = taskdiv("budget", "list", "questions.yaml")
    assert result.exit_code == 0 and result.stderr == ""
    assert fresh("questions") == before
    assert taskdiv("budget", "list", "questions").stderr == ""


def test_an_edit_that_makes_nothing_again_is_shown_and_taken(home: Home) -> None:
    before = fresh("questions")
    edit(home, "budgets: [12]", "budgets: [12, 24]")
    result = taskdiv("budget", "list", "questions.yaml")
    assert result.exit_code == 0
    assert "budgets: [12] → [12, 24]\nno stored result is recomputed" in result.stderr
    assert opening.open_experiment("questions").budgets == [12, 24]
    assert before <= fresh("questions")


def test_an_edit_that_makes_results_again_needs_a_yes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: data for name, data in home.files().items() if "/locks/" not in name}
    edit(home, ", id: ticket", "")
    refused = taskdiv("budget", "list", "questions.yaml")
    assert refused.exit_code == 2
    assert "pool.columns.id: ticket → none" in refused.stderr
    assert "would be recomputed: raw_pool, and results that depend on them if their content changes" in refused.stderr
    assert "taskdiv run questions.yaml --replace" in refused.stderr
    monkeypatch.setattr(consoles, "is_interactive", lambda: True)
    said_no = taskdiv("budget", "list", "questions.yaml", typed="n\n")
    assert said_no.exit_code == 1
    assert {name: data for name, data in home.files().items() if "/locks/" not in name} == before
    assert taskdiv("budget", "list", "questions.yaml", typed="y\n").exit_code == 0
    assert opening.open_experiment("questions").pool.columns == experiment_file.load("questions.yaml").pool.columns


def test_replace_takes_an_edit_without_asking_and_a_look_changes_nothing(home: Home) -> None:
    edit(home, ", id: ticket", "")
    stored = home.folder / "results/questions/experiment.yaml"
    before = stored.read_bytes()
    assert opening.open_experiment("questions.yaml", is_kept=False).pool.columns.id is None
    assert stored.read_bytes() == before
    assert opening.open_experiment("questions.yaml", replace=True).pool.columns.id is None
    assert "id: ticket" not in stored.read_text()


def test_a_name_whose_file_has_changed_says_so_in_one_line_and_goes_on(home: Home) -> None:
    edit(home, "budgets: [12]", "budgets: [12, 24]")
    result = taskdiv("budget", "list", "questions")
    assert result.exit_code == 0 and "24" not in result.stdout
    (line,) = result.stderr.splitlines()
    assert "has changed since it was read (budgets); the stored copy is used" in line
    assert line.endswith(f"`taskdiv run {question_file(home)}`")
    question_file(home).write_text("name: [")
    assert "is no longer valid" in taskdiv("budget", "list", "questions").stderr
    question_file(home).unlink()
    assert taskdiv("budget", "list", "questions").stderr == ""


def test_sections_that_come_and_go_are_shown_as_one_line() -> None:
    old = experiment_file.load(str(MINIATURE))
    raw = yaml.safe_load(MINIATURE.read_text())
    new = Experiment.model_validate({**raw, "base_model": {"path": "/model"}, "owners": ["me@example.org"]})
    lines = [str(change) for change in edits.changes(old, new)]
    assert "owners: [] → [me@example.org]" in lines
    assert "base_model.path: none → /model" in lines
    assert list(edits.changes(old, old)) == []


# --- the experiments of a home ---------------------------------------------------------------------------------------


def test_list_says_stage_and_file_and_names_a_broken_one_once(home: Home) -> None:
    gone = home.folder / "results/gone/experiment.yaml"
    gone.parent.mkdir()
    gone.write_text(
        question_file(home).read_text().replace("name: questions", "name: gone").replace("[random]", "[greedy]")
    )
    result = taskdiv("experiments", "list")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if " questions " in line)
    assert "stored" in row and "campaign" in row and "lists made" in row
    assert "demo_quick" in result.stdout and "built-in" in result.stdout
    assert "gone cannot be used" in result.stdout and "unknown strategy greedy" in result.stdout
    other = taskdiv("budget", "list", "questions")
    assert "gone" not in other.output
    own = taskdiv("budget", "list", "gone")
    assert own.exit_code == 2 and "unknown strategy greedy" in own.stderr


def test_a_broken_experiment_is_not_logged_by_commands_about_others(
    home: Home, capfd: pytest.CaptureFixture[str]
) -> None:
    torn = home.folder / "results/torn/experiment.yaml"
    torn.parent.mkdir()
    torn.write_text("name: [")
    build(["torn"])
    captured = capfd.readouterr()
    assert "torn" not in captured.out + captured.err


@pytest.mark.parametrize("name", [*experiment_file.built_in_names(), "questions"])
def test_show_reads_as_the_same_experiment(home: Home, name: str) -> None:
    result = taskdiv("experiments", "show", name)
    assert result.exit_code == 0
    assert experiment_file.parse(result.stdout, "/x.yaml").model_dump() == opening.open_experiment(name).model_dump()


def test_show_reads_as_the_same_with_a_judge_that_is_imported() -> None:
    kept = [line for line in MINIATURE.read_text().splitlines() if not line.startswith(("benchmarks:", "primary:"))]
    more = [
        "benchmarks: [{name: alpaca_eval, judge: {annotator: panel}}]",
        "primary: {strategy: facility_location, benchmark: alpaca_eval, metric: win_rate}",
    ]
    one = experiment_file.parse("\n".join([*kept, *more]), "/x.yaml")
    assert experiment_file.parse(as_yaml(one), "/x.yaml") == one


def test_a_renamed_experiment_keeps_its_results_and_its_next_run_finds_them(home: Home) -> None:
    before = fresh("questions")
    result = taskdiv("experiments", "rename", "questions", "tickets")
    assert result.exit_code == 0, result.output
    assert f"change `name: questions` in {question_file(home)} too" in result.stdout
    assert fresh("tickets") == before
    assert not (home.folder / "results/questions").exists()
    assert opening.open_experiment("tickets").name == "tickets"
    with instance.open_instance() as dagster:
        old = Experiment.model_validate(
            {**opening.open_experiment("tickets").model_dump(by_alias=True), "name": "questions"}
        )
        assert materialised(old, dagster) == set()
        assert dagster.get_dynamic_partitions("questions_budget") == []
    assert "there is no experiment 'questions'" in taskdiv("budget", "list", "questions").stderr


def test_a_rename_that_was_killed_is_finished_by_the_same_command(home: Home) -> None:
    (home.folder / "results/questions").rename(home.folder / "results/tickets")
    assert taskdiv("experiments", "rename", "questions", "tickets").exit_code == 0
    assert opening.open_experiment("tickets").name == "tickets"


@pytest.mark.parametrize(
    ("name", "new", "said"),
    [
        ("questions", "Tickets!", "expected lower-case letters, digits and _"),
        ("questions", "demo", "is reserved by taskdiv"),
        ("questions", "dagster", "is reserved by taskdiv"),
        ("questions", "questions", "questions exists already"),
        ("demo", "mine", "demo is built in"),
        ("nothing", "mine", "there is no experiment 'nothing'"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_changes(home: Home, name: str, new: str, said: str) -> None:
    before = home.files()
    result = taskdiv("experiments", "rename", name, new)
    assert result.exit_code == 2 and said in result.stderr
    assert home.files() == before


def test_a_busy_experiment_is_neither_renamed_nor_removed(home: Home) -> None:
    owner = f"{socket.gethostname()}:{os.getpid()}:x"
    lock = home.folder / "results/questions/locks/abc"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"owner": owner, "heartbeat": time.time()}))
    for arguments in (["rename", "questions", "tickets"], ["remove", "questions", "--yes"]):
        result = taskdiv("experiments", *arguments)
        assert result.exit_code == 2 and f"questions is in use (process {owner})" in result.stderr
    lock.write_text(json.dumps({"owner": f"{socket.gethostname()}:999999999:x", "heartbeat": time.time()}))
    assert taskdiv("experiments", "remove", "questions", "--yes").exit_code == 0


def test_remove_asks_and_removes_everything_but_the_users_files(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = taskdiv("experiments", "remove", "questions")
    assert refused.exit_code == 2 and "add --yes" in refused.stderr
    monkeypatch.setattr(commands, "is_interactive", lambda: True)
    assert taskdiv("experiments", "remove", "questions", typed="n\n").exit_code == 1
    assert (home.folder / "results/questions/experiment.yaml").exists()
    result = taskdiv("experiments", "remove", "questions", typed="y\n")
    assert result.exit_code == 0, result.output
    assert not (home.folder / "results/questions").exists() and question_file(home).exists()
    with instance.open_instance() as dagster:
        assert materialised(experiment_file.load("questions.yaml"), dagster) == set()
    again = taskdiv("experiments", "remove", "questions", "--yes")
    assert again.exit_code == 2 and "the file questions.yaml is in this folder" in again.stderr
    assert "nothing is stored for demo" in taskdiv("experiments", "remove", "demo", "--yes").stderr


def test_what_was_bought_is_removed_only_by_name_of_it(home: Home) -> None:
    sent = taskdiv("annotations", "export", "questions", "--budget", "12", "--strategy", "random")
    assert sent.exit_code == 0, sent.output
    assert stored_experiments.stage(Store("questions")) == "sent out"
    refused = taskdiv("experiments", "remove", "questions", "--yes")
    assert refused.exit_code == 2
    assert "questions has 1 export(s), which cannot be computed again" in refused.stderr
    assert taskdiv("experiments", "remove", "questions", "--yes", "--with-annotations").exit_code == 0


def test_a_removal_that_was_killed_can_be_repeated(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("questions")
    real, calls = store.fs.rm, []

    def rm(path: str, recursive: bool = False) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, recursive=recursive)

    monkeypatch.setattr(store.fs, "rm", rm)
    with pytest.raises(KeyboardInterrupt):
        stored_experiments.remove(store, None)
    monkeypatch.undo()
    assert store.get("experiment.yaml") is not None
    stored_experiments.remove(store, None)
    assert not Path(store.path()).exists()


def test_rename_is_refused_on_an_object_store() -> None:
    old, new = Store("old", "memory://home"), Store("new", "memory://home")
    old.put(b"name: old\n", "experiment.yaml")
    with pytest.raises(ValueError, match="is not on a local disk"):
        stored_experiments.rename(old, new, None)
    assert old.get("experiment.yaml") == b"name: old\n"
    assert stored_experiments.size(old).files_n == 1
    stored_experiments.remove(old, None)
    assert old.get("experiment.yaml") is None


# --- what is not there -----------------------------------------------------------------------------------------------


def test_an_unknown_name_says_where_it_was_looked_for_and_what_was_meant(home: Home) -> None:
    result = taskdiv("budget", "list", "qestions")
    assert result.exit_code == 2
    said = f"there is no experiment 'qestions' in {home.folder / 'results'}; stored there: questions"
    assert said in result.stderr and "did you mean questions?" in result.stderr
    (home.folder / "tickets.yaml").write_text("name: tickets\n")
    result = taskdiv("run", "tickets")
    assert "the file tickets.yaml is in this folder: `taskdiv run tickets.yaml`" in result.stderr
    assert "did you mean questions.yaml?" in taskdiv("run", "question.yaml").stderr
    for strange in ("", "../x", "a/b", "[red]"):
        assert "there is no experiment" in taskdiv("budget", "list", strange).stderr


def test_a_stored_copy_with_mistakes_names_the_file_to_correct(home: Home) -> None:
    stored = home.folder / "results/questions/experiment.yaml"
    stored.write_text(stored.read_text().replace("[random]", "[greedy]"))
    result = taskdiv("budget", "list", "questions")
    assert result.exit_code == 2 and "unknown strategy greedy" in result.stderr
    assert f"correct it there, then `taskdiv run {question_file(home)}`" in result.stderr
    mended = taskdiv("budget", "list", "questions.yaml")
    assert mended.exit_code == 0 and "the stored copy is no longer valid" in mended.stderr
    assert taskdiv("budget", "list", "questions").exit_code == 0


def test_a_mistake_in_a_stored_copy_names_the_copy(home: Home) -> None:
    """Numbers such as 1_000 were taken by earlier versions."""
    copy = home.folder / "results/written_before/experiment.yaml"
    copy.parent.mkdir(parents=True)
    text = Path("questions.yaml").read_text()
    copy.write_text(re.sub(r"(?m)^name: .*$", "name: written_before", text) + "confidence_sample: 1_000\n")
    with pytest.raises(experiment_file.ExperimentError, match="1_000") as refused:
        opening.open_experiment("written_before")
    assert str(copy) in str(refused.value)
