"""Asset `ranking`: an order of the pool's prompts for each strategy and selection seed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.annotating import ledger
from taskdiv_assets.experiment import DEFAULT_GREEDY_DEPTH, Experiment, plugins
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import MORE_COLOURS, areas
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.stored_values import of_first_seed
from taskdiv_assets.graph.units import StaleInputError, ranked_strategies
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.selection import STRATEGIES, SelectionPool
from taskdiv_assets.selection.facility_location import exact_picks_n
from taskdiv_assets.selection.pool import TASK_MEANS
from taskdiv_assets.selection.strata import BY_COMPLEMENT, COST_SCALE, IN_THOUSANDTHS
from taskdiv_assets.services.in_rounds import Rows, order_in_rounds
from taskdiv_assets.services.ordering import (
    CERTIFIED_PROMPTS_MAX,
    on_fastest_device,
    order_of,
    positions,
    put_first,
    reached,
    read_own_order,
    selection_pool,
)
from taskdiv_assets.storage.identity import digest
from taskdiv_assets.storage.store import DamagedError

FIRST_K = 10
POINTS_N = 120  # number of ranks that the picture of an order shows
TASKS_MAX = 5_000  # only the largest tasks are considered; the shares of smaller tasks are not visible
# Need of a strategy -> asset that provides the data.
GIVEN_BY = {"scores": "confidence_table", TASK_MEANS: TASK_MEANS, "embeddings": "prompt_embeddings"}


def make_ranking(work: Work) -> Product:
    """Order the prompts by one strategy for each selection seed, up to the depth of the ranking.

    If `kept_first` returns prompts for the strategy, they come first in every order. For a strategy in rounds, see `in_rounds`.
    """
    name = str(work.unit.key)
    strategy = work.experiment.strategy(work.experiment.order_in(name))
    own = work.experiment.own_order(strategy.name)
    placed = None if own is None else read_own_order(work, own)
    pool = on_fastest_device(selection_pool(work, strategy, placed), work.log)
    labels = work.read("task_labels").select(["prompt_id", "task"])
    depth = ranking_depth(work.experiment, strategy.name, labels.num_rows) if placed is None else placed.ranked_n
    seeds = sorted(work.experiment.selection_seeds)
    parts: list[pa.Table] = []
    order = np.empty(0, np.int64)
    kept = [positions(pool, group) for group in work.lineage.once(kept_first).get(name, ())]
    means = means_by_round(work, name) if name in work.experiment.rounds else None
    with work.progress("ranking", "seeds") as progress:
        for done, seed in enumerate(seeds, start=1):
            if means is not None:
                order = ordered_in_rounds(work, name, pool, seed, kept, means)
            elif strategy.uses_seed or not parts:
                order = put_first(order_of(work, strategy, pool, seed, depth), kept)
            rows = labels.take(pa.array(order))
            ranks = {"selection_seed": np.full(len(order), seed), "rank": np.arange(len(order))}
            parts.append(pa.table({**ranks, "prompt_id": rows["prompt_id"], "task": rows["task"]}))
            progress(done, len(seeds))
    notes: dict[str, Any] = {"strategy": name}
    if own is not None and placed is not None:
        notes |= {"source": own.path, "ranked_n": placed.ranked_n, "left_out_n": placed.left_out_n}
        notes |= work.lineage.sources.noted("ranking", own.name)
    if work.experiment.keeps_annotated:
        notes["kept_first_n"] = sum(map(len, kept))
    if strategy.name == "facility_location" and len(pool.prompt_ids) <= CERTIFIED_PROMPTS_MAX:
        work.log(f"comparing all {len(pool.prompt_ids):,} prompts with the picks, to measure how well they are covered")
        notes["reached"] = reached(pool, order, work.experiment.budgets)
    return Product(pa.concat_tables(parts), notes)


def means_by_round(work: Work, name: str) -> dict[tuple[int, int], dict[str, float]]:
    """Return the means that order the rounds of the strategy `name`: (selection seed, after_n) -> task -> mean confidence."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for row in work.read("round_confidence").to_pylist():
        if row["strategy"] == name:
            found.setdefault((row["selection_seed"], row["after_n"]), {})[row["task"]] = row["mean_confidence"]
    return found


def ordered_in_rounds(
    work: Work,
    name: str,
    pool: SelectionPool,
    seed: int,
    kept: Sequence[Rows],
    means: Mapping[tuple[int, int], Mapping[str, float]],  # of `means_by_round`
) -> Rows:
    """Return one seed's order of the strategy in rounds `name`. Raise StaleInputError if the means of a round are missing."""
    experiment = work.experiment
    strategy, after = experiment.strategy(experiment.order_in(name)), experiment.rounds[name].after
    order = order_in_rounds(strategy, pool, seed, after, kept, lambda after_n, _: means.get((seed, after_n)))
    if order is None:
        raise StaleInputError(f"round_confidence lacks a round of {name}; run `taskdiv run {experiment.command_name}`")
    return order


