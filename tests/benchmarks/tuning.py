"""Fine-tuning compared with a plain PyTorch loop over the same batches, and with and without packing.

The sides' losses are compared before their times.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model.tuning import Base, Example
from taskdiv_assets.tuning_settings import Tuning
from tests.benchmarks import page, tuners
from tests.benchmarks.scale import Scale
from tests.benchmarks.shared import dolly_examples, shared_data
from tests.benchmarks.tuners import Timed

TITLE = "Fine-tuning"
ABOUT = """\
torch {torch}, trl {trl}, peft {peft}, transformers {transformers}; float32, LoRA, AdamW (fused), one thread, processor seconds. Every
training runs in a fresh process, after a short one that is not counted. Sides take turns, {turns} each, and medians count.
Ratios are computed in each turn; the table gives their median, and in brackets the smallest and the largest. The sides train the same weights from the
same start on the same examples per step; the run fails if any step's loss differs from ours by {tolerance:g} ("off by"). "plain loop":
forward, cross entropy over the completion tokens divided by their number, backward, clipping at 1, AdamW, linear schedule, on our
own rows as tensors that are made before the clock starts. "head on completion tokens": the same, but logits only for tokens with
loss. "TRL as it comes": `SFTTrainer` with its own loss, collation and log of each step, one example a row. "start and end"
is the time outside steps. "peak MiB" is that of the whole process, including libraries and model."""
PACKED = """\
Tokens per second for the same {examples_n} examples, without padding. The default choice: "{choice}".
TRL packs across steps, so its steps differ. Its rows are 512 tokens, as many per step as hold the tokens of one of our steps.
`SFTTrainer` joins them into one row, in which torch's attention on a CPU computes all pairs of tokens. It had one turn over the
first {few_n} examples."""
TOLERANCE, OVERHEAD = 1e-4, 1.15
BATCH = 16
STORIES = Tuning(rank=8, alpha=16, learning_rate=1e-3, epochs=1, batch_size=BATCH, max_length=512)
LAB = Tuning(rank=16, alpha=32, learning_rate=1e-3, epochs=8, batch_size=BATCH, warmup_ratio=0.06)  # as in demo.yaml
OURS, PLAIN, FEW, TRL = "ours", "plain loop", "plain loop, head on completion tokens", "TRL as it comes"
ALONE, TRL_PACKED = "ours, one example a row", "TRL, `packing=True`"


class Side(NamedTuple):
    """One way of `tuners` with its settings."""

    name: str
    way: str
    tuning: Tuning


class Found(NamedTuple):
    """The turns of one side. All values except times are the same in all turns."""

    side: Side
    turns: list[Timed]

    @property
    def seconds(self) -> float:
        """Median over the turns."""
        return float(np.median([turn.seconds for turn in self.turns]))


def part(scale: Scale) -> page.Part:
    """Measure the lab, and Dolly if it exists."""
    from importlib.metadata import version

    versions = {name: version(name) for name in ("torch", "trl", "peft", "transformers")}
    about = ABOUT.format(turns=scale.tuning_turns_n, tolerance=TOLERANCE, **versions)
    return page.Part(TITLE, "\n\n".join([about, *_stories(scale), *_lab(scale)]))


def _lab(scale: Scale) -> Iterator[str]:
    from taskdiv_assets.language_model.lab_model import train
    from taskdiv_assets.pools.lab import pool_items

    examples = [Example(item.item_id, item.prompt, item.response) for item in pool_items(1)[: scale.tuning_lab_n]]
    settings = LAB.model_copy(update={"epochs": scale.tuning_lab_epochs})
    with tempfile.TemporaryDirectory() as folder:
        train(LabModel(steps=scale.lab_steps) if scale.lab_steps else LabModel(), None, Path(folder))
        base = Base(Path(folder), "float32", "sdpa")
        found = take_turns(base, examples, _sides(settings), scale.tuning_turns_n)
    yield f"The lab's base, {_said(examples, found)}:"
    yield _overhead(found)


def _stories(scale: Scale) -> Iterator[str]:
    data = shared_data()
    if data is None:
        yield "stories260K over Dolly was not measured: the real data are not there (set `$TASKDIV_SHARED`)."
        return
    base = Base(data / "models" / "stories260K", "float32", "sdpa")
    rows = [(prompt, answer) for prompt, answer in dolly_examples(data) if answer.strip()][: scale.tuning_stories_n]
    examples = [Example(f"{place:05}", f"{prompt}\n", answer) for place, (prompt, answer) in enumerate(rows)]
    alone = Side(ALONE, "ours", STORIES.model_copy(update={"packing": False}))
    found = take_turns(base, examples, [*_sides(STORIES), alone], scale.tuning_turns_n)
    yield f"stories260K over Dolly, {_said(examples, found)}, at most {STORIES.max_length} tokens an example:"
    yield _overhead(found[:-1])
    few_n = min(len(examples), max(2 * BATCH, len(examples) // 4 // BATCH * BATCH))
    packed = Side(TRL_PACKED, "sft_packed", STORIES)
    theirs = Found(packed, [tuners.measure(packed.way, base, examples[:few_n], packed.tuning)])
    ours, *_, trl, one = found
    yield PACKED.format(examples_n=len(examples), choice=ours.turns[0].choices["rows"], few_n=few_n)
    yield _packing([ours, one, trl, theirs])


def _sides(settings: Tuning) -> list[Side]:
    ways = {OURS: "ours", PLAIN: "plain", FEW: "plain_few", TRL: "sft"}
    return [Side(name, way, settings) for name, way in ways.items()]


def take_turns(
    base: Base, examples: Sequence[Example], sides: Sequence[Side], turns_n: int, warm_n: int = tuners.WARM_N
) -> list[Found]:
    """Run every side `turns_n` times. Each turn starts with another side.

    Raises:
        RuntimeError: the losses of a side differ from those of the first side.
    """
    found = [Found(side, []) for side in sides]
    for turn in range(turns_n):
        for place in range(len(sides)):
            side, turns = found[(turn + place) % len(sides)]
            turns.append(tuners.measure(side.way, base, examples, side.tuning, warm_n))
    for side, turns in found:
        if not off_by(turns[0], found[0].turns[0]) <= TOLERANCE:
            raise RuntimeError(
                f"{side.name}: losses are off by {off_by(turns[0], found[0].turns[0]):g}; nothing is compared"
            )
    return found


def off_by(left: Timed, right: Timed) -> float:
    """Return the largest difference of a step's loss, nats a token."""
    return max(abs(a - b) for a, b in zip(left.losses, right.losses, strict=True))


