"""Found tasks against true tasks, on Dolly, T0, FLAN and the lab: writes the tables of docs/DISCOVERY.md.

Run: python -m tests.evidence.discovered     (about three CPU minutes; `make evidence` calls it)
With other views: add `--base FOLDER` (a causal language model), `--embedder FOLDER` (a sentence embedder), or both.

Real pools are found under $TASKDIV_SHARED/data, or in shared/data beside the repository; a missing pool keeps its table. A view
that is not measured keeps its lines. Results are stored in $TASKDIV_HOME/evidence, so an interrupted run continues.
`discovered_measures` defines the measures, `discovered_views` the views.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.experiment.pool_settings import Pool
from taskdiv_assets.pools.discovery import found_tasks
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.evenness import random_distance
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.selection import parse_prompt_ids
from taskdiv_assets.selection.streams import keyed_hash
from taskdiv_assets.storage.store import home
from tests.benchmarks.page import table
from tests.benchmarks.shared import shared_data
from tests.evidence.discovered_measures import (
    DRAWS_N,
    GROUPINGS_N,
    Measured,
    asked_by_rule,
    distances,
    measure,
    tasks_asked,
)
from tests.evidence.discovered_views import WORDS, VectorView, of_base, of_embedder, rows_of
from tests.evidence.marked import marked, replace_marked

PAGE = Path(__file__).resolve().parents[2] / "docs" / "DISCOVERY.md"
PICKS = (2, 4, 8, 16, 32, 64)  # labels for each true task
BUDGET_SHARE_MAX = 0.75  # of the pool
PICKS_A_FOUND_TASK = (1, 2, 4, 8)
SKEW = 25  # size of the largest task over the size of the smallest one
SKEWED_MAX = 200
SKEWED = "FLAN skewed"


class Labelled(NamedTuple):
    """A pool with true tasks, in the random order in which tasks are looked for."""

    prompts: list[str]
    ids: NDArray[np.uint64]
    true: Codes  # (n,)

    def at(self, rows: Sequence[int]) -> Labelled:
        true = np.unique(self.true[list(rows)], return_inverse=True)[1].astype(np.int64)
        return Labelled([self.prompts[i] for i in rows], self.ids[list(rows)], true)


class Results(NamedTuple):
    """The results of one pool by one view."""

    prompts_n: int
    true_n: int
    smallest_n: int  # prompts of the smallest true task
    largest_n: int
    budgets: list[int]
    random: list[float]  # distance of random choice at each budget
    true: list[float]  # distance of true labels; above 0 if a budget leaves a rest, which goes to other tasks
    measured: list[Measured]


def sources() -> dict[str, Pool]:
    """Return the pools that can be read here."""
    data, lab = shared_data(), {"lab": Pool(reader="lab", seed=1)}
    if data is None:
        return lab
    flan = Pool(reader="flan", path=str(data / "flan/flan2021_subset.parquet"), sample=4000)
    return {
        "Dolly": Pool(reader="dolly", path=str(data / "dolly/databricks-dolly-15k.jsonl.gz"), sample=5000),
        "T0": Pool(reader="t0", path=str(data / "t0/t0_pool.parquet"), sample=6000),
        "FLAN": flan,
        SKEWED: flan,
        **lab,
    }


def read(name: str, settings: Pool) -> Labelled:
    """Return a pool in the order that `discover` uses."""
    pool = read_pool(settings).table
    ids = parse_prompt_ids(pool["prompt_id"].to_pylist())
    true = np.unique(pool["source_task"].to_pylist(), return_inverse=True)[1].astype(np.int64)
    order = np.argsort(keyed_hash(0, found_tasks.STREAM, ids), kind="stable").tolist()
    whole = Labelled(pool["prompt"].to_pylist(), ids, true).at(order)
    return whole.at(skewed(whole.true)) if name == SKEWED else whole


def skewed(true: Codes) -> list[int]:
    """Return the rows of a part in which task sizes fall by equal factors, from `SKEWED_MAX` to `SKEWED_MAX` / `SKEW`.

    >>> np.bincount(np.repeat([0, 1, 2], 300)[skewed(np.repeat([0, 1, 2], 300))]).tolist()
    [200, 40, 8]
    """
    tasks_n = int(true.max()) + 1
    sizes = np.rint(SKEWED_MAX * float(SKEW) ** -np.linspace(0, 1, tasks_n)).astype(int)
    return sorted(int(i) for task, size in enumerate(sizes) for i in np.flatnonzero(true == task)[:size])


def results_of(pool: Labelled, view: str, vectors: Sequence[VectorView] = ()) -> Results:
    """Measure one pool by one view, with several numbers of tasks."""
    prompts_n, sizes = len(pool.prompts), np.bincount(pool.true)
    budgets = [picks * len(sizes) for picks in PICKS if picks * len(sizes) <= BUDGET_SHARE_MAX * prompts_n]
    rows = rows_of(view, pool.prompts, pool.ids, vectors)
    return Results(
        prompts_n,
        len(sizes),
        int(sizes.min()),
        int(sizes.max()),
        budgets,
        [random_distance(pool.true, budget_n) for budget_n in budgets],
        distances(pool.true, pool.true, pool.ids, budgets),
        [measure(rows, pool.true, pool.ids, tasks_n, budgets) for tasks_n in tasks_asked(len(sizes), prompts_n)],
    )


def stored(name: str, settings: Pool, view: str, vectors: Sequence[VectorView] = ()) -> Results:
    """Return the stored results of a pool by a view; measure them first if there are none."""
    made_of = [name, settings.model_dump_json(exclude={"path"}), view, found_tasks.VERSION, found_tasks.PROMPTS_A_TASK]
    made_of += [PICKS, GROUPINGS_N, DRAWS_N]
    made_of += [one.identity for one in vectors if one.name in view.split(" + ")]
    identity = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
    path = Path(home()) / "evidence" / f"discovered-{identity}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        results = results_of(read(name, settings), view, vectors)
        path.write_text(json.dumps(results), encoding="utf-8")
    *others, measured = json.loads(path.read_text(encoding="utf-8"))
    return Results(*others, [Measured(*one) for one in measured])


def section(by_view: Mapping[str, Results]) -> str:
    """Return the table of one pool: random choice, then each view and number of tasks."""
    one = next(iter(by_view.values()))
    picks = [f"{budget_n // one.true_n}" for budget_n in one.budgets]
    heads = ["view", "tasks", "ARI", "NMI", "purity", "seeds", "halves", *picks]
    rows = [["random choice", *[""] * 6, *(f"{value:.3f}" for value in one.random)]]
    rows.append(["true labels", str(one.true_n), *["1"] * 5, *(f"{value:.3f}" for value in one.true)])
    rows += [_line(view, results, measured) for view, results in by_view.items() for measured in results.measured]
    about = (
        f"{one.prompts_n:,} prompts of {one.true_n} true tasks, {one.smallest_n:,} to {one.largest_n:,} prompts each. "
        f"Labels for each true task: {', '.join(picks)}."
    )
    return f"{about}\n\n{table(heads, rows)}"


def _line(view: str, results: Results, one: Measured) -> list[str]:
    measures = (one.rand, one.information, one.purity, one.seeds, one.halves)
    distances = [
        f"{value:.3f}{'*' if value > random else ''}"
        for value, random in zip(one.distances, results.random, strict=True)
    ]
    return [view, str(one.asked_n), *(f"{value:.2f}" for value in measures), *distances]


def rule_section(by_pool: Mapping[str, Results]) -> str:
    """Return a table of distances, divided by that of random choice, by the number of picks that each found task gets."""
    heads = ["picks a found task", "labels for each true task", *by_pool, "mean"]
    rows = []
    for picks_n in PICKS_A_FOUND_TASK:
        for place, labels_n in enumerate(PICKS[:4]):
            ratios = [ratio(results, place, picks_n) for results in by_pool.values()]
            rows.append([str(picks_n), str(labels_n), *(f"{one:.2f}" for one in [*ratios, np.mean(ratios)])])
        means = [np.mean([ratio(one, place, picks_n) for place in range(4)]) for one in by_pool.values()]
        rows.append([str(picks_n), "mean", *(f"{one:.2f}" for one in [*means, np.mean(means)])])
    return table(heads, rows)


def ratio(results: Results, place: int, picks_n: int) -> float:
    """Return the distance at one budget, divided by that of random choice.

    The number of tasks is the measured one that is nearest to the number by the rule.
    """
    asked_n = asked_by_rule(results.prompts_n, results.budgets[place], picks_n)
    nearest = min(results.measured, key=lambda one: abs(one.asked_n - asked_n))
    return nearest.distances[place] / results.random[place]


def sections(names: Sequence[str], vectors: Sequence[VectorView], mixes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return the name and the text of each table. The table of the rule needs all pools, that of the views other views."""
    pools = sources()
    views = [WORDS, *(one.name for one in vectors), *mixes]
    found: dict[str, dict[str, Results]] = {}
    for name, settings in pools.items():
        if name in names:
            found[name] = {view: stored(name, settings, view, vectors) for view in views}
            yield name, section(found[name])
    if len(found) > 1 and len(found) == len(pools):
        yield "rule", rule_section({name: by_view[WORDS] for name, by_view in found.items()})
    if len(views) > 1:
        yield "views", views_section(found)


