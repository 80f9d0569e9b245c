"""The answers to prompts and to held-out items, from the pool and from imports.

An answer of a person always has priority over an answer of a model, also if it is older.

Of several imported answers to a prompt, the newest counts, or that of an adjudicator whom the experiment file names.
"""

import unicodedata
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

import data_contracts
from taskdiv_assets.pools import copies, held_items
from taskdiv_assets.pools.visible import is_blank
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store, parquet_table

MODEL_FILE = "model-"  # how the names of files with answers of a model begin
IMPORT_AGAIN = "restore it from a backup, or move it away and run `taskdiv annotations import` with its answers again"


def known_answers(store: Store, adjudicator: str | None = None) -> dict[str, str | None]:
    """Return the answer of each prompt: the imported answer that counts, or the pool's answer, or None if neither exists."""
    pool = store.read_table("raw_pool").table
    answers: dict[str, str | None] = dict(zip(pool["prompt_id"].to_pylist(), pool["response"].to_pylist(), strict=True))
    counting = counting_annotations(store, adjudicator)
    for prompt_id, response in zip(counting["prompt_id"].to_pylist(), counting["response"].to_pylist(), strict=True):
        if prompt_id in answers:
            answers[prompt_id] = response
    return answers


def held_out_items(store: Store, adjudicator: str | None = None) -> pa.Table:
    """Return the held-out items (`held_items.SCHEMA`) with their answers: the imported that counts, or the pool's, or null.

    Models are scored with these answers, so an answer of a model does not count. A prompt that a model answered becomes an item
    if the experiment file names held-out items later.
    """
    items, counting = held_items.read(store), counting_annotations(store, adjudicator)
    counting = counting.filter(pc.not_equal(counting["source"], "model"))
    answers = dict(zip(counting["prompt_id"].to_pylist(), counting["response"].to_pylist(), strict=True))
    ids, own = items["prompt_id"].to_pylist(), items["response"].to_pylist()
    known = [answers.get(prompt_id, response) for prompt_id, response in zip(ids, own, strict=True)]
    place = held_items.SCHEMA.get_field_index("response")
    return items.set_column(place, held_items.SCHEMA.field(place), pa.array(known, pa.string()))


def newest_annotations(store: Store) -> pa.Table:
    """Return each prompt's newest imported answer, which is the last in `all_annotations`. The table is sorted by prompt_id."""
    return counting_annotations(store)


def counting_annotations(store: Store, adjudicator: str | None = None) -> pa.Table:
    """Return each prompt's imported answer that counts, sorted by prompt_id: the adjudicator's newest, or else the newest.

    An adjudicator is a person: the answer of a model with this name has no priority.
    """
    rows = all_annotations(store)
    people = zip(rows["annotator"].to_pylist(), rows["source"].to_pylist(), strict=True)
    chosen_name = None if adjudicator is None else folded_name(adjudicator)
    is_chosen = [source != "model" and folded_name(name or "") == chosen_name for name, source in people]
    last: dict[str, tuple[bool, int]] = {}
    for place, (prompt_id, chosen) in enumerate(zip(rows["prompt_id"].to_pylist(), is_chosen, strict=True)):
        last[prompt_id] = max(last.get(prompt_id, (False, -1)), (chosen, place))
    return rows.take(pa.array([last[prompt_id][1] for prompt_id in sorted(last)], pa.int64()))


def answers_by_person(store: Store) -> dict[str, dict[str, str]]:
    """Return each named person's newest answer to each prompt: prompt_id → folded name → answer, the newest last."""
    rows = all_annotations(store)
    rows = rows.filter(pc.not_equal(rows["source"], "model"))
    found: dict[str, dict[str, str]] = {}
    columns = (rows[name].to_pylist() for name in ("prompt_id", "annotator", "response"))
    for prompt_id, name, response in zip(*columns, strict=True):
        if one := folded_name(name or ""):
            people = found.setdefault(prompt_id, {})
            people.pop(one, None)
            people[one] = response
    return found


def differing(store: Store) -> dict[str, dict[str, str]]:
    """Return the prompts to which named annotators gave different answers, as in `answers_by_person`."""
    return {prompt_id: by for prompt_id, by in answers_by_person(store).items() if len(set(by.values())) > 1}


def folded_name(name: str) -> str:
    """Return an annotator's name in the form in which names are compared.

    >>> folded_name(" Anna ") == folded_name("anna")
    True
    """
    return unicodedata.normalize("NFC", name).strip().casefold()


def all_annotations(store: Store) -> pa.Table:
    """Return every imported answer that is not blank, sorted by (imported_at, batch, row): the newest is last.

    All answers of models come before those of people, which have priority.

    The table has the columns of the `annotations` contract. An answer to a duplicate prompt that the pool dropped counts as an
    answer to the prompt that the pool kept.
    """
    schema = data_contracts.load("annotations").arrow_schema
    names = [name for name in store.names("annotations") if name.endswith(".parquet")]
    tables = remote.at_once(lambda name: imported_table(store, name), names)
    rows = pa.concat_tables([schema.empty_table(), *(in_contract_columns(table, schema) for table in tables)])
    rows = rows.filter(pa.array([not is_blank(text) for text in rows["response"].to_pylist()], pa.bool_()))
    rows = rows.sort_by([("imported_at", "ascending"), ("batch", "ascending"), ("row", "ascending")])
    is_model = pc.fill_null(pc.equal(rows["source"], "model"), False)  # without a source, people answered
    rows = pa.concat_tables([rows.filter(is_model), rows.filter(pc.invert(is_model))])
    return _of_kept_prompts(rows, copies.kept_of(store))


def imported_table(store: Store, name: str) -> pa.Table:
    """Return the answers in a file of the store's folder `annotations`. Raise DamagedError if the file cannot be read."""
    path = store.path("annotations", name)
    return parquet_table(store.read(path), path, IMPORT_AGAIN)


def in_contract_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return an import with the columns of the contract. Earlier versions wrote fewer; without a source, people answered."""
    found = {"source": pa.array(["human"] * table.num_rows, pa.string())}
    missing = [pa.nulls(table.num_rows, field.type) for field in schema]
    columns = [
        table[field.name] if field.name in table.column_names else found.get(field.name, nothing)
        for field, nothing in zip(schema, missing, strict=True)
    ]
    return pa.table(columns, names=schema.names).cast(schema)


def _of_kept_prompts(rows: pa.Table, kept: Mapping[str, str]) -> pa.Table:
    ids = rows["prompt_id"].to_pylist()
    if not kept or kept.keys().isdisjoint(ids):
        return rows
    place = rows.schema.get_field_index("prompt_id")
    replaced = pa.array([kept.get(prompt_id, prompt_id) for prompt_id in ids], pa.string())
    return rows.set_column(place, rows.schema.field(place), replaced)
