"""The `taskdiv init` command: from a file with prompts to an experiment file that runs as it is, by five questions at most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from taskdiv_assets.commands import proposal
from taskdiv_assets.commands.consoles import console, is_interactive, near, out, plain_errors, visible
from taskdiv_assets.commands.proposal import Answers
from taskdiv_assets.commands.proposal_checks import (
    NONE,
    Check,
    budget_check,
    id_check,
    model_problem,
    one_of,
    task_check,
)
from taskdiv_assets.experiment import experiment_file, parse_budget
from taskdiv_assets.pools.look import FileLook, look
from taskdiv_assets.storage import files, remote
from taskdiv_assets.storage.store import home

SCHEMA = "experiment.schema.json"
SAMPLE_LENGTH_MAX = 50
PROMPT_OPTION = Annotated[str | None, typer.Option("--prompt", metavar="COLUMN", help="Column of the prompts.")]
TASK_OPTION = Annotated[
    str | None, typer.Option("--task", metavar="COLUMN", help="Column with the kind of each prompt; `none` for none.")
]
ID_OPTION = Annotated[
    str | None, typer.Option("--id", metavar="COLUMN", help="Column of your own ids; `none` for none.")
]
BUDGET_OPTION = Annotated[str | None, typer.Option("--budget", metavar="N", help="How many prompts to have annotated.")]
MODEL_OPTION = Annotated[
    str | None, typer.Option("--base-model", metavar="FOLDER", help="Folder of a model; `none` for none.")
]


class Asked:
    """Asks for one setting after the other, or takes an option or the default without asking.

    Args:
        is_asking: False to take the defaults.
    """

    def __init__(self, *, is_asking: bool) -> None:
        self.is_asking = is_asking

    def ask(self, question: str, given: str | None, default: str, check: Check) -> str:
        """Return an answer that `check` finds right.

        Args:
            question: for people.
            given: by an option; then nothing is asked.
            default: where the user types nothing.
            check: returns a sentence that says what is wrong with an answer; None if it is right.

        Raises:
            ValueError: the option, or the default, is wrong.
        """
        if given is not None or not self.is_asking:
            answer = default if given is None else given
            if problem := check(answer):
                raise ValueError(problem)
            return answer
        while True:
            answer = str(typer.prompt(question, default=default, err=True)).strip()
            problem = check(answer)
            if problem is None:
                return answer
            console.print(problem, markup=False, soft_wrap=True)


def init(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Your prompts: CSV, JSON, JSON lines, Parquet and others.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the defaults; ask nothing.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.yaml", help="Where to write; default: NAME.yaml here."),
    ] = None,
    prompt: PROMPT_OPTION = None,
    task: TASK_OPTION = None,
    own_id: ID_OPTION = None,
    budget: BUDGET_OPTION = None,
    base_model: MODEL_OPTION = None,
) -> None:
    """Look at a file with prompts, ask at most five questions, and write an experiment file that runs as it is.

    Nothing is overwritten. The file is yours to change; `taskdiv run` then does what it says.

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
            console.print(
                "there is no terminal to ask at, so the defaults are taken; options such as --prompt change them"
            )
        answers = ask_all(found, name, Asked(is_asking=is_asking), (prompt, task, own_id, budget, base_model))
        say_doubts(found, answers)
        write(found, answers, target)
        say_next(found, answers, target)


