"""`taskdiv init`: guesses from the content of a file, questions, and a valid experiment file that never replaces another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from taskdiv_assets.cli import app
from taskdiv_assets.commands import init as init_module
from taskdiv_assets.commands import proposal
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.pools.look import ColumnLook, FileLook
from tests.home import Home

HAS_CHATS = "messages" in Columns.model_fields


@pytest.fixture
def here(empty_home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder."""
    monkeypatch.chdir(empty_home.folder)
    monkeypatch.setenv("COLUMNS", "200")
    return empty_home.folder


def questions(folder: Path, rows_n: int = 1000, name: str = "questions.csv") -> Path:
    rows = [f"T-{i},How do I reset password number {i}?,{('mail', 'chat')[i % 2]}" for i in range(rows_n)]
    path = folder / name
    path.write_text("\n".join(["ticket,question,channel", *rows]) + "\n")
    return path


def init(*arguments: str, answers: Sequence[str] | None = None) -> Result:
    typed = None if answers is None else "".join(f"{answer}\n" for answer in answers)
    return CliRunner().invoke(app, ["init", *arguments], input=typed)


def look_of(rows_n: int, *columns: tuple[object, ...], is_whole: bool = True) -> FileLook:
    """Return a FileLook. The arguments of a column are name, kind, filled, distinct, median length and samples."""
    return FileLook("x.csv", "CSV", None, ",", tuple(ColumnLook(*column) for column in columns), rows_n, is_whole)


def test_the_trial_of_the_issue_gives_a_file_that_is_an_experiment(here: Path) -> None:
    questions(here)
    result = init("questions.csv")
    assert result.exit_code == 0, result.output
    assert "next: taskdiv run questions.yaml" in result.stdout
    assert "then: taskdiv annotations export questions --budget 200 --strategy task_diversity" in result.stdout
    assert "tasks: no column, so the run looks for groups of prompts with similar wording" in result.stdout
    assert "no terminal to ask on" in result.stderr
    text = (here / "questions.yaml").read_text()
    assert 12 <= len(text.splitlines()) <= 20
    made = experiment_file.load(str(here / "questions.yaml"))
    assert (made.name, made.purpose, made.budgets, made.strategies) == (
        "questions",
        "campaign",
        [200],
        ["task_diversity", "random"],
    )
    assert made.labels_from == "discovered" and made.task_labels.tasks is None
    assert made.pool.columns is not None
    assert made.pool.columns.model_dump(exclude_none=True) == {"prompt": "question", "id": "ticket"}
    assert made.pool.path == str(here / "questions.csv")


def test_the_first_line_points_editors_to_a_schema_that_is_there(here: Path) -> None:
    questions(here)
    init("questions.csv", "--yes")
    first_line = (here / "questions.yaml").read_text().splitlines()[0]
    pointed = first_line.removeprefix("# yaml-language-server: $schema=")
    assert pointed != first_line
    assert json.loads((here / pointed).read_text())["properties"]["budgets"]


def test_nothing_is_overwritten(here: Path) -> None:
    questions(here)
    mine = here / "questions.yaml"
    mine.write_text("name: mine\n")
    for arguments in (["questions.csv"], ["questions.csv", "--output", "questions.yaml"]):
        result = init(*arguments, "--yes")
        assert result.exit_code == 2 and "already exists, and nothing is overwritten" in result.stderr
    assert mine.read_text() == "name: mine\n"
    assert init("questions.csv", "--yes", "-o", "other.yaml").exit_code == 0
    assert experiment_file.load(str(here / "other.yaml")).name == "other"
    assert init("questions.csv", "--yes", "-o", "other.txt").exit_code == 2


