"""Supervised fine-tuning by TRL and PEFT. It trains a LoRA adapter, or all weights, on prompts and their answers.

On one machine the same training writes the same bytes, also after a restart, and for every order of the list of examples.
"""

from __future__ import annotations

import functools
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from taskdiv_assets.language_model.faults import first_line, ran_out
from taskdiv_assets.language_model.footprint import training, without_weights
from taskdiv_assets.language_model.loading import (
    LanguageModel,
    chosen_device,
    context_tokens,
    load,
    load_in_4_bits,
    release_memory,
)
from taskdiv_assets.language_model.memory import free_bytes
from taskdiv_assets.language_model.model_folder import read_config
from taskdiv_assets.language_model.quiet import quiet, quiet_datasets
from taskdiv_assets.language_model.texts import read_tokenizer
from taskdiv_assets.language_model.tuning.checkpoints import Keeper
from taskdiv_assets.language_model.tuning.choices import choose_packing, choose_recompute, widest_pass
from taskdiv_assets.language_model.tuning.saving import CONFIG, WEIGHTS, HubName, save_adapter, save_model
from taskdiv_assets.language_model.tuning.steps import (
    Course,
    draw_steps,
    draw_steps_of_tokens,
    lay_out,
    learnt_tokens_n,
)
from taskdiv_assets.language_model.tuning.targets import Targets, lora_targets
from taskdiv_assets.language_model.tuning.trainer import DivergedError, OnStep, fit
from taskdiv_assets.language_model.tuning.training_examples import IGNORED, Encoded, Example, checked, encode
from taskdiv_assets.selection.streams import stream_seed
from taskdiv_assets.storage import room, temporary
from taskdiv_assets.storage.machine import machine

if TYPE_CHECKING:
    from taskdiv_assets.tuning_settings import Tuning

__all__ = [
    "CONFIG", "IGNORED", "WEIGHTS", "Base", "DivergedError", "Encoded", "Example", "HubName", "Keeper", "TuningResult", "encode",
    "try_out", "tune",
]  # fmt: skip


class Base(NamedTuple):
    """The model that is tuned."""

    folder: Path  # a folder that `loading.load` can load
    dtype: str  # number format of the base model's weights; trained weights are in float32
    attention: str  # attention implementation
    hub: HubName | None = None


class FullMemoryError(ValueError):
    """A training ran out of memory, on a GPU or a CPU."""


class TuningResult(NamedTuple):
    """The results of one training, without the trained weights, which are files."""

    examples_n: int
    trained_tokens_n: int  # prompt, completion and EOS, no padding, over all epochs
    final_loss: float  # loss of the last step, nats a completion token
    train_s: float  # wall seconds of training in this run, without loading and set-up
    losses: tuple[float, ...]  # loss of every step
    cut_n: int  # examples whose prompt or completion was cut to `max_length` or the model's context
    choices: Mapping[str, str]  # reason of each decision, by the decision's name


def tune(
    base: Base,
    examples: Sequence[Example],
    tuning: Tuning,
    *,
    seed: int,
    out: Path,  # an existing folder
    on_step: OnStep | None = None,
    keeper: Keeper | None = None,  # stores checkpoints; training continues from the last one
    log: Callable[[str], None] = lambda text: None,  # receives each decision with its reason
) -> TuningResult:
    """Train one adapter or one model, and write it to `out`.

    LoRA (Hu et al., arXiv:2106.09685) is applied to all linear layers that PEFT can wrap, since adapters on fewer layers do not
    reach the quality of full training (Dettmers et al., arXiv:2305.14314). Only the completion and its EOS carry loss.

    Raises:
        ValueError: there are no examples, an example is repeated or has a blank answer, or a setting does not fit this model or
            machine.
        FullMemoryError: memory ran out.
        DivergedError: the loss or the trained weights are not finite.
    """
    ordered = checked(examples)
    _freeze_imports()
    try:
        return _tune(base, ordered, tuning, seed, out, on_step, keeper, log)
    except Exception as error:
        if not ran_out(error):
            raise
        raise FullMemoryError(
            f"training ran out of memory ({first_line(error)}); lower `tuning.pass_tokens` ({tuning.pass_tokens:,}) or "
            "`max_length`, or use `quantization: nf4`"
        ) from error
    finally:
        release_memory()  # models of transformers contain reference cycles, so they stay in memory without a collection


