"""Something to read: prompts that only one strategy chose, and what the models said to a few items.

Nothing is picked by hand: prompts by rank, items by a hash of their id within each pattern of right and wrong.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reports.reader import Reader

PROMPTS_EACH_N = 3
ALL = "all of them"


class PromptExample(NamedTuple):
    """A prompt that was chosen."""

    chosen_by: str  # a strategy, or ALL
    task: str
    prompt: str


class Said(NamedTuple):
    """What one model said to an item."""

    model: str
    text: str
    score: float


class OutputExample(NamedTuple):
    """One item, and what the models said."""

    benchmark: str
    task: str
    kind: str  # which of the models were right
    question: str  # the end of the prompt: what comes before it are worked examples
    target: str
    said: tuple[Said, ...]


class Examples(NamedTuple):
    """What there is to read."""

    prompts: tuple[PromptExample, ...] = ()
    prompts_budget_n: int | None = None
    outputs: tuple[OutputExample, ...] = ()
    outputs_budget_n: int | None = None


class _Arm(NamedTuple):
    """A model whose outputs may be read."""

    name: str
    asset: str
    key: str | None
    seed: str


def read_examples(
    reader: Reader, strategies: Sequence[str], budget_n: int | None, reference: str, strategy: str
) -> Examples:
    """Examples at one budget.

    Args:
        reader: of the stored tables.
        strategies: those of the experiment.
        budget_n: the largest that two strategies have; None: there is none.
        reference: whose outputs stand beside the base's.
        strategy: whose outputs stand beside both.
    """
    if budget_n is None:
        return Examples()
    scored_n = _scored_budget(reader, {reference, strategy})
    outputs = () if scored_n is None else _outputs(reader, scored_n, reference, strategy)
    return Examples(_prompts(reader, strategies, budget_n), budget_n, outputs, scored_n)


def _scored_budget(reader: Reader, names: set[str]) -> int | None:
    """The largest budget at which all of them are scored."""
    found: dict[int, set[str]] = {}
    for _, (strategy, budget_n) in reader.keys("benchmark_scores"):
        found.setdefault(budget_n, set()).add(strategy)
    return max((budget_n for budget_n, scored in found.items() if names <= scored), default=None)


def _prompts(reader: Reader, strategies: Sequence[str], budget_n: int) -> tuple[PromptExample, ...]:
    """Prompts that one strategy alone has, and that all have, with the lowest ranks; of each strategy's first seed."""
    chosen: dict[str, list[tuple[str, str]]] = {}
    for name in strategies:
        table = reader.columns("allocation", f"{budget_n}|{name}", "selection_seed", "rank", "prompt_id", "task")
        if table is None or not table.num_rows:
            continue
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
    """Prompts by id."""
    table = reader.columns("raw_pool", None, "prompt_id", "prompt")
    if table is None or not prompt_ids:
        return {}
    found = table.filter(pc.is_in(table["prompt_id"], value_set=pa.array(sorted(prompt_ids))))
    return dict(zip(found["prompt_id"].to_pylist(), found["prompt"].to_pylist(), strict=True))


def _outputs(reader: Reader, budget_n: int, reference: str, strategy: str) -> tuple[OutputExample, ...]:
    """Items of each benchmark, with what base, reference and strategy said."""
    arms = [_Arm("base", "base_scores", None, "base")]
    for name in dict.fromkeys((reference, strategy)):
        key = f"{budget_n}|{name}"
        asked = _asked(reader, "benchmark_scores", key)
        seeds = sorted(
            {seed for said in asked.values() for seed in said.get("scores", {})}, key=lambda seed: (len(seed), seed)
        )
        if seeds:
            arms.append(_Arm(f"{name}, seed {seeds[0]}", "benchmark_scores", key, seeds[0]))
    asked_of = [_asked(reader, arm.asset, arm.key) for arm in arms]
    names = [name for name in asked_of[-1] if all(name in asked for asked in asked_of)]
    found: list[OutputExample] = []
    for name in names if len(arms) > 1 else ():
        folders = [asked[name].get("scores", {}).get(arm.seed, "") for arm, asked in zip(arms, asked_of, strict=True)]
        found += _of_benchmark(
            reader, name, [arm.name for arm in arms], folders, str(asked_of[0][name].get("questions", ""))
        )
    return tuple(found)


def _asked(reader: Reader, asset: str, key: str | None) -> dict[str, Mapping[str, Any]]:
    """What a table of scores says of its benchmarks, by name."""
    table = reader.listing.tables.get((asset, key))
    asked = table.footer.notes.get("asked") if table else None
    return (
        {str(name): said for name, said in asked.items() if isinstance(said, Mapping)}
        if isinstance(asked, Mapping)
        else {}
    )


