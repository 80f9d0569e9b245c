"""Scoring adapters compared with lm-eval: several adapters in one process, and requests a second.

The sides' responses are compared before their times.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from taskdiv_assets.experiment import LabModel
from tests.benchmarks import adapters, asked, evaluators, page
from tests.benchmarks.adapters import Lab, Timed
from tests.benchmarks.asked import Load
from tests.benchmarks.evaluators import Responses, Way
from tests.benchmarks.scale import Scale
from tests.benchmarks.shared import shared_data

TITLE = "Scoring adapters"
ABOUT = """\
lm_eval {lm_eval}, torch {torch}, peft {peft}, transformers {transformers}; float32, one thread, on a CPU. Not measured: a GPU, backends
of lm-eval other than `hf`, and models of a realistic size. Sides take turns and medians count; in
brackets the smallest and the largest. The run fails if a side's result differs from ours: another text, another
likeliest answer of an item, another greedy continuation, or a log-likelihood that is off by {tolerance:g} nats and a
millionth of its size. Smaller differences are rounding: lm-eval adds an answer's log-probabilities in float32, whose steps at 500 nats
are 3e-5 wide, and other batches add in another order."""
ADAPTERS = """\
{adapters_n} LoRA adapters (rank {rank}, random weights) of the lab's base, {items_n} items in {tasks_n} tasks; wall time of processes
from start to end, imports and loading included. "ours": one process, one base, all adapters. "`lm_eval`, a call an adapter":
`python -m lm_eval run --model hf --model_args pretrained=…,peft=…,dtype=float32 --tasks … --include_path … --batch_size {batch_n}
--log_samples`, the same items as JSON files (which `datasets` had cached before); each call reads the index of all tasks of lm-eval.
"`lm_eval` in a loop": one process, `simple_evaluate` with a fresh HFLM for each adapter, without reading that index."""
SPEED = """\
One loaded model, processor seconds from lm-eval's requests to its responses. "ours" includes encoding and planning, which the first adapter
pays for; "ours, a further adapter" reuses the plan. HFLM's best batch size counts; one that took 1.2 times as long as the best had
one turn. Ours reads common prefixes once, so its lead grows with the items of a task; here they are few.

{loads}"""
MEMORY = """\
Peak of resident memory above the loaded model, MMLU with five worked examples by the model of random weights, fresh
processes:"""
TARGET = 3.0  # times as fast as separate calls
ABSOLUTE, RELATIVE = 1e-4, 1e-6  # nats, and share of a log-likelihood
BATCHES = (1, 8, 16, 32)
SLOW = 1.2
OURS, AGAIN = "ours", "ours, a further adapter"
CALLS, LOOP = "`lm_eval`, a call an adapter", "`lm_eval` in a loop"


class Measured(NamedTuple):
    """The measurements of one side on one load."""

    side: str
    seconds: list[float]  # of the processor
    off_by: float  # largest difference of a log-likelihood from ours, nats

    @property
    def median_s(self) -> float:
        return float(np.median(self.seconds))


def part(scale: Scale) -> page.Part:
    """Measure adapters of the lab's base model, and requests of the lab and, if the real data exist, of other benchmarks."""
    from importlib.metadata import version

    import torch

    torch.set_num_threads(1)
    versions = {name: version(name) for name in ("lm_eval", "torch", "peft", "transformers")}
    bodies = [ABOUT.format(tolerance=ABSOLUTE, **versions)]
    with tempfile.TemporaryDirectory() as name, _own_cache(Path(name)):
        base = _base(Path(name), scale)
        bodies += _adapters(Path(name), base, scale)
        bodies += _speed(base, scale)
    return page.Part(TITLE, "\n\n".join(bodies))


def _own_cache(folder: Path) -> mock._patch_dict:
    """Put the cache of `datasets` into a folder that is removed with the items."""
    return mock.patch.dict(os.environ, {"HF_DATASETS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"})


def _base(folder: Path, scale: Scale) -> Path:
    from taskdiv_assets.language_model.lab_model import train

    base = folder / "base"
    base.mkdir()
    train(LabModel(steps=scale.lab_steps) if scale.lab_steps else LabModel(), None, base)
    return base


def _adapters(folder: Path, base: Path, scale: Scale) -> Iterator[str]:
    lab = adapters.prepare(folder, base, None, scale.evaluating_adapters_n)
    adapters.timed_call(lab)  # fills the cache of `datasets`, and the system's of files
    calls, one, several, loops = processes_take_turns(lab, scale.evaluating_processes_n)
    yield ADAPTERS.format(
        adapters_n=len(lab.adapters),
        rank=adapters.RANK,
        items_n=len(calls[0].scored[0]),
        tasks_n=len(lab.tasks),
        batch_n=adapters.HARNESS_BATCH,
    )
    yield _adapters_table(len(lab.adapters), calls, one, several, loops)


