"""The text of docs/GPU.md from the measurements made so far. The text says which measurements are missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks import page
from tests.benchmarks.gpu_scoring import OURS, PLAIN, Drift, Scored
from tests.benchmarks.gpu_speed import Rates, Speed
from tests.benchmarks.gpu_tuning import UNTIMED_N, Tuned

SHARE_TARGET, RATIO_TARGET, TUNING_TARGET = 0.6, 3.0, 0.4
DOLLY_N, LARGE_N = 15_011, 100_000
MINIATURE = "**A miniature on a CPU with a tiny model: it shows that the script runs. No figure here is a measurement of a GPU.**"
SPEED = """\
Prompts of {prompt_n} tokens, {new_n} new tokens each, in our own decoding loop, statistics included. Bounds are of the same
GPU in the same run: a copy moves {copied:.3g} TB/s (read and written), a {dtype} product of {square_n:,} × {square_n:,} makes
{multiplied:.4g} TFLOP/s. A decoding step has to read the weights and all keys and values; prefill has to multiply all
matrices with all tokens (attention itself is not counted). Largest batch that fits: {largest}."""
SCORING = """\
{pool_n:,} random prompts with the lengths of Dolly's (at four characters a token; median 26, 10% above 300), {new_n} new tokens,
none of which ends a text: the worst case. `generate` runs batches of 64."""
COST = "At our end-to-end rate (a larger pool makes fuller batches), and an **assumed** price of {price:.2f} for one GPU hour:"
DRIFT = """\
Mean log-probability (nats a token) of {drift_n:,} prompts in {dtype}, scored together, then again, then in four pools, so that
each prompt shares its batch with other prompts and batches have other numbers of rows. A greedy continuation can change at a near tie; these
weights are random, so near ties are more frequent than with a trained model. The prompt's own tokens show only the
arithmetic."""
TUNING = """\
LoRA of rank {rank} on all linear layers (QLoRA's set-up, dropout included), through `tune`, {batch_size} examples a step, {steps_n}
steps, of which the first {untimed_n} are not timed: forward, backward and optimizer. Tokens exclude padding. The
bound is the product's rate divided by 4 operations for each weight and token of the frozen base model, 6 for LoRA's, and the head only for
tokens with loss; attention itself is not counted. "worked" includes the second forward pass if activations are
recomputed in the backward pass: the target is for this share."""


@dataclass
class Found:
    """The measurements of a run so far. `sizes` are those of `gpu.Sizes`."""

    hardware: str
    price: float
    is_miniature: bool
    sizes: dict[str, Any]
    dtype: str = ""
    rates: Rates | None = None
    speeds: list[Speed] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)
    drifts: list[Drift] = field(default_factory=list)
    tuned: list[Tuned] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def text(found: Found) -> str:
    shape = found.sizes["shape"]
    about = (
        f"Made by `make bench-gpu` on one card: a Llama with hidden size {shape.hidden:,}, {shape.layers} layers, {shape.heads} heads "
        f"and {shape.vocabulary:,} tokens, random weights in {found.dtype or 'no format yet'}."
    )
    head = ["# GPU", *([MINIATURE] if found.is_miniature else []), f"*{found.hardware}.*", about]
    sections = {
        "Targets": _targets(found),
        "Tokens a second": _speed(found),
        "Scoring end to end": _scoring(found),
        "Time and cost": _cost(found),
        "Other companions": _drift(found),
        "Fine-tuning": _tuning(found),
        "What failed": "\n".join(f"- {problem}" for problem in found.problems),
    }
    body = [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join([*head, *body]) + "\n"


def _targets(found: Found) -> str:
    shares = [share for speed in found.speeds for share in (speed.generated_share, speed.prefill_share) if share]
    ratio = _ratio(found)
    rows = [
        _target("share of the bound, in the better regime", max(shares, default=None), SHARE_TARGET, "{:.0%}"),
        _target("times as fast as `generate(output_logits=True)`, order given", ratio, RATIO_TARGET, "{:.2g}"),
        _target("worked share of the bound in LoRA training, the least of all", _least(found), TUNING_TARGET, "{:.0%}"),
    ]
    return page.table(["what", "target", "measured", "met"], rows)


def _target(what: str, value: float | None, target: float, form: str) -> list[str]:
    if value is None:
        return [what, "≥ " + form.format(target), "not measured", "**no**"]
    return [what, "≥ " + form.format(target), form.format(value), "yes" if value >= target else "**no**"]


def _seconds(found: Found, name: str) -> float | None:
    return next((side.seconds for side in found.scored if side.name == name), None)


def _ratio(found: Found) -> float | None:
    ours, plain = _seconds(found, OURS), _seconds(found, PLAIN)
    return plain / ours if ours and plain else None


def _speed(found: Found) -> str:
    if not found.rates:
        return "Not measured."
    rows = [
        [
            f"{speed.rows:,}",
            "out of memory" if speed.generated is None else f"{speed.generated:,.0f}",
            "" if speed.generated_share is None else f"{speed.generated_share:.0%}",
            "" if speed.prefill is None else f"{speed.prefill:,.0f}",
            "" if speed.prefill_share is None else f"{speed.prefill_share:.0%}",
        ]
        for speed in sorted(found.speeds, key=lambda speed: speed.rows)
    ]
    fitting = [speed.rows for speed in found.speeds if speed.generated is not None]
    has_ended = len(fitting) < len(found.speeds)
    largest = f"{max(fitting, default=0):,}" + ("" if has_ended else ", and no larger one was tried")
    about = SPEED.format(
        copied=found.rates.copied / 1e12, multiplied=found.rates.multiplied / 1e12, dtype=found.dtype, largest=largest,
        prompt_n=found.sizes["prompt_n"], new_n=found.sizes["new_n"], square_n=found.sizes["square_n"],
    )  # fmt: skip
    heads = [
        "rows",
        "generated tokens a second",
        "of the memory bound",
        "prefill tokens a second",
        "of the product bound",
    ]
    return about + "\n\n" + page.table(heads, rows)


def _scoring(found: Found) -> str:
    if not found.scored:
        return "Not measured."
    ours_s = _seconds(found, OURS)
    rows = [
        [
            side.name,
            side.problem if side.seconds is None else f"{side.seconds:.3g}",
            "" if side.seconds is None else f"{found.sizes['pool_n'] / side.seconds:.3g}",
            "" if side.seconds is None or not ours_s or side.name == OURS else f"{side.seconds / ours_s:.2f}",
        ]
        for side in found.scored
    ]
    about = SCORING.format(pool_n=found.sizes["pool_n"], new_n=found.sizes["new_n"])
    notes = "".join(f"\n- {note}" for note in dict.fromkeys(found.notes))
    table = page.table(["side", "seconds", "prompts a second", "time / ours"], rows)
    return f"{about}\n\n{table}" + (f"\n\nThe scorer said:\n{notes}" if notes else "")


def _cost(found: Found) -> str:
    ours_s = _seconds(found, OURS)
    if not ours_s:
        return "Not measured."
    rows = []
    for name, prompts_n in (("Dolly", DOLLY_N), ("a large pool", LARGE_N)):
        hours = ours_s / found.sizes["pool_n"] * prompts_n / 3600
        rows.append([f"{name}, {prompts_n:,} prompts", f"{hours:.3g}", f"{hours * found.price:.2f}"])
    table = page.table([f"pool, {found.sizes['new_n']} new tokens", "hours", "cost"], rows)
    return COST.format(price=found.price) + "\n\n" + table


def _drift(found: Found) -> str:
    if not found.drifts:
        return "Not measured."
    rows = [[it.what, f"{it.median:.2g}", f"{it.largest:.2g}", f"{it.same_share:.0%}"] for it in found.drifts]
    about = DRIFT.format(drift_n=found.sizes["drift_n"], dtype=found.dtype)
    return about + "\n\n" + page.table(["scored by", "median difference", "largest", "bit-identical prompts"], rows)


def _least(found: Found) -> float | None:
    """Return the smallest share; None if a training is missing, because the smallest of some is not the smallest of all."""
    shares = [it.worked_share for it in found.tuned]
    known = [share for share in shares if share is not None]
    return min(known) if known and len(known) == len(shares) else None


def _tuning(found: Found) -> str:
    if not found.tuned:
        return "Not measured."
    rows = [
        [
            it.what,
            it.problem if it.tokens_s is None else f"{it.tokens_s:,.0f}",
            "" if it.share is None else f"{it.share:.0%}",
            "" if it.worked_share is None else f"{it.worked_share:.0%}",
            "" if it.worked_share is None else ("yes" if it.worked_share >= TUNING_TARGET else "**no**"),
            "" if it.peak_gib is None else f"{it.peak_gib:.1f}",
            it.choices,
        ]
        for it in found.tuned
    ]
    about = TUNING.format(**found.sizes["tuning"]._asdict(), untimed_n=UNTIMED_N)
    heads = ["training", "tokens a second", "of the bound", "worked", "met", "peak GiB", "chosen"]
    return about + "\n\n" + page.table(heads, rows)
