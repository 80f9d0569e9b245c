"""AlpacaEval in the graph: models write outputs, and a judge compares them with a reference's outputs.

Outputs, verdicts and scores are stored.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.table_paths import LENGTHS_FILE
from taskdiv_assets.benchmarks.alpaca.difficulty import read_difficulty
from taskdiv_assets.benchmarks.alpaca.instructions import Instruction, read_instructions
from taskdiv_assets.benchmarks.alpaca.outputs import FILE_NAME, model_outputs, read_model_outputs
from taskdiv_assets.benchmarks.alpaca.prompts import Pair
from taskdiv_assets.benchmarks.alpaca.verdict_parts import Verdict, to_table
from taskdiv_assets.benchmarks.alpaca.win_rate import Difficulty, length_controlled, win_rate
from taskdiv_assets.benchmarks.answering import Answer, cut_counts
from taskdiv_assets.benchmarks.evaluation import ScoredItem, scores_table
from taskdiv_assets.benchmarks.item_sampling import drawn, standard_error
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan
from taskdiv_assets.language_model.control import pieces, plain, token_ids
from taskdiv_assets.language_model.loading import NO_LIMIT, LanguageModel, context_tokens
from taskdiv_assets.services.answer_parts import AnswerParts
from taskdiv_assets.services.candidates import Candidates
from taskdiv_assets.services.judge_batches import check_endpoint, verdicts_on

SCORES_FILE, VERDICTS_FILE = "scores.parquet", "verdicts.parquet"
TASK = "alpaca_eval"  # the only task, so the win rate is the plain mean over instructions


def chosen_instructions(
    benchmark: AlpacaEvalBenchmark, every: Sequence[Instruction] | None = None
) -> list[Instruction]:
    """Return the instructions that `sample` and `limit` select. `every` contains all instructions if they were read before.

    If `every` is None, the source is read. Raise ValueError if the source cannot be used (see `read_instructions`).
    """
    found = list(read_instructions(benchmark.source) if every is None else every)
    if benchmark.sample is not None:
        found = [found[place] for place in drawn([one.text for one in found], benchmark.sample)]
    return found[: benchmark.limit]


def judge_outputs(
    work: Work, candidates: Candidates, benchmark: AlpacaEvalBenchmark, missing: Mapping[int | None, str]
) -> None:
    """Judge the outputs of the models in `missing`, and store the scores of each model. Missing outputs are written first.

    All outputs are written before the judge is called, so that the calls for all models are counted before the first call.

    Raises:
        ValueError: the benchmark has no judge, a file of the benchmark cannot be used, no token is left for a prompt, a verdict
            is missing (see `verdicts_on`), or no verdict on a model's outputs has a preference.
    """
    judge = benchmark.judge
    if judge is None:
        # A run cannot come here, because `asked` leaves this benchmark out.
        raise ValueError("benchmark `alpaca_eval` has no judge, so it cannot be scored; name one")
    if judge.model is not None:
        check_endpoint(judge)  # fail before hours of writing
    every = read_instructions(benchmark.source)
    instructions = chosen_instructions(benchmark, every)
    difficulties = _difficulties(benchmark, every, instructions)  # fail before hours of writing
    outputs = {seed: work.lineage.scoring.outputs(candidates.folders[seed], benchmark) for seed in missing}
    for seed, folder in outputs.items():
        if work.store.read_manifest(folder) is None:
            _write(work, candidates.activate(seed), benchmark, instructions, folder)
    files = {seed: work.store.locate("folders", folder, FILE_NAME) for seed, folder in outputs.items()}
    compared = {files[seed]: pairs_of(work, instructions, folder) for seed, folder in outputs.items()}
    found = verdicts_on(work, judge, compared)
    for seed, identity in missing.items():
        where = files[seed]
        rows, notes = scored(instructions, compared[where], found[where], difficulties)
        of_outputs = (work.store.read_manifest(outputs[seed]) or {})["notes"]  # counts of cut prompts and cut answers
        counts: dict[str, Any] = {"asked_n": len(instructions), "items_n": len(every), **of_outputs}
        counts |= {"unread_n": 0, "sampling_error": _sampling_errors(benchmark, rows, len(every))}
        tables = {SCORES_FILE: scores_table(rows), VERDICTS_FILE: to_table(found[where])}
        tables[LENGTHS_FILE] = lengths_table(instructions, compared[where])
        store_tables(work, identity, tables, notes={**counts, **notes, "outputs": outputs[seed]})


def store_tables(work: Work, identity: str, tables: Mapping[str, pa.Table], **content: Any) -> None:
    """Store `tables` (file name -> table) in the folder `identity`. The folder's manifest also contains `content`."""
    with work.store.scratch() as folder:
        for name, table in tables.items():
            pq.write_table(table, folder / name, compression="zstd")
        work.store.write_folder(identity, folder, **content)


