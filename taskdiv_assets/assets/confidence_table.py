"""Asset `confidence_table`: the confidence of the base model or a proxy, for all prompts or a sample of each task."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.confidence.effect import Counts
from taskdiv_assets.confidence.measures import confidence
from taskdiv_assets.confidence.sampling import next_sizes, sample_places, task_means
from taskdiv_assets.experiment import Sampling
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_CONFIDENCE, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import histogram
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.models import SCORES_VERSION
from taskdiv_assets.graph.stored_values import task_codes
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.loading import NO_LIMIT
from taskdiv_assets.selection import parse_prompt_ids
from taskdiv_assets.services.scoring import PromptScores, resolve_proxies

LEAST = "least_log_probability"  # name of a note: the smallest log probability of a sequence
NAMED_N = 5  # number of prompts that the metadata name


def make_confidence_table(work: Work) -> Product:
    """Compute the statistics and the confidence of all prompts, or of the sample that the experiment file requests."""
    scores, rows = scored_pool(work)
    columns = {name: values[rows] for name, values in scores.columns.items()}
    chosen = confidence(columns, work.experiment.confidence.column)
    table = pa.table({"prompt_id": scores.prompt_ids[rows].tolist(), **columns, "confidence": chosen})
    cut = scores.prompt_ids[rows][scores.is_cut[rows]]
    tokens_n, score_s = int(columns["generated_n"].sum()), float(scores.seconds[rows].sum())
    is_generated = work.experiment.confidence.of == "continuation"
    notes = {
        "scored_n": len(rows),
        "pool_n": len(scores.prompt_ids),
        "truncated_prompts_n": len(cut),
        "truncated_prompts": ", ".join(cut[:NAMED_N].tolist()),
        "ended_at_once_n": int(((columns["generated_n"] == 1) & ~columns["truncated"]).sum()) if is_generated else 0,
        "tokens_n": tokens_n,
        "score_s": round(score_s, 3),
        "halvings_n": scores.halvings_n,
        LEAST: float(columns["sequence_log_probability"].min()) if len(rows) else None,
    }
    if score_s:
        notes |= {"tokens_per_s": round(tokens_n / score_s, 1), "prompts_per_s": round(len(rows) / score_s, 1)}
    return Product(table, notes)


def scored_pool(work: Work) -> tuple[PromptScores, NDArray[np.int64]]:
    """Score the requested prompts (all prompts of the pool, or the sample of the experiment file) that have no scores yet.

    Return the scores, and the sorted positions of the requested prompts in the pool.
    """
    scores = PromptScores.of_pool(work, work.experiment.confidence, "scoring prompts")
    wanted = np.zeros(len(scores.prompts), np.bool_)
    for wanted in rounds(work, scores):
        scores.score(wanted)
    return scores, np.flatnonzero(wanted)


def rounds(work: Work, scores: PromptScores, codes: Counts | None = None) -> Iterator[NDArray[np.bool_]]:
    """Yield a mask (n,) of the prompts to score, once per round. Each mask contains the prompts of the mask before it.

    `codes` (n,) are the tasks of the prompts in `scores`; by default, these prompts are the pool's.

    A sample with a tolerance may have several rounds; otherwise there is one. The caller must score the prompts of a mask before
    it requests the next mask, which depends on their scores.
    """
    sample = work.experiment.confidence_sample
    if sample is None:
        yield np.ones(len(scores.prompt_ids), np.bool_)
        return
    if codes is None:
        codes, _ = task_codes(work.read("task_labels"))
    places, sizes = sample_places(parse_prompt_ids(scores.prompt_ids.tolist()), codes), np.bincount(codes)
    aims = np.minimum(sample if isinstance(sample, int) else sample.first, sizes)
    yield places < aims[codes]
    if isinstance(sample, int):
        return
    while ((further := _further(work, scores, codes, places < aims[codes], sample)) > aims).any():
        open_n = int((further > aims).sum())
        work.log(
            f"{open_n} of {len(sizes)} tasks are not known within {sample.tolerance:.1%} yet; scoring more of them"
        )
        aims = further
        yield places < aims[codes]


def _further(work: Work, scores: PromptScores, codes: Counts, wanted: NDArray[np.bool_], sample: Sampling) -> Counts:
    values = np.full(len(codes), np.nan)
    known = {name: column[wanted] for name, column in scores.columns.items()}
    values[wanted] = confidence(known, work.experiment.confidence.column)
    return next_sizes(task_means(codes, values, int(codes.max()) + 1), sample.tolerance, sample.level, sample.first)


def picture_confidence(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    values = table["confidence"].to_numpy()
    is_cut = pc.fill_null(table["truncated"], False).to_numpy()
    finite = values[np.isfinite(values)]
    title = f"{len(values):,} prompts scored, {is_cut.mean():.0%} cut at the limit of tokens" if len(values) else "none"
    if len(finite):
        title += f"; median confidence {np.median(finite):.3g}"
    parts = {"ended by itself": values[~is_cut], "cut": values[is_cut]}
    return histogram(parts, "confidence", "prompts", title, limits=(0.0, 1.0))


def scored_prompts(work: Work) -> dict[str, Any]:
    """Return the contract parameters. Raise FileNotFoundError if scores that determine a sample are lost."""
    settings = work.experiment.confidence
    scores = PromptScores.of_pool(work, settings, "")
    wanted = np.zeros(len(scores.prompt_ids), np.bool_)
    for wanted in rounds(work, scores):
        if isinstance(work.experiment.confidence_sample, Sampling) and not scores.is_known[wanted].all():
            raise FileNotFoundError(
                f"the scores by which the sample was drawn are missing in {work.store.locate('scores', scores.identity)}; "
                f"run `taskdiv run {work.experiment.name} --until confidence_table`"
            )
    return {
        "scored_prompt_ids": scores.prompt_ids[wanted].tolist(),
        "definition": settings.column,
        "max_tokens": settings.max_new_tokens if settings.of == "continuation" else NO_LIMIT,
    }


def confidence_table_recipe(inputs: Inputs) -> Settings:
    lineage, confidence = inputs.lineage, inputs.experiment.confidence
    scorer = lineage.models.scorer(confidence)
    inputs.part("raw_pool", "prompts")
    inputs.add(scorer.inputs)
    settings: dict[str, object] = {"column": confidence.column, "scorer": scorer.identity}
    settings |= lineage.held.mark(confidence.model)
    sample = inputs.experiment.confidence_sample
    if sample is not None:
        settings["sample"] = sample if isinstance(sample, int) else sample.model_dump()
        inputs.of("task_labels")
    return settings


def prepare_proxy(work: Work) -> bool:
    return resolve_proxies(work, [work.experiment.confidence])


ASSET = Asset(
    name="confidence_table",
    make=make_confidence_table,
    reads=("raw_pool", "task_labels", "base_model"),
    recipe=confidence_table_recipe,
    code_version=SCORES_VERSION,
    description="Statistics of the base model's own greedy continuation of each prompt: probabilities, entropy, "
    "margins, and `confidence` in (0, 1]. With `confidence_sample`, of some prompts of each task.",
    needs=Needs(4, 24, 1, f"{HOLDS_7B}; processors tokenise ahead of the GPU"),
    is_sharded=True,
    unless=(WITHOUT_CONFIDENCE,),
    parameters=scored_prompts,
    picture=picture_confidence,
    kinds=frozenset({"pytorch", "parquet"}),
    prepare=prepare_proxy,
)
