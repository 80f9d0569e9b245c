"""The tables of docs/SCALING.md, computed by `tests.evidence.sizing`: the time, memory and storage that an experiment needs.

Run: python -m tests.evidence.scaling     (seconds). A test compares the page with the output of this program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

from taskdiv_assets.selection import STRATEGIES
from tests.benchmarks.page import table
from tests.evidence import sizing, sizing_plan
from tests.evidence.marked import replace_marked
from tests.evidence.sizing import BBH, H100, MMLU, MODELS, ROWS, ModelShape, Rate, Rates, Workload
from tests.evidence.sizing_plan import HOST, Plan

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "SCALING.md"
NEEDS = {name: strategy.needs for name, strategy in STRATEGIES.items()}
GREEDY = frozenset(name for name, strategy in STRATEGIES.items() if strategy.is_greedy)
GPUS_N, CORES_N = 64, 64
POOLS = (15_000, 100_000, 1_000_000, 10_000_000)
SHAPES = ("TinyLlama-1.1B", "Llama-2-7B", "Llama-2-13B", "Llama-2-70B")
STUDY = ("random", "mean_entropy", "min_margin", "facility_location", "task_diversity", "weighted_task_diversity")
BASE = MODELS["Llama-2-7B"]
LARGE = Workload(10_000_000, 2_000, tuple(1_000 * i for i in range(1, 51)), tuple(STRATEGIES), 5)
SAMPLED_BBH = BBH._replace(items_n=1_350)


def study(prompts_n: int) -> Workload:
    """Return a comparison like the experiment `dolly`: six strategies, four budgets, three seeds."""
    return Workload(prompts_n, 300, (1_000, 2_000, 5_000, 10_000), STUDY, 3)


def plan_of(work: Workload, gpus_n: int = GPUS_N, shape: ModelShape = BASE, rates: Rates = H100) -> Plan:
    return sizing_plan.plan(shape, rates, HOST, work, NEEDS, gpus_n, CORES_N)


def hours(seconds: float) -> str:
    """Format hours with two or three digits."""
    value = seconds / 3_600
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def gigabytes(number: float) -> str:
    """Format a number of bytes in units of 10⁹ with two or three digits."""
    value = number / 1e9
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def sizes() -> str:
    """Return the table of pool sizes and model sizes."""
    rows = []
    for shape in (MODELS[name] for name in SHAPES):
        for prompts_n in POOLS:
            work = study(prompts_n)
            adapters_n = work.adapters_n()
            train_s = sum(sizing.training_s(shape, H100, work, budget_n) for budget_n in work.budgets)
            gpu_s = (
                sizing.confidence_s(shape, H100, work),
                sizing.embeddings_s(shape, H100, work),
                train_s * adapters_n / len(work.budgets),
                sizing.benchmarks_s(shape, H100, work) * (adapters_n + 1),
            )
            memory = max(sizing.gpu_memory(shape, H100, work))
            host, stored = max(sizing.host_memory(shape, work)), sizing.storage(shape, work, GREEDY).total
            total = f"**{hours(sum(gpu_s))}**"
            rows.append(
                [f"{prompts_n:,}", shape.name, *map(hours, gpu_s), total, *map(gigabytes, (memory, host, stored))]
            )
    heads = ["prompts", "base", "confidence, GPU h", "embeddings", "training", "benchmarks", "all, GPU h"]
    return table([*heads, "GPU memory, GB", "host memory, GB", "store, GB"], rows)


def memory() -> str:
    """Return the memory of the cards by model."""
    rows = []
    for shape in (MODELS[name] for name in SHAPES):
        found, cards = sizing.gpu_memory(shape, H100, LARGE), sizing.cards_a_copy(shape, H100)
        adapter = sizing.FULL * shape.lora_n(LARGE.lora_rank)
        kept = "kept" if sizing.keeps_activations(shape, H100, LARGE) else "computed again"
        rows.append(
            [
                shape.name,
                *map(gigabytes, found),
                kept,
                str(cards) if cards == 1 else f"{cards}: not in the code",
                f"{adapter / 1e6:,.0f}",
            ]
        )
    return table(
        ["base", "weights, GB", "scoring, GB", "training, GB", "activations", "GPUs a copy", "an adapter, MB"], rows
    )


def hosts() -> str:
    """Return the memory of the hosts and the storage by pool, for the model and workload of the plan."""
    rows = []
    for prompts_n in POOLS:
        work = replace(LARGE, prompts_n=prompts_n)
        stored = sizing.storage(BASE, work, GREEDY)
        rows.append([f"{prompts_n:,}", *map(gigabytes, (*sizing.host_memory(BASE, work), *stored, stored.total))])
    heads = ["prompts", "host: reading, GB", "host: ranking", "host: coverage"]
    return table([*heads, *(f"store: {name}" for name in sizing.Storage._fields), "store: all, GB"], rows)


def stages() -> str:
    """Return the stages of the large plan."""
    found = plan_of(LARGE)
    all_s = found.gpu_s + found.loading_s
    rows = [
        [
            stage.stage, f"{stage.tasks_n:,}", hours(stage.start_s), hours(stage.end_s),
            hours(stage.gpu_s) if stage.gpu_s else "", hours(stage.loading_s) if stage.loading_s else "",
            f"{(stage.gpu_s + stage.loading_s) / all_s:.1%}" if stage.gpu_s else "", hours(stage.core_s) if stage.core_s else "",
        ]
        for stage in found.stages
    ]  # fmt: skip
    heads = ["stage", "tasks", "starts, h", "ends, h", "GPU h", "loading, GPU h", "share", "core h"]
    chain = " → ".join(found.critical)
    runs_n = 5 + len(LARGE.strategies) + LARGE.cells_n + 1
    said = (
        f"{LARGE.cells_n} cells, {LARGE.adapters_n():,} adapters, {runs_n} Dagster runs, {hours(found.gpu_s)} GPU hours of work "
        f"and {hours(found.loading_s)} of loading; all done after **{hours(found.makespan_s)} h** on {GPUS_N} GPUs, which are busy "
        f"{found.utilisation:.0%} of that time. The longest chain: {chain}, {hours(found.critical_s)} h. The bottleneck: "
        f"{'this chain' if found.bottleneck.startswith('the chain') else found.bottleneck}."
    )
    whole = hours(sizing.training_s(BASE, H100, LARGE, LARGE.prompts_n))
    left_out = (
        f"The full pool's line (`full_pool_seeds`) is not in it: one adapter on all prompts takes {whole} h of one GPU."
    )
    return f"{table(heads, rows)}\n\n{said} {left_out}"


def without(*strategies: str) -> Workload:
    """Return the large plan with fewer strategies."""
    return replace(LARGE, strategies=tuple(name for name in LARGE.strategies if name not in strategies))


def cuts() -> str:
    """Return the savings of each reduction."""
    no_graph = without("facility_location")
    options = {
        "all of it": LARGE,
        "without facility_location": no_graph,
        "without the three coverage orders": without(*GREEDY),
        "the last, and BBH by `sample: 1350`": replace(without(*GREEDY), benchmarks=(MMLU, SAMPLED_BBH)),
        "the last, and one epoch": replace(without(*GREEDY), benchmarks=(MMLU, SAMPLED_BBH), epochs=1),
        "without coverage, 3 seeds": replace(without(*GREEDY), seeds_n=3),
        "without coverage, 10 budgets (5,000, 10,000 …)": replace(without(*GREEDY), budgets=LARGE.budgets[4::5]),
        "without coverage, `confidence_sample: 200` (4% of the pool)": replace(
            without("least_confidence", "mean_entropy", "mean_margin", "min_margin", "max_token_uncertainty",
                    "weighted_task_diversity_min_margin", *GREEDY), confidence_sample=200
        ),
        "the four of the last, every prompt scored": without(
            "least_confidence", "mean_entropy", "mean_margin", "min_margin", "max_token_uncertainty",
            "weighted_task_diversity_min_margin", *GREEDY
        ),
    }  # fmt: skip
    rows = []
    for what, work in options.items():
        found = plan_of(work)
        adapters = sizing.storage(BASE, work, GREEDY).adapters
        rows.append(
            [
                what,
                f"{work.adapters_n():,}",
                hours(found.gpu_s),
                hours(found.makespan_s),
                f"{found.utilisation:.0%}",
                gigabytes(adapters),
            ]
        )
    return table(["what", "adapters", "GPU h", f"ends on {GPUS_N} GPUs, h", "busy", "adapters, GB"], rows)


def gpus() -> str:
    """Return the same work on fewer and more GPUs, without the graph of all pairs."""
    rows = []
    for gpus_n in (8, 16, 32, 64, 128, 256):
        found = plan_of(without(*GREEDY), gpus_n)
        rows.append(
            [
                str(gpus_n),
                hours(found.gpu_s),
                hours(found.loading_s),
                hours(found.makespan_s),
                f"{found.utilisation:.0%}",
            ]
        )
    return table(["GPUs", "GPU h of work", "GPU h of loading", "ends, h", "busy"], rows)


def rates() -> str:
    """Return every rate with its source."""
    rows = []
    for what, some in (("card", H100), ("host", HOST)):
        for one in fields(some):
            rate = getattr(some, one.name)
            if isinstance(rate, Rate):
                rows.append(_rate(what, one.name, rate))
    rows += [_rate("store", name, rate) for name, rate in ROWS._asdict().items()]
    rows += [_rate("host", "reading", sizing.READING), _rate("host", "ranked rows", sizing.RANKED)]
    lengths = (
        f"Lengths, all assumed: {LARGE.prompt_tokens} tokens a prompt, {LARGE.answer_tokens} an answer, {LARGE.generated_tokens} "
        f"generated of a prompt when it is scored; {MMLU.items_n:,} questions of MMLU with {MMLU.own_tokens} tokens of their own, "
        f"{BBH.items_n:,} of BBH with {BBH.generated_tokens} generated. LoRA of rank {LARGE.lora_rank} in float32, {LARGE.epochs} epochs."
    )
    return table(["of", "rate", "value", "unit", "", "source"], rows) + "\n\n" + lengths


def _rate(of: str, name: str, rate: Rate) -> list[str]:
    kind, _, source = rate.source.partition(": ")
    return [of, name, f"{rate.value:.4g}", rate.unit, kind if rate.is_measured else f"**{kind}**", source]


# --- predictions -------------------------------------------------------------------------------------------------

DOLLY_RATE = 126.0  # prompts a second, stories260K over 2,000 prompts of Dolly: docs/BENCHMARKS.md, "ours"
LAB_STEP_S, LAB_START_S = 0.0168, 0.17  # docs/BENCHMARKS.md, "Fine-tuning"


def predicted() -> str:
    """Return predictions by the rates, beside values that were measured elsewhere."""
    one_core = 1 / (HOST.products.value * HOST.product_share.value)  # s an operation
    ranked = 50_000_000 * 73_861_873 / 5_000_000  # a run of 1 million prompts
    lines = (
        ("confidence of T0 with FLAN, 96,628 prompts, stories260K, one core", "126 prompts/s, as on Dolly", 96_628 / DOLLY_RATE, 827.0, "s"),
        ("three adapters of the lab, 512 labels × 8 epochs, on another processor", "16.8 ms a step, 0.17 s a training", 3 * (256 * LAB_STEP_S + LAB_START_S), 22.09, "s"),
        ("facility location, 15,000 × 1,024, one core", "the rate at d = 384", one_core * 15_000**2 * 1_024, 3.6, "s"),
        ("facility location, 80,000 × 32, one core", "the same: too little, where rows are narrow", one_core * 80_000**2 * 32, GRAPH_S, "s"),
        ("k_center, 1,000 further picks of 10 million × 32", "every prompt with every pick", one_core * 2 * 1e10 * 32, PICKS_S, "s"),
        ("a ranking of 10 million prompts and five seeds, stored", "bytes a row of one of 1 million", ranked, RANKING_BYTES, "bytes"),
        ("task_diversity over 10 million prompts (BENCHMARKS.md)", "the rate of `order_s`", 10_000_000 * HOST.order_s.value, 3.6, "s"),
    )  # fmt: skip
    rows = [
        [what, by, f"{expected:,.4g}" if unit == "s" else f"{expected:,.0f}", f"{measured:,.4g}" if unit == "s" else f"{measured:,.0f}",
         unit, f"{expected / measured - 1:+.0%}"]
        for what, by, expected, measured, unit in lines
    ]  # fmt: skip
    return table(["what", "predicted from", "predicted", "measured", "unit", "off by"], rows)


RANKING_BYTES, GRAPH_S, PICKS_S = 738_783_202.0, 12.77, 69.53 - 47.39  # docs/SCALING.md, measured at ten million


SECTIONS: Mapping[str, Callable[[], str]] = {
    "sizes": sizes, "memory": memory, "hosts": hosts, "stages": stages, "cuts": cuts, "gpus": gpus, "predicted": predicted, "rates": rates,
}  # fmt: skip


def main() -> None:
    for name, make in SECTIONS.items():
        replace_marked(PAGE, name, make())


if __name__ == "__main__":
    main()
