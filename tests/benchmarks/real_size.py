"""Training, confidence and likelihoods with a base model of a real size, compared with the code that others would use instead.

The model is Gemma 3 270M, where `make real-model` has brought it. The texts are Dolly's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.language_model.tuning import Base, Example
from taskdiv_assets.tuning_settings import Tuning
from tests.benchmarks import asked, evaluating, page, scorers, scoring, tuning
from tests.benchmarks.evaluating import Measured
from tests.benchmarks.scale import Scale
from tests.benchmarks.shared import dolly_examples, dolly_prompts, shared_data
from tests.benchmarks.tuners import CHUNK_N
from tests.real_model import FOLDER

ABOUT = """\
torch {torch}, transformers {transformers}, trl {trl}, peft {peft}, lm_eval {lm_eval}. Gemma 3 270M, the base: 268 million parameters, a
vocabulary of 262,144, unpacked from GGUF (Q4_K_M), in float32; texts of Dolly; one thread, processor seconds."""
TRAINING = """\
Training of a LoRA adapter, {steps_n} steps of {batch_n} examples drawn at random. "plain loop": transformers and PEFT on the same rows, the head on completion
tokens only, {chunk_n} tokens at a time, each chunk's backward pass before the next. Each side ran in a process of its own, after a short training that is not
counted; the run fails if a step's loss is off by {tolerance:g}. "seconds" is for all steps with start and end, without loading, which is
the same for both. "peak MiB" is that of the whole process."""
SCORING = """\
Confidence of {prompts_n} prompts of fewer than {characters_n} characters, 16 new tokens, one turn. `generate` computes every column by our function of
statistics; "off by" is explained in [Scoring](#scoring)."""
LIKELIHOODS = """\
Log-likelihoods of {items_n} answers of Dolly, {which}, from lm-eval's requests to its responses, one turn. Prompts and answers
have {tokens_n:,} tokens, and the answers {share:.0%} of them: HFLM computes logits for all tokens, we for those of the answers. Batch sizes for which the logits
and their logarithms (HFLM keeps both) need more than {fits:.0%} of the free memory were left out{left_out}."""
AFTER = """\
"ours" includes encoding and planning, which the first adapter pays for; "off by" is the largest difference of an answer's
log-likelihood in nats. Over so many words torch's `log_softmax`, which lm-eval calls, is about 3e-5 too large for each token (against double
precision); ours adds the exponentials with an error below 2e-6."""
TEMPLATE = "### Instruction:\n{}\n\n### Response:\n"
CHARACTERS, ITEM_CHARACTERS = 400, 1_000
REAL_ROWS = {32: (8, 32), 128: (16, 64), 512: (64,)}  # prompts: rows of `generate`'s batches
BATCHES = (1, 2, 4, 8, 16)
FITS = 0.6
SETTINGS = ((256, 1024), (512, 1024), (512, 16_384))  # `max_length` and `pass_tokens`
AT_MOST = 0.03  # nats of an answer of up to 1,000 tokens: `log_softmax` is 3e-5 too large for each
TIME, MEMORY, LIKELIHOOD = 1.1, 1.2, 0.6  # ours, at most, as shares of the other side's
OURS, CHUNKS = tuning.OURS, "plain loop"


class Section(NamedTuple):
    """A section of the page: it is measured without the others, since each takes minutes."""

    TITLE: str
    bodies: Callable[[Path, Scale], Iterator[str]]

    def part(self, scale: Scale) -> page.Part:
        """Measure the real model, if it and Dolly exist."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        from importlib.metadata import version

        import torch

        torch.set_num_threads(1)
        data = shared_data()
        if data is None or not FOLDER.is_dir():
            return page.Part(
                self.TITLE,
                "Not measured: `make real-model` brings the model, and Dolly is expected in `$TASKDIV_SHARED`.",
            )
        names = ("torch", "transformers", "trl", "peft", "lm_eval")
        about = ABOUT.format(**{name: version(name) for name in names})
        return page.Part(self.TITLE, "\n\n".join([about, *self.bodies(data, scale)]))


def _rows(data: Path) -> list[tuple[str, str]]:
    """Return Dolly's prompts under the template, with their answers."""
    return [(TEMPLATE.format(prompt), answer) for prompt, answer in dolly_examples(data) if answer.strip()]


def _drawn(rows: Sequence[tuple[str, str]], count_n: int) -> list[int]:
    return sorted(np.random.default_rng(7).permutation(len(rows))[:count_n].tolist())


def _training(rows: Sequence[tuple[str, str]], scale: Scale) -> Iterator[str]:
    chosen = _drawn(rows, scale.real_batch_n * scale.real_steps_n)
    examples = [Example(f"{place:05}", *rows[place]) for place in chosen]
    lines = []
    for length_n, pass_n in SETTINGS[: scale.real_settings_n]:
        settings = Tuning(
            learning_rate=2e-4, epochs=1, batch_size=scale.real_batch_n, max_length=length_n, pass_tokens=pass_n
        )
        sides = [tuning.Side(OURS, "ours", settings), tuning.Side(CHUNKS, "plain_chunks", settings)]
        found = tuning.take_turns(Base(FOLDER, "float32", "sdpa"), examples, sides, 1, warm_n=1)
        lines += _training_rows(f"{length_n} tokens, {pass_n:,} a pass", *found)
    yield TRAINING.format(
        steps_n=scale.real_steps_n, batch_n=scale.real_batch_n, chunk_n=CHUNK_N, tolerance=tuning.TOLERANCE
    )
    heads = ["at most", "side", "seconds", "s a step", "time / plain loop", "peak MiB", "memory / plain loop", "off by"]
    yield page.table([*heads, "target", "met"], lines)


def _training_rows(what: str, ours: tuning.Found, plain: tuning.Found) -> list[list[str]]:
    (mine,), (other,) = ours.turns, plain.turns
    time, memory = mine.seconds / other.seconds, mine.peak_mib / other.peak_mib
    target = f"time ≤ {TIME:g}, memory ≤ {MEMORY:g}"
    met = ", ".join("yes" if is_met else "**no**" for is_met in (time <= TIME, memory <= MEMORY))
    some = [[f"{it.seconds:.1f}", f"{it.step_s:.1f}"] for it in (mine, other)]
    return [
        [what, OURS, *some[0], f"{time:.2f}", f"{mine.peak_mib:,.0f}", f"{memory:.2f}", "", target, met],
        ["", CHUNKS, *some[1], "", f"{other.peak_mib:,.0f}", "", f"{tuning.off_by(mine, other):.0e}", "", ""],
    ]


def _scoring(data: Path, scale: Scale) -> Iterator[str]:
    lm = load(FOLDER, dtype="float32", attention="sdpa")
    prompts = [prompt for prompt in dolly_prompts(data) if len(prompt) < CHARACTERS]
    for prompts_n, sizes in REAL_ROWS.items():
        if prompts_n <= scale.real_prompts_n:
            sides = [scoring.Side(scoring.OURS, scorers.ours, 1)]
            sides += [
                scoring.Side(
                    f"{scoring.SORTED}, batches of {rows_n}", partial(scorers.generate_sorted, rows_n=rows_n), 1
                )
                for rows_n in sizes
            ]
            yield SCORING.format(prompts_n=prompts_n, characters_n=CHARACTERS)
            found = scoring.take_turns(lm, prompts[:prompts_n], 16, sides)
            yield scoring._table(found, prompts_n, {sides[1].name: 1.25})


def _likelihoods(rows: Sequence[tuple[str, str]], scale: Scale) -> Iterator[str]:
    lm = load(FOLDER, dtype="float32", attention="sdpa")
    short = [row for row in rows if sum(map(len, row)) <= ITEM_CHARACTERS]
    which = {"of any length": rows, f"prompt and answer at most {ITEM_CHARACTERS:,} characters": short}
    for about, some in which.items():
        chosen = [some[place] for place in _drawn(some, scale.real_items_n)]
        lengths = [
            [len(lm.tokenizer(text)["input_ids"]) for text in (prompt + answer, prompt)] for prompt, answer in chosen
        ]
        all_n, prompts_n = np.sum(lengths, axis=0)
        batches = [n for n in BATCHES if n * max(lengths)[0] <= _tokens_that_fit(lm)]
        left_out = ", ".join(str(n) for n in BATCHES if n not in batches)
        found = evaluating.take_turns(asked.answers(chosen, lm), 1, batches, AT_MOST)
        yield LIKELIHOODS.format(
            items_n=len(chosen), which=about, tokens_n=all_n, share=1 - prompts_n / all_n, fits=FITS,
            left_out=f": {left_out}" if left_out else " (none)",
        )  # fmt: skip
        yield likelihood_table(found)
    yield AFTER


def _tokens_that_fit(lm: LanguageModel) -> float:
    """Return the number of tokens whose float32 logits and log-probabilities need `FITS` of the free memory."""
    import psutil

    return float(FITS * psutil.virtual_memory().available / (8 * lm.model.config.vocab_size))


def likelihood_table(found: Sequence[Measured]) -> str:
    """Return the table of likelihoods. A ratio is our time divided by the side's. The target is for the fastest other side."""
    ours, _again, *theirs = found
    best = min(theirs, key=lambda one: one.median_s)
    lines = []
    for one in found:
        ratio = ours.median_s / one.median_s
        is_target, is_mine = one is best, one in found[:2]
        lines.append(
            [
                f"{one.side}, the best" if is_target else one.side,
                f"{one.median_s:.1f}",
                "" if is_mine else f"{ratio:.2f}",
                "" if one is ours else f"{one.off_by:.0e}",
                f"ours ≤ {LIKELIHOOD:g}" if is_target else "",
                ("yes" if ratio <= LIKELIHOOD else "**no**") if is_target else "",
            ]
        )
    return page.table(["side", "seconds", "ours / side", "off by", "target", "met"], lines)


# Training goes first: its processes then have the memory for themselves.
TRAINED = Section("At a real size: training", lambda data, scale: _training(_rows(data), scale))
SCORED = Section("At a real size: confidence", _scoring)
ANSWERED = Section("At a real size: likelihoods", lambda data, scale: _likelihoods(_rows(data), scale))
