"""The cost of an experiment, computed from sizes and rates alone: seconds on a GPU, memory, and bytes in the store.

The functions are pure arithmetic, without torch and store. Every rate has a source: `measured: …` or `assumed: …`. **Rates of
GPUs are assumed**: a card's published peak times an assumed share of it, because no card was available; `make bench-gpu`
measures them. Seconds are GPU-seconds. If a copy of the model needs several cards, the seconds of all its cards are added.
`sizing_plan` schedules the stages on GPUs. docs/SCALING.md has the tables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

GIB = 2**30
HALF, FULL = 2, 4  # bytes of a number in bfloat16 and float32


class ModelShape(NamedTuple):
    """Widths of a decoder like Llama."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    is_tied: bool = False  # the head is the table of embeddings

    @property
    def kv_width(self) -> int:
        """Numbers that a layer stores for the keys of one token. The values need as many."""
        return self.hidden // self.heads * self.kv_heads

    @property
    def parameters_n(self) -> int:
        """All weights.

        >>> MODELS["Llama-2-7B"].parameters_n, MODELS["stories260K"].parameters_n
        (6738415616, 260032)
        """
        attention = 2 * self.hidden * (self.hidden + self.kv_width)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        tables = (1 if self.is_tied else 2) * self.vocabulary * self.hidden
        return tables + self.layers * layer + self.hidden

    @property
    def multiplied_n(self) -> int:
        """Weights that are multiplied with every token: all except the table of input embeddings."""
        return self.parameters_n - (0 if self.is_tied else self.vocabulary * self.hidden)

    @property
    def weight_bytes(self) -> int:
        return HALF * self.parameters_n

    @property
    def kv_token_bytes(self) -> int:
        """Bytes of the keys and values of one token in all layers, in bfloat16; half a MiB for Llama-2-7B."""
        return 2 * HALF * self.layers * self.kv_width

    def lora_n(self, rank: int) -> int:
        """Weights of LoRA on all linear layers: rank × (rows + columns) of each matrix.

        >>> MODELS["Llama-2-7B"].lora_n(64)
        159907840
        """
        attention = 2 * (2 * self.hidden) + 2 * (self.hidden + self.kv_width)
        return self.layers * rank * (attention + 3 * (self.hidden + self.intermediate))


MODELS = {
    shape.name: shape
    for shape in (
        ModelShape("stories260K", 64, 172, 5, 8, 4, 512, is_tied=True),
        ModelShape("TinyLlama-1.1B", 2_048, 5_632, 22, 32, 4, 32_000),
        ModelShape("Llama-2-7B", 4_096, 11_008, 32, 32, 32, 32_000),
        ModelShape("Llama-2-13B", 5_120, 13_824, 40, 40, 40, 32_000),
        ModelShape("Llama-2-70B", 8_192, 28_672, 80, 64, 8, 32_000),
    )
}


class Rate(NamedTuple):
    """A number with its unit and its source."""

    value: float
    unit: str
    source: str  # "measured: where" or "assumed: why"

    @property
    def is_measured(self) -> bool:
        return self.source.startswith("measured")


@dataclass(frozen=True)
class Rates:
    """The rates of the hardware: one card, and one core of the hosts."""

    hardware: str
    memory_bytes: Rate
    operations: Rate  # a second, bfloat16, dense
    bandwidth: Rate  # bytes a second
    prefill_share: Rate  # of the operations
    decode_share: Rate  # of the bandwidth, or of the operations where these bind
    training_share: Rate  # of the operations, second forward passes counted as work
    memory_share: Rate  # of the memory that may be filled
    start_s: Rate  # a run that needs the model: process, imports
    load_bytes: Rate  # a second, of weights from the store to the card
    cell_s: Rate  # Dagster's own part of a cell


