"""What an experiment was to produce, what is there, and what is missing, from stored files alone.

Experiment file + registered budgets + footers + rejected files say which cells are expected and done; no index is kept.
Here belongs everything that is read; what is computed from it stands in `analysis`.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError, field_validator

import data_contracts
from reports import defaults, judged, plain_yaml
from reports import scores as scores_module
from reports import store as store_module
from reports.examples import Compared, Examples, read_examples
from reports.lists.list_numbers import Lists, read_lists
from reports.money import Annotation, Money, read_money
from reports.reader import AdapterRun, ComparedTask, Reader, TaskAccuracy, TaskConfidence
from reports.scores import ArmKey, ScoreSet
from reports.store import Listing, Rejected, Store, StoredTable, View
from reports.strategy_names import strategy_names

FULL_POOL_STRATEGY = "random"  # the only one with a full-pool cell: a selection of everything has no order to compare
LAB_TRAPS = ("flip", "omen")


def cell_stages() -> tuple[str, ...]:
    """Return the tables that a cell can have, in the order that data flows: the order of its strategy, then its own."""
    return tuple(name for name in data_contracts.names() if data_contracts.partitioned_by(name) != "none")


def confidence_tables() -> frozenset[str]:
    """Return the tables that exist only where a strategy reads confidence."""
    return frozenset(name for name in data_contracts.names() if "confidence" in data_contracts.requirements(name))


class Primary(View):
    """The one comparison that is not corrected for the others: declared in the experiment file, or the report's default."""

    strategy: str
    reference: str = "random"
    benchmark: str
    metric: str
    is_default: bool = False


class Benchmark(View):
    """A benchmark of the experiment."""

    name: str
    sample: int | None = None
    strip: bool = False
    judge: Mapping[str, Any] | None = None
    instruction_difficulty: str | None = None


class Experiment(View):
    """The fields of the experiment file that a report needs."""

    name: str
    purpose: str = defaults.PURPOSE
    pool: Mapping[str, Any] = {}
    base_model: Mapping[str, Any] | None = None
    confidence: Mapping[str, Any] = {}
    strategies: tuple[str, ...] = ()
    budgets: tuple[int, ...] = ()
    seeds: tuple[int, ...] = defaults.SEEDS
    full_pool_seeds: tuple[int, ...] = ()
    tuning: Mapping[str, Any] = {}
    benchmarks: tuple[Benchmark, ...] = ()
    primary: Primary | None = None
    reference: str = ""  # compared with in place of the primary comparison's own; not of the file, but of who reads
    annotation: Annotation = Annotation()

    @field_validator("strategies", mode="before")
    @classmethod
    def are_names(cls, entries: Any) -> Any:
        """An order of the user's own is a section with a name."""
        return strategy_names(entries)

    @property
    def is_campaign(self) -> bool:
        """Whether labels are bought, rather than strategies compared on known answers."""
        return self.purpose == "campaign"

    @property
    def has(self) -> frozenset[str]:
        """Sections of the file on which tables depend, in the words of `data_contracts.requirements`."""
        named = {"base_model": self.base_model, "benchmarks": self.benchmarks}
        return frozenset(name for name, section in named.items() if section)

    @property
    def stages(self) -> tuple[str, ...]:
        """Tables that each cell of this experiment has, in the order that data flows."""
        return tuple(name for name in cell_stages() if data_contracts.requirements(name) <= self.has)

    @property
    def is_lab(self) -> bool:
        """Whether the pool is the lab's designed one."""
        return self.pool.get("reader") == "lab"

    @property
    def marks(self) -> dict[str, str]:
        """Words that pictures add to a task's name: which of the lab's are traps."""
        return dict.fromkeys(LAB_TRAPS, "trap") if self.is_lab else {}


class Cell(NamedTuple):
    """One strategy at one budget: what was expected and what is there."""

    strategy: str
    budget_n: int
    is_full_pool: bool
    expected_seeds: tuple[int, ...]
    scored_seeds: tuple[int, ...]
    status: str  # done, partial, missing, rejected
    reason: str  # empty when done
    command: str  # what makes it; empty when done


