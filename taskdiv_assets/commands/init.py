"""The `taskdiv init` command. It asks at most five questions and writes an experiment file for a file of prompts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.markup import escape

from taskdiv_assets.commands import proposal
from taskdiv_assets.commands import proposal_checks as checks
from taskdiv_assets.commands.consoles import folded, is_interactive, near, note, out, plain_errors, say, visible
from taskdiv_assets.commands.proposal import Answers
from taskdiv_assets.commands.proposal_checks import NONE
from taskdiv_assets.experiment import experiment_file, experiment_schema, parse_budget
from taskdiv_assets.pools.look import FileLook, look
from taskdiv_assets.storage import files, remote
from taskdiv_assets.storage.store import home

SCHEMA = "experiment.schema.json"
SAMPLE_LENGTH_MAX = 50
TASK_OPTION = Annotated[
    str | None, typer.Option("--task", metavar="COLUMN", help="Column with the kind of each prompt; `none` for none.")
]
ID_OPTION = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="Column of your own ids; `none` for none.")
]
MODEL_OPTION = Annotated[
    str | None,
    typer.Option("--base-model", metavar="FOLDER", help="Folder or GGUF file of a base model; `none` for none."),
]


class Given(NamedTuple):
    """Answers that the user gave as options. A field is None if its option was not given."""

    prompt: str | None = None
    task: str | None = None
    own_id: str | None = None
    budget: str | None = None
    base_model: str | None = None


def init(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Your prompts: CSV, JSON, JSON lines, Parquet and others.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, and use the defaults.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.yaml", help="File to write; default: NAME.yaml in this folder."),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="COLUMN", help="Column of the prompts.")] = None,
    task: TASK_OPTION = None,
    own_id: ID_OPTION = None,
    budget: Annotated[str | None, typer.Option("--budget", metavar="N", help="Number of prompts to annotate.")] = None,
    base_model: MODEL_OPTION = None,
) -> None:
    """Look at a file of prompts, ask at most five questions, and write an experiment file that is ready to run.

    An existing experiment file is not overwritten. You can edit the file before `taskdiv run`.

    Example: taskdiv init questions.csv
    """
    with plain_errors():
        target = target_of(file, output)
        refuse_existing(target)
        found = look(file)
        show(found)
        name = proposal.name_of(target.name, names_taken())
        is_asking = not yes and is_interactive()
        if not yes and not is_asking:
            note("there is no terminal to ask on, so the defaults are used; options such as --prompt change them")
        answers = ask_all(found, name, Given(prompt, task, own_id, budget, base_model), is_asking=is_asking)
        say_doubts(found, answers)
        write(found, answers, target)
        say_next(found, answers, target)


def ask(question: str, given: str | None, default: str, problem_of: checks.Check, *, is_asking: bool) -> str:
    """Return a valid answer to a question. `given` is the value of an option. If it is not None, it is returned.

    Otherwise the user is asked, again after each invalid answer. If `is_asking` is False, `default` is returned instead. Raise
    ValueError if `given` or the returned `default` is invalid. `problem_of` returns the error message for an invalid answer.
    """
    if given is not None or not is_asking:
        answer = default if given is None else given
        if problem := problem_of(answer):
            raise ValueError(problem)
        return answer
    while True:
        answer = str(typer.prompt(question, default=default, err=True)).strip()
        if (problem := problem_of(answer)) is None:
            return answer
        note(problem)


def ask_all(found: FileLook, name: str, given: Given, *, is_asking: bool) -> Answers:
    """Ask the questions that apply to the file, and return the settings. Some questions depend on earlier answers.

    Raises:
        ValueError: no column contains prompts, or an option or a default is invalid.
    """
    asked = partial(ask, is_asking=is_asking)
    fit = proposal.prompt_columns(found)
    if not fit:
        columns = ", ".join(f"{column.name!r} ({column.kind})" for column in found.columns)
        raise ValueError(f"no column of {found.path} holds text; expected one with prompts, found {columns}")
    is_column = partial(checks.column_problem, found, with_none=False)
    prompt = found.column(asked("Which column is the prompt?", given.prompt, fit[0].name, is_column))
    joined = [prompt.name] if given.prompt is not None else proposal.joined_columns(found, prompt)
    response = None if prompt.kind == "chat" else proposal.response_column(found, joined)
    taken = [*joined, *([response] if response else [])]
    own_id_guess = proposal.id_column(found, taken)
    taken = [*taken, own_id_guess or ""]
    tasks = proposal.task_columns(found, taken)
    task = own_id = NONE
    if tasks or given.task is not None:
        guess = proposal.task_column(found, taken) or NONE
        question = f"Which column says what kind of task a prompt is ({', '.join(tasks)}, or {NONE})?"
        task = asked(question, given.task, guess, partial(checks.task_problem, found))
    if own_id_guess is not None or given.own_id is not None:
        question = f"Which column holds your own ids ({NONE}: they are made from the texts)?"
        own_id = asked(question, given.own_id, own_id_guess or NONE, partial(checks.id_problem, found))
    question, default = "How many prompts do you want to annotate?", str(proposal.budget(found, prompt))
    budget = asked(question, given.budget, default, partial(checks.budget_problem, found, prompt))
    question = f"Folder or GGUF file of a base model, to score and train ({NONE}: lists only)?"
    model = asked(question, given.base_model, NONE, checks.model_problem)
    if model != NONE and not remote.is_remote(model):
        model = str(Path(model).expanduser().resolve())
    is_chat = prompt.kind == "chat"
    return Answers(
        name,
        None if is_chat else joined if len(joined) > 1 else joined[0],
        parse_budget(budget),
        messages=prompt.name if is_chat else None,
        response=response,
        task=None if task == NONE else task,
        own_id=None if own_id == NONE else own_id,
        base_model=None if model == NONE else model,
        finds_tasks=task == NONE and proposal.finds_tasks(found, prompt),
        votes_tasks=task != NONE and found.column(task).filled_n < found.rows_n,
    )


def show(found: FileLook) -> None:
    """Print the format of the file and a table of its columns."""
    separator = "tab" if found.separator == "\t" else found.separator
    kind = [found.format]
    kind += [f"separator {separator}"] if separator else []
    kind += [f"encoding {found.encoding}"] if found.encoding else []
    kind += [f"sheet {found.sheets[0]} of {len(found.sheets)}"] if found.sheets else []
    kind += [f"split {found.splits[0]} of {len(found.splits)}"] if found.splits else []
    rows = f"{found.rows_n:,} rows" if found.is_whole else f"only the first {found.rows_n:,} rows were read"
    say(f"{on_one_line(found.path)}: {', '.join(kind)}; {rows}")
    table = folded("column", "holds", "filled", "different", "repeated", "characters", "for example")
    for column in found.columns:
        sample = on_one_line(column.samples[0] if column.samples else "")
        cut = sample if len(sample) <= SAMPLE_LENGTH_MAX else f"{sample[:SAMPLE_LENGTH_MAX]}…"
        counts = (column.filled_n, column.distinct_n, column.repeated_n, column.median_length)
        table.add_row(*map(escape, (on_one_line(column.name), column.kind, *(f"{n:,}" for n in counts), cut)))
    out.print(table)


def say_doubts(found: FileLook, answers: Answers) -> None:
    """Print notes: how many rows have no prompt, a repeated prompt, or a known answer, and what a run does with such rows."""
    name = answers.messages or (answers.prompt if isinstance(answers.prompt, str) else None)
    if name is not None:
        column = found.column(name)
        if empty_n := found.rows_n - column.filled_n:
            note(f"warning: {empty_n:,} rows have no {name!r}, and a run refuses them; remove these rows first")
        if column.repeated_n and column.kind != "chat":
            note(f"note: {column.repeated_n:,} rows repeat the prompt of an earlier row")
    if answers.messages is not None:
        note(
            "note: the answer of a conversation is the assistant's last turn; a conversation that has it counts as answered, and "
            "is not sent out"
        )
    if answers.response is not None:
        known_n = found.column(answers.response).filled_n
        note(
            f"note: {answers.response!r} holds {known_n:,} answers, which count as known: these prompts are not sent out. "
            "If they are not answers to train on, remove `response` from the file"
        )


def say_next(found: FileLook, answers: Answers, target: Path) -> None:
    """Print the chosen columns, the source of the tasks, and the next commands: make lists, show found tasks, export a list."""
    columns = {key: ", ".join(value) if isinstance(value, list) else value for key, value in answers.columns.items()}
    others = [name for name in proposal.task_columns(found, columns.values()) if answers.task is None]
    say(f"columns: {'; '.join(f'{key} {on_one_line(value)}' for key, value in columns.items())}")
    if answers.votes_tasks and answers.task is not None:
        empty_n = found.rows_n - found.column(answers.task).filled_n
        say(
            f"tasks: {empty_n:,} rows have no {on_one_line(answers.task)}; each gets that of the nearest labelled prompts "
            "(`task_labels: {missing: nearest}`)"
        )
    elif answers.finds_tasks:
        either = f"; to choose by {' or '.join(map(on_one_line, others))} instead, use --task" if others else ""
        say(f"tasks: no column, so the run looks for groups of prompts with similar wording (`task_labels`){either}")
    elif others:
        say(
            f"tasks: none; to choose by {' or '.join(map(on_one_line, others))}, add `task: COLUMN` to `columns` and "
            "`task_diversity` to `strategies`"
        )
    until = "" if answers.base_model is None else " --until annotation_batch"
    say(f"next: taskdiv run {near(target)}{until}")
    if answers.finds_tasks or answers.votes_tasks:
        say(f"see the tasks: taskdiv tasks show {answers.name}")
    say(
        f"then: taskdiv annotations export {answers.name} --budget {answers.budget_n} --strategy {answers.strategies[0]}"
    )


def on_one_line(text: str) -> str:
    """Return text of the user's file as one line that is safe to print."""
    return visible(text, is_one_line=True)


