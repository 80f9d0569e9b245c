"""Sentences on how a benchmark was run, for example on samples, cut prompts, unreadable answers and the score of guessing."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from reports import judged, words
from reports.analysis import Section
from reports.expected_cells import HELD_OUT_TABLE
from reports.experiment_view import Benchmark
from reports.results import Results

CHANCE: Mapping[str, float] = {"mmlu": 0.25}  # score of guessing one of four letters
HELD_OUT = "held_out"
SIMILARITY: Mapping[str, str] = {
    "chrf": "chrF compares its runs of characters with those of the known answer",
    "rouge_l": "ROUGE-L compares its longest common sequence of words (letters a to z and digits) with the known answer",
}
CUT = (
    "{} (over all models and seeds) did not fit into the model’s context and lost their beginning (worked examples first): "
    "scores are lower than with more context."
)
UNREAD = "In {} (over all models and seeds) the benchmark’s filter found no answer; each counts as wrong, as is usual."


def sentences(results: Results, section: Section) -> tuple[str, ...]:
    """Return sentences that explain the numbers of one benchmark and metric."""
    name = section.scores.benchmark
    tables = [table for (asset, _), table in results.tables.items() if asset in ("benchmark_scores", "base_scores")]
    notes = [said[name] for said in map(judged.asked_notes, tables) if name in said]
    settings = next((one for one in results.experiment.benchmarks if one.name == name), None)
    said = [
        _held_out(results, name, notes),
        _generated(section.scores.metric, settings),
        _extent(settings, name, notes),
        _counted(notes, "cut_prompts_n", "prompt", CUT),
        _counted(notes, "unread_n", "written answer", UNREAD),
        _blanks(settings, notes),
        _judged(notes),
        _at_equal_length(section),
        _plain_for_length(section, notes),
        _chance(section),
    ]
    return tuple(sentence for sentence in said if sentence)


def skipped(results: Results) -> list[tuple[str, str]]:
    """Return a sentence and a remedy for each gap in the scores: AlpacaEval without a judge, held-out items without an answer."""
    return [*_without_judge(results), *_unanswered(results)]


def _unanswered(results: Results) -> list[tuple[str, str]]:
    notes = results.footer_notes(HELD_OUT_TABLE)
    items_n, answered_n = notes.get("items_n"), notes.get("answered_n")
    if not isinstance(items_n, int) or not isinstance(answered_n, int) or answered_n >= items_n:
        return []
    command = f"taskdiv annotations export {results.experiment.name} --held-out"
    if not answered_n:
        return [(f"held_out is not scored: none of its {words.count(items_n, 'item')} has an answer yet.", command)]
    open_n = items_n - answered_n
    have = "has no answer yet and is" if open_n == 1 else "have no answer yet and are"
    return [(f"{open_n:,} of {words.count(items_n, 'held-out item')} {have} not scored.", command)]


def _without_judge(results: Results) -> list[tuple[str, str]]:
    if not any(one.is_skipped for one in results.experiment.benchmarks):
        return []
    text = "alpaca_eval is not scored: no judge is configured, and without one it is not known which output is better."
    if results.experiment.primary is not None and results.experiment.primary.benchmark == judged.BENCHMARK:
        text += " The primary comparison uses it, so it is not made."
    return [(text, "add `judge: {model: …, calls: …}` to it in the experiment file")]


def _sum(notes: Iterable[Mapping[str, Any]], key: str) -> int:
    return sum(value for note in notes if isinstance(value := note.get(key), int))


def _extent(settings: Benchmark | None, name: str, notes: list[Mapping[str, Any]]) -> str:
    asked_n, items_n = (
        max((note[key] for note in notes if isinstance(note.get(key), int)), default=0)
        for key in ("asked_n", "items_n")
    )
    if not 0 < asked_n < items_n:
        return ""
    of = f"{asked_n:,} of {words.count(items_n, 'item')}"
    is_one_task = name == judged.BENCHMARK
    if settings is None or settings.sample is None:
        first = "the first instructions" if is_one_task else "the first items of each task"
        return f"The benchmark asked {first}, {of}. They are not a random sample, so the rest may differ."
    known = [note["sampling_error"] for note in notes if isinstance(note.get("sampling_error"), float)]
    errors = [error for error in known if error > 0]  # 0 if all asked items have one score: then unknown
    adds = ", which adds to a mean a standard error of up to {:.3f}; the intervals here include it"
    cost = adds.format(max(errors)) if errors else ""
    shares = "" if is_one_task else ", equally many from each task where possible"
    return f"The benchmark asked a sample of {of}, drawn by hash{shares}{cost}."


def _held_out(results: Results, name: str, notes: list[Mapping[str, Any]]) -> str:
    if name != HELD_OUT:
        return ""
    found = [results.footer_notes(HELD_OUT_TABLE)]
    answered_n = found[0].get(
        "answered_n", _sum(found, "items_n")
    )  # tables of earlier versions contain only answered items
    source = "this pool that were taken out"
    if found[0].get("is_own_file"):
        source = "a file of their own; prompts of the pool with the same text were taken out"
    return (
        f"The items are {words.count(answered_n, 'answered prompt')} of {source} before any selection and "
        f"training{_copies(results, name)}. An answer counts with its end token.{_bits(notes)}"
    )


def _generated(metric: str, settings: Benchmark | None) -> str:
    if settings is None or settings.generated is None or metric not in SIMILARITY:
        return ""
    most_n = settings.generated.get("max_new_tokens", 128)
    end = "0 means nothing in common, 1 the same."
    return f"Each model wrote an answer of at most {most_n:,} tokens. {SIMILARITY[metric]}: {end}"


def _copies(results: Results, name: str) -> str:
    counts = results.matches.pool.get(name) if results.matches else None
    if counts is None:
        return ""
    n = counts.prompts_n
    copies = f"{words.count(n, 'near-duplicate')} of them remained" if n else "no near-duplicate remained"
    return f"; in the pool {copies}"


def _bits(notes: list[Mapping[str, Any]]) -> str:
    known = [bits for note in notes if isinstance(bits := note.get("bits_per_character"), Mapping)]
    pairs = [(seed, n) for bits in known for seed, n in bits.items() if isinstance(n, float)]
    base, tuned = [n for seed, n in pairs if seed == "base"], [n for seed, n in pairs if seed != "base"]
    said = [f"{n:.2f} for the base model" for n in base]
    said += [f"{min(tuned):.2f} to {max(tuned):.2f} for the adapters"] if tuned else []
    if not said:
        return ""
    return (
        f" Bits per character of the answers (fewer are better, comparable between tokenizers): {words.listing(said)}."
    )


def _counted(notes: list[Mapping[str, Any]], key: str, noun: str, sentence: str) -> str:
    n = _sum(notes, key)
    return sentence.format(words.count(n, noun)) if n else ""


def _blanks(settings: Benchmark | None, notes: list[Mapping[str, Any]]) -> str:
    blanks_n = _sum(notes, "blanks_n")
    if settings is not None and settings.strip:
        lower = f": {words.count(blanks_n, 'answer')} (over all models and seeds) would score lower with them"
        of = lower if blanks_n else ""
        return (
            "Blanks and line breaks around written answers are removed before the comparison (`strip: true`), which the "
            f"standard task does not do{of}. Do not compare these scores with published ones."
        )
    if not blanks_n:
        return ""
    return (
        f"{words.count(blanks_n, 'written answer')} (over all models and seeds) would be right without the blanks around "
        f"{'it' if blanks_n == 1 else 'them'}: the standard task compares them too. `strip: true` in the benchmark ignores "
        "them."
    )


def _judged(notes: list[Mapping[str, Any]]) -> str:
    kinds: Counter[str] = Counter()
    for note in notes:
        verdicts = note.get("verdicts")
        kinds.update(verdicts if isinstance(verdicts, Mapping) else {})
    if not kinds:
        return ""
    names = {"refused": "refused", "unreadable": "could not be read", "failed": "failed"}
    open_ones = [f"{kinds[kind]:,} {said}" for kind, said in names.items() if kinds[kind]]
    left = f"; {words.listing(open_ones)}: left out for all seeds, neither won nor lost" if open_ones else ""
    return f"Over all models and seeds there are {words.count(kinds['judged'], 'preference')} of the judge{left}."


def _at_equal_length(section: Section) -> str:
    scores = section.scores
    if scores.metric != judged.AT_EQUAL_LENGTH:
        return ""
    if scores.label == judged.PUBLISHED:
        return "Instructions have AlpacaEval’s published difficulties here, as on its leaderboard."
    how = "for each model on its own, without the difficulty of instructions"
    if scores.joint_models_n:
        how = f"for the {scores.joint_models_n:,} models here together, with one difficulty of each instruction"
    return (
        f"This win rate at equal length is our estimate, {how}; it is not the leaderboard’s, which uses difficulties from "
        "other models’ verdicts (`instruction_difficulty` takes them from AlpacaEval’s file)."
    )


def _plain_for_length(section: Section, notes: list[Mapping[str, Any]]) -> str:
    if section.scores.metric != judged.AT_EQUAL_LENGTH:
        return ""
    reasons = [one for note in notes if isinstance(one := note.get("plain_for_length"), Mapping)]
    models_n = sum(_sum([one], reason) for one in reasons for reason in one)
    if not models_n:
        return ""
    return (
        f"For {words.count(models_n, 'model')} (over all seeds) length could not be controlled for, since all preferences "
        "are on one side or all differences in length are the same: the plain win rate is shown instead."
    )


def _chance(section: Section) -> str:
    chance = CHANCE.get(section.scores.benchmark)
    means = [point.mean for points in section.curves.values() for point in points]
    means += [mean for mean in (section.base, section.full_pool) if mean is not None]
    known = [mean for mean in means if math.isfinite(mean.low)]
    if chance is None or not known:
        return ""
    above_n = sum(mean.low > chance for mean in known)
    said = f"Guessing scores {words.score(chance)}"
    if not above_n:
        return f"{said}, and no model here is separably above it: differences between them mean nothing yet."
    return f"{said}; {above_n} of {words.count(len(known), 'mean')} here are above it with their whole interval."