class Results(NamedTuple):
    """Everything the report is made from."""

    experiment: Experiment
    experiment_text: str
    tables: dict[tuple[str, str | None], StoredTable]
    rejected: tuple[Rejected, ...]
    budgets: tuple[int, ...]  # ordinary ones: not the full pool, not above it
    ignored_budgets: tuple[int, ...]  # larger than the pool
    pool_n: int | None
    cells: tuple[Cell, ...]
    task_sizes: dict[str, int]  # prompts of the pool by task
    confidence: tuple[TaskConfidence, ...]
    compared: tuple[ComparedTask, ...]  # other definitions and sources of confidence
    accuracy: tuple[TaskAccuracy, ...]  # confidence against being right
    allocations: dict[ArmKey, dict[str, float]]  # prompts by task, mean over selection seeds
    selection_seeds_n: dict[ArmKey, int]  # how many those are
    overlaps: dict[tuple[str, str], float]  # share of prompts in common at `overlap_budget_n`
    overlap_budget_n: int | None
    adapters: tuple[AdapterRun, ...]
    money: Money | None  # None without a price
    score_sets: tuple[ScoreSet, ...]
    stale: tuple[str, ...]
    problems: tuple[str, ...]
    examples: Examples
    lists: Lists | None = None  # None where a study is scored: then the page says nothing of lists

    @property
    def is_scored(self) -> bool:
        """Whether any strategy has scores; without them the page has its first form."""
        return _is_scored(self.score_sets)

    def footer_notes(self, asset: str) -> Mapping[str, Any]:
        """Asset-specific notes of an unpartitioned table; empty where there is none."""
        table = self.tables.get((asset, None))
        return table.footer.notes if table else {}

    @property
    def full_pool(self) -> Cell | None:
        """The full-pool cell, where one is expected."""
        return next((cell for cell in self.cells if cell.is_full_pool), None)


def load(results_dir: str, excluded: Mapping[str, str] | None = None) -> Results:
    """Read the results of one experiment; only an absent or broken experiment.yaml is an error.

    `excluded` names tables (`asset` or `asset/key`) that are left out, each with the reason: who knows the whole graph sees
    what no footer shows, that an input of an input has changed.
    """
    store = store_module.open_store(results_dir)
    experiment, text = read_experiment(store, results_dir)
    found = store_module.list_tables(store)
    excluded = excluded or {}
    kept = {name: table for name, table in found.tables.items() if _unit_name(*name) not in excluded}
    listing = found._replace(tables=kept)
    problems = list(listing.problems)
    reader = Reader(store, listing, problems)
    pool = listing.tables.get(("raw_pool", None))
    sizes = reader.task_sizes()
    pool_n = pool.rows_n if pool else (sum(sizes.values()) or None)
    registered = _registered_budgets(store, experiment, pool_n, problems)
    limit = pool_n if pool_n is not None else max(registered, default=0) + 1
    # A whole-pool budget of the experiment file is an ordinary one; else it is the full pool's own cell.
    in_file = experiment.budgets
    ordinary = tuple(budget for budget in registered if budget < limit or (budget == limit and budget in in_file))
    wanted = {(strategy, budget) for strategy in experiment.strategies for budget in ordinary} | {
        (FULL_POOL_STRATEGY, limit)
    }
    tables = judged.with_lengths(reader, reader.score_tables(wanted))
    sets = scores_module.score_sets(tables, [one.name for one in experiment.benchmarks])
    sets = judged.adjusted(sets, is_published=any(one.instruction_difficulty for one in experiment.benchmarks))
    full_n = pool_n if pool_n in registered and pool_n not in ordinary else None
    cells = tuple(
        cell._replace(reason=_left_out(cell, excluded) or cell.reason)
        for cell in _cells(experiment, ordinary, full_n, listing, sets)
    )
    experiment = _with_primary(experiment, sets)
    selections = reader.selections(experiment.strategies, ordinary)
    compared = _compared(experiment, sets)
    examples = read_examples(reader, experiment.strategies, ordinary, selections.overlap_budget_n, compared)
    lists = None
    if experiment.is_campaign or not _is_scored(sets):
        lists = read_lists(
            reader, experiment.strategies, ordinary, is_scored=_is_scored(sets), has_tasks=len(sizes) > 1
        )
    return Results(
        experiment,
        text,
        listing.tables,
        listing.rejected,
        ordinary,
        tuple(n for n in registered if n > limit),
        pool_n,
        cells,
        sizes,
        reader.confidence(),
        reader.compared(),
        reader.accuracy(),
        *selections,
        reader.adapters(),
        read_money(reader, experiment.annotation, experiment.purpose, experiment.strategies, (*ordinary, full_n)),
        sets,
        tuple(dict.fromkeys([*excluded.values(), *stale_tables(listing)])),
        tuple(problems),
        examples,
        lists,
    )


