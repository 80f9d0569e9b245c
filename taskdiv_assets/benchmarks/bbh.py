"""The benchmark `bbh`: BIG-Bench Hard by lm-eval's stock `bbh_cot_fewshot` tasks, from the hub or from local files.

Local rows change only where the data come from: prompts, stop sequences, answer extraction and metric are the stock
ones. The experiment's own prompt template is not applied: the prompts are the benchmark's.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from pathlib import Path

from taskdiv_assets.benchmarks.bbh_source import SIZES, read_rows, source_files, task_sizes
from taskdiv_assets.benchmarks.tasks import LocalTask, Suite, load_local, load_stock, stock_version
from taskdiv_assets.experiment import BbhBenchmark

HUB = "hub"
PREFIX = "bbh_cot_fewshot_"
# Chain-of-thought prompts are long (about 1,000 tokens of a large vocabulary) and are followed by up to 1,024 new ones:
# 16 rows hold 16 GB of keys and values in a 7B model at 2 bytes, which leaves room on one 40 GB card.
BATCH_SIZE = 16


def chosen_tasks(benchmark: BbhBenchmark) -> tuple[str, ...]:
    """Names of the tasks to run, all 27 unless the experiment names some.

    Raises:
        ValueError: an unknown task, or one that stands twice.
    """
    names = tuple(SIZES) if benchmark.tasks is None else tuple(benchmark.tasks)
    for name in names:
        if name not in SIZES:
            close = difflib.get_close_matches(name.removeprefix(PREFIX), SIZES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected some of {', '.join(SIZES)}"
            raise ValueError(f"unknown BBH task {name!r}; {hint}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`tasks` of benchmark `bbh`: expected at least one task, none twice, found {list(names)}")
    return names


def suite(benchmark: BbhBenchmark) -> Suite:
    """The BBH tasks. With `limit: n` the first n items of each task, in the order of the source, as lm-eval counts."""
    names = chosen_tasks(benchmark)
    if benchmark.source == HUB:
        loaded = load_stock(
            "bbh",
            stock_folder(),
            {PREFIX + name: name for name in names},
            limit=benchmark.limit,
            batch_size=BATCH_SIZE,
        )
    else:
        tasks = [
            LocalTask(name, PREFIX + name, stock_folder() / f"{name}.yaml", rows.documents, rows.ids)
            for name, rows in read_rows(benchmark.source, names).items()
        ]
        loaded = load_local("bbh", tasks, limit=benchmark.limit, batch_size=BATCH_SIZE)
    for task in loaded.task_dict["tasks"].values():
        task.set_config("generation_kwargs", {"max_gen_toks": benchmark.max_new_tokens}, update=True)
    return loaded


def items_n(benchmark: BbhBenchmark) -> int:
    """Items that one model is asked, without loading any model. For the hub: by the published sizes."""
    names = chosen_tasks(benchmark)
    sizes = SIZES if benchmark.source == HUB else task_sizes(benchmark.source, names)
    return sum(sizes[name] if benchmark.limit is None else min(sizes[name], benchmark.limit) for name in names)


def settings_identity(benchmark: BbhBenchmark) -> dict[str, object]:
    """What changes the scores; a local source by its content, so that a moved file changes nothing."""
    names = chosen_tasks(benchmark)
    return {
        "name": "bbh",
        "tasks": sorted(names),
        "limit": benchmark.limit,
        "max_new_tokens": benchmark.max_new_tokens,
        "source": HUB if benchmark.source == HUB else _sha256_of_source(benchmark.source, names),
        "task_version": stock_version(stock_folder() / "_cot_fewshot_template_yaml"),
        "batch_size": BATCH_SIZE,
    }


def stock_folder() -> Path:
    """Where the installed lm-eval keeps these tasks, found without importing it (seconds)."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ValueError("lm-eval is not installed; install this package with its dependencies")
    return Path(spec.origin).parent / "tasks" / "bbh" / "cot_fewshot"


def _sha256_of_source(source: str, names: tuple[str, ...]) -> str:
    """One hash over the bytes of the files that are read, by their order and not their place."""
    digests = [hashlib.sha256(data).hexdigest() for data in source_files(source, names)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