def views_section(found: Mapping[str, Mapping[str, Results]]) -> str:
    """Return a table of each view by the default rule: distances divided by that of random choice, by pool and labels."""
    rows = []
    for view in next(iter(found.values())):
        for place, labels_n in enumerate(PICKS[:4]):
            ratios = [ratio(by_view[view], place, found_tasks.PICKS_A_TASK) for by_view in found.values()]
            rows.append([view, str(labels_n), *(f"{one:.2f}" for one in [*ratios, np.mean(ratios)])])
    return table(["view", "labels for each true task", *found, "mean"], rows)


def with_kept_lines(text: str, before: str) -> str:
    """Return the table `text` with the lines of `before`, an earlier version, that are about views that `text` does not have.

    >>> with_kept_lines("| view |\\n| words | 1 |", "| view |\\n| words | 2 |\\n| other | 3 |").splitlines()
    ['| view |', '| words | 1 |', '| other | 3 |']
    """
    views = {line.split("|")[1] for line in text.splitlines() if line.startswith("|")}
    kept = [line for line in before.splitlines() if line.startswith("| ") and line.split("|")[1] not in views]
    return "\n".join([text, *kept])


def main() -> None:
    """Measure what is not stored, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.evidence.discovered", description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[*sources()], choices=[*sources()], help="pools (default: all)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write into (default: docs/DISCOVERY.md)")
    parser.add_argument(
        "--base", type=Path, help="folder of a causal language model: views `embeddings` and `template`"
    )
    parser.add_argument(
        "--embedder", type=Path, help="folder of a sentence embedder: this view, and its mix with words"
    )
    parser.add_argument(
        "--embedder-name", default="", help="name of the embedder in the tables (default: its folder's)"
    )
    arguments = parser.parse_args()
    vectors, mixes = [], []
    if arguments.base:
        vectors += of_base(arguments.base, arguments.base.name)
    if arguments.embedder:
        vectors.append(of_embedder(arguments.embedder, arguments.embedder_name or arguments.embedder.name))
        mixes.append(f"{WORDS} + {vectors[-1].name}")
    for name, text in sections(arguments.only, vectors, mixes):
        before = marked(arguments.page.read_text(encoding="utf-8"), name)
        replace_marked(arguments.page, name, with_kept_lines(text, before) if name != "rule" else text)
        print(f"{name}: written", flush=True)


if __name__ == "__main__":
    main()