def ask_all(found: FileLook, name: str, asked: Asked, given: tuple[str | None, ...]) -> Answers:
    """Ask the questions, in the order in which one answer narrows the next.

    Args:
        found: in the user's file.
        name: of the experiment.
        asked: asks, or takes defaults.
        given: by options: prompt, task, id, budget, base model.
    """
    fit = proposal.prompt_columns(found)
    if not fit:
        refuse_columns(found)
    names = [column.name for column in found.columns]
    prompt = found.column(
        asked.ask("Which column is the prompt?", given[0], fit[0].name, one_of(names, with_none=False))
    )
    joined = [prompt.name] if given[0] is not None else proposal.joined_columns(found, prompt)
    response = None if prompt.kind == "chat" else proposal.response_column(found, joined)
    taken = [*joined, *([response] if response else [])]
    own_id_guess = proposal.id_column(found, taken)
    tasks = proposal.task_columns(found, [*taken, own_id_guess or ""])
    task_guess = proposal.task_column(found, [*taken, own_id_guess or ""])
    is_asked = bool(tasks) or given[1] is not None
    says = f"Which column says what kind of task a prompt is ({', '.join(tasks)}, or {NONE})?"
    task = asked.ask(says, given[1], task_guess or NONE, task_check(found, names)) if is_asked else NONE
    says = f"Which column holds your own ids ({NONE}: they are made from the texts)?"
    is_asked = own_id_guess is not None or given[2] is not None
    own_id = asked.ask(says, given[2], own_id_guess or NONE, id_check(found, names)) if is_asked else NONE
    default = str(proposal.budget(found, prompt))
    budget = asked.ask(
        "How many prompts do you want to have annotated?", given[3], default, budget_check(found, prompt)
    )
    says = f"Folder of a base model, to score and train ({NONE}: lists only)?"
    model = asked.ask(says, given[4], NONE, model_problem)
    is_chat = prompt.kind == "chat"
    return Answers(
        name,
        None if is_chat else joined if len(joined) > 1 else joined[0],
        parse_budget(budget),
        messages=prompt.name if is_chat else None,
        response=response,
        task=None if task == NONE else task,
        own_id=None if own_id == NONE else own_id,
        base_model=None if model == NONE else located(model),
    )


# --- what is shown -------------------------------------------------------------------------------------------------


def show(found: FileLook) -> None:
    """Print what the file is, and what its columns hold."""
    kind = [found.format]
    kind += [f"separator {named_separator(found.separator)}"] if found.separator else []
    kind += [f"encoding {found.encoding}"] if found.encoding else []
    kind += [f"sheet {found.sheets[0]} of {len(found.sheets)}"] if found.sheets else []
    kind += [f"split {found.splits[0]} of {len(found.splits)}"] if found.splits else []
    rows = f"{found.rows_n:,} rows" if found.is_whole else f"the first {found.rows_n:,} rows were looked at"
    out.print(f"{on_one_line(found.path)}: {', '.join(kind)}; {rows}", markup=False)
    table = Table()
    for title in ("column", "holds", "filled", "different", "repeated", "characters", "for example"):
        table.add_column(title, overflow="fold")
    for column in found.columns:
        sample = on_one_line(column.samples[0] if column.samples else "")
        cut = sample if len(sample) <= SAMPLE_LENGTH_MAX else f"{sample[:SAMPLE_LENGTH_MAX]}…"
        counts = (column.filled_n, column.distinct_n, column.repeated_n, column.median_length)
        table.add_row(*map(escape, (on_one_line(column.name), column.kind, *(f"{n:,}" for n in counts), cut)))
    out.print(table)


def say_doubts(found: FileLook, answers: Answers) -> None:
    """Say what of the file a run would refuse, drop, or not send out."""
    name = answers.messages or (answers.prompt if isinstance(answers.prompt, str) else None)
    if name is not None:
        column = found.column(name)
        empty_n = found.rows_n - column.filled_n
        if empty_n:
            console.print(
                f"warning: {empty_n:,} rows have no {name!r}, and a run refuses them; remove these rows first",
                markup=False,
            )
        if column.repeated_n and column.kind != "chat":
            console.print(f"note: {column.repeated_n:,} rows repeat the prompt of an earlier row", markup=False)
    if answers.messages is not None:
        said = "note: the answer of a conversation is the assistant's last turn; one that has it counts as answered"
        console.print(f"{said}, and is not sent out", markup=False, soft_wrap=True)
    if answers.response is not None:
        known_n = found.column(answers.response).filled_n
        console.print(
            f"note: {answers.response!r} holds {known_n:,} answers, which count as known: these prompts are not sent out. "
            "If they are not answers to train on, remove `response` from the file",
            markup=False,
            soft_wrap=True,
        )


