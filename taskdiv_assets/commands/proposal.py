"""Guesses of the settings of an experiment file from the file of prompts (see `pools.look`), and the experiment file's text.

A guess must not make a run fail. A column is guessed as ids only if every row has a different id. A column of tasks may be filled
in only some rows: the prompts of these rows then vote on the tasks of the others. Without a column of tasks, the run finds tasks
in the texts, unless the pool is small.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from data_contracts.plain_yaml import written
from taskdiv_assets.pools.discovery.found_tasks import PROMPTS_A_TASK, TASKS_MIN
from taskdiv_assets.pools.look import ColumnLook, FileLook

BUDGET = 200
POOL_SHARE = 5  # one fifth of a small pool is annotated
TASKS_MAX = 200
TASK_LENGTH_MAX = 60
PARTIAL_SHARE = 0.05  # smallest share of rows with a task: votes from fewer labelled prompts were not measured
PARTIAL_REPEATS = 5  # rows for each task of such a column, on average
ID_LENGTH_MAX = 80
NAME_LENGTH_MAX = 40
FOUND_MIN = TASKS_MIN * PROMPTS_A_TASK  # with fewer prompts, found tasks are mostly chance
USUAL_SEPARATOR = ","
WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])")
# Words in column names, the most likely first.
PROMPT_WORDS = (
    *("prompt", "instruction", "question", "query", "request", "frage", "pregunta", "anfrage", "input", "message"),
    *("text", "body", "content", "problem", "utterance", "sentence", "description", "nachricht", "texte"),
)
JOINED_WORDS = ("input", "context")  # columns that belong to an instruction, as in the files of Alpaca and Dolly
ANSWER_WORDS = ("response", "answer", "output", "completion", "reply", "antwort", "solution", "target", "respuesta")
ID_WORDS = ("id", "uid", "uuid", "guid", "key", "ticket", "number", "nr", "no", "nummer", "ref", "reference", "index")
TASK_WORDS = (
    *("task", "category", "topic", "intent", "type", "subject", "domain", "skill", "theme", "class"),
    *("kategorie", "thema", "aufgabe", "categoría", "catégorie", "sujet"),
)
HELD_PER_TASK, HELD_SHARE = 20, 0.1
ANSWERED_MIN = 20  # with fewer answers no benchmark is proposed
COLUMN_KEYS = ("prompt", "messages", "response", "task", "id")


@dataclass(frozen=True)
class Answers:
    """Settings of the experiment file."""

    name: str
    prompt: str | list[str] | None  # column of the prompts, or several columns to join; None if `messages` is given
    budget_n: int
    messages: str | None = None  # column of conversations
    response: str | None = None  # column of known answers
    task: str | None = None  # column with the kind of each prompt
    own_id: str | None = None  # column of the user's own ids
    base_model: str | None = None  # folder or URL of a model
    finds_tasks: bool = False  # True if tasks are found in the texts, because `task` is None
    votes_tasks: bool = False  # True if some rows have no `task`, and get that of the nearest labelled prompts

    @property
    def columns(self) -> dict[str, Any]:
        """Section `columns` of the experiment file."""
        found = zip(COLUMN_KEYS, (self.prompt, self.messages, self.response, self.task, self.own_id), strict=True)
        return {key: value for key, value in found if value is not None}

    @property
    def strategies(self) -> list[str]:
        """Strategies that are proposed for these settings. The last one is `random`, the reference."""
        has_tasks = self.task is not None or self.finds_tasks
        with_model = ["weighted_task_diversity"] if has_tasks else ["facility_location"]
        return [*(with_model if self.base_model else ()), *(["task_diversity"] if has_tasks else ()), "random"]


def prompt_columns(look: FileLook) -> list[ColumnLook]:
    """Return the columns that may contain the prompts, the most likely first.

    Columns of conversations come first. Then come text columns that have many different values and a word of `PROMPT_WORDS` in
    their name, then the other text columns, the one with the longest texts first. Columns of answers and columns with only one
    value are left out if other columns remain.
    """
    is_filled = [column for column in look.columns if column.filled_n and column.name.strip()]
    fit = [column for column in is_filled if column.kind in ("text", "chat")]
    free = [column for column in fit if _rank(column.name, ANSWER_WORDS) is None] or fit
    varied = [column for column in free if column.distinct_n > 1 or look.rows_n == 1] or free

    def order(column: ColumnLook) -> tuple[bool, int, int]:
        by_name = _rank(column.name, PROMPT_WORDS)
        is_likely = by_name is not None and (column.kind == "chat" or column.distinct_n * 5 >= column.filled_n)
        rank = (by_name or 0) if is_likely else len(PROMPT_WORDS)
        return column.kind != "chat", rank, -column.median_length

    return sorted(varied, key=order)


def joined_columns(look: FileLook, prompt: ColumnLook) -> list[str]:
    """Return the columns to join as the prompt: `prompt` and, if its name has the word "instruction", `input` and `context`."""
    if _rank(prompt.name, ("instruction",)) is None:
        return [prompt.name]
    filled = [column.name for column in look.columns if column.kind == "text" and column.filled_n]
    return [prompt.name, *(name for name in filled if name.strip().lower() in JOINED_WORDS)]


def response_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the column of known answers: not empty, not in `taken`, and with a word of `ANSWER_WORDS` in its name; else None."""
    fit = [column for column in look.columns if column.kind in ("text", "number") and column.filled_n]
    return _by_name(fit, ANSWER_WORDS, taken)


