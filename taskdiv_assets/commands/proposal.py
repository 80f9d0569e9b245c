"""Guess from a look at a user's file what an experiment file should say, and write that file.

In: what the file's columns hold (`pools.look`), and the user's answers. Out: guesses, and the text of a file that runs as it
is. A guess that could make a run fail is not made: an id has to be unique and complete, a task complete. Nothing here asks,
reads or writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_contracts.plain_yaml import written
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.pools.look import ColumnLook, FileLook

BUDGET = 200
POOL_SHARE = 5  # a small pool: one prompt in so many
TASKS_MAX = 200
TASK_LENGTH_MAX = 60
ID_LENGTH_MAX = 80
NAME_LENGTH_MAX = 40
USUAL_SEPARATOR = ","
WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])")
# Words of column names, the likeliest first.
PROMPT_WORDS = (
    *("prompt", "instruction", "question", "query", "request", "frage", "pregunta", "anfrage", "input", "message"),
    *("text", "body", "content", "problem", "utterance", "sentence", "description", "nachricht", "texte"),
)
JOINED_WORDS = ("input", "context")  # beside an instruction, as in Alpaca's and Dolly's files
ANSWER_WORDS = ("response", "answer", "output", "completion", "reply", "antwort", "solution", "target", "respuesta")
ID_WORDS = ("id", "uid", "uuid", "guid", "key", "ticket", "number", "nr", "no", "nummer", "ref", "reference", "index")
TASK_WORDS = (
    *("task", "category", "topic", "intent", "type", "subject", "domain", "skill", "theme", "class"),
    *("kategorie", "thema", "aufgabe", "categoría", "catégorie", "sujet"),
)


@dataclass(frozen=True)
class Answers:
    """What the experiment file should say.

    Attributes:
        name: of the experiment.
        prompt: a column, several that are joined, or None where `messages` is a column of conversations.
        budget_n: prompts to have annotated.
        response: column with known answers.
        task: column with the kind of each prompt.
        own_id: column with the user's own ids.
        base_model: folder or URL of a model.
    """

    name: str
    prompt: str | list[str] | None
    budget_n: int
    messages: str | None = None
    response: str | None = None
    task: str | None = None
    own_id: str | None = None
    base_model: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The section `columns`."""
        found = {
            "prompt": self.prompt,
            "messages": self.messages,
            "response": self.response,
            "task": self.task,
            "id": self.own_id,
        }
        return {key: value for key, value in found.items() if value is not None}

    @property
    def strategies(self) -> list[str]:
        """Strategies that can run with what there is, `random` last as the one to compare with."""
        with_model = ["weighted_task_diversity"] if self.task else ["facility_location"]
        return [*(with_model if self.base_model else ()), *(["task_diversity"] if self.task else ()), "random"]


# --- guesses ---------------------------------------------------------------------------------------------------------


def prompt_columns(look: FileLook) -> list[ColumnLook]:
    """Return the columns that may hold the prompts, the likeliest first.

    A name that says so comes first, then columns of conversations, then the longer texts.
    """
    fit = [
        column for column in look.columns if column.kind in ("text", "chat") and column.filled_n and column.name.strip()
    ]
    free = [column for column in fit if _rank(column.name, ANSWER_WORDS) is None] or fit
    varied = [column for column in free if column.distinct_n > 1 or look.rows_n == 1] or free

    def order(column: ColumnLook) -> tuple[bool, int, int]:
        by_name = _rank(column.name, PROMPT_WORDS)
        is_likely = by_name is not None and (column.kind == "chat" or column.distinct_n * 5 >= column.filled_n)
        rank = (by_name or 0) if is_likely else len(PROMPT_WORDS)
        return column.kind != "chat", rank, -column.median_length

    return sorted(varied, key=order)


def joined_columns(look: FileLook, prompt: ColumnLook) -> list[str]:
    """Return the columns that make a prompt with the chosen one: instruction and input, as Alpaca has them, or the one alone."""
    if _rank(prompt.name, ("instruction",)) is None:
        return [prompt.name]
    others = [
        column.name
        for column in look.columns
        if column.kind == "text" and column.filled_n and column.name.strip().lower() in JOINED_WORDS
    ]
    return [prompt.name, *others]


