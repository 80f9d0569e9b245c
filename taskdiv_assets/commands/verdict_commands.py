"""The `taskdiv verdicts` commands. They import and count a judge's verdicts on model outputs."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from taskdiv_assets.benchmarks.alpaca.annotation_file import read_annotations, verdicts_from_annotations
from taskdiv_assets.benchmarks.alpaca.instructions import NO_GENERATOR, read_instructions
from taskdiv_assets.commands.consoles import escaped, out, plain_errors, say
from taskdiv_assets.commands.opening import EXPERIMENT, open_experiment
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.benchmark_settings import AlpacaEvalBenchmark, Judge
from taskdiv_assets.services.judge_batches import known_verdicts, put_verdicts
from taskdiv_assets.storage.store import Store

verdicts_app = typer.Typer(help="Import and count judges' verdicts for AlpacaEval.", no_args_is_help=True)
FILE = Annotated[str, typer.Argument(metavar="FILE", help="annotations.json of the package alpaca-eval.")]


@verdicts_app.command("import")
def verdicts_import(experiment: EXPERIMENT, file: FILE) -> None:
    """Import verdicts that the package alpaca-eval made with the annotator that the experiment file names.

    If a part of the file is invalid, nothing is stored. Importing the same file again changes nothing.
    """
    with plain_errors():
        chosen = open_experiment(experiment)
        benchmark, judge = _judge_of(chosen)
        if judge.annotator is None:
            raise ValueError(
                f"the judge of {chosen.name} is the model {judge.model!r}, which taskdiv asks itself; to import verdicts, "
                "set `judge: {annotator: …}` instead"
            )
        store = Store(chosen.name)
        named = {one.reference_generator for one in read_instructions(benchmark.source)} - {NO_GENERATOR}
        reference = named.pop() if len(named) == 1 else None  # None: the texts alone identify the outputs
        found = verdicts_from_annotations(read_annotations(file), reference)
        if judge.annotator not in found:
            raise ValueError(
                f"{file} holds verdicts of {', '.join(sorted(found))}, but the experiment file names the annotator "
                f"{judge.annotator!r}; expected the same name"
            )
        verdicts, known = found[judge.annotator], known_verdicts(store, judge).verdicts
        other_n = sum(one.key in known and known[one.key].preference != one.preference for one in verdicts)
        if other_n:
            raise ValueError(
                f"{file} contradicts an earlier import on {other_n} output(s); expected the same verdicts, so use another "
                "annotator's name for a second opinion"
            )
        new = [one for one in verdicts if one.key not in known]
        if new:
            put_verdicts(store, judge, new)
        say(f"imported: {len(new):,} verdicts of {judge.annotator}, {len(known):,} were known")
        say(f"next: taskdiv run {chosen.name}")


@verdicts_app.command("list")
def verdicts_list(experiment: EXPERIMENT) -> None:
    """Count the verdicts of the experiment's judge, and the calls that the experiment file still allows."""
    with plain_errors():
        chosen = open_experiment(experiment)
        _, judge = _judge_of(chosen)
        known = known_verdicts(Store(chosen.name), judge)
        kinds = Counter(one.kind for one in known.verdicts.values())
        table = Table("judge", "judged", "refused", "unreadable", "failed", "calls", "calls left")
        left = "" if judge.calls is None else f"{max(judge.calls - known.calls_n, 0):,}"
        counts = [f"{kinds[kind]:,}" for kind in ("judged", "refused", "unreadable", "failed")]
        table.add_row(escaped(judge.model or judge.annotator or ""), *counts, f"{known.calls_n:,}", left)
        out.print(table)


def _judge_of(experiment: Experiment) -> tuple[AlpacaEvalBenchmark, Judge]:
    for benchmark in experiment.benchmarks:
        if isinstance(benchmark, AlpacaEvalBenchmark) and benchmark.judge is not None:
            return benchmark, benchmark.judge
    raise ValueError(
        f"{experiment.name} has no judge; add `{{name: alpaca_eval, judge: {{annotator: …}}}}` (or `model`) to its `benchmarks`"
    )