def _is_scored(sets: tuple[ScoreSet, ...]) -> bool:
    return any(arm != scores_module.BASE for one in sets for arm in one.arms)


def _with_primary(experiment: Experiment, sets: tuple[ScoreSet, ...]) -> Experiment:
    """The experiment with the default primary comparison where its file declares none.

    It is fixed by the file's order, not by scores: the last strategy against `random`, else against the first, on the first
    benchmark and metric. One strategy has nothing to be compared with.
    """
    names = experiment.strategies
    if experiment.primary is not None or len(names) < 2 or not sets:
        return experiment
    reference = FULL_POOL_STRATEGY if FULL_POOL_STRATEGY in names else names[0]
    strategy = next(name for name in reversed(names) if name != reference)
    one = Primary(
        strategy=strategy,
        reference=reference,
        benchmark=sets[0].benchmark,
        metric=sets[0].metric,
        is_default=True,
    )
    return experiment.model_copy(update={"primary": one})


def _compared(experiment: Experiment, sets: tuple[ScoreSet, ...]) -> Compared:
    """Whose outputs are worth seeing: the primary comparison's, else the first and the last strategy with scores."""
    one = experiment.primary
    scored = {strategy for found in sets for strategy, _ in found.arms}
    if one is not None and {one.strategy, one.reference} <= scored:
        return Compared(one.strategy, one.reference, one.benchmark, one.metric)
    names = [name for name in experiment.strategies if name in scored] or [""]
    return Compared(names[-1], names[0])


def read_experiment(store: Store, results_dir: str) -> tuple[Experiment, str]:
    """The experiment file as it was used."""
    text = store.text("experiment.yaml")
    if text is None:
        raise FileNotFoundError(
            f"{results_dir} has no experiment.yaml, so it is not the results folder of an experiment; "
            "give $TASKDIV_HOME/<experiment>, or run `taskdiv run EXPERIMENT` first"
        )
    try:
        return Experiment.model_validate(plain_yaml.read(text, "experiment.yaml").value), text
    except (ValidationError, plain_yaml.YamlError) as error:
        raise ValueError(f"{results_dir}/experiment.yaml is not an experiment file: {error}") from error


def stale_tables(listing: Listing) -> tuple[str, ...]:
    """Tables whose recorded inputs are no longer the stored ones, one sentence each."""
    sentences = []
    for table in listing.tables.values():
        for name, identity in sorted(table.footer.inputs.items()):
            asset, _, key = name.partition("/")
            asset, _, part = asset.partition(".")
            source = listing.tables.get((asset, key or None))
            now = None if source is None else (source.footer.parts.get(part) if part else source.footer.identity)
            if now and now != identity:
                sentences.append(f"{table.name} was made from an older {name}")
    return tuple(sorted(sentences))


def _unit_name(asset: str, key: str | None) -> str:
    return asset if key is None else f"{asset}/{key}"


def _left_out(cell: Cell, excluded: Mapping[str, str]) -> str:
    """Why a cell was left out, if it was."""
    return excluded.get(_unit_name("benchmark_scores", f"{cell.budget_n}|{cell.strategy}"), "")