def pairs_of(work: Work, instructions: Sequence[Instruction], outputs: str) -> list[Pair]:
    """Return the pairs for a judge: each stored output of one model with the reference's output."""
    texts = [one.output for one in read_model_outputs(work.store.read_file(outputs, FILE_NAME))]
    return [Pair(one.text, one.reference_output, text) for one, text in zip(instructions, texts, strict=True)]


def _sampling_errors(benchmark: AlpacaEvalBenchmark, rows: Sequence[ScoredItem], all_n: int) -> dict[str, float | None]:
    """Return, by metric, the standard error that sampling causes in the mean score. Return {} if `sample` is None.

    The error of a metric is None if it cannot be estimated (see `standard_error`).
    """
    if benchmark.sample is None:
        return {}
    scores = {metric: [row.score for row in rows if row.metric == metric] for metric in benchmark.metrics}
    return {metric: standard_error({TASK: values}, {TASK: all_n}) for metric, values in scores.items()}


def _write(
    work: Work, lm: LanguageModel, benchmark: AlpacaEvalBenchmark, instructions: Sequence[Instruction], identity: str
) -> None:
    """Write the model's outputs with the experiment's prompt template, and store them in AlpacaEval's format.

    Raise ValueError if `max_new_tokens` leaves no room for a prompt in the model's context.
    """
    prompts = work.render([one.text for one in instructions])
    room_n = (context_tokens(lm) or NO_LIMIT) - benchmark.max_new_tokens
    if room_n < 1:
        raise ValueError(
            f"`max_new_tokens` of benchmark `alpaca_eval` is {benchmark.max_new_tokens}, but the model reads "
            f"{context_tokens(lm)} tokens, prompt included; expected a number well below it"
        )
    tokens = token_ids(lm.tokenizer, list(map(pieces, prompts)), "alpaca_eval: instruction {}".format)
    keys = [hashlib.sha256(plain(prompt).encode()).hexdigest()[:32] for prompt in prompts]
    plan = WritingPlan(lm, [Wanted(tuple(row[-room_n:]), (), benchmark.max_new_tokens) for row in tokens], log=work.log)
    parts = AnswerParts(work, identity)
    answers = dict(parts.known)
    progress = work.progress("writing outputs for alpaca_eval", "outputs")
    progress(sum(key in answers for key in keys), len(keys))
    try:
        for written in plan.run(np.array([key in answers for key in keys], np.bool_)):
            rows = zip(written.positions, written.texts, written.is_cut, strict=True)
            new = {keys[place]: Answer(text, is_cut=is_cut) for place, text, is_cut in rows}
            parts.keep(new)
            answers |= new
            progress(len(answers), len(keys))
    finally:  # store also after Ctrl-C
        parts.put()
    texts = [answers[key].text or "" for key in keys]
    with work.store.scratch() as folder:
        (folder / FILE_NAME).write_bytes(model_outputs(instructions, texts, f"{work.unit} {identity[:8]}"))
        cut_n = sum(len(row) > room_n for row in tokens)
        notes = {"cut_prompts_n": cut_n, **cut_counts(answers[key] for key in keys)}
        work.store.write_folder(identity, folder, notes=notes)
    parts.remove()


