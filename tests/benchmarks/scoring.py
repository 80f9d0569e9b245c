"""Confidence of whole pools compared with transformers: prompts a second and memory.

The sides' numbers are compared before their times.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from taskdiv_assets.language_model.loading import LanguageModel, load
from tests.benchmarks import page, scorers, scoring_memory
from tests.benchmarks.scale import Scale
from tests.benchmarks.shared import dolly_prompts, shared_data

TITLE = "Scoring"
ABOUT = """\
From prompts to every column of the confidence table, float32, one thread, processor seconds; sides take turns, and the best
turn counts. All sides but continuous batching give all columns; it gives only the chosen tokens' log-probabilities, so no entropies and
no margins. `generate` runs batches of {rows}; our own function computes its statistics, the fastest we know. "off by"
is the largest difference of any number of any prompt from the first side's (sums of log-probabilities: per token).
The run fails if more than one prompt in a thousand is off by {tolerance:g} or has another number of tokens. "fixed rows"
is the scorer on a processor where a row's numbers change with the number of rows, so that no row may leave a batch. "free
shapes" does not guarantee equal bits: batches as wide as their longest prompt, of any number of rows, sorted by length."""
MEMORY = """\
Peak of resident memory above the loaded model: vocabulary {vocabulary:,}, {rows} prompts of {tokens} tokens in one batch,
{steps} steps, a Llama of random weights with hidden size {hidden}; each side in a fresh process. "without holes": large
arrays are returned to the system when they are freed (`MALLOC_MMAP_THRESHOLD_=1000000`); otherwise glibc's heap keeps holes
between the logits of the steps."""
TOLERANCE = 1e-4
ODD_SHARE = 1e-3  # a near tie of two tokens may fall differently
LONGEST_TOKENS = 448  # of stories260K's context of 512, 64 are for the continuation
PLAIN, SORTED = "`generate`, order given", "`generate`, sorted by length"
OURS = "ours"


class Side(NamedTuple):
    """One way to score, and its number of turns.

    If `prompts_n` is given, only the first prompts are scored, and the time is scaled.
    """

    name: str
    way: scorers.Way
    turns_n: int
    prompts_n: int | None = None


class Timed(NamedTuple):
    """The result of one side. `seconds` is for all prompts."""

    side: Side
    seconds: float
    off_by: float
    odd_n: int  # prompts that are off by more than TOLERANCE, or have another number of tokens