def processes_take_turns(lab: Lab, turns_n: int) -> tuple[list[Timed], list[Timed], list[Timed], list[Timed]]:
    """Measure a call for each adapter, our code for the first and for all adapters, and lm-eval's loop for all adapters.

    The turns of the other sides are spread over the calls.

    Raises:
        RuntimeError: a side found other numbers than ours.
    """
    calls, one, several, loops = [], [], [], []
    for place, adapter in enumerate(lab.adapters):
        calls.append(adapters.timed_call(lab._replace(adapters=(adapter,))))
        if place * turns_n // len(lab.adapters) == len(several):
            several.append(adapters.timed_process("ours", lab))
            one.append(adapters.timed_process("ours", lab.of(1)))
            loops.append(adapters.timed_process("harness_loop", lab))
    ours = several[0].scored
    for place, call in enumerate(calls):
        check_found(CALLS, ours[place], call.scored[0])
    for side, turns in ((OURS, one), (OURS, several), (LOOP, loops)):
        for timed in turns:
            for mine, other in zip(ours, timed.scored, strict=False):  # one: the first adapter only
                check_found(side, mine, other)
    return calls, one, several, loops


def check_found(side: str, ours: Mapping[str, Sequence[object]], other: Mapping[str, Sequence[object]]) -> float:
    """Return the largest difference of a log-likelihood in nats. Raise RuntimeError as `off_by` does."""
    as_tuples = [{key: (float(nats), bool(greedy)) for key, (nats, greedy) in it.items()} for it in (ours, other)]
    return off_by(side, *as_tuples, [[key] for key in ours])


def off_by(
    side: str, ours: Responses, other: Responses, items: Sequence[Sequence[str]], at_most: float = ABSOLUTE
) -> float:
    """Return the largest difference of a log-likelihood in nats.

    Raises:
        RuntimeError: an item would have another score, or a log-likelihood differs by more than rounding.
    """
    if ours.keys() != other.keys():
        raise RuntimeError(f"{side}: other items than ours; nothing is compared")
    furthest = 0.0
    for keys in items:
        mine, theirs = [ours[key] for key in keys], [other[key] for key in keys]
        if isinstance(mine[0], str):
            is_same, differences = mine == theirs, [0.0]
        else:
            both = np.array([[nats for nats, _ in some] for some in (mine, theirs)])
            differences = np.abs(both[0] - both[1])
            is_close = (differences <= at_most + RELATIVE * np.abs(both[0])).all()
            is_greedy = [[greedy for _, greedy in some] for some in (mine, theirs)]
            is_same = is_close and both[0].argmax() == both[1].argmax() and is_greedy[0] == is_greedy[1]
        if not is_same:
            raise RuntimeError(f"{side}: {keys[0]} is {theirs}, but {mine} by ours; nothing is compared")
        furthest = max(furthest, *differences)
    return float(furthest)


def _adapters_table(
    adapters_n: int, calls: Sequence[Timed], one: Sequence[Timed], several: Sequence[Timed], loops: Sequence[Timed]
) -> str:
    """Return the table of times. A ratio is a side's time over ours with as many adapters. Times of calls are added up."""
    one_s, several_s = ([timed.wall_s for timed in some] for some in (one, several))
    call_s, loop_s = ([timed.wall_s for timed in some] for some in (calls, loops))
    ratio = sum(call_s) / np.median(several_s)
    rows = [
        ["1", OURS, _seconds(one_s), "", "", ""],
        ["1", CALLS, _seconds(call_s), f"{np.median(call_s) / np.median(one_s):.2f}", "", ""],
        [str(adapters_n), OURS, _seconds(several_s), "", "", ""],
        [
            str(adapters_n), f"{CALLS}, {adapters_n} calls", f"{sum(call_s):.1f}", f"{ratio:.2f}", f"time × {TARGET:g}",
            "yes" if ratio >= TARGET else "**no**",
        ],
        [str(adapters_n), LOOP, _seconds(loop_s), f"{np.median(loop_s) / np.median(several_s):.2f}", "", ""],
    ]  # fmt: skip
    return page.table(["adapters", "side", "wall seconds", "time / ours", "target", "met"], rows)


def _seconds(turns: Sequence[float]) -> str:
    return f"{np.median(turns):.1f}" + (f" ({min(turns):.1f} to {max(turns):.1f})" if len(turns) > 1 else "")


def _speed(base: Path, scale: Scale) -> Iterator[str]:
    rows, said = [], []
    data = shared_data()
    for about, load in _loads(base, scale):
        print(f"  {load.name}: {len(load.requests)} requests", flush=True)
        found = take_turns(load, scale.evaluating_turns_n, BATCHES)
        rows += _rows(load, found)
        said.append(f"- {load.name}: {about}.")
    missing = (
        "" if data else "\n\nOther benchmarks were not measured: the real data are not there (set `$TASKDIV_SHARED`)."
    )
    yield SPEED.format(loads="\n".join(said)) + missing
    heads = ["benchmark", "side", "seconds", "requests a second", "time / ours", "off by, nats"]
    yield page.table(heads, rows)
    if data:
        yield MEMORY
        yield _memory(data, scale.mmlu_items_n)


