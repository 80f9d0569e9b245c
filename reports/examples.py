"""Examples on the page: prompts that one strategy or all strategies chose, and the models' answers to a few items.

Fixed rules select the examples. The first prompts by rank are shown. Items are grouped by which models are right; a hash of
task and id orders the items of a group, and the first ones are shown.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.cell_keys import cell_key
from reports.judged import asked_notes, scores_folders
from reports.reader import Reader

PROMPTS_EACH_N = 3
ALL = "all of them"
NONE_WRITTEN = "(another answer is likelier; this benchmark has none written)"


class PromptExample(NamedTuple):
    """A chosen prompt."""

    chosen_by: str  # a strategy, or ALL
    task: str
    prompt: str


class Said(NamedTuple):
    """The answer of one model to an item."""

    model: str
    text: str
    score: float


class OutputExample(NamedTuple):
    """One benchmark item with the models' answers."""

    benchmark: str
    task: str
    kind: str  # which models were right
    question: str  # the prompt without its worked examples
    target: str
    said: tuple[Said, ...]


class Examples(NamedTuple):
    """All examples on the page, with their budgets."""

    prompts: tuple[PromptExample, ...] = ()
    prompts_budget_n: int | None = None
    outputs: tuple[OutputExample, ...] = ()
    outputs_budget_n: int | None = None


class Compared(NamedTuple):
    """Two strategies whose outputs are shown side by side.

    `benchmark` and `metric` are those of the primary comparison. They are empty if these strategies are not the primary
    comparison.
    """

    strategy: str
    reference: str
    benchmark: str = ""
    metric: str = ""


def read_examples(
    reader: Reader, strategies: Sequence[str], budgets: Sequence[int], budget_n: int | None, compared: Compared
) -> Examples:
    """Return prompts chosen at `budget_n`, and outputs at one of `budgets`.

    The budget of the outputs is the largest at which both `compared` strategies have scores.
    """
    prompts = () if budget_n is None else _prompts(reader, strategies, budget_n)
    scored = {arm for _, arm in reader.keys("benchmark_scores")}
    both = [n for n in budgets if {(compared.reference, n), (compared.strategy, n)} <= scored]
    scored_n = max(both, default=None)
    outputs = () if scored_n is None else _outputs(reader, scored_n, compared)
    return Examples(prompts, budget_n, outputs, scored_n)


def _prompts(reader: Reader, strategies: Sequence[str], budget_n: int) -> tuple[PromptExample, ...]:
    """Return for each strategy the first prompts that no other strategy chose, then the first prompts that all strategies chose.

    Each strategy's lowest selection seed is used. "First" is by rank; for the prompts of all strategies, by the first strategy's
    rank. If fewer than two strategies have chosen prompts, the result is empty.
    """
    chosen: dict[str, list[tuple[str, str]]] = {}
    for name in strategies:
        table = reader.columns("allocation", cell_key(budget_n, name), "selection_seed", "rank", "prompt_id", "task")
        if table is not None and table.num_rows:
            first = table.filter(pc.equal(table["selection_seed"], pc.min(table["selection_seed"]))).sort_by("rank")
            chosen[name] = list(zip(first["prompt_id"].to_pylist(), first["task"].to_pylist(), strict=True))
    if len(chosen) < 2:
        return ()
    times = Counter(prompt_id for rows in chosen.values() for prompt_id, _ in rows)
    picked = {name: [row for row in rows if times[row[0]] == 1][:PROMPTS_EACH_N] for name, rows in chosen.items()}
    picked[ALL] = [row for row in next(iter(chosen.values())) if times[row[0]] == len(chosen)][:PROMPTS_EACH_N]
    texts = _texts(reader, {prompt_id for rows in picked.values() for prompt_id, _ in rows})
    return tuple(
        PromptExample(name, task, texts[prompt_id])
        for name, rows in picked.items()
        for prompt_id, task in rows
        if prompt_id in texts
    )