def target_of(file: str, output: Path | None) -> Path:
    """Return the path of the experiment file: `output`, by default NAME.yaml in the current folder. NAME is made from `file`."""
    if output is not None:
        return output.absolute()
    plain = Path(f"{proposal.name_of(file, experiment_file.built_in_names())}.yaml")
    return (plain if plain.exists() else Path(f"{proposal.name_of(file, names_taken())}.yaml")).absolute()


def refuse_existing(target: Path) -> None:
    """Raise ValueError if `target` exists, does not end in .yaml or .yml, or is in a folder that does not exist."""
    if target.suffix not in (".yaml", ".yml"):
        raise ValueError(f"{target.name} does not end in .yaml; choose another --output")
    if target.exists():
        raise ValueError(
            f"{near(target)} already exists, and nothing is overwritten; "
            f"use it with `taskdiv run {near(target)}`, or choose another --output"
        )
    if not target.parent.is_dir():
        raise ValueError(
            f"there is no folder {target.parent} to write {target.name} into; make it, or choose another --output"
        )


def names_taken() -> list[str]:
    """Return the names that a new experiment cannot have: names of built-in and stored experiments, and "dagster"."""
    return ["dagster", *experiment_file.sources(home())]


def write(found: FileLook, answers: Answers, target: Path) -> None:
    """Write the JSON Schema, then the experiment file, which names the schema.

    Raise ValueError if the experiment file exists, or if an unusual column name would make it invalid.
    """
    path = found.path if remote.is_remote(found.path) else below(Path(found.path).absolute(), target.parent)
    folder = Path(home()) if not remote.is_remote(home()) else target.parent
    text = proposal.text_of(found, answers, path=path, schema=below(folder / SCHEMA, target.parent), file=near(target))
    experiment_file.parse(text, str(target))  # raises an error if an unusual column name makes the file invalid
    files.Files(str(folder)).put(experiment_schema.as_json().encode(), SCHEMA)
    if not files.Files(str(target.parent)).put_new(text.encode(), target.name):
        refuse_existing(target)
    say(f"wrote {near(target)}: {answers.budget_n:,} prompts to annotate, by {', '.join(answers.strategies)}")


def below(path: Path, folder: Path) -> str:
    """Return a path relative to a folder if the path is inside the folder, else unchanged."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