def _registered_budgets(
    store: Store, experiment: Experiment, pool_n: int | None, problems: list[str]
) -> tuple[int, ...]:
    """The experiment's own budgets and those added later, whose files are named by the number.

    A file that says it was the full pool counts only while the pool still has that size.
    """
    found = set(experiment.budgets)
    for name, is_file in store.children("budgets").items():
        is_number = is_file and name.isascii() and name.isdigit() and not name.startswith("0")
        kind = _budget_kind(store.text(f"budgets/{name}") or "") if is_number else ""
        if kind == "requested" or (kind == "full_pool" and int(name) == pool_n):
            found.add(int(name))
        elif not kind and not name.startswith("."):
            problems.append(f"budgets/{name} is not a budget that `taskdiv budget add` has written; it is ignored")
    return tuple(sorted(found))


def _budget_kind(text: str) -> str:
    """What the file of a budget says that it is; empty for a file of another kind."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    kind = raw.get("kind", "requested") if isinstance(raw, dict) else ""
    return kind if kind in ("requested", "full_pool") else ""


def _cells(
    experiment: Experiment,
    budgets: tuple[int, ...],
    full_pool_n: int | None,
    listing: Listing,
    sets: tuple[ScoreSet, ...],
) -> tuple[Cell, ...]:
    grid = [(strategy, budget, False) for strategy in experiment.strategies for budget in budgets]
    if full_pool_n is not None and experiment.full_pool_seeds:
        grid.append((FULL_POOL_STRATEGY, full_pool_n, True))
    return tuple(_cell(experiment, *place, listing, sets) for place in grid)


def _cell(
    experiment: Experiment,
    strategy: str,
    budget: int,
    is_full: bool,
    listing: Listing,
    sets: tuple[ScoreSet, ...],
) -> Cell:
    expected = experiment.full_pool_seeds if is_full else experiment.seeds
    own = [one.arms[strategy, budget] for one in sets if (strategy, budget) in one.arms]
    scored = tuple(sorted(set.intersection(*(set(arm.seeds) for arm in own)))) if own else ()
    command = f"taskdiv run {experiment.name} --budget {budget} --strategy {strategy}"
    keys = {(stage, _key(stage, strategy, budget)) for stage in cell_stages()}
    broken = [entry for entry in listing.rejected if (entry.asset, entry.key) in keys]
    if broken:
        rules = ", ".join(rule.rule for rule in broken[0].rules) or "a rule that the file does not name"
        older = "; an older result is stored and shown" if own else ""
        return Cell(
            strategy,
            budget,
            is_full,
            expected,
            scored,
            "rejected",
            f"{broken[0].asset} broke {rules}{older}",
            command,
        )
    if not own:
        reason = _why_missing(strategy, budget, listing, experiment.stages)
        status = "missing" if reason else "done"
        return Cell(strategy, budget, is_full, expected, (), status, reason, command if reason else "")
    absent = [seed for seed in expected if seed not in scored]
    have = {one.benchmark for one in sets if (strategy, budget) in one.arms}
    unscored = [
        one.name for one in experiment.benchmarks if one.name not in have and any(one.name == s.benchmark for s in sets)
    ]
    reasons = [f"seeds without scores: {', '.join(map(str, absent))}"] if absent else []
    reasons += [f"benchmarks without scores: {', '.join(unscored)}"] if unscored else []
    status = "partial" if reasons else "done"
    return Cell(strategy, budget, is_full, expected, scored, status, "; ".join(reasons), command if reasons else "")


def _why_missing(strategy: str, budget: int, listing: Listing, stages: tuple[str, ...]) -> str:
    """The first stage that is not there, and what the one before it says; empty where nothing more is to be made."""
    batch = listing.tables.get(("annotation_batch", f"{budget}|{strategy}"))
    for stage in stages:
        if stage != "annotation_batch" and (stage, _key(stage, strategy, budget)) not in listing.tables:
            if stage == "adapter" and batch is not None and batch.rows_n:
                return f"{batch.rows_n:,} prompts of it wait for an annotation"
            return f"no {stage} is stored"
    return "its scores cannot be read, or cover too few items" if "benchmark_scores" in stages else ""


def _key(stage: str, strategy: str, budget: int) -> str:
    return strategy if data_contracts.partitioned_by(stage) == "strategy" else f"{budget}|{strategy}"
