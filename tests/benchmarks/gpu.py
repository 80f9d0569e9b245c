"""`make bench-gpu`: a model with the shape of Llama-2-7B is measured on a CUDA card. The results are written to docs/GPU.md.

The weights are random and created on the card. Nothing is downloaded. An error ends only its part, and the page is written
after each part. `--miniature` runs every part on a CPU with a tiny model, to check the script.

    python -m tests.benchmarks.gpu [--price 2.50] [--prompts 512] [--output PATH] [--miniature]
"""

from __future__ import annotations

import argparse
import datetime
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from taskdiv_assets.graph import environment
from taskdiv_assets.language_model.loading import LanguageModel
from tests.benchmarks import gpu_page, gpu_scoring, gpu_speed, gpu_tuning, random_llama
from tests.benchmarks.fresh import ROOT
from tests.benchmarks.gpu_page import Found

Result = TypeVar("Result")


class Sizes(NamedTuple):
    """The sizes of all measurements."""

    shape: random_llama.Shape = random_llama.LLAMA_2_7B
    device: str = "cuda"
    batches: tuple[int, ...] = (1, 8, 16, 64, 128, 256, 512, 1_024, 2_048)
    prompt_n: int = 256  # tokens, where speed is measured by batch size
    new_n: int = 128
    pool_n: int = 512  # prompts scored end to end
    drift_n: int = 300  # prompts whose companions change
    drift_new_n: int = 32
    copy_mib: int = 4_096
    square_n: int = 8_192
    continuous_rows_n: int | None = None  # None: continuous batching takes what memory there is
    tuning: gpu_tuning.Work = gpu_tuning.Work()


FULL = Sizes()
MINIATURE = Sizes(
    random_llama.MINIATURE, "cpu", batches=(1, 2, 4), prompt_n=20, new_n=6, pool_n=24, drift_n=16, drift_new_n=6, copy_mib=4,
    square_n=128, continuous_rows_n=4, tuning=gpu_tuning.Work(long_n=64, batch_size=4, steps_n=4, rank=4),
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the page after each part. Return 1 if a part failed or there is no card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--miniature", action="store_true", help="a tiny model on a CPU; writes no file by itself")
    parser.add_argument("--output", type=Path, help="default: docs/GPU.md, for a miniature none")
    parser.add_argument("--price", type=float, default=2.50, help="assumed, for one hour of the card (default 2.50)")
    parser.add_argument("--prompts", type=int, help="of the pool that is scored end to end (default 512)")
    options = parser.parse_args(arguments)
    import torch

    if options.miniature:
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        print("torch sees no CUDA device: nothing was measured or written. `--miniature` shows on a CPU that it runs.")
        return 1
    output = options.output or (None if options.miniature else ROOT / "docs" / "GPU.md")
    sizes = MINIATURE if options.miniature else FULL
    found = run(sizes._replace(pool_n=options.prompts or sizes.pool_n), options.price, output)
    print(gpu_page.text(found))
    return 1 if found.problems else 0


def run(sizes: Sizes, price: float, output: Path | None) -> Found:
    found = Found(_hardware(sizes), price, sizes.device == "cpu", sizes._asdict())

    def part(name: str, call: Callable[[], Result]) -> Result | None:
        started = time.perf_counter()
        result = _or_problem(name, call, found.problems)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(gpu_page.text(found), encoding="utf-8")
        return result

    lm = part("model", lambda: random_llama.build(sizes.shape, sizes.device))
    if lm is not None:
        _measure(lm, sizes, found, part)
        with tempfile.TemporaryDirectory() as folder:
            attention = str(lm.model.config._attn_implementation)
            part("model on disk", partial(random_llama.save, lm, Path(folder)))
            lm = None  # the trainings load it anew, and want its place
            _release(sizes)
            multiplied = found.rates.multiplied if found.rates else None
            done = gpu_tuning.trainings(Path(folder), sizes.shape, found.dtype, attention, multiplied, sizes.tuning)
            part("fine-tuning", lambda: _collect(done, found.tuned))
        part("page", lambda: None)
    return found


def _release(sizes: Sizes) -> None:
    """Free the memory of objects that are no longer used."""
    import torch

    gc.collect()
    if sizes.device == "cuda":
        torch.cuda.empty_cache()


def _measure(lm: LanguageModel, sizes: Sizes, found: Found, part: Callable[[str, Callable[[], Any]], Any]) -> None:
    found.dtype = lm.dtype
    found.rates = part("rates", lambda: gpu_speed.measure_rates(lm, sizes.copy_mib, sizes.square_n))
    gpu_speed.free_memory(lm)
    if found.rates:
        speeds = gpu_speed.by_batch(lm, found.rates, sizes.batches, sizes.prompt_n, sizes.new_n)
        part("speed by batch", lambda: _collect(speeds, found.speeds))
    longest_n = sizes.shape.context - sizes.new_n
    lengths = gpu_scoring.dolly_lengths(sizes.pool_n, longest_n)
    prompts = random_llama.random_prompts(list(lengths), sizes.shape.vocabulary)
    sides = gpu_scoring.end_to_end(
        lm, prompts, sizes.new_n, continuous_rows_n=sizes.continuous_rows_n, log=found.notes.append
    )
    part("scoring end to end", lambda: _collect(sides, found.scored))
    few = prompts[: sizes.drift_n]
    part("other companions", lambda: _collect(gpu_scoring.drifts(lm, few, sizes.drift_new_n), found.drifts))


def _collect(results: Iterable[Result], into: list[Result]) -> None:
    """Append each result at once, because a later one may fail."""
    for result in results:
        print(f"  {result}", flush=True)
        into.append(result)


def _or_problem(name: str, call: Callable[[], Result], problems: list[str]) -> Result | None:
    """Return the result of a part. If the part fails, append a line to `problems` and return None."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        problems.append(f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
        return None


def _hardware(sizes: Sizes) -> str:
    import torch

    machine = environment.describe()
    card = machine["processor"]
    if sizes.device == "cuda":
        memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        card = f"{torch.cuda.get_device_name(0)}, {memory_gib:.0f} GiB, CUDA {torch.version.cuda}"
    versions = machine["versions"]
    commit = (machine["commit"] or "no commit")[:10] + (" with changes" if machine["dirty"] else "")
    libraries = f"torch {torch.__version__}, transformers {versions.get('transformers')}"
    return f"{card}; {libraries}; {datetime.date.today()}, {commit}"


if __name__ == "__main__":
    sys.exit(main())