def id_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the column of the user's own ids; None if no column fits, or if the file was not read completely.

    The values of the column differ in every row, and their median length is at most `ID_LENGTH_MAX`. The samples contain no
    blanks. The column is not in `taken`. Either its name contains a word of `ID_WORDS`, or it is the first column and its
    samples contain no point.
    """
    if not look.is_whole:
        return None
    fit = [
        column
        for column in look.columns
        if column.kind in ("text", "number")
        and column.filled_n == column.distinct_n == look.rows_n
        and column.median_length <= ID_LENGTH_MAX
        and not any(" " in sample for sample in column.samples)
    ]
    named = _by_name(fit, ID_WORDS, taken)
    first = look.columns[0]
    is_first = first in fit and first.name not in taken and not any("." in sample for sample in first.samples)
    return named or (first.name if is_first and look.rows_n > 1 else None)


def task_columns(look: FileLook, taken: Iterable[str]) -> list[str]:
    """Return the columns that may contain the kind of each prompt: few different and short values.

    The columns with a value in every row come first. In the others, at least 5% of the rows have a value, and a value is in at
    least five rows on average.
    """
    most_n = min(TASKS_MAX, max(2, look.rows_n // 5))

    def is_repeated(column: ColumnLook) -> bool:
        is_enough = column.filled_n >= PARTIAL_SHARE * look.rows_n
        return is_enough and column.distinct_n * PARTIAL_REPEATS <= column.filled_n

    fit = [
        column
        for column in look.columns
        if column.kind == "text"
        and column.name not in taken
        and 2 <= column.distinct_n <= most_n
        and (column.filled_n == look.rows_n or is_repeated(column))
        and column.median_length <= TASK_LENGTH_MAX
    ]
    return [column.name for column in sorted(fit, key=lambda column: column.filled_n < look.rows_n)]


def task_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the column of `task_columns` with the most likely word of `TASK_WORDS` in its name; None if no name has such a word.

    A column with a value in every row is preferred. Other columns, such as a channel or a language, are not guessed, because a
    task column adds a strategy and so another list.
    """
    fit = [look.column(name) for name in task_columns(look, taken)]
    whole = [column for column in fit if column.filled_n == look.rows_n]
    return _by_name(whole, TASK_WORDS, taken) or _by_name(fit, TASK_WORDS, taken)