_TARGET = "assumed: two thirds of the target in docs/GPU.md"
H100 = Rates(
    hardware="H100 SXM, 80 GB",
    memory_bytes=Rate(80e9, "bytes", "assumed: the vendor's data sheet"),
    operations=Rate(989e12, "operations/s", "assumed: the vendor's data sheet, bfloat16, dense"),
    bandwidth=Rate(3.35e12, "bytes/s", "assumed: the vendor's data sheet"),
    prefill_share=Rate(0.40, "of the operations", _TARGET),
    decode_share=Rate(0.40, "of the bandwidth", _TARGET),
    training_share=Rate(0.40, "of the operations", "assumed: the target in docs/GPU.md"),
    memory_share=Rate(0.90, "of the memory", "assumed: the rest fragments"),
    start_s=Rate(30.0, "s", "assumed: imports of 10 s, the card's context, compilation of kernels"),
    load_bytes=Rate(1e9, "bytes/s", "assumed: a local disk's cache of the store"),
    cell_s=Rate(1.12, "s", "measured: docs/BENCHMARKS.md, Dagster's share of a cell, 2026-11-28"),
)


class Benchmark(NamedTuple):
    """The tokens that the model reads and generates to score one adapter on a benchmark."""

    name: str
    items_n: int
    own_tokens: int  # of an item, after what all items of its task share (which is read once)
    context_tokens: int  # in all, before anything is generated
    generated_tokens: int  # 0 where answers are only weighed


MMLU = Benchmark("mmlu, 5-shot", 14_042, own_tokens=130, context_tokens=750, generated_tokens=0)
BBH = Benchmark("bbh, chain of thought", 6_511, own_tokens=130, context_tokens=1_100, generated_tokens=200)


@dataclass(frozen=True)
class Workload:
    """The requested work. Lengths are means, in tokens of the base model."""

    prompts_n: int
    tasks_n: int
    budgets: tuple[int, ...]
    strategies: tuple[str, ...]
    seeds_n: int
    prompt_tokens: int = 150
    answer_tokens: int = 80
    generated_tokens: int = 100  # when the base continues a prompt; at most 128
    confidence_sample: int | None = None  # prompts of each task that are scored; None: all
    epochs: int = 3
    batch_size: int = 16
    min_steps: int = 50
    lora_rank: int = 64
    pass_tokens: int = 16_384
    ranking_depth: int = 50_000  # of the greedy orders
    benchmarks: tuple[Benchmark, ...] = (MMLU, BBH)

    @property
    def cells_n(self) -> int:
        return len(self.budgets) * len(self.strategies)

    @property
    def scored_n(self) -> int:
        """Prompts that the base model continues: all, or at most `confidence_sample` of each task."""
        sample = self.confidence_sample
        return self.prompts_n if sample is None else min(self.prompts_n, self.tasks_n * sample)

    def adapters_n(self) -> int:
        """Return the number of different adapters.

        If a budget is the whole pool, all strategies choose the same prompts and share one adapter for each seed. An adapter of
        a larger budget is trained from the start, not continued from a smaller one.
        """
        whole = sum(budget_n >= self.prompts_n for budget_n in self.budgets)
        whole_n = min(whole, 1)  # budgets over the pool are the pool as well
        return self.seeds_n * ((len(self.budgets) - whole) * len(self.strategies) + whole_n)

    def examples_n(self, budget_n: int) -> int:
        """Return the examples of one training over all epochs, at least those of `min_steps` steps."""
        return max(self.epochs * min(budget_n, self.prompts_n), self.min_steps * self.batch_size)


# --- seconds on a GPU --------------------------------------------------------------------------------------------


def cards_a_copy(shape: ModelShape, rates: Rates) -> int:
    """Return the number of cards for one copy of the model, a power of two. The weights fill at most 70% of each card.

    More than one card is arithmetic only: the project puts a model on one card.
    """
    needed = shape.weight_bytes / (0.7 * rates.memory_bytes.value)
    return 1 << max(0, math.ceil(math.log2(needed)))


def prefill_s(shape: ModelShape, rates: Rates, tokens_n: float) -> float:
    """Return the seconds to read texts: 2 operations for each weight and token. The attention itself is not counted."""
    return 2 * shape.multiplied_n * tokens_n / (rates.operations.value * rates.prefill_share.value)