def test_at_most_five_questions_each_with_a_default(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions(here)
    monkeypatch.setattr(init_module, "is_interactive", lambda: True)
    result = init("questions.csv", answers=[""] * 5)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("]:") == 5, result.stderr
    first = (here / "questions.yaml").read_text()
    (here / "questions.yaml").unlink()
    assert init("questions.csv", "--yes").exit_code == 0
    assert (here / "questions.yaml").read_text() == first


def test_a_wrong_answer_is_asked_again_with_what_was_expected(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions(here)
    monkeypatch.setattr(init_module, "is_interactive", lambda: True)
    typed = ["qestion", "question", "channel", "channel", "ticket", "many", "1001", "50", "nowhere", "none"]
    result = init("questions.csv", answers=typed)
    assert result.exit_code == 0, result.output
    for said in (
        "there is no column 'qestion'; expected one of ticket, question, channel",
        "998 rows repeat an id of 'channel'; expected different ids",
        "budget 'many' is not a positive whole number",
        "1,001 is more than the 1,000 different prompts",
        "there is no folder nowhere; expected the folder of a model, or none",
    ):
        assert said in result.stderr
    made = experiment_file.load(str(here / "questions.yaml"))
    assert made.strategies == ["task_diversity", "random"] and made.budgets == [50]
    assert made.pool.columns is not None and made.pool.columns.task == "channel"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--prompt", "qestion", "there is no column 'qestion'"),
        ("--task", "nothing", "there is no column 'nothing'"),
        ("--id", "channel", "repeat an id of 'channel'"),
        ("--budget", "1.5", "is not a positive whole number"),
        ("--base-model", "nowhere", "there is no folder nowhere"),
    ],
)
def test_an_option_that_does_not_fit_is_one_sentence_and_writes_nothing(
    here: Path, option: str, value: str, said: str
) -> None:
    questions(here)
    result = init("questions.csv", option, value)
    assert result.exit_code == 2 and said in result.stderr
    assert not (here / "questions.yaml").exists()


def test_a_base_model_adds_the_strategies_that_read_it_and_the_run_ends_with_the_lists(here: Path) -> None:
    questions(here)
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    result = init("questions.csv", "--task", "channel", "--base-model", "model", "--budget", "30")
    assert result.exit_code == 0, result.output
    made = experiment_file.load(str(here / "questions.yaml"))
    assert made.strategies == ["weighted_task_diversity", "task_diversity", "random"]
    assert made.base.path == str(here / "model")
    assert "next: taskdiv run questions.yaml --until annotation_batch" in result.stdout


def test_what_a_run_would_refuse_or_drop_is_said_before(here: Path) -> None:
    (here / "q.csv").write_text("id,question,answer\n1,what?,this\n2,,\n3,what?,\n")
    result = init("q.csv", "--yes")
    assert result.exit_code == 0, result.output
    assert "1 rows have no 'question', and a run refuses them" in result.stderr
    assert "1 rows repeat the prompt of an earlier row" in result.stderr
    assert "'answer' holds 1 answers, which count as known" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "is empty"),
        ("numbers.csv", b"a,b\n1,2\n3,4\n", "no column of numbers.csv holds text;"),
        ("torn.parquet", b"PAR1", "not a whole Parquet file"),
    ],
)
def test_a_file_without_prompts_is_one_sentence(here: Path, name: str, content: bytes, said: str) -> None:
    (here / name).write_bytes(content)
    result = init(name, "--yes")
    assert result.exit_code == 2 and said in result.stderr
    assert not [*here.glob("*.yaml")]
    assert init("nowhere.csv").exit_code == 2


def test_a_pattern_is_answered_with_one_of_its_files(here: Path) -> None:
    questions(here)
    questions(here, name="more.csv")
    result = init("*.csv")
    assert result.exit_code == 2 and "*.csv is a pattern that matches 2 file(s)" in result.stderr, result.output
    assert "more.csv" in result.stderr and not list(here.glob("*.yaml"))
    assert "no file matches *.json" in init("*.json").stderr


def test_names_and_cells_of_any_kind_stay_what_they_are(here: Path) -> None:
    strange = 'my "prompt": [x], {y} # z'
    (here / "a [b].csv").write_text(
        f'"{strange.replace(chr(34), chr(34) * 2)}",n\n[red]hello\x1b[31m,1\nworld of prompts,2\n'
    )
    result = init("a [b].csv", "--yes")
    assert result.exit_code == 0, result.output
    assert "[red]" in result.stdout and "\x1b" not in result.stdout
    made = experiment_file.load(str(here / "a_b.yaml"))
    assert made.pool.columns is not None and made.pool.columns.prompt == strange