def _texts(reader: Reader, prompt_ids: set[str]) -> dict[str, str]:
    table = reader.columns("raw_pool", None, "prompt_id", "prompt")
    if table is None or not prompt_ids:
        return {}
    found = table.filter(pc.is_in(table["prompt_id"], value_set=pa.array(sorted(prompt_ids))))
    return dict(zip(found["prompt_id"].to_pylist(), found["prompt"].to_pylist(), strict=True))


def _outputs(reader: Reader, budget_n: int, compared: Compared) -> tuple[OutputExample, ...]:
    """Return items with the answers of both strategies for one common seed and, if stored, of the base model."""
    names = tuple(dict.fromkeys((compared.reference, compared.strategy)))
    units = {"base": ("base_scores", None)} | {name: ("benchmark_scores", cell_key(budget_n, name)) for name in names}
    asked = {name: asked_notes(reader.listing.tables.get(unit)) for name, unit in units.items()}
    found: list[OutputExample] = []
    for benchmark in asked[compared.strategy]:
        folders = {name: scores_folders(notes.get(benchmark, {})) for name, notes in asked.items()}
        seeds = set.intersection(*(set(folders[name]) for name in names))
        if not seeds:
            continue
        seed = min(seeds, key=lambda one: (len(one), one))
        base = {"base": folders["base"]["base"]} if "base" in folders["base"] else {}
        models = base | {f"{name} (seed {seed})": folders[name][seed] for name in names}
        metric = compared.metric if compared.benchmark == benchmark else ""
        questions = str(asked[compared.strategy][benchmark].get("questions", ""))
        try:
            found += _of_benchmark(reader, benchmark, metric, models, questions)
        except (OSError, KeyError, ValueError, TypeError, AttributeError, pa.ArrowException) as error:
            said = f"{type(error).__name__}: {str(error)[:120]}"
            reader.problems.append(f"outputs of {benchmark} cannot be shown ({said})")
    return tuple(found)


def _of_benchmark(
    reader: Reader, name: str, metric: str, models: Mapping[str, str], questions: str
) -> list[OutputExample]:
    scores = {model: _scores(reader, folder, metric) for model, folder in models.items()}
    common = sorted(set.intersection(*(set(own) for own in scores.values())))
    chosen = _chosen(common, [*scores.values()], [*models])
    items = {item for _, item in chosen}
    said = {model: _texts_of(reader, folder, questions, items, metric) for model, folder in models.items()}
    rows = []
    for kind, item in chosen:
        if all(item in texts for texts in said.values()):
            shown = tuple(Said(model, said[model][item].text, scores[model][item]) for model in models)
            one = next(iter(said.values()))[item]
            rows.append(OutputExample(name, item[0], kind, one.question, one.target, shown))
    return rows


Item = tuple[str, str]  # task, item_id


def _chosen(
    items: Sequence[Item], scores: Sequence[Mapping[Item, float]], models: Sequence[str]
) -> list[tuple[str, Item]]:
    ordered = sorted(items, key=lambda item: hashlib.sha256("\0".join(item).encode()).hexdigest())
    last, before = len(models) - 1, max(0, len(models) - 2)
    kinds: list[tuple[str, int, Callable[[list[bool]], bool]]] = [
        (f"{models[last]} right, {models[before]} wrong", 2, lambda right: right[last] and not right[before]),
        (f"{models[before]} right, {models[last]} wrong", 2, lambda right: right[before] and not right[last]),
        ("all wrong", 1, lambda right: not any(right)),
        ("all right", 1, all),
    ]
    found: list[tuple[str, Item]] = []
    for kind, most_n, fits in kinds:
        of_kind = [item for item in ordered if fits([own[item] > 0.5 for own in scores])]
        found += [(kind, item) for item in of_kind[:most_n]]
    return found


def _scores(reader: Reader, folder: str, metric: str) -> dict[Item, float]:
    table = _table(reader, folder, "scores.parquet")
    metrics = sorted(set(table["metric"].to_pylist()))
    chosen = next((one for one in ("win_rate", metric, *metrics) if one in metrics), "")
    own = table.filter(pc.equal(table["metric"], chosen))
    keys = zip(own["task"].to_pylist(), own["item_id"].to_pylist(), strict=True)
    return dict(zip(keys, own["score"].to_pylist(), strict=True))