def _of_benchmark(
    reader: Reader, name: str, models: Sequence[str], folders: Sequence[str], questions: str
) -> list[OutputExample]:
    """A few items of one benchmark; none where a folder is not there or cannot be read."""
    try:
        scores = [_scores(reader, folder) for folder in folders]
        said = [_texts_of(reader, folder, questions) for folder in folders]
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        reader.problems.append(f"outputs of {name} cannot be shown ({type(error).__name__}: {str(error)[:120]})")
        return []
    common = set.intersection(*(set(one) for one in scores), *(set(one) for one in said))
    rows = []
    for kind, item in _chosen(sorted(common), scores, models):
        shown = tuple(
            Said(model, texts[item].text, own[item]) for model, texts, own in zip(models, said, scores, strict=True)
        )
        asked = said[0][item]
        rows.append(OutputExample(name, item[0], kind, asked.question, asked.target, shown))
    return rows


Item = tuple[str, str]  # task, item_id


def _chosen(
    items: Sequence[Item], scores: Sequence[Mapping[Item, float]], models: Sequence[str]
) -> list[tuple[str, Item]]:
    """Items by pattern of right and wrong, failures included."""
    ordered = sorted(items, key=lambda item: hashlib.sha256("\0".join(item).encode()).hexdigest())
    last, before = len(models) - 1, max(0, len(models) - 2)
    kinds: list[tuple[str, int, Callable[[list[bool]], bool]]] = [
        (f"{models[last]} is right, {models[before]} is not", 2, lambda right: right[last] and not right[before]),
        (f"{models[before]} is right, {models[last]} is not", 2, lambda right: right[before] and not right[last]),
        ("all are wrong", 1, lambda right: not any(right)),
        ("all are right", 1, all),
    ]
    found: list[tuple[str, Item]] = []
    for kind, most_n, fits in kinds:
        of_kind = [item for item in ordered if fits([own[item] > 0.5 for own in scores])]
        found += [(kind, item) for item in of_kind[:most_n]]
    return found


def _scores(reader: Reader, folder: str) -> dict[Item, float]:
    """Scores of the first metric."""
    table = _table(reader, folder, "scores.parquet")
    first = table["metric"][0].as_py() if table.num_rows else ""
    own = table.filter(pc.equal(table["metric"], first))
    keys = zip(own["task"].to_pylist(), own["item_id"].to_pylist(), strict=True)
    return dict(zip(keys, own["score"].to_pylist(), strict=True))


class _Text(NamedTuple):
    """What a model said to an item, and what the item asks."""

    text: str
    question: str
    target: str


def _texts_of(reader: Reader, folder: str, questions: str) -> dict[Item, _Text]:
    """What a model said to each item."""
    manifest = json.loads(reader.store.text("folders", folder, "manifest.json") or "{}")
    written = manifest.get("notes", {}).get("outputs")
    if isinstance(written, str):
        return _judged(reader, written)
    asked = _table(reader, questions, "questions.parquet").to_pylist()
    answers = _table(reader, folder, "outputs.parquet").to_pylist()
    of_item: dict[Item, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for one, answer in zip(asked, answers, strict=True):
        of_item.setdefault((one["task"], one["item_id"]), []).append((one, answer))
    return {item: _Text(_answer(pairs), pairs[0][0]["prompt"], _target(pairs)) for item, pairs in of_item.items()}


def _judged(reader: Reader, outputs: str) -> dict[Item, _Text]:
    """Outputs that a judge compared."""
    rows = json.loads(reader.store.text("folders", outputs, "model_outputs.json") or "[]")
    return {
        ("alpaca_eval", hashlib.sha256(row["instruction"].encode()).hexdigest()[:16]): _Text(
            row["output"], row["instruction"], "preferred to the reference’s output"
        )
        for row in rows
    }


def _answer(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """A written text, the likeliest of the choices, or how likely the right answer is."""
    if pairs[0][1]["text"] is not None:
        return str(pairs[0][1]["text"])
    if len(pairs) > 1:
        best, _ = max(pairs, key=lambda pair: pair[1]["nats"])
        return str(best["answer"]).strip()
    one, answer = pairs[0]
    return str(one["answer"]) if answer["is_greedy"] else "(another answer is likelier)"


def _target(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """The right answer; of a choice its text, not its number."""
    target = str(pairs[0][0]["target"])
    if len(pairs) > 1 and target.isdigit() and int(target) < len(pairs):
        return str(pairs[int(target)][0]["answer"]).strip()
    return target


def _table(reader: Reader, folder: str, name: str) -> pa.Table:
    path = reader.store.join("folders", folder, name)
    with reader.store.fs.open(path, "rb") as handle:
        return pq.read_table(handle, partitioning=None)
