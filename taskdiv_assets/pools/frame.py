"""The raw_pool table, made from the rows of any reader: prompt ids, checks and duplicates.

The result counts the dropped rows and the changed cells by reason. An own id is an id that the source gives to a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.pools import copies
from taskdiv_assets.pools.visible import is_blank
from taskdiv_assets.selection.streams import keyed_hash
from taskdiv_assets.storage.identity import canonical_json

SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("source_id", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("response", pa.string()),
        pa.field("source_task", pa.string()),
        pa.field("position", pa.int64(), nullable=False),
    ]
)
Duplicates = Literal["keep", "drop"]
Texts = Sequence[str | None]


class Part(NamedTuple):
    """Rows of one file, as a reader returns them. All sequences have the same length."""

    name: str  # of the file, for error messages
    prompts: Texts
    responses: Texts
    source_tasks: Texts
    source_ids: Texts | None  # own ids; None if the source has no ids
    rows: Sequence[int]  # number of each row in the file, from 1
    rows_read_n: int  # rows of the file, including dropped ones
    drops: dict[str, int]  # reason -> rows

    @classmethod
    def whole(cls, name: str, prompts: Texts, responses: Texts, tasks: Texts, source_ids: Texts | None = None) -> Part:
        n = len(prompts)
        return cls(name, prompts, responses, tasks, source_ids, range(1, n + 1), n, {})


@dataclass(frozen=True)
class RawPool:
    """The raw_pool table, sorted by prompt_id, with counts of the rows it was made from."""

    table: pa.Table  # SCHEMA
    rows_read_n: int  # rows of all sources, including dropped ones
    duplicates_n: int  # rows that repeat another row's prompt, kept or dropped
    dropped_n: int
    prompts_under_two_tasks_n: int  # distinct prompts with more than one source_task
    drops: dict[str, int] = field(default_factory=dict)  # reason -> rows; sums to dropped_n
    repairs: dict[str, int] = field(default_factory=dict)  # reason -> cells that were set to null or filled from a copy
    copies: pa.Table = field(default_factory=copies.SCHEMA.empty_table)  # dropped copies and their kept prompts

    @property
    def responses_n(self) -> int:
        return int(self.table.num_rows - self.table.column("response").null_count)


def raw_pool(parts: Sequence[Part], duplicates: Duplicates = "keep") -> RawPool:
    """Join the rows of all sources into one pool. A blank response or task becomes null.

    Rows with the same prompt are duplicates. If `duplicates` is "drop", only the row with the smallest own id (without own ids,
    the first row) is kept. If the kept row has no answer, it gets the answer of the first dropped duplicate that has one. A
    missing task is filled in the same way. Prompt ids do not depend on `duplicates`.

    Raises:
        ValueError: there are no rows, a prompt is blank, an own id is missing or repeated, or two prompt ids are equal.
    """
    prompts = [prompt for part in parts for prompt in part.prompts]
    if not prompts:
        raise ValueError(f"{', '.join(part.name for part in parts) or 'the pool'}: no rows are left; expected prompts.")
    place = _places(parts)
    texts = _checked_prompts(prompts, place)
    source_ids = _checked_ids(parts, place)
    repairs: Counter[str] = Counter()
    responses = _blank_to_null([r for part in parts for r in part.responses], "blank_response", repairs)
    tasks = _blank_to_null([t for part in parts for t in part.source_tasks], "blank_source_task", repairs)
    ids = prompt_ids(texts, tasks, source_ids)
    _check_collisions(ids, place)
    first = _first_rows(texts, source_ids)
    copied = [i for i, kept in enumerate(first) if kept != i]
    left_out = copied if duplicates == "drop" else []
    drops: Counter[str] = Counter()
    for part in parts:
        drops.update(part.drops)
    drops["duplicate_prompt"] += len(left_out)
    _share(responses, left_out, first, repairs, "response_of_a_copy")
    _share(tasks, left_out, first, repairs, "task_of_a_copy")
    keep = sorted((i for i, kept in enumerate(first) if kept == i or not left_out), key=ids.__getitem__)
    own_ids = source_ids or [None] * len(texts)
    columns: list[Sequence[object]] = [ids, own_ids, texts, responses, tasks, range(len(texts))]
    arrays = [pa.array([column[i] for i in keep], type_) for column, type_ in zip(columns, SCHEMA.types, strict=True)]
    return RawPool(
        table=pa.Table.from_arrays(arrays, schema=SCHEMA),
        rows_read_n=sum(part.rows_read_n for part in parts),
        duplicates_n=len(copied),
        dropped_n=sum(drops.values()),
        prompts_under_two_tasks_n=_under_two_tasks(texts, tasks),
        drops=dict(+drops),  # without zeros
        repairs=dict(+repairs),
        copies=_copies(left_out, first, ids, own_ids),
    )


def ids_of(parts: Sequence[Part]) -> list[str]:
    """Return the prompt id of every row of `parts`, in order. Rows that `raw_pool` would drop are included."""
    place = _places(parts)
    texts = _checked_prompts([prompt for part in parts for prompt in part.prompts], place)
    tasks = _blank_to_null([t for part in parts for t in part.source_tasks], "blank_source_task", Counter())
    return prompt_ids(texts, tasks, _checked_ids(parts, place))


def sampled(pool: RawPool, rows_n: int) -> RawPool:
    """Return a pool of at most `rows_n` rows of `pool`, which are chosen by a hash of their prompt ids."""
    ids = pool.table.column("prompt_id").to_pylist()
    if len(ids) <= rows_n:
        return pool
    hashes = keyed_hash(0, "pool/sample", np.array([int(prompt_id, 16) for prompt_id in ids], np.uint64))
    table = pool.table.take(np.sort(np.argsort(hashes, kind="stable")[:rows_n]))
    dropped_n = len(ids) - rows_n
    drops = {**pool.drops, "not_in_sample": dropped_n}
    left = pool.copies.filter(pc.is_in(pool.copies["kept_id"], value_set=table["prompt_id"].combine_chunks()))
    return replace(pool, table=table, dropped_n=pool.dropped_n + dropped_n, drops=drops, copies=left)


def limited(parts: Sequence[Part], rows_n: int | None) -> Sequence[Part]:
    """Return the first `rows_n` rows of all parts together (None: all). All other rows are counted as `over_limit` in `drops`."""
    if rows_n is None:
        return parts
    cut = []
    for part in parts:
        n = min(len(part.prompts), rows_n)
        rows_n -= n
        left_out_n = len(part.prompts) - n
        drops = {**part.drops, "over_limit": left_out_n} if left_out_n else part.drops
        ids = None if part.source_ids is None else part.source_ids[:n]
        columns = (part.prompts[:n], part.responses[:n], part.source_tasks[:n], ids, part.rows[:n])
        cut.append(Part(part.name, *columns, part.rows_read_n, drops))
    return cut


def prompt_ids(prompts: Sequence[str], source_tasks: Texts, source_ids: Texts | None) -> list[str]:
    """Return the id of each row: 16 hex digits of SHA-256 over the canonical JSON of [prompt, task or "", occurrence].

    The occurrence numbers the rows with the same prompt and task from 0, in the order of own ids (without own ids, in row order).

    >>> prompt_ids(["a", "a"], [None, None], ["y", "x"]) == prompt_ids(["a", "a"], [None, None], ["x", "y"])[::-1]
    True
    """
    same: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (prompt, task) in enumerate(zip(prompts, source_tasks, strict=True)):
        same[prompt, task or ""].append(row)
    ids = [""] * len(prompts)
    for (prompt, task), rows in same.items():
        if source_ids is not None:
            rows.sort(key=lambda row: source_ids[row] or "")  # the sort is stable: rows without an id keep their order
        for occurrence, row in enumerate(rows):
            key = canonical_json([prompt, task, occurrence])
            ids[row] = hashlib.sha256(key.encode()).hexdigest()[:16]
    return ids


def content_hashes(table: pa.Table) -> dict[str, str]:
    """Return three hashes of a pool's content, 32 hex digits each: `prompts` (with tasks), `answers`, and `ids` (own ids).

    Rows are sorted by prompt_id. New answers do not change the identities of results that read only prompts.
    """
    names = ("prompt_id", "prompt", "source_task", "response", "source_id")
    columns = [table.column(name).to_pylist() for name in names]
    prompts, answers, ids = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for prompt_id, prompt, task, response, own in sorted(zip(*columns, strict=True), key=lambda row: str(row[0])):
        answer = None if response is None else hashlib.sha256(response.encode()).hexdigest()
        prompts.update(canonical_json([prompt_id, prompt, task]).encode() + b"\n")
        answers.update(canonical_json([prompt_id, answer]).encode() + b"\n")
        ids.update(canonical_json([prompt_id, own]).encode() + b"\n")
    return {name: found.hexdigest()[:32] for name, found in (("prompts", prompts), ("answers", answers), ("ids", ids))}


def _places(parts: Sequence[Part]) -> Callable[[int], str]:
    ends = np.cumsum([len(part.prompts) for part in parts])

    def place(i: int) -> str:
        k = int(np.searchsorted(ends, i, side="right"))
        first = int(ends[k - 1]) if k else 0
        return f"{parts[k].name}, row {parts[k].rows[i - first]}"

    return place


def _checked_prompts(prompts: Texts, place: Callable[[int], str]) -> list[str]:
    texts = [prompt for prompt in prompts if prompt is not None and not is_blank(prompt)]
    if len(texts) < len(prompts):
        blank = [i for i, prompt in enumerate(prompts) if is_blank(prompt)]
        rows = f"{len(blank)} such row{'s' * (len(blank) > 1)}"
        raise ValueError(f"{place(blank[0])}: the prompt is empty ({rows}); fill it in or remove the row.")
    return texts


def _checked_ids(parts: Sequence[Part], place: Callable[[int], str]) -> list[str | None] | None:
    if all(part.source_ids is None for part in parts):
        return None
    ids: list[str | None] = []
    first_row: dict[str, int] = {}
    for part in parts:
        for source_id in part.source_ids or ():
            row = len(ids)
            if source_id is None or is_blank(source_id):
                raise ValueError(f"{place(row)} has no id; expected one in every row, or no id column at all.")
            if first_row.setdefault(source_id, row) != row:
                places = f"{place(first_row[source_id])} and {place(row)}"
                raise ValueError(f"id {source_id!r} occurs twice: {places}; expected a different id in every row.")
            ids.append(source_id)
        if part.source_ids is None:
            ids += [None] * len(part.prompts)
    return ids


def _blank_to_null(values: Texts, reason: str, repairs: Counter[str]) -> list[str | None]:
    repaired = [None if is_blank(value) else value for value in values]
    blank_n = sum(new is None and old is not None for new, old in zip(repaired, values, strict=True))
    repairs[reason] += blank_n
    return repaired


def _check_collisions(ids: list[str], place: Callable[[int], str]) -> None:
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for row, prompt_id in enumerate(ids):
        if first.setdefault(prompt_id, row) != row:
            raise ValueError(
                f"{place(first[prompt_id])} and {place(row)} got the same prompt_id {prompt_id}; "
                "change one of the two prompts by a character."
            )


def _first_rows(prompts: Sequence[str], source_ids: Texts | None) -> list[int]:
    """Return for each row the number of the row with the same prompt and the smallest own id (without own ids, the first row)."""
    first: dict[str, int] = {}
    order = range(len(prompts))
    for row in order if source_ids is None else sorted(order, key=lambda i: source_ids[i] or ""):
        first.setdefault(prompts[row], row)
    return [first[prompt] for prompt in prompts]


def _share(
    values: list[str | None], left_out: Sequence[int], first: Sequence[int], repairs: Counter[str], reason: str
) -> None:
    """Give each kept row that has no value the first value among the dropped rows with the same prompt."""
    for row in left_out:
        if values[first[row]] is None and values[row] is not None:
            values[first[row]] = values[row]
            repairs[reason] += 1


def _copies(left_out: Sequence[int], first: Sequence[int], ids: Sequence[str], own_ids: Texts) -> pa.Table:
    rows = sorted(left_out, key=ids.__getitem__)
    columns = [ids[i] for i in rows], [own_ids[i] for i in rows], [ids[first[i]] for i in rows]
    return pa.table(dict(zip(copies.SCHEMA.names, columns, strict=True)), schema=copies.SCHEMA)


def _under_two_tasks(prompts: Sequence[str], tasks: Texts) -> int:
    pairs = {(prompt, task) for prompt, task in zip(prompts, tasks, strict=True) if task is not None}
    return sum(n > 1 for n in Counter(prompt for prompt, _ in pairs).values())