def part(scale: Scale) -> page.Part:
    """Measure the lab's pool, Dolly if it exists, the prompts' own tokens on both, and memory."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    about = ABOUT.format(rows=scorers.BATCH_ROWS, tolerance=TOLERANCE)
    bodies = [f"torch {torch.__version__}. {about}", *_lab(scale), *_stories(scale), _memory(scale)]
    return page.Part(TITLE, "\n\n".join(bodies))


def _lab(scale: Scale) -> Iterator[str]:
    from taskdiv_assets.experiment import LabModel
    from taskdiv_assets.language_model.lab_model import train
    from taskdiv_assets.pools.lab import pool_items

    with tempfile.TemporaryDirectory() as folder:
        train(LabModel(steps=scale.lab_steps) if scale.lab_steps else LabModel(), None, Path(folder))
        lm = load(Path(folder), dtype="float32", attention="sdpa")
    prompts = [item.prompt for item in pool_items(1)][: scale.lab_prompts_n]
    sides = _sides(
        turns_n=3, few_turns_n=3, continuous=Side("", partial(scorers.continuous, rows_n=256, tokens_n=2048), 3)
    )
    yield f"The lab's base over its pool, {len(prompts):,} prompts, at most 10 new tokens:"
    yield _table(take_turns(lm, prompts, 10, sides), len(prompts), {PLAIN: 2.5, SORTED: 1.0})
    yield "The same prompts' own tokens, in one pass (`of: prompt`):"
    yield _table(take_turns(lm, prompts, 1, _prompt_sides(3)), len(prompts), {})


def _stories(scale: Scale) -> Iterator[str]:
    data = shared_data()
    if data is None:
        yield "stories260K over Dolly was not measured: the real data are not there (set `$TASKDIV_SHARED`)."
        return
    lm = load(data / "models" / "stories260K", dtype="float32", attention="sdpa")
    prompts = dolly_prompts(data)[: 2 * scale.stories_prompts_n]
    tokens = lm.tokenizer(prompts, verbose=False)["input_ids"]
    fitting = [prompt for prompt, ids in zip(prompts, tokens, strict=True) if len(ids) <= LONGEST_TOKENS]
    prompts = fitting[: scale.stories_prompts_n]
    half_n, few_n = len(prompts) // 2, min(200, len(prompts))
    sides = _sides(
        turns_n=2, few_turns_n=1, continuous=Side("", partial(scorers.continuous, rows_n=16, tokens_n=512), 1, few_n)
    )
    sides = [side._replace(prompts_n=half_n) if side.name == PLAIN else side for side in sides]
    yield (
        f"stories260K over {len(prompts):,} prompts of Dolly of at most {LONGEST_TOKENS} tokens, 64 new tokens (it hardly "
        f"ever ends a text earlier). {PLAIN}, over the first {half_n:,} and continuous batching over the first {few_n}, scaled; "
        "all sides but ours and sorted `generate` had one turn:"
    )
    yield _table(take_turns(lm, prompts, 64, sides), len(prompts), {SORTED: 1.0})
    yield "The same prompts' own tokens, in one pass (`of: prompt`):"
    yield _table(take_turns(lm, prompts, 1, _prompt_sides(1)), len(prompts), {})


def _sides(turns_n: int, few_turns_n: int, continuous: Side) -> list[Side]:
    """Return all ways to score continuations, ours first."""
    return [
        Side(OURS, scorers.ours, turns_n),
        Side("ours, fixed rows", scorers.ours_fixed_rows, few_turns_n),
        Side("ours, free shapes", scorers.ours_free_shapes, few_turns_n),
        Side(PLAIN, scorers.generate, few_turns_n),
        Side(SORTED, scorers.generate_sorted, turns_n),
        Side("`generate` with a recording logits processor, sorted", scorers.generate_recording, few_turns_n),
        continuous._replace(name="continuous batching, fewer columns"),
    ]


def _prompt_sides(turns_n: int) -> list[Side]:
    return [
        Side(OURS, scorers.ours_of_prompt, turns_n),
        Side("forward, order given", scorers.forward, turns_n),
        Side("forward, sorted by length", scorers.forward_sorted, turns_n),
    ]


def take_turns(lm: LanguageModel, prompts: Sequence[str], new_n: int, sides: Sequence[Side]) -> list[Timed]:
    """Return the best turn of each side. In the first turn, its numbers are compared with those of the first side.

    Raises:
        RuntimeError: a side found other numbers.
    """
    for side in sides:
        side.way(lm, prompts[: scorers.BATCH_ROWS // 4], min(new_n, 2))  # imports, and what is made once
    best = [np.inf] * len(sides)
    checks: list[tuple[float, int]] = []
    ours: scorers.Columns = {}
    for turn in range(max(side.turns_n for side in sides)):
        for index, side in enumerate(sides):
            if turn < side.turns_n:
                some = prompts[: side.prompts_n]
                started = time.process_time()
                columns = side.way(lm, some, new_n)
                seconds = (time.process_time() - started) * len(prompts) / len(some)
                best[index] = min(best[index], seconds)
                print(f"  {side.name}: {seconds:.2f} s", flush=True)
                if turn == 0:
                    ours = ours or columns
                    checks.append(compare(side.name, ours, columns))
    return [Timed(side, best[index], *checks[index]) for index, side in enumerate(sides)]


def compare(name: str, ours: scorers.Columns, other: scorers.Columns) -> tuple[float, int]:
    """Return the largest difference without odd prompts, and the number of odd prompts. RuntimeError if too many are odd."""
    some_n = len(other["generated_n"])
    off_by = scorers.furthest({column: values[:some_n] for column, values in ours.items()}, other)
    is_odd = ~(off_by <= TOLERANCE)
    for column in ("generated_n", "truncated"):
        is_odd |= ours[column][:some_n] != other[column]
    if is_odd.mean() > ODD_SHARE:
        raise RuntimeError(f"{name}: {is_odd.sum():,} of {some_n:,} prompts have other numbers than ours")
    return float(off_by[~is_odd].max()), int(is_odd.sum())


def _table(found: Sequence[Timed], prompts_n: int, targets: dict[str, float]) -> str:
    """Return the table of times. A ratio is a side's seconds over ours."""
    ours, *_ = found
    rows = []
    for timed in found:
        ratio, target = timed.seconds / ours.seconds, targets.get(timed.side.name)
        rows.append(
            [
                timed.side.name,
                f"{timed.seconds:.2f}",
                f"{prompts_n / timed.seconds:,.0f}",
                "" if timed is ours else f"{ratio:.2f}",
                "" if timed is ours else f"{timed.off_by:.0e}" + (f", {timed.odd_n} more" if timed.odd_n else ""),
                f"time × {target:g}" if target else "",
                _is_met(ratio >= target) if target else "",
            ]
        )
    heads = ["side", "seconds", "prompts a second", "time / ours", "off by", "target", "met"]
    used = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    return page.table([heads[i] for i in used], [[row[i] for i in used] for row in rows])


def _is_met(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def _memory(scale: Scale) -> str:
    """Measure memory. At the full number of steps, ours must need at most 100 MiB, and plain `generate` at least 1,000."""
    sides = [
        (OURS, "ours"),
        ("`generate`", "generate"),
        ("`generate` with a recording logits processor", "generate_recording"),
    ]
    wanted = {OURS: ("≤ 100", lambda mib: mib <= 100), "`generate`": ("≥ 1,000", lambda mib: mib >= 1000)}
    rows = []
    first: scoring_memory.Extra | None = None
    for name, way in sides:
        extra = scoring_memory.measure(way, scale.logits_steps_n)
        first = first or extra
        compare(name, first.columns, extra.columns)
        without_holes = scoring_memory.measure(way, scale.logits_steps_n, has_holes=False)
        target, holds = wanted.get(name, ("", None))
        is_met = _is_met(holds(extra.mib)) if holds else ""
        rows.append([name, f"{extra.mib:,.0f}", f"{without_holes.mib:,.0f}", target, is_met])
    shape = scoring_memory.WIDE_VOCABULARY
    about = MEMORY.format(
        vocabulary=shape.vocabulary, rows=scoring_memory.ROWS, tokens=scoring_memory.PROMPT_TOKENS,
        steps=scale.logits_steps_n, hidden=shape.hidden,
    )  # fmt: skip
    return about + "\n\n" + page.table(["side", "extra MiB", "without holes", "target", "met"], rows)