def test_a_name_with_results_is_not_taken_again(here: Path) -> None:
    questions(here, name="demo.csv")
    assert init("demo.csv", "--yes").exit_code == 0
    assert experiment_file.load(str(here / "demo_2.yaml")).name == "demo_2"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["id", "question", "channel"], "question"),
        (["Instruction", "Input", "Output"], "Instruction"),
        (["kundenAnfrage", "antwort"], "kundenAnfrage"),
        (["answer", "remarks"], "remarks"),
    ],
)
def test_the_prompt_is_found_by_its_name(columns: list[str], expected: str) -> None:
    found = look_of(100, *((name, "text", 100, 100, 30, ("a b",)) for name in columns))
    assert proposal.prompt_columns(found)[0].name == expected


def test_the_prompt_is_found_by_its_length_where_no_name_says_so() -> None:
    found = look_of(
        100,
        ("a", "text", 100, 100, 8, ("x y",)),
        ("b", "text", 100, 99, 80, ("x y",)),
        ("c", "number", 100, 100, 90, ()),
    )
    assert proposal.prompt_columns(found)[0].name == "b"


def test_few_values_are_no_prompts_although_the_name_says_text() -> None:
    found = look_of(100, ("text", "text", 100, 3, 8, ("x",)), ("remark", "text", 100, 99, 80, ("x y",)))
    assert proposal.prompt_columns(found)[0].name == "remark"


@pytest.mark.parametrize(
    ("column", "is_whole", "is_id"),
    [
        (("ticket", "text", 100, 100, 6, ("T-1",)), True, True),
        (("ticket", "text", 100, 99, 6, ("T-1",)), True, False),
        (("ticket", "text", 99, 99, 6, ("T-1",)), True, False),
        (("ticket", "text", 100, 100, 6, ("T-1",)), False, False),
        (("id", "number", 100, 100, 3, ("1",)), True, True),
        (("name", "text", 100, 100, 12, ("Ann Smith",)), True, False),
    ],
)
def test_an_id_is_a_column_that_no_run_would_refuse(column: tuple[object, ...], is_whole: bool, is_id: bool) -> None:
    found = look_of(100, column, ("question", "text", 100, 100, 80, ("what is",)), is_whole=is_whole)
    assert proposal.id_column(found, ["question"]) == (column[0] if is_id else None)


def test_a_task_is_guessed_by_name_and_offered_by_its_few_values() -> None:
    columns = [(name, "text", 100, 5, 6, ("x",)) for name in ("channel", "category")]
    found = look_of(100, *columns, ("topic", "text", 90, 5, 6, ("x",)), ("question", "text", 100, 100, 80, ("a b",)))
    assert proposal.task_columns(found, ["question"]) == ["channel", "category", "topic"]
    assert proposal.task_column(found, ["question"]) == "category"
    assert proposal.task_column(found, ["question", "category"]) == "topic"
    assert proposal.task_column(found, ["question", "category", "topic"]) is None


@pytest.mark.parametrize(
    ("filled_n", "distinct_n", "is_task"), [(1000, 200, True), (200, 8, True), (200, 41, False), (40, 8, False)]
)
def test_a_column_filled_in_some_rows_is_of_tasks_if_values_repeat(
    filled_n: int, distinct_n: int, is_task: bool
) -> None:
    topic = ("topic", "text", filled_n, distinct_n, 6, ("x",))
    found = look_of(1000, topic, ("question", "text", 1000, 1000, 80, ("a b",)))
    assert (proposal.task_column(found, ["question"]) == "topic") is is_task