def budget(look: FileLook, prompt: ColumnLook) -> int:
    """Return the default budget: 200, or fewer for a small file.

    If the file was read completely and the column `prompt` has fewer than 400 different values, return one fifth of their number,
    at least 1.
    """
    is_large = not look.is_whole or prompt.distinct_n >= 2 * BUDGET
    return BUDGET if is_large else max(1, prompt.distinct_n // POOL_SHARE)


def finds_tasks(look: FileLook, prompt: ColumnLook) -> bool:
    """Return True if the column `prompt` has enough different texts to find tasks in them, or the file was read only in part."""
    return not look.is_whole or prompt.distinct_n >= FOUND_MIN


def name_of(path: str, taken: Iterable[str]) -> str:
    """Return a name for the experiment, made from the file's name or else "questions". If the name is in `taken`, add a number.

    >>> name_of("/data/Our Questions (2026).csv.gz", ["demo"]), name_of("demo.csv", ["demo"])
    ('our_questions_2026', 'demo_2')
    """
    file = path.rstrip("/").rsplit("/", 1)[-1]
    stem = file.lstrip(".").partition(".")[0].lower()
    name = re.sub(r"[^a-z0-9]+", "_", stem).strip("_")[:NAME_LENGTH_MAX] or "questions"
    known, number, found = set(taken), 2, name
    while found in known:
        found, number = f"{name}_{number}", number + 1
    return found


def _rank(name: str, words: tuple[str, ...]) -> int | None:
    return min((words.index(word) for word in map(str.lower, WORD.findall(name)) if word in words), default=None)


def _by_name(columns: Iterable[ColumnLook], words: tuple[str, ...], taken: Iterable[str]) -> str | None:
    ranks = {column.name: _rank(column.name, words) for column in columns if column.name not in taken}
    named = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(named, key=lambda name: named[name]) if named else None


def text_of(look: FileLook, answers: Answers, *, path: str, schema: str, file: str) -> str:
    """Return the text of an experiment file, with comments.

    `path`, `schema` and `file` are the paths of the pool, of the JSON Schema and of the experiment file, as the text shows them.
    """
    lines = [
        f"# yaml-language-server: $schema={schema}",
        f"# Which of {'' if look.is_whole else 'about '}{look.rows_n:,} rows to annotate. Run: taskdiv run {file}",
        f"name: {written(answers.name)}",
        "purpose: campaign  # buys answers; a study compares strategies on known answers",
        "pool:",
        "  reader: table",
        f"  path: {written(path)}",
        *(f"  {key}: {written(value)}" for key, value in _reading(look).items()),
        f"  columns: {written(answers.columns)}",
        *_about_tasks(answers),
        f"strategies: {written(answers.strategies)}  # each makes a list of `budgets` prompts; export one or all",
        f"budgets: [{answers.budget_n}]  # prompts to annotate; [100, 200] makes two lists, the larger contains the smaller",
        *_about_model(answers),
        *_about_benchmark(look, answers),
        "annotation:",
        '  instructions: "Answer the prompt as well as you can."  # what annotators read',
        "  # price: 0.50  # of one answer, with its `currency: EUR`: `taskdiv plan` then shows the cost of the list",
    ]
    return "\n".join(lines) + "\n"


def _reading(look: FileLook) -> Mapping[str, object]:
    """Return the settings that the file reader needs, or that the user should see.

    The user should see the sheet if there are several, and a separator that is no comma or is uncertain.
    """
    found: dict[str, object] = {"encoding": look.encoding, "escape": look.escape}
    if look.separator not in (None, USUAL_SEPARATOR) or not look.has_clear_separator:
        found["separator"] = look.separator
    if len(look.sheets) > 1:
        found["sheet"] = look.sheets[0]
    if look.splits and look.splits[0] != "train":
        found["split"] = look.splits[0]
    return {key: value for key, value in found.items() if value is not None}


def _about_tasks(answers: Answers) -> list[str]:
    if answers.votes_tasks:
        return ["task_labels: {missing: nearest}  # a row without a task gets that of the nearest labelled prompts"]
    if answers.task:
        return []
    key = answers.columns.get("id", "prompt_id")
    mapping = written({"from": "mapping", "path": "tasks.csv", "key": key, "task": "topic"})
    if answers.finds_tasks:
        return [
            f"task_labels: {{from: discovered}}  # groups prompts of similar wording; or, from your own file: {mapping}"
        ]
    return [f"# task_labels: {mapping}  # the task of each prompt, for `strategies: [task_diversity]`"]


def _about_model(answers: Answers) -> list[str]:
    if answers.base_model:
        return [f"base_model: {written({'path': answers.base_model})}  # scored now, trained once answers are imported"]
    return ["# base_model: {path: FOLDER}  # to train on the answers, and for strategies that use a model's confidence"]


def _about_benchmark(look: FileLook, answers: Answers) -> list[str]:
    """Return a line with the benchmark `held_out`; no line if the answers, or the other prompts for the budget, are too few."""
    if answers.response is None:
        return []
    answered_n = look.column(answers.response).filled_n
    has_tasks = answers.task is not None and not answers.votes_tasks  # held-out prompts are chosen before the votes
    tasks_n = look.column(answers.task).distinct_n if answers.task is not None and has_tasks else 1
    prompts_n = look.column(answers.prompt).distinct_n if isinstance(answers.prompt, str) else look.rows_n
    if answered_n < max(ANSWERED_MIN, 2 * tasks_n) or answers.budget_n + answered_n // 2 > prompts_n:
        return []
    settings = {"name": "held_out", **({"per_task": HELD_PER_TASK} if has_tasks else {"share": HELD_SHARE})}
    return [f"benchmarks: {written([settings])}  # answered prompts that no list and no training sees"]