def try_out(base: Base, tuning: Tuning) -> str:
    """Train an adapter for one step on a made-up example, so that errors occur before labels are bought.

    Return why the step was not done (too little memory, or `tuning` trains all weights); an empty text if it was done. Raise
    ValueError if the base model cannot be trained.
    """
    if tuning.method == "full":
        return "the whole model is trained, which takes more memory than making lists"
    device = chosen_device()
    lm = without_weights(read_config(base.folder), base.dtype, device, base.attention)
    memory = training(lm, tuning.model_copy(update={"batch_size": 1, "quantization": None}), TRIED_TOKENS_N)
    needed_n, free_n = memory.total_n - memory.process_n, free_bytes(device)  # this process is there already
    if needed_n > free_n:
        return f"it takes {room.spelled(needed_n)} of memory, and {room.spelled(free_n)} are free"
    tokenizer: Any = read_tokenizer(base.folder).tokenizer
    middle = len(tokenizer) // 4  # an ordinary token; a model would learn nothing from unknown tokens
    prompt, answer = (tokenizer.decode(range(start, start + 6)) for start in (middle, 2 * middle))
    example = Example("example", prompt or "Q:", answer if answer.strip() else " A")
    few = {"epochs": 1, "min_steps": 0, "tokens": None, "warmup_ratio": 0.0, "packing": False, "quantization": None}
    few["learning_rate"] = 1e-5
    with temporary.folder("tried-") as out:
        try:
            tune(base, [example], tuning.model_copy(update=few), seed=0, out=out)
        except FullMemoryError as error:
            return str(error)
        except DivergedError as error:
            raise ValueError(f"the base model cannot be trained: {error}") from error
    return ""


def _tune(
    base: Base,
    ordered: Sequence[Example],
    tuning: Tuning,
    seed: int,
    out: Path,
    on_step: OnStep | None,
    keeper: Keeper | None,
    log: Callable[[str], None],
) -> TuningResult:
    with quiet(), quiet_datasets(), _own_randomness(), temporary.folder("tuning-") as scratch:
        lm = _load(base, tuning)
        limit = min(tuning.max_length, context_tokens(lm) or tuning.max_length)
        rows = [encode(lm, example, limit) for example in ordered]
        course, choices = _plan(lm, rows, tuning, seed, limit)
        widest_n = widest_pass(course.lengths, course.steps[:LOOKED_AT_N], course.layout)
        recompute = choose_recompute(lm, widest_n)
        choices |= {"activations": recompute.reason, "processes": str(machine().tuning_workers)}
        targets = lora_targets(lm.model, tuning.dropout) if tuning.method == "lora" else Targets("", "")
        if targets.left_out:
            choices["left out of the adapter"] = targets.left_out
        for name, reason in choices.items():
            log(f"{name}: {reason}")
        model = _trained_part(lm, tuning, targets, seed)
        started = time.perf_counter()
        why = fit(lm, model, course, tuning, recompute=recompute.is_on, on_step=on_step, keeper=keeper, scratch=scratch)
        train_s = time.perf_counter() - started
        if why:
            choices["loss"] = why
            log(f"loss: {why}")
        is_first = machine().rank == "0"  # of several processes, which all end with the same weights
        if is_first and tuning.method == "full":
            save_model(model, base.folder, base.dtype, out)
        elif is_first:
            save_adapter(model, out, base.hub)
    tokens_n = sum(course.tokens_n(step) for step in course.steps)
    losses = tuple(course.losses)
    return TuningResult(len(rows), tokens_n, losses[-1], train_s, losses, sum(row.is_cut for row in rows), choices)