class _Text(NamedTuple):
    text: str
    question: str
    target: str


def _texts_of(reader: Reader, folder: str, questions: str, items: set[Item], metric: str) -> dict[Item, _Text]:
    manifest = json.loads(reader.files.text("folders", folder, "manifest.json") or "{}")
    written = manifest.get("notes", {}).get("outputs")
    if isinstance(written, str):
        return _judged(reader, written)
    asked = {(*_item(row), row["question"]): row for row in _rows_of(reader, questions, "questions.parquet", items)}
    of_item: dict[Item, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for answer in _rows_of(reader, folder, "outputs.parquet", items):
        of_item.setdefault(_item(answer), []).append((asked[*_item(answer), answer["question"]], answer))
    return {
        item: _Text(_answer(pairs, metric), pairs[0][0]["prompt"], _target(pairs)) for item, pairs in of_item.items()
    }


def _rows_of(reader: Reader, folder: str, name: str, items: set[Item]) -> list[dict[str, Any]]:
    """Return the table's rows of `items`. Other rows have megabytes of text, and are not converted to dicts."""
    table = _table(reader, folder, name)
    ids = pa.array(sorted({item_id for _, item_id in items}), pa.string())
    rows: list[dict[str, Any]] = table.filter(pc.is_in(table["item_id"], value_set=ids)).to_pylist()
    return [row for row in rows if _item(row) in items]


def _item(row: Mapping[str, Any]) -> Item:
    return str(row["task"]), str(row["item_id"])


def _judged(reader: Reader, outputs: str) -> dict[Item, _Text]:
    rows = json.loads(reader.files.text("folders", outputs, "model_outputs.json") or "[]")
    return {
        ("alpaca_eval", hashlib.sha256(row["instruction"].encode()).hexdigest()[:16]): _Text(
            row["output"], row["instruction"], "preferred to the reference’s output"
        )
        for row in rows
    }


def _answer(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], metric: str) -> str:
    """Return a model's answer to one item: the first generated text with the extracted answer, or the likeliest choice.

    `metric` decides how the lengths of choices are taken into account (see `_divisor`).

    An item without generated text may have only one choice. Return this choice if it is the model's greedy answer. Otherwise
    return the extracted answer or, if nothing was extracted, `NONE_WRITTEN`.
    """
    written = [pair for pair in pairs if pair[1]["text"] is not None]
    one, answer = (written or pairs)[0]
    if written:
        read = str(answer.get("extracted") or "")
        return f"{answer['text']} (read as: {read})" if read and read != answer["text"] else str(answer["text"])
    if len(pairs) > 1:
        best, _ = max(pairs, key=lambda pair: pair[1]["nats"] / _divisor(str(pair[0]["answer"]).strip(), metric))
        return str(best["answer"]).strip()
    return str(one["answer"]) if answer["is_greedy"] else str(answer.get("extracted") or NONE_WRITTEN)


def _divisor(answer: str, metric: str) -> float:
    """Return the divisor of a choice's log-likelihood, as in lm-eval's length-normalised metrics; 1 for other metrics."""
    if metric == "acc_norm":
        return max(1.0, float(len(answer)))
    return max(1.0, float(len(answer.encode()))) if metric == "acc_bytes" else 1.0


def _target(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Return the right answer. If the stored answer is the number of a choice (from 0), return the text of this choice."""
    target = str(pairs[0][0]["target"])
    choices = [str(one["answer"]).strip() for one, _ in pairs]
    if len(pairs) > 1 and target not in choices and target.isdigit() and int(target) < len(choices):
        return choices[int(target)]
    return target


def _table(reader: Reader, folder: str, name: str) -> pa.Table:
    return reader.files.columns(reader.files.join("folders", folder, name))