def ranking_parameters(work: Work) -> dict[str, Any]:
    labels, strategy = work.read("task_labels"), str(work.unit.key)
    own = work.experiment.own_order(strategy)
    depth = ranking_depth(work.experiment, strategy, labels.num_rows) if own is None else own_depth(work, own)
    return {
        "pool_prompt_ids": labels["prompt_id"],
        "depth": min(depth, labels.num_rows),
        "selection_seeds": sorted(work.experiment.selection_seeds),
        "prompt_tasks": labels.select(["prompt_id", "task"]),
    }


def own_depth(work: Work, own: OwnOrder) -> int:
    """Return the number of prompts of the pool that the user's file ranks.

    The number comes from the footer of the stored ranking if this ranking is fresh, and otherwise from the file. If reading the
    file raises OSError, the number comes from the footer of the stale ranking. If no ranking is stored, the OSError is raised.
    """
    footer = work.lineage.footer(work.unit)
    if footer is not None and footer.identity == work.expected.identity:
        return int(footer.notes["ranked_n"])
    try:
        return read_own_order(work, own).ranked_n
    except OSError:
        if footer is None:
            raise
        return int(footer.notes["ranked_n"])


def picture_ranking(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw the shares of the tasks in the first k prompts of the first seed's order, as a function of k; b"" without prompts."""
    seed, rows = of_first_seed(table)
    if not rows.num_rows:
        return b""
    ks, names, shares = shares_of_first(rows["task"], len(MORE_COLOURS))
    rest_n = len(pc.unique(rows["task"])) - len(names)
    shown = dict(zip(names, shares[:-1], strict=True))
    others = (f"{rest_n:,} other tasks", shares[-1]) if rest_n else None
    title = f"tasks of the first k prompts of {rows.num_rows:,}, seed {seed}"
    return areas(ks, shown, "k, the budget [prompts]", "share of the first k", title, others)


def shares_of_first(
    tasks: pa.ChunkedArray,  # (n,) in rank order
    named_n: int,
) -> tuple[NDArray[np.int64], list[str], NDArray[np.float64]]:  # budgets (k,); names; shares (names + 1, k)
    """Return the shares of up to `named_n` tasks in the first k prompts, at budgets k with nearly equal ratios.

    The tasks are those with the largest mean share over these budgets. The last row of the shares is for all other tasks. For
    orders of at least `10 * FIRST_K` prompts, k begins at `FIRST_K`, because shares of fewer prompts vary too much.

    >>> ks, names, shares = shares_of_first(pa.chunked_array([["a", "b", "a", "c"]]), 2)
    >>> ks.tolist(), names, shares[:, -1].tolist()
    ([1, 2, 3, 4], ['a', 'b'], [0.5, 0.25, 0.25])
    """
    encoded = tasks.dictionary_encode(null_encoding="encode").combine_chunks()
    names = ["(none)" if name is None else str(name) for name in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    largest = np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable")[:TASKS_MAX]
    place = np.full(len(names), len(largest))
    place[largest] = np.arange(len(largest))
    first = FIRST_K if len(codes) >= 10 * FIRST_K else 1
    ks = np.unique(np.rint(np.geomspace(first, len(codes), POINTS_N)).astype(np.int64))
    bins = np.searchsorted(ks, np.arange(len(codes)), side="right")  # the first k prompts have the ranks 0 to k - 1
    cells = np.bincount(place[codes] * len(ks) + bins, minlength=(len(largest) + 1) * len(ks))
    shares = cells.reshape(len(largest) + 1, len(ks)).cumsum(axis=1) / ks
    top = np.sort(np.argsort(-shares[:-1].mean(axis=1), kind="stable")[:named_n])
    return ks, [names[largest[one]] for one in top], np.vstack([shares[top], 1 - shares[top].sum(axis=0)])


def inputs_of_strategy(experiment: Experiment, strategy: str) -> Sequence[str]:
    """Return the names of the assets that the ranking of one strategy reads."""
    try:
        needs = experiment.strategy(strategy).needs
    except ValueError:  # the strategy or its package was removed; `ranking_recipe` raises the error
        needs = frozenset()
    given = [asset for need, asset in GIVEN_BY.items() if need in needs]
    given += ["round_confidence"] if strategy in experiment.rounds else []
    return ["raw_pool", "task_labels", *(["annotations"] if experiment.keeps_annotated else []), *given]


def ranking_recipe(inputs: Inputs) -> Settings:
    experiment, lineage, strategy = inputs.experiment, inputs.lineage, inputs.key
    try:
        needs = experiment.strategy(strategy).needs
    except ValueError as error:
        raise StaleInputError(str(error)) from None
    inputs.part("raw_pool", "prompts")
    inputs.of("task_labels")
    for need, asset in GIVEN_BY.items():
        if need in needs:
            inputs.of(asset)
    if kept := lineage.once(kept_first).get(strategy):  # added only if there are prompts, so other identities stay
        inputs.add({"annotations.prompts": digest(kept)})
    if own := experiment.own_order(strategy):
        table = lineage.read("raw_pool", columns=["prompt_id", "source_id"])
        ids = [table["prompt_id"].to_pylist(), table["source_id"].to_pylist()]
        inputs.add({**lineage.sources.own_order(own), "raw_pool.source_ids": digest(ids)})
    pool_n = len(lineage.prompt_ids)
    of = experiment.order_in(strategy)
    settings = ranking_settings(experiment, of, ranking_depth(experiment, strategy, pool_n), pool_n)
    if strategy in experiment.rounds:
        inputs.part("round_confidence", strategy)
        settings["rounds"] = experiment.rounds[strategy].after
    means = lineage.once(mean_confidence) if TASK_MEANS in needs else ()
    return settings | cost_settings(of, needs, means)


def mean_confidence(lineage: Lineage) -> list[float]:
    means: list[float] = lineage.read(TASK_MEANS, columns=["mean_confidence"])["mean_confidence"].to_pylist()
    return means


def kept_first(lineage: Lineage) -> Mapping[str, list[list[str]]]:
    """Return for each strategy the groups of annotated prompts that come first in its order. Without `keep_annotated`, return {}.

    Raises:
        StaleInputError: the annotations are not fresh, or the ledger of exports is damaged.
    """
    experiment = lineage.experiment
    if not experiment.keeps_annotated:
        return {}
    annotated = lineage.read("annotations")["prompt_id"].to_pylist()
    try:
        entries = ledger.read(lineage.store)
    except DamagedError as error:
        raise StaleInputError(str(error)) from None
    return {name: ledger.kept_first(entries, annotated, name) for name in ranked_strategies(experiment)}


def ranking_depth(experiment: Experiment, strategy: str, pool_n: int) -> int:
    """Return how many prompts a strategy orders: all, or, if it is greedy, at most `ranking_depth` (by default 50,000)."""
    if not experiment.strategy(strategy).is_greedy:
        return pool_n
    return min(pool_n, experiment.ranking_depth or DEFAULT_GREEDY_DEPTH)


def ranking_settings(experiment: Experiment, strategy: str, depth: int, pool_n: int) -> dict[str, object]:
    """Return the settings of a strategy's order over `pool_n` prompts for its identity, without those of `cost_settings`.

    `depth` is the number of ranked prompts. Raise KeyError for a plug-in that is not installed, ValueError for a broken one.
    """
    seeds = sorted(experiment.selection_seeds)
    settings: dict[str, object] = {"strategy": strategy, "selection_seeds": seeds, "depth": depth}
    if strategy == "facility_location":
        neighbours_n = experiment.facility_location.neighbours_n
        settings["neighbours_n"] = neighbours_n
        if first_n := exact_picks_n(neighbours_n, pool_n, depth):
            settings["exact_picks_n"] = first_n
    elif own := experiment.own_order(strategy):
        settings["own_order"] = own.settings
    elif strategy not in STRATEGIES:
        settings["plugin"] = plugins.identity_of(strategy)
    return settings


def cost_settings(strategy: str, needs: Collection[str], means: Iterable[float]) -> dict[str, object]:
    """Return the setting IN_THOUSANDTHS for the identity if the unit of costs is a thousandth of the smallest mean; else {}.

    Costs are mean confidences in units of one millionth, unless a task's mean is below one millionth.
    """
    is_inverse = TASK_MEANS in needs and strategy != BY_COMPLEMENT
    return dict(IN_THOUSANDTHS) if is_inverse and min(means, default=1.0) < 1 / COST_SCALE else {}


ASSET = Asset(
    name="ranking",
    make=make_ranking,
    reads=("raw_pool", "task_labels", "annotations", *GIVEN_BY.values(), "round_confidence"),
    recipe=ranking_recipe,
    reads_of=inputs_of_strategy,
    code_version=3,
    partitioned_by="strategy",
    description="One total order of the pool per selection seed. A budget takes its first k prompts, "
    "so a larger budget keeps every label of a smaller one. With `keep_annotated`, prompts that were annotated "
    "come first.",
    needs=Needs(2, 16, 0, "numpy computes the orders; coverage strategies map the embeddings into memory"),
    parameters=ranking_parameters,
    picture=picture_ranking,
    kinds=frozenset({"numpy", "parquet"}),
)