def _difficulties(
    benchmark: AlpacaEvalBenchmark, every: Sequence[Instruction], instructions: Sequence[Instruction]
) -> Difficulty | None:
    if benchmark.instruction_difficulty is None:
        return None
    places = {one.text: place for place, one in enumerate(every)}
    found = read_difficulty(benchmark.instruction_difficulty)
    return found.of([places[one.text] for one in instructions], len(every))


def lengths_table(instructions: Sequence[Instruction], pairs: Sequence[Pair]) -> pa.Table:
    """Return the number of characters of the model's and the reference's output, by item."""
    model_chars = pa.array([len(pair.model_output) for pair in pairs], pa.int64())
    reference_chars = pa.array([len(pair.reference_output) for pair in pairs], pa.int64())
    ids = [item_id(one) for one in instructions]
    return pa.table({"item_id": ids, "model_chars": model_chars, "reference_chars": reference_chars})


def scored(
    instructions: Sequence[Instruction],
    pairs: Sequence[Pair],
    verdicts: Sequence[Verdict],
    difficulties: Difficulty | None = None,
) -> tuple[list[ScoredItem], dict[str, Any]]:
    """Return rows of scores for the outputs, and notes on verdicts and rates. A verdict without a preference has no row.

    A score of `win_rate` is the preference. A score of `length_controlled_win_rate` is an item's pseudo-value, which may be
    outside 0..1 (see `alpaca.win_rate`). Raise ValueError if no verdict has a preference.
    """
    hashes = [_prompt_hash(one) for one in instructions]
    kinds = Counter(verdict.kind for verdict in verdicts)
    places = [place for place, verdict in enumerate(verdicts) if verdict.preference is not None]
    open_ids = [one[:16] for one, verdict in zip(hashes, verdicts, strict=True) if verdict.preference is None]
    if not places:
        raise ValueError(
            f"the judge gave no preference on any of {len(pairs)} outputs "
            f"({', '.join(f'{n} {kind}' for kind, n in kinds.items())}); choose another judge, or remove it"
        )
    preferences = np.array([verdicts[place].preference for place in places], np.float64)
    lengths = np.array([[len(pairs[place].model_output), len(pairs[place].reference_output)] for place in places]).T
    if difficulties is not None:
        difficulties = difficulties._replace(of_item=difficulties.of_item[places])
    plain = win_rate(preferences)
    controlled = length_controlled(preferences, lengths[0], lengths[1], difficulties)
    notes: dict[str, Any] = {
        "verdicts": dict(kinds),
        "unjudged": open_ids,
        "win_rate": plain.win_rate,
        "length_controlled_win_rate": controlled.win_rate,
        "length_coefficient": controlled.length_coefficient,
        "length_reason": controlled.reason,
        "mean_chars": [float(row.mean()) for row in lengths],
    }
    columns = {"win_rate": preferences, "length_controlled_win_rate": controlled.pseudo_values}
    rows = [
        ScoredItem("alpaca_eval", TASK, hashes[place][:16], metric, float(value), hashes[place])
        for metric, values in columns.items()
        for place, value in zip(places, values, strict=True)
    ]
    return rows, notes


def item_id(instruction: Instruction) -> str:
    """Return the id of an instruction in the scores."""
    return _prompt_hash(instruction)[:16]


def _prompt_hash(instruction: Instruction) -> str:
    return hashlib.sha256(instruction.text.encode()).hexdigest()


def verdict_counts(notes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return counts over all seeds: the verdicts by kind, and the items without a preference.

    `plain_for_length` counts, by reason, the seeds for which the plain win rate is used instead of the regression.
    """
    counts = sum((Counter(note["verdicts"]) for note in notes), Counter[str]())
    reasons = Counter(note["length_reason"] for note in notes if note["length_reason"])
    return {"verdicts": dict(counts), "left_out_n": len(unjudged(notes)), "plain_for_length": dict(reasons)}


def unjudged(notes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the ids of items without a preference for at least one seed. They are left out, so all seeds have the same items."""
    return {item for note in notes for item in note["unjudged"]}