def test_rows_without_a_task_get_that_of_the_nearest_prompts(here: Path) -> None:
    rows = [
        f"Why is thing {i} {'late' if i % 2 else 'dear'}?,{('price', 'delivery')[i % 2] if i < 20 else ''},yes"
        for i in range(100)
    ]
    (here / "asked.csv").write_text("\n".join(["question,topic,answer", *rows, "Why?,,"]) + "\n")
    for options in (["--yes"], ["--task", "topic"]):
        result = init("asked.csv", *options, "--budget", "30")
        assert result.exit_code == 0, result.output
        said = " ".join(result.stdout.split())
        assert (
            "tasks: 81 rows have no topic; each gets that of the nearest labelled prompts (`task_labels: {missing: nearest}`)"
            in said
        )
        assert "see the tasks: taskdiv tasks show asked" in said and "no column" not in said
        made = experiment_file.load(str(here / "asked.yaml"))
        assert made.pool.columns is not None and made.pool.columns.task == "topic"
        assert made.task_labels.missing == "nearest" and made.labels_from == "column"
        assert made.strategies == ["task_diversity", "random"]
        assert made.held_out is not None and made.held_out.share == 0.1
        (here / "asked.yaml").unlink()


@pytest.mark.parametrize(
    ("distinct_n", "is_whole", "budget_n"), [(5000, True, 200), (60, True, 12), (3, True, 1), (60, False, 200)]
)
def test_the_budget_fits_the_pool(distinct_n: int, is_whole: bool, budget_n: int) -> None:
    found = look_of(5000, ("question", "text", 5000, distinct_n, 80, ("a b",)), is_whole=is_whole)
    assert proposal.budget(found, found.columns[0]) == budget_n


@pytest.mark.skipif(not HAS_CHATS, reason="the reader of conversations is not here")
def test_conversations_and_alpacas_columns_are_proposed(here: Path) -> None:
    turns = [{"role": "user", "content": "hello there"}]
    (here / "chats.jsonl").write_text("".join(json.dumps({"messages": turns, "n": i}) + "\n" for i in range(20)))
    rows = [{"instruction": f"do {i}", "input": "this" * (i % 2), "output": ""} for i in range(20)]
    (here / "alpaca.json").write_text(json.dumps(rows))
    for name, columns in [
        ("chats.jsonl", {"messages": "messages"}),
        ("alpaca.json", {"prompt": ["instruction", "input"]}),
    ]:
        result = init(name, "--yes")
        assert result.exit_code == 0, result.output
        made = experiment_file.load(str(here / f"{name.partition('.')[0]}.yaml"))
        assert made.pool.columns is not None and made.pool.columns.model_dump(exclude_none=True) == columns


def test_a_pool_with_answers_gets_the_benchmark_of_held_out_prompts(here: Path) -> None:
    rows = [f"How do I do thing {i}?,{'yes' if i < 300 else ''},{('mail', 'chat')[i % 2]}" for i in range(1000)]
    (here / "asked.csv").write_text("\n".join(["question,answer,task", *rows]) + "\n")
    assert init("asked.csv").exit_code == 0
    made = experiment_file.load(str(here / "asked.yaml"))
    assert made.held_out is not None and made.held_out.per_task == 20 and made.base_model is None
    few = look_of(1000, ("q", "text", 1000, 1000, 20, ()), ("answer", "text", 19, 19, 20, ()))
    many = look_of(1000, ("q", "text", 1000, 1000, 20, ()), ("answer", "text", 500, 500, 20, ()))
    for look, budget_n, expected in ((few, 200, False), (many, 200, True), (many, 900, False)):
        answers = proposal.Answers("x", "q", budget_n, response="answer")
        text = proposal.text_of(look, answers, path="x.csv", schema="s.json", file="x.yaml")
        assert ("benchmarks: [{name: held_out, share: 0.1}]" in text) is expected


def test_tasks_are_found_where_no_column_names_them_and_the_pool_is_large_enough(here: Path) -> None:
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    for rows_n, model, expected in (
        (39, "none", ["random"]),
        (39, "model", ["facility_location", "random"]),
        (40, "none", ["task_diversity", "random"]),
        (40, "model", ["weighted_task_diversity", "task_diversity", "random"]),
    ):
        questions(here, rows_n)
        file = here / f"{rows_n}_{model}.yaml"
        result = init("questions.csv", "--yes", "--base-model", model, "-o", file.name)
        assert result.exit_code == 0, result.output
        made = experiment_file.load(str(file))
        assert made.strategies == expected
        assert made.labels_from == ("discovered" if rows_n == 40 else "none")
        assert ("taskdiv tasks show" in result.stdout) is (rows_n == 40)