def rows_at_once(shape: ModelShape, rates: Rates, row_tokens: float, most: int = 512) -> int:
    """Return how many texts fit beside the weights with their keys, values and logits; at least 1."""
    cards_n = cards_a_copy(shape, rates)
    free = cards_n * rates.memory_bytes.value * rates.memory_share.value - shape.weight_bytes
    row = shape.kv_token_bytes * row_tokens + 3 * FULL * shape.vocabulary
    return int(min(most, max(1, free // row)))


def decode_s(shape: ModelShape, rates: Rates, rows_n: float, context_tokens: float, generated_tokens: float) -> float:
    """Return the seconds to generate. A step reads weights, keys and values, and multiplies; the slower of both counts."""
    if generated_tokens == 0:
        return 0.0
    at_once = rows_at_once(shape, rates, context_tokens + generated_tokens)
    kept = shape.kv_token_bytes * (context_tokens + generated_tokens / 2)
    read_s = (HALF * shape.multiplied_n + at_once * kept) / (rates.bandwidth.value * rates.decode_share.value)
    multiplied_s = 2 * shape.multiplied_n * at_once / (rates.operations.value * rates.decode_share.value)
    return max(read_s, multiplied_s) * generated_tokens * rows_n / at_once


def confidence_s(shape: ModelShape, rates: Rates, work: Workload) -> float:
    """Return the seconds in which the base model continues every scored prompt."""
    reading = prefill_s(shape, rates, work.scored_n * work.prompt_tokens)
    return reading + decode_s(shape, rates, work.scored_n, work.prompt_tokens, work.generated_tokens)


def embeddings_s(shape: ModelShape, rates: Rates, work: Workload) -> float:
    """Return the seconds in which the base model reads every prompt once."""
    return prefill_s(shape, rates, work.prompts_n * work.prompt_tokens)


def training_s(shape: ModelShape, rates: Rates, work: Workload, budget_n: int) -> float:
    """Return the seconds of one training: 6 operations for each weight and token if activations are computed again, else 4."""
    tokens_n = work.examples_n(budget_n) * (work.prompt_tokens + work.answer_tokens)
    each = 4 if keeps_activations(shape, rates, work) else 6
    frozen = each * shape.multiplied_n + 6 * shape.lora_n(work.lora_rank)
    return frozen * tokens_n / (rates.operations.value * rates.training_share.value)


def benchmarks_s(shape: ModelShape, rates: Rates, work: Workload) -> float:
    return sum(
        prefill_s(shape, rates, one.items_n * one.own_tokens)
        + decode_s(shape, rates, one.items_n, one.context_tokens, one.generated_tokens)
        for one in work.benchmarks
    )


def loading_s(shape: ModelShape, rates: Rates) -> float:
    """Return the seconds in which a run loads the model."""
    return rates.start_s.value + shape.weight_bytes / rates.load_bytes.value


# --- memory ------------------------------------------------------------------------------------------------------


class GpuMemory(NamedTuple):
    """Bytes of one copy of the model, on all its cards together."""

    weights: float
    scoring: float  # the weights, keys and values of a batch, its logits
    training: float  # the weights, LoRA with gradients and AdamW, activations, logits of the completion tokens


def activation_bytes(shape: ModelShape, tokens_n: int, *, is_kept: bool) -> float:
    """Return the bytes of the activations of one pass: 34 for each token, unit and layer, and a third more for LoRA.

    `language_model.tuning.choices` has the same rule. If activations are computed again, a layer keeps only its input (2 bytes
    for each unit), and one layer at a time has all its activations.
    """
    layer = 4 / 3 * 34 * shape.hidden * tokens_n
    return shape.layers * layer if is_kept else shape.layers * HALF * shape.hidden * tokens_n + layer


def _beside_activations(shape: ModelShape, work: Workload) -> float:
    """Return the bytes of the weights, of LoRA with gradient and two moments, and of the logits with loss and their gradients."""
    completion = work.pass_tokens * work.answer_tokens / (work.prompt_tokens + work.answer_tokens)
    return shape.weight_bytes + 4 * FULL * shape.lora_n(work.lora_rank) + 2 * FULL * shape.vocabulary * completion


def keeps_activations(shape: ModelShape, rates: Rates, work: Workload) -> bool:
    """Return True if the activations fit into 60% of the memory that is left by the other data."""
    left = cards_a_copy(shape, rates) * rates.memory_bytes.value - _beside_activations(shape, work)
    return activation_bytes(shape, work.pass_tokens, is_kept=True) <= 0.6 * left


def gpu_memory(shape: ModelShape, rates: Rates, work: Workload) -> GpuMemory:
    """Return the memory for scoring and training. Batches of scoring grow until the memory is full; passes of training do not."""
    longest = max((one.context_tokens + one.generated_tokens for one in work.benchmarks), default=0)
    tokens = max(longest, work.prompt_tokens + work.generated_tokens)
    row = shape.kv_token_bytes * tokens + 3 * FULL * shape.vocabulary
    scoring = shape.weight_bytes + rows_at_once(shape, rates, tokens) * row
    is_kept = keeps_activations(shape, rates, work)
    training = _beside_activations(shape, work) + activation_bytes(shape, work.pass_tokens, is_kept=is_kept)
    return GpuMemory(shape.weight_bytes, scoring, training)


class HostMemory(NamedTuple):
    """Largest bytes of one process on a host, by its work."""

    reading: float  # the user's file into raw_pool
    ranking: float  # an order of all seeds, as a table that is held to its contract
    coverage: float  # the pool's embeddings in float32, and facility location's graph of 64 neighbours


READING = Rate(1_270.0, "bytes a prompt", "measured: docs/SCALING.md, one million prompts of 24 tokens")
RANKED = Rate(119.0, "bytes a seed and prompt", "measured: docs/SCALING.md, ten million prompts")


def host_memory(shape: ModelShape, work: Workload) -> HostMemory:
    """Return the memory by the rates of docs/SELECTION.md and of measured tables, plus the bytes of longer texts."""
    text = 2 * 4 * max(0, work.prompt_tokens + work.answer_tokens - 24)  # two copies, four characters a token
    return HostMemory(
        reading=work.prompts_n * (READING.value + text),
        ranking=work.seeds_n * work.prompts_n * RANKED.value,
        coverage=float(work.prompts_n * (FULL * shape.hidden + 16 * 64)),
    )


# --- the store ---------------------------------------------------------------------------------------------------


class RowBytes(NamedTuple):
    """Bytes of a row in the stored tables. A prompt_id is 64 random bits in 16 hex digits, so it needs at least 8 bytes."""

    pool_text: Rate
    labels: Rate
    confidence: Rate
    ranking: Rate
    score: Rate


ROWS = RowBytes(
    pool_text=Rate(2.0, "bytes a token of prompt and answer", "assumed: four characters a token, halved by zstd"),
    labels=Rate(10.0, "bytes a prompt", "measured: docs/SCALING.md, ten million prompts"),
    confidence=Rate(84.0, "bytes a prompt", "measured: docs/SCALING.md, ten million prompts"),
    ranking=Rate(15.0, "bytes a seed and prompt", "measured: docs/SCALING.md, ten million prompts"),
    score=Rate(300.0, "bytes a scored item", "assumed: a row, and what the model wrote"),
)


class Storage(NamedTuple):
    pool: float
    confidence: float
    embeddings: float
    rankings: float
    allocations: float
    adapters: float
    scores: float

    @property
    def total(self) -> float:
        """All bytes, without the base model's own files."""
        return sum(self)


def storage(shape: ModelShape, work: Workload, greedy: frozenset[str]) -> Storage:
    """Return the bytes of every table and folder, with float16 embeddings of the base model's width and float32 adapters.

    Args:
        shape: shape of the base model.
        work: the requested work.
        greedy: strategies whose orders end at `ranking_depth`.
    """
    ranked_n = sum(min(work.prompts_n, work.ranking_depth) if s in greedy else work.prompts_n for s in work.strategies)
    chosen_n = len(work.strategies) * sum(min(budget_n, work.prompts_n) for budget_n in work.budgets)
    items_n = sum(one.items_n for one in work.benchmarks)
    text = ROWS.pool_text.value * (work.prompt_tokens + work.answer_tokens)
    return Storage(
        pool=work.prompts_n * (text + 2 * ROWS.labels.value),
        confidence=work.scored_n * ROWS.confidence.value,
        embeddings=float(HALF * work.prompts_n * shape.hidden),
        rankings=work.seeds_n * ranked_n * ROWS.ranking.value,
        allocations=work.seeds_n * chosen_n * ROWS.ranking.value,
        adapters=float(FULL * work.adapters_n() * shape.lora_n(work.lora_rank)),
        scores=(work.adapters_n() + 1) * items_n * ROWS.score.value,
    )