def _load(base: Base, tuning: Tuning) -> LanguageModel:
    """Load the base model, and set the dropout of its layers to 0. A model for full training is in float32.

    The weights of a 16-bit format would lose small steps.
    """
    if tuning.quantization == "nf4":
        lm = load_in_4_bits(base.folder, dtype=base.dtype, attention=base.attention)
    elif tuning.method == "full" and base.dtype != "float32":
        lm = load(base.folder, dtype="float32", attention="sdpa")
        lm = lm._replace(dtype=base.dtype)  # the number format of its computations
    else:
        lm = load(base.folder, dtype=base.dtype, attention=base.attention)
    # Some layers read the configuration, or are made from it in a first pass.
    for module in (lm.model.config.get_text_config(), *lm.model.modules()):
        is_dropout = "Dropout" in type(module).__name__
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("drop" in name or (name == "p" and is_dropout)):
                setattr(module, name, 0.0)
    return lm


def _plan(
    lm: LanguageModel, rows: Sequence[Encoded], tuning: Tuning, seed: int, limit: int
) -> tuple[Course, dict[str, str]]:
    lengths = np.array([len(row.input_ids) for row in rows])
    if tuning.tokens is None:
        steps = draw_steps(len(rows), tuning.batch_size, tuning.epochs, tuning.min_steps, seed)
    else:
        steps = draw_steps_of_tokens(lengths, tuning.batch_size, tuning.tokens, seed)
    packing = choose_packing(lm, lengths, steps, tuning, limit)
    # Rows are filled up with the first of these tokens that has a row in the embedding.
    fillers = (lm.tokenizer.pad_token_id, lm.tokenizer.eos_token_id, 0)
    rows_n = lm.model.get_input_embeddings().weight.shape[0]
    padding = next(int(token) for token in fillers if token is not None and token < rows_n)
    course = Course(rows, steps, packing.layout, padding, seed)
    if not any(learnt_tokens_n(rows, step) for step in steps):
        raise ValueError(f"no example has a token to learn within {limit} tokens; raise `tuning.max_length`")
    passes = [len(lay_out(step, lengths, packing.layout)) for step in steps[:LOOKED_AT_N]]
    return course, {
        "rows": packing.reason,
        "passes": f"{min(passes)} to {max(passes)} a step, at most {tuning.pass_tokens:,} tokens each (`pass_tokens`)",
        "steps": f"{len(steps)} of {min(tuning.batch_size, len(rows))} examples{_why_so_many(tuning, course)}",
    }


def _why_so_many(tuning: Tuning, course: Course) -> str:
    """Return the end of a phrase on the number of steps, with its reason; empty if it follows from the epochs."""
    if tuning.tokens is not None:
        return f", {sum(map(course.tokens_n, course.steps)):,} tokens: `tokens` is {tuning.tokens:,}"
    by_epochs_n = tuning.epochs * -(-len(course.examples) // tuning.batch_size)
    return "" if len(course.steps) == by_epochs_n else f", more than {tuning.epochs} epochs: `min_steps` is the floor"


TRIED_TOKENS_N = 32  # more than the example of `try_out` has
LOOKED_AT_N = 1024  # this many first steps represent all steps in choices and messages


@functools.cache
def _freeze_imports() -> None:
    """Exclude imported objects from garbage collection, because accelerate's collection in every training took 0.25 s."""
    gc.collect()
    gc.freeze()


def _trained_part(lm: LanguageModel, tuning: Tuning, targets: Targets, seed: int) -> Any:
    """Return the model to train: the base model, or the base model with a new adapter. The seed initialises the adapter."""
    import torch

    if tuning.method == "full":
        return lm.model
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(stream_seed(seed, "tuning", "initialisation"))
    lora = LoraConfig(
        r=tuning.rank,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=targets.modules,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(lm.model, lora)


@contextmanager
def _own_randomness() -> Iterator[None]:
    import torch

    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
