"""Reader of FLAN v2 and T0 (P3): instructions of about 300 named tasks, one row per filled template.

Known forms are FLAN 2021 and T0 (instruction, output), chain-of-thought rows (rationale, answer), and the FLAN v2 exports on
the hub (source, target, task_name). T0 has 55,185 instructions of 283 templates (the tasks); 1,400 instructions have a blank
output.
"""

from collections.abc import Sequence

from taskdiv_assets.experiment.pool_settings import Columns
from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.values import Source, require

PROMPTS = ("instruction", "inputs", "source", "prompt")
RESPONSES = ("output", "answer", "targets", "target", "completion")
TASKS = ("task", "task_name")
OPTIONAL = ("id", "rationale", "split")


def choose(names: tuple[str, ...], place: str, columns: Columns | None = None) -> Sequence[str]:
    """Return the names of the columns to read. Only those in `OPTIONAL` that `columns` does not name may be missing.

    Raise ValueError if any other column is missing.
    """
    if columns is not None:
        require(names, [name for name in _given(columns) if name], place)
    prompt, response, task, own_id = _given(columns)
    return [
        prompt or _first_of(names, PROMPTS, "prompt", place),
        response or _first_of(names, RESPONSES, "response", place),
        task or _first_of(names, TASKS, "task", place),
        *([own_id] if own_id else []),
        *(name for name in OPTIONAL if name in names),
    ]


def to_part(source: Source, *, split: str | None = "train", columns: Columns | None = None) -> Part:
    """Return the rows of `split`, such as "train" or "train+test"; raise ValueError if there are none.

    If `split` is None, or the source has no column `split`, return all rows.
    """
    prompt, response, task, *_ = chosen = choose(tuple(source.columns), source.name, columns)
    own_id = _given(columns)[3] or ("id" if "id" in chosen else None)
    rows = _rows_of_split(source, split)
    targets = _targets(source, response)
    return Part(
        name=source.name,
        prompts=[source.columns[prompt][i] for i in rows],
        responses=[targets[i] for i in rows],
        source_tasks=[source.columns[task][i] for i in rows],
        source_ids=[source.columns[own_id][i] for i in rows] if own_id else None,
        rows=[i + 1 for i in rows],
        rows_read_n=source.rows_n,
        drops={"other_split": source.rows_n - len(rows)} if len(rows) < source.rows_n else {},
    )


def _given(columns: Columns | None) -> tuple[str | None, str | None, str | None, str | None]:
    if columns is None or not isinstance(columns.prompt, str):  # the settings refuse a list
        return None, None, None, None
    return columns.prompt, columns.response, columns.task, columns.id


def _first_of(names: Sequence[str], candidates: Sequence[str], what: str, place: str) -> str:
    for column in candidates:
        if column in names:
            return column
    raise ValueError(
        f"{place} has no column for the {what}: looked for {', '.join(map(repr, candidates))}, "
        f"its columns are {', '.join(map(repr, names))}. Name it under `columns: {{{what}: …}}`."
    )


def _rows_of_split(source: Source, split: str | None) -> Sequence[int]:
    if split is None or "split" not in source.columns:
        return range(source.rows_n)
    wanted = set(split.split("+"))
    rows = [i for i, value in enumerate(source.columns["split"]) if value in wanted]
    if not rows:
        there = sorted({str(value) for value in source.columns["split"]})
        raise ValueError(f"{source.name} has no row of split {split!r}; its splits are {', '.join(there)}.")
    return rows


def _targets(source: Source, response: str) -> Sequence[str | None]:
    """Return the answer of each row. For a chain-of-thought row, this is the rationale, followed by "The answer is …".

    Source: one of FLAN's chain-of-thought templates, flan/v2/templates.py. FLAN draws a template for each row; we use one.
    """
    answers = source.columns[response]
    if "rationale" not in source.columns:
        return answers
    pairs = zip(source.columns["rationale"], answers, strict=True)
    return [f"{why} The answer is {answer}." if why and answer else answer for why, answer in pairs]