def response_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the column with known answers, if its name says so and it holds any."""
    fit = [column for column in look.columns if column.kind in ("text", "number") and column.filled_n]
    return _by_name(fit, ANSWER_WORDS, taken)


def id_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the column of the user's own ids: a value in every row, all different, short and without blanks inside.

    Of a file that was not read whole nobody knows that, so there is no guess.
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
    """Return the columns that may say what kind each prompt is: few short values, one in every row."""
    most_n = min(TASKS_MAX, max(2, look.rows_n // 5))
    return [
        column.name
        for column in look.columns
        if column.kind == "text"
        and column.name not in taken
        and 2 <= column.distinct_n <= most_n
        and column.filled_n == look.rows_n
        and column.median_length <= TASK_LENGTH_MAX
    ]


def task_column(look: FileLook, taken: Iterable[str]) -> str | None:
    """Return the one of them whose name says that it is a kind of task.

    Others, such as a channel or a language, are for the user to choose: each strategy by task is a list of its own to annotate.
    """
    fit = [look.column(name) for name in task_columns(look, taken)]
    return _by_name(fit, TASK_WORDS, taken)


def budget(look: FileLook, prompt: ColumnLook) -> int:
    """Return how many prompts to have annotated: 200, or a fifth of a pool that is smaller than twice that."""
    is_large = not look.is_whole or prompt.distinct_n >= 2 * BUDGET
    return BUDGET if is_large else max(1, prompt.distinct_n // POOL_SHARE)


def name_of(path: str, taken: Iterable[str]) -> str:
    """Return a name for the experiment from the file's name, different from those that are taken.

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


def _words(name: str) -> list[str]:
    return [word.lower() for word in WORD.findall(name)]


def _rank(name: str, words: tuple[str, ...]) -> int | None:
    """How early one of a column name's words stands in a list."""
    found = [words.index(word) for word in _words(name) if word in words]
    return min(found) if found else None


def _by_name(columns: Iterable[ColumnLook], words: tuple[str, ...], taken: Iterable[str]) -> str | None:
    ranks = {column.name: _rank(column.name, words) for column in columns if column.name not in taken}
    named = {name: rank for name, rank in ranks.items() if rank is not None}
    return min(named, key=lambda name: named[name]) if named else None


# --- the file --------------------------------------------------------------------------------------------------------


def text_of(look: FileLook, answers: Answers, *, path: str, schema: str, file: str) -> str:
    """Return an experiment file with comments.

    Args:
        look: at the pool's file.
        answers: what to say.
        path: of the pool's file, as the experiment file should name it.
        file: the experiment file itself, as a command names it.
        schema: where the JSON Schema lies, as the experiment file should name it.
    """
    known = "about " if not look.is_whole else ""
    lines = [
        f"# yaml-language-server: $schema={schema}",
        f"# Which of {known}{look.rows_n:,} rows to have annotated. Run: taskdiv run {file}",
        f"name: {written(answers.name)}",
        "purpose: campaign  # buys answers; a study compares strategies on answers that are known",
        "pool:",
        "  reader: table",
        f"  path: {written(path)}",
        *(f"  {key}: {written(value)}" for key, value in _reading(look).items()),
        f"  columns: {written(answers.columns)}",
        *_about_tasks(answers),
        f"strategies: {written(answers.strategies)}  # each makes a list of `budgets` prompts; export one, or all as one file",
        f"budgets: [{answers.budget_n}]  # prompts to have annotated; [100, 200] makes two lists, the larger holds the smaller",
        *_about_model(answers),
        "annotation:",
        '  instructions: "Answer the prompt as well as you can."  # what annotators read',
        "  # price: 0.50  # of one answer, and its `currency: EUR`: `taskdiv plan` then says what the list costs",
    ]
    return "\n".join(lines) + "\n"


def check(text: str, file: Path) -> None:
    """Refuse a text that would not run.

    Raises:
        ValueError: it has a mistake, which is ours or comes from an unusual name of a column.
    """
    experiment_file.parse(text, str(file))


def _reading(look: FileLook) -> Mapping[str, object]:
    """Settings of the reader, as far as the file is not of the usual form."""
    found: dict[str, object] = {"encoding": look.encoding, "escape": look.escape}
    if look.separator not in (None, USUAL_SEPARATOR) or not look.has_clear_separator:
        found["separator"] = look.separator
    if len(look.sheets) > 1:
        found["sheet"] = look.sheets[0]
    if look.splits and look.splits[0] != "train":
        found["split"] = look.splits[0]
    return {key: value for key, value in found.items() if value is not None}


def _about_tasks(answers: Answers) -> list[str]:
    if answers.task:
        return []
    key = answers.columns.get("id", "prompt_id")
    mapping = written({"from": "mapping", "path": "tasks.csv", "key": key, "task": "topic"})
    return [f"# task_labels: {mapping}  # the task of each prompt, for `strategies: [task_diversity]`"]


def _about_model(answers: Answers) -> list[str]:
    if answers.base_model:
        return [f"base_model: {written({'path': answers.base_model})}  # is scored, and trained once answers are in"]
    return [
        "# base_model: {path: FOLDER}  # to train adapters on the answers, and for strategies that read a model's confidence"
    ]
