"""Score models on all benchmarks of an experiment, item by item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.benchmarks import ItemScorer, ScoredSettings, Scorer, expected_items
from taskdiv_assets.benchmarks.answering import Answer, Answers
from taskdiv_assets.benchmarks.evaluation import questions_table
from taskdiv_assets.benchmarks.held_out_benchmark import Row
from taskdiv_assets.experiment.benchmark_settings import (
    AlpacaEvalBenchmark,
    Benchmark,
    HeldOutBenchmark,
    Written,
)
from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.drawings import bars
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.pools import held_items
from taskdiv_assets.services.answer_parts import AnswerParts
from taskdiv_assets.services.candidates import Candidates
from taskdiv_assets.services.judged_outputs import (
    SCORES_FILE,
    chosen_instructions,
    judge_outputs,
    store_tables,
    unjudged,
    verdict_counts,
)
from taskdiv_assets.storage.store import DamagedError, parquet_table

OUTPUTS_FILE = "outputs.parquet"  # the model's answers, for display
QUESTIONS_FILE = "questions.parquet"  # the same for all models
ORDER = [(name, "ascending") for name in ("training_seed", "benchmark", "task", "item_id", "metric")]


def score_all(work: Work, folders: Mapping[int | None, str]) -> dict[int | None, pa.Table]:
    """Return the scores of each model on all benchmarks, by training seed (None: the base model).

    Missing scores are computed first. An item without a judge's preference for one seed is left out for all seeds. Raise
    ValueError if a benchmark then has no item.
    """
    parts: dict[int | None, list[pa.Table]] = {seed: [] for seed in folders}
    with Candidates(work, folders) as candidates:
        for benchmark in work.lineage.scoring.asked():
            wanted = {seed: work.lineage.scoring.scores(folder, benchmark) for seed, folder in folders.items()}
            missing = {seed: one for seed, one in wanted.items() if work.store.read_manifest(one) is None}
            if missing:
                if isinstance(benchmark, AlpacaEvalBenchmark):
                    judge_outputs(work, candidates, benchmark, missing)
                else:
                    _score(work, candidates, benchmark, missing)
            notes = [_manifest_notes(work, identity) for identity in wanted.values()]
            left_out = pa.array(sorted(unjudged([note for note in notes if "unjudged" in note])), pa.string())
            for seed, identity in wanted.items():
                folder = work.store.locate("folders", identity)
                advice = f"remove {folder}, and `taskdiv run {work.experiment.name}` scores again"
                data = work.store.read_file(identity, SCORES_FILE)
                found = parquet_table(data, f"{folder}/{SCORES_FILE}", advice)
                kept = found.filter(pc.invert(pc.is_in(found["item_id"], value_set=left_out)))
                if not kept.num_rows:
                    raise ValueError(
                        f"the judge left every item of `{benchmark.name}` open for some seed, so nothing can be compared; "
                        "choose another judge, or remove it"
                    )
                parts[seed].append(kept)
    return {seed: pa.concat_tables(tables) for seed, tables in parts.items()}


def _manifest_notes(work: Work, identity: str) -> Mapping[str, Any]:
    manifest = work.store.read_manifest(identity)
    if manifest is None:
        state = work.lineage.state(work.unit)
        if state.status == "stale":  # the experiment file was changed after the table was stored
            raise StaleInputError(state.reason)
        where = work.store.locate("folders", identity)
        raise FileNotFoundError(f"scores {where} are missing or incomplete; run `taskdiv run {work.experiment.name}`")
    notes: Mapping[str, Any] = manifest["notes"]
    return notes


def _score(work: Work, candidates: Candidates, benchmark: ScoredSettings, missing: Mapping[int | None, str]) -> None:
    scorer: Scorer | None = None
    questions = work.lineage.scoring.questions(benchmark)
    with work.progress(f"scoring {benchmark.name}", "questions") as progress:
        for place, (seed, identity) in enumerate(missing.items()):
            if candidates.are_whole:
                scorer = None  # free the previous model: two models may not fit in memory
            lm = candidates.activate(seed)
            scorer = scorer or _scorer(work, lm, benchmark)
            del lm
            parts = AnswerParts(work, identity)
            if work.store.read_manifest(questions) is None:
                store_tables(work, questions, {QUESTIONS_FILE: questions_table(scorer.questions)})
            known = {**_compared_otherwise(work, scorer, benchmark, candidates.folders[seed]), **parts.known}
            answered = scorer.questions.requests.keys() & known.keys()
            known_n = len(answered)
            share = _Share(scorer.answerer.work(), place, len(missing))
            share.add(answered)
            progress.before_n += known_n
            before_n, all_n = place * scorer.questions_n, len(missing) * scorer.questions_n

            def on_done(
                done_n: int, _total_n: int, before_n: int = before_n, all_n: int = all_n, share: _Share = share
            ) -> None:
                progress(before_n + done_n, all_n, share=share.now)

            def keep(some: Answers, parts: AnswerParts = parts, share: _Share = share) -> None:
                parts.keep(some)
                share.add(some)

            on_done(known_n, all_n)  # the first batch of a large model takes minutes
            try:
                scored = scorer.score(known, keep, on_done)
            except ValueError as error:
                raise ValueError(str(error) if seed is None else f"training seed {seed}: {error}") from error
            except BaseException:  # Ctrl-C, or a cancelled run
                parts.put()
                raise
            notes = {**scored.notes._asdict(), **scored.more, "questions": questions}
            store_tables(work, identity, {SCORES_FILE: scored.table, OUTPUTS_FILE: scored.outputs}, notes=notes)
            parts.remove()


class _Share:
    """The share of the scoring of some models that is done. Each question counts by its expected work."""

    def __init__(self, work: Mapping[str, int], place: int, models_n: int) -> None:
        self.work, self.place, self.models_n = work, place, models_n  # `place` models are done
        self.done_n = 0

    def add(self, keys: Iterable[str]) -> None:
        self.done_n += sum(self.work[key] for key in keys)

    @property
    def now(self) -> float:
        return (self.place + self.done_n / max(sum(self.work.values()), 1)) / self.models_n


def _scorer(work: Work, lm: LanguageModel, benchmark: ScoredSettings) -> Scorer:
    if not isinstance(benchmark, HeldOutBenchmark):
        return Scorer(lm, benchmark, pool=work.experiment.pool, template=work.template, log=work.log)
    table = held_items.answered(work.read("held_out_items"))
    columns = (table[name].to_pylist() for name in ("prompt_id", "task", "response"))
    rows = zip(*columns, work.render(table["prompt"].to_pylist()), strict=True)
    items = [Row(item_id, task, prompt, response) for item_id, task, response, prompt in rows]
    return ItemScorer(lm, benchmark, items, work.experiment.tuning.max_length, work.log)


def _compared_otherwise(work: Work, scorer: Scorer, benchmark: ScoredSettings, folder: str) -> Mapping[str, Answer]:
    """Return the answers that are stored with the scores for the other value of the benchmark's setting `strip`.

    Return {} if there are none, or if they cannot be read. The model's answers do not depend on `strip`, which changes only how
    an answer is compared with the known answer.
    """
    if not isinstance(benchmark, Written):
        return {}
    other = benchmark.model_copy(update={"strip": not benchmark.strip})
    identity = work.lineage.scoring.scores(folder, other)
    where = f"{work.store.locate('folders', identity)}/{OUTPUTS_FILE}"
    try:
        if work.store.read_manifest(identity) is None:
            return {}
        found = parquet_table(work.store.read_file(identity, OUTPUTS_FILE), where, "its questions are asked again")
        columns = [found[name].to_pylist() for name in ("task", "item_id", "question", "text", "nats", "is_greedy")]
    except (DamagedError, FileNotFoundError, KeyError) as error:
        work.log(f"answers of this model to {benchmark.name} cannot be used again: {error}")
        return {}
    given = {tuple(row[:3]): Answer(*row[3:]) for row in zip(*columns, strict=True)}
    places = [(item, place, key) for item in scorer.questions.items for place, key in enumerate(item.keys)]
    known = {key: given.get((item.task, item.item_id, place)) for item, place, key in places}
    return {key: answer for key, answer in known.items() if answer is not None}


def with_seeds(scored: pa.Table, training_seed: int | None, selection_seed: int | None) -> pa.Table:
    seeds = {"training_seed": training_seed, "selection_seed": selection_seed}
    columns = {name: pa.array([seed] * scored.num_rows, pa.int64()) for name, seed in seeds.items()}
    return pa.table({**columns, **{name: scored[name] for name in scored.column_names}})


def item_counts(work: Work) -> dict[str, Any]:
    """Return facts for the contract of scores: `expected_items` and `lost_to_blanks`.

    `expected_items` is the number of rows (items × metrics) of one seed, by benchmark. `lost_to_blanks` contains a benchmark's
    name once for each model and item that would score higher without blanks around the answer.
    """
    counts: dict[str, int] = {}
    lost: list[str] = []
    for benchmark in work.lineage.scoring.asked():
        if isinstance(benchmark, AlpacaEvalBenchmark):
            judged_n = len(chosen_instructions(benchmark)) - len(unjudged(_stored_notes(work, benchmark)))
            counts[benchmark.name] = len(benchmark.metrics) * judged_n
        elif isinstance(benchmark, HeldOutBenchmark):
            counts[benchmark.name] = len(benchmark.metrics) * held_items.answered(work.read("held_out_items")).num_rows
        else:
            counts[benchmark.name] = expected_items(benchmark, work.experiment.pool)
        if isinstance(benchmark, Written) and not benchmark.strip:
            lost += [benchmark.name] * sum(note.get("blanks_n", 0) for note in _stored_notes(work, benchmark))
    return {"expected_items": counts, "lost_to_blanks": lost}


def _stored_notes(work: Work, benchmark: Benchmark) -> list[Mapping[str, Any]]:
    """Return the notes on the stored scores of each model that this asset scores."""
    if work.unit.asset == "base_scores":
        folders = [work.lineage.fresh(Unit("base_model")).identity]
    else:
        folders = work.read("adapter", work.unit.key)["folder"].to_pylist()
    return [_manifest_notes(work, work.lineage.scoring.scores(folder, benchmark)) for folder in folders]


def notes_of(work: Work, folders: Mapping[int | None, str]) -> dict[str, Any]:
    """Return notes on the benchmarks: their settings, the identities of their scores, and counts over all seeds."""
    found: dict[str, dict[str, Any]] = {}
    for benchmark in work.lineage.scoring.asked():
        identities = [work.lineage.scoring.scores(folder, benchmark) for folder in folders.values()]
        notes = [_manifest_notes(work, identity) for identity in identities]
        errors = [error for note in notes for error in note["sampling_error"].values() if error is not None]
        names = ["base" if seed is None else str(seed) for seed in folders]
        found[benchmark.name] = {
            "scores": dict(zip(names, identities, strict=True)),
            **{name: notes[0][name] for name in ("asked_n", "items_n")},
            **{name: sum(note[name] for note in notes) for name in ("cut_prompts_n", "unread_n")},
            "blanks_n": sum(note.get("blanks_n", 0) for note in notes),  # scores of earlier versions lack it
            "sampling_error": max(errors, default=None),
        }
        if all("written_n" in note for note in notes):  # earlier versions did not store it
            found[benchmark.name] |= {key: sum(note[key] for note in notes) for key in ("written_n", "cut_answers_n")}
        if isinstance(benchmark, AlpacaEvalBenchmark):
            found[benchmark.name] |= verdict_counts(notes)
        else:
            found[benchmark.name]["questions"] = work.lineage.scoring.questions(benchmark)
        if isinstance(benchmark, HeldOutBenchmark):
            found[benchmark.name]["bits_per_character"] = {
                name: note["bits_per_character"] for name, note in zip(names, notes, strict=True)
            }
    return {"benchmarks": [item.model_dump() for item in work.experiment.benchmarks], "asked": found}


def table_of_benchmarks(notes: Mapping[str, Any]) -> str:
    """Return a Markdown table for the UI: the mean over seeds by benchmark and metric, and the counts of each benchmark."""
    means: dict[tuple[str, str], list[float]] = {}
    for entry in notes["means"]:
        means.setdefault((entry["benchmark"], entry["metric"]), []).append(entry["mean"])
    rows = []
    for (benchmark, metric), values in sorted(means.items()):
        asked_of = notes["asked"][benchmark]
        of = f"{asked_of['asked_n']:,} of {asked_of['items_n']:,}"
        counts = [str(asked_of.get(name, "")) for name in ("cut_prompts_n", "unread_n", "blanks_n", "left_out_n")]
        mean = f"{sum(values) / len(values):.3f}"
        rows.append((markdown.text(benchmark), markdown.text(metric), mean, str(len(values)), of, *counts))
    head = ("benchmark", "metric", "mean", "seeds", "items asked", "prompts cut", "answers unread")
    return markdown.table((*head, "right except for blanks", "left open by the judge"), rows)


def picture_scores(table: pa.Table, notes: Any) -> bytes:
    means = table.group_by(["benchmark", "task"]).aggregate([("score", "mean")])
    rows = means.sort_by([("benchmark", "ascending"), ("task", "ascending")]).to_pylist()
    benchmarks = {row["benchmark"] for row in rows}
    names = [row["task"] if len(benchmarks) == 1 else f"{row['benchmark']}: {row['task']}" for row in rows]
    values = [np.nan if row["score_mean"] is None else row["score_mean"] for row in rows]
    return bars(names, {"mean score": values}, f"mean score, {len(rows):,} tasks")
