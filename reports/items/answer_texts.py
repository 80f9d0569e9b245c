"""The texts of a benchmark's items: the question, the right answer, and the answers of the models.

Tables of questions and answers are read by columns. Only the rows of the wanted items become Python objects.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reports.reader import Reader
from reports.variance import FloatArray, IntArray

QUESTION_N = 700  # characters of a question that are kept: its last ones, because worked examples come first
NONE_WRITTEN = "(another answer is likelier; this benchmark has none written)"
JUDGED_TARGET = "preferred to the reference’s output"
Item = tuple[str, str]  # task, item_id


class Texts(NamedTuple):
    """The texts of K items, in the order in which they were wanted. A text that is not stored is None."""

    question: list[str | None]  # the last QUESTION_N + 1 characters: one more shows that the question is longer
    target: list[str | None]
    prompt_hash: list[str | None]
    said: dict[str, list[str | None]]  # the answers of each model


class _Questions(NamedTuple):
    """The questions about the wanted items, R in all, sorted by item and number."""

    item: IntArray  # (R,) position among the wanted items
    code: IntArray  # (R,) one number for item and question
    table: pa.Table


def read_texts(reader: Reader, models: Mapping[str, str], questions: str, items: Sequence[Item], metric: str) -> Texts:
    """Return the texts of `items`.

    Args:
        reader: Reader of the experiment's folder.
        models: The folder of scores of each model.
        questions: The folder of the questions, the same for all models; empty for judged outputs.
        items: The wanted items, each once.
        metric: It decides how the lengths of choices are taken into account (see `_divisors`).

    Raises:
        OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException: a file cannot be read, or lacks a column or
            a question.
    """
    wanted = pa.array(["\0".join(item) for item in items], pa.string())
    asked, said = None, {}
    judged: dict[Item, tuple[str, str]] = {}  # instruction and its hash
    for model, folder in models.items():
        manifest = json.loads(reader.files.text("folders", folder, "manifest.json") or "{}")
        outputs = manifest.get("notes", {}).get("outputs")
        if isinstance(outputs, str):
            written = _judged(reader, outputs)
            judged |= {item: (question, whole) for item, (question, whole, _) in written.items()}
            said[model] = [written[item][2] if item in written else None for item in items]
        else:
            asked = asked or _rows(reader, questions, "questions.parquet", _ASKED, wanted)
            answered = _rows(reader, folder, "outputs.parquet", _SAID, wanted)
            said[model] = _answers(asked, answered, len(items), metric)
    if asked is None:
        pairs = [judged.get(item, (None, None)) for item in items]
        targets: list[str | None] = [JUDGED_TARGET if question else None for question, _ in pairs]
        return Texts([one and one[-QUESTION_N - 1 :] for one, _ in pairs], targets, [one for _, one in pairs], said)
    return Texts(*_asked(asked, len(items)), said)


_ASKED = ("task", "item_id", "question", "prompt", "answer", "target", "prompt_hash")
_SAID = ("task", "item_id", "question", "text", "nats", "is_greedy", "extracted")


def _rows(reader: Reader, folder: str, name: str, columns: Sequence[str], wanted: pa.Array) -> _Questions:
    """Return the rows of the wanted items. Long prompts, which several rows share, stay in a dictionary."""
    with reader.files.fs.open(reader.files.join("folders", folder, name), "rb") as handle:
        stored = pq.read_schema(handle).names
        own = [column for column in columns if column in stored]
        table = pq.read_table(handle, columns=own, read_dictionary=own)
    names = (table[column].cast(pa.string()) for column in ("task", "item_id"))
    places = pc.index_in(pc.binary_join_element_wise(*names, "\0"), value_set=wanted)
    item = places.fill_null(-1).to_numpy().astype(np.int64)
    number = table["question"].to_numpy().astype(np.int64)
    kept = np.flatnonzero(item >= 0)
    kept = kept[np.lexsort((number[kept], item[kept]))]
    item, number = item[kept], number[kept]
    return _Questions(item, (item << 20) | number, table.take(pa.array(kept)))


def _column(rows: _Questions, name: str, places: IntArray | None = None) -> pa.ChunkedArray:
    """Return a column of text, of all rows or of the rows at `places`; nulls if the table lacks it."""
    if name not in rows.table.column_names:
        return pa.chunked_array([pa.nulls(len(rows.item) if places is None else len(places), pa.string())])
    column = rows.table[name]
    return (column if places is None else column.take(pa.array(places))).cast(pa.string())


def _asked(asked: _Questions, items_n: int) -> tuple[list[str | None], list[str | None], list[str | None]]:
    """Return the question, the right answer and the prompt's hash of each item, from the item's first row."""
    items, first = np.unique(asked.item, return_index=True)
    ends = pc.utf8_slice_codeunits(_column(asked, "prompt", first), -QUESTION_N - 1)
    targets = _column(asked, "target", first).to_pylist()
    ends_of = np.append(first[1:], len(asked.item))
    if any(str(target).isdecimal() for target in targets):
        answers = _column(asked, "answer").to_pylist()
        rows = zip(targets, first.tolist(), ends_of.tolist(), strict=True)
        targets = [_target(str(target), answers[start:end]) for target, start, end in rows]
    columns = (ends.to_pylist(), targets, _column(asked, "prompt_hash", first).to_pylist())
    question, target, prompt_hash = (_spread(items, column, items_n) for column in columns)
    return question, target, prompt_hash


def _target(stored: str, choices: Sequence[str | None]) -> str:
    """Return the right answer. If it is stored as the number of a choice (from 0), return the text of this choice."""
    if len(choices) < 2 or not stored.isdecimal():
        return stored
    texts = [str(one).strip() for one in choices]
    return texts[int(stored)] if stored not in texts and int(stored) < len(texts) else stored


def _spread(items: IntArray, values: Sequence[str | None], items_n: int) -> list[str | None]:
    found: list[str | None] = [None] * items_n
    for item, value in zip(items.tolist(), values, strict=True):
        found[item] = value
    return found


def _answers(asked: _Questions, answered: _Questions, items_n: int, metric: str) -> list[str | None]:
    """Return a model's answer to each item: the first generated text with the extracted answer, or the likeliest choice.

    An item without generated text may have only one choice. Return this choice if it is the model's greedy answer. Otherwise
    return the extracted answer or, if nothing was extracted, `NONE_WRITTEN`.
    """
    at = np.minimum(np.searchsorted(asked.code, answered.code), max(0, len(asked.code) - 1))
    if len(answered.code) and (not len(asked.code) or (asked.code[at] != answered.code).any()):
        raise KeyError("an answer to a question that is not stored")
    is_written = _column(answered, "text").is_valid().to_numpy()
    rows = np.flatnonzero(is_written)
    items, first = np.unique(answered.item[rows], return_index=True)
    rows = rows[first]
    texts, read = (_column(answered, name, rows).to_pylist() for name in ("text", "extracted"))
    found = _spread(items, [_with_reading(*pair) for pair in zip(texts, read, strict=True)], items_n)
    rest = np.flatnonzero(~np.isin(answered.item, items))
    counts = np.bincount(answered.item, minlength=items_n)
    several = rest[counts[answered.item[rest]] > 1]
    for rows, choose in ((several, True), (rest[counts[answered.item[rest]] == 1], False)):
        if choose and len(rows):
            value = answered.table["nats"].take(pa.array(rows)).to_numpy() / _divisors(asked, at[rows], metric)
            rows = rows[np.lexsort((rows, -value, answered.item[rows]))]
            rows = rows[np.unique(answered.item[rows], return_index=True)[1]]
        choices = _column(asked, "answer", at[rows]).to_pylist()
        is_greedy = answered.table["is_greedy"].take(pa.array(rows)).to_pylist()
        read = _column(answered, "extracted", rows).to_pylist()
        for item, text, greedy, other in zip(answered.item[rows].tolist(), choices, is_greedy, read, strict=True):
            found[item] = str(text).strip() if choose else str(text) if greedy else str(other or NONE_WRITTEN)
    return found


def _with_reading(text: str, read: str | None) -> str:
    return f"{text} (read as: {read})" if read and read != text else text


def _divisors(asked: _Questions, rows: IntArray, metric: str) -> FloatArray:
    """Return the divisors of log-likelihoods of choices, as in lm-eval's length-normalised metrics; 1 for other metrics."""
    count: dict[str, Any] = {"acc_norm": pc.utf8_length, "acc_bytes": pc.binary_length}
    if metric not in count:
        return np.ones(len(rows))
    texts = pc.utf8_trim_whitespace(_column(asked, "answer", rows))
    lengths: FloatArray = count[metric](texts).to_numpy().astype(np.float64)
    return np.maximum(1.0, lengths)


def _judged(reader: Reader, outputs: str) -> dict[Item, tuple[str, str, str]]:
    """Return the instruction, its hash and the model's output of each judged item."""
    found = {}
    for row in json.loads(reader.files.text("folders", outputs, "model_outputs.json") or "[]"):
        whole = hashlib.sha256(row["instruction"].encode()).hexdigest()
        found["alpaca_eval", whole[:16]] = (str(row["instruction"]), whole, str(row["output"]))
    return found