def say_next(found: FileLook, answers: Answers, target: Path) -> None:
    """Print what was taken, and the next two commands: the first ends with the lists, whatever was answered."""
    columns = {key: ", ".join(value) if isinstance(value, list) else value for key, value in answers.columns.items()}
    others = [name for name in proposal.task_columns(found, columns.values()) if answers.task is None]
    out.print(f"columns: {'; '.join(f'{key} {on_one_line(value)}' for key, value in columns.items())}", markup=False)
    if others:
        out.print(
            f"tasks: none; to choose by {' or '.join(map(on_one_line, others))}, add `task: COLUMN` to `columns` and "
            "`task_diversity` to `strategies`",
            markup=False,
        )
    until = "" if answers.base_model is None else " --until annotation_batch"
    out.print(f"next: taskdiv run {near(target)}{until}", markup=False)
    out.print(
        f"then: taskdiv annotations export {answers.name} --budget {answers.budget_n} --strategy {answers.strategies[0]}",
        markup=False,
    )


def named_separator(separator: str) -> str:
    """A separator as people read it."""
    return {"\t": "tab"}.get(separator, separator)


def on_one_line(text: str) -> str:
    """A text of a user's file in which a terminal obeys nothing."""
    return visible(text, is_one_line=True)


def refuse_columns(found: FileLook) -> NoReturn:
    """Raise ValueError: nothing in the file can be a prompt."""
    names = ", ".join(f"{column.name!r} ({column.kind})" for column in found.columns)
    raise ValueError(f"no column of {found.path} holds texts; expected one with prompts, found {names}")


def refuse_existing(target: Path) -> None:
    """Refuse to write over a file, or beside the name of an experiment file.

    Raises:
        ValueError: it is there, or does not end in .yaml, or its folder is missing.
    """
    if target.suffix not in (".yaml", ".yml"):
        raise ValueError(f"{target.name} does not end in .yaml; choose another --output")
    if target.exists():
        raise ValueError(
            f"{near(target)} is there already, and nothing is overwritten; "
            f"use it with `taskdiv run {near(target)}`, or choose another --output"
        )
    if not target.parent.is_dir():
        raise ValueError(
            f"there is no folder {target.parent} to write {target.name} into; make it, or choose another --output"
        )


# --- what is written -------------------------------------------------------------------------------------------------


def target_of(file: str, output: Path | None) -> Path:
    """Where the experiment file goes: `output`, or a file in this folder that is named after the user's."""
    if output is not None:
        return output.absolute()
    plain = Path(f"{proposal.name_of(file, experiment_file.built_in_names())}.yaml")
    return (plain if plain.exists() else Path(f"{proposal.name_of(file, names_taken())}.yaml")).absolute()


def names_taken() -> list[str]:
    """Names of experiments that a new one cannot have: built-in ones, and those with results."""
    return ["dagster", *experiment_file.sources(home())]


def located(model: str) -> str:
    """A model's place, from wherever it is read."""
    return model if remote.is_remote(model) else str(Path(model).expanduser().resolve())


def write(found: FileLook, answers: Answers, target: Path) -> None:
    """Write the schema and the experiment file; the file appears whole or not at all."""
    path = found.path if remote.is_remote(found.path) else below(Path(found.path).absolute(), target.parent)
    folder = home() if not remote.is_remote(home()) else str(target.parent)
    schema = Path(folder) / SCHEMA
    text = proposal.text_of(found, answers, path=path, schema=below(schema, target.parent), file=near(target))
    proposal.check(text, target)
    write_schema(schema)
    if not files.Files(str(target.parent)).put_new(text.encode(), target.name):
        refuse_existing(target)
    out.print(
        f"wrote {near(target)}: {answers.budget_n:,} prompts to have annotated, by {', '.join(answers.strategies)}",
        markup=False,
    )


def write_schema(schema: Path) -> None:
    """Put the schema where the experiment file points, for editors; the package's own replaces an older one."""
    from taskdiv_assets.experiment import experiment_schema

    files.Files(str(schema.parent)).put(experiment_schema.as_json().encode(), schema.name)


def below(path: Path, folder: Path) -> str:
    """A path relative to a folder where it lies below it, else absolute."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