def _loads(base: Path, scale: Scale) -> Iterator[tuple[str, Load]]:
    """Yield each load with a description."""
    yield "an answer of some tokens each", asked.lab(base)
    data = shared_data()
    if data is None:
        return
    shape = asked.READER
    cut = asked.mmlu(data, asked.stories(data), scale.mmlu_items_n)._replace(name="MMLU, cut to 512 tokens")
    yield (
        f"stories260K, {len(asked.SUBJECTS)} subjects × {scale.mmlu_items_n} questions, five worked examples that do not fit, so "
        "that nothing is shared but the four letters' question",
        cut,
    )
    lm = asked.reader(data)
    yield (
        f"the same questions with all their examples, for a Llama of random weights (hidden size {shape.hidden}, {shape.layers} layers, "
        f"{shape.vocabulary:,} tokens, context {shape.context:,})",
        asked.mmlu(data, lm, scale.mmlu_items_n)._replace(name="MMLU, five examples"),
    )
    yield (
        f"that model, {len(asked.BBH_TASKS)} tasks × {scale.bbh_items_n} items, three worked chains of thought, {asked.NEW_TOKENS} new tokens at "
        "most",
        asked.bbh(data, lm, scale.bbh_items_n)._replace(name="BBH, chain of thought"),
    )
    rows = asked.dolly_rows(data, scale.endings_items_n)
    yield (
        f"that model, {len(rows)} long texts of Dolly with a question, {asked.ENDINGS_N} answers of some sentences each",
        asked.endings(rows, lm)._replace(name="four long endings"),
    )


def sides(load: Load, batches: Sequence[int]) -> dict[str, Way]:
    """Return all sides, ours first."""
    theirs = {f"HFLM, batch size {n}": partial(evaluators.harness, batch_n=n) for n in batches}
    return {OURS: evaluators.ours, AGAIN: evaluators.Again(), **theirs}


def take_turns(load: Load, turns_n: int, batches: Sequence[int], at_most: float = ABSOLUTE) -> list[Measured]:
    """Run each side `turns_n` times in rotating order, but slow batch sizes once.

    Raises:
        RuntimeError: the responses of a side differ from ours (`off_by`).
    """
    ways = sides(load, batches)
    few_items = load.items[:2]
    few = load._replace(items=few_items, requests={key: load.requests[key] for keys in few_items for key in keys})
    for way in ways.values():
        way(few)  # imports, and what libraries make once
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    said: dict[str, Responses] = {}
    for turn in range(turns_n):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn and name not in (OURS, AGAIN) and seconds[name][0] > SLOW * _best_s(seconds):
                continue
            took_s, said[name] = ways[name](load)
            seconds[name].append(took_s)
            print(f"    {name}: {took_s:.2f} s", flush=True)
    return [Measured(name, seconds[name], off_by(name, said[OURS], said[name], load.items, at_most)) for name in ways]


def _best_s(seconds: Mapping[str, Sequence[float]]) -> float:
    return min(turns[0] for name, turns in seconds.items() if name not in (OURS, AGAIN))


def _rows(load: Load, found: Sequence[Measured]) -> Iterator[list[str]]:
    """Yield a row for our code, for a further adapter, and for each batch size. The best batch size is marked."""
    ours, _again, *theirs = found
    best = min(theirs, key=lambda one: one.median_s)
    is_text = isinstance(next(iter(load.requests.values())).args[1], dict)
    for one in found:
        ratios = [a / b for a, b in zip(one.seconds, ours.seconds, strict=False)]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
        yield [
            load.name if one is ours else "",
            f"{one.side}, the best" if one is best else one.side,
            f"{one.median_s:.2f}",
            f"{len(load.requests) / one.median_s:,.0f}",
            "" if one is ours else f"{np.median(ratios):.2f}{spread}",
            "" if one is ours else "same texts" if is_text else f"{one.off_by:.0e}",
        ]


def _memory(data: Path, items_n: int) -> str:
    found = {None: evaluators.measure_memory(data, items_n, None)}
    found |= {batch_n: evaluators.measure_memory(data, items_n, batch_n) for batch_n in (1, 8)}
    ours = found[None]
    rows = []
    for batch_n, extra in found.items():
        side = OURS if batch_n is None else f"HFLM, batch size {batch_n}"
        off_by(side, ours.responses, extra.responses, [[key] for key in ours.responses])
        rows.append([side, f"{extra.mib:,.0f}", "" if batch_n is None else f"{extra.mib / max(ours.mib, 1):.1f}"])
    return page.table(["side", "extra MiB", "memory / ours"], rows)