def _said(examples: Sequence[Example], found: Sequence[Found]) -> str:
    first = found[0].turns[0]
    rows = first.choices["rows"].split(":")[0].split(",")[0]
    return (
        f"{len(examples)} examples, {len(first.losses)} steps of {BATCH}, {first.tokens_n / len(first.losses):,.0f} tokens a step, "
        f"{rows} ({first.padding:.0%} padding)"
    )


def _overhead(found: Sequence[Found]) -> str:
    """Return the table of overheads. Ratios are to the plain loop."""
    plain = next(it for it in found if it.side.name == PLAIN)
    rows = []
    for it in found:
        ratios = [a.seconds / b.seconds for a, b in zip(it.turns, plain.turns, strict=True)]
        steps = [a.step_s / b.step_s for a, b in zip(it.turns, plain.turns, strict=True)]
        is_ours, is_plain = it is found[0], it is plain
        rows.append(
            [
                it.side.name,
                f"{it.seconds:.2f}",
                f"{1000 * np.median([turn.step_s for turn in it.turns]):.1f}",
                f"{np.median([turn.ends_s for turn in it.turns]):.2f}",
                "" if is_plain else _ratio(ratios),
                "" if is_plain else _ratio(steps),
                f"{np.median([turn.peak_mib for turn in it.turns]):,.0f}",
                "" if is_ours else f"{off_by(it.turns[0], found[0].turns[0]):.0e}",
                f"time ≤ {OVERHEAD:g}" if is_ours else "",
                ("yes" if np.median(ratios) <= OVERHEAD else "**no**") if is_ours else "",
            ]
        )
    heads = [
        "side",
        "seconds",
        "ms a step",
        "start and end, s",
        "time / plain loop",
        "a step",
        "peak MiB",
        "off by",
        "target",
        "met",
    ]
    return page.table(heads, rows)


def _ratio(ratios: Sequence[float]) -> str:
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return f"{np.median(ratios):.2f}{spread}"


def _packing(found: Sequence[Found]) -> str:
    """Return the table of packing. Rates use all seconds. A ratio is our rate over the side's rate."""
    ours, *_ = found
    rows = []
    for it in found:
        rates = [turn.tokens_n / turn.seconds for turn in it.turns]
        pairs = zip(ours.turns, it.turns, strict=False)
        ratios = [(a.tokens_n / a.seconds) / (b.tokens_n / b.seconds) for a, b in pairs]
        padding = {TRL: found[1].turns[0].padding, TRL_PACKED: 0.0}.get(it.side.name, it.turns[0].padding)
        peak = np.median([turn.peak_mib for turn in it.turns])
        cells = [
            it.side.name,
            f"{np.median(rates):,.0f}",
            f"{padding:.0%}",
            "" if it is ours else _ratio(ratios),
            f"{peak:,.0f}",
        ]
        rows.append(cells)
    return page.table(["side", "tokens a second", "padding", "ours / side", "peak MiB"], rows)
