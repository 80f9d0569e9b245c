"""All data of one experiment that the report reads. `analysis` computes the numbers of the page from these data.

The data come from the experiment's folder, for example from the experiment file, registered budgets, footers and tables.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from data_contracts import stored
from data_contracts.cell_keys import FULL_POOL_STRATEGY, cell_key
from data_contracts.experiment_fields import compared_strategies
from data_contracts.footer import Rejected
from data_contracts.stored import Listing, StoredTable
from reports import expected_cells, judged
from reports import scores as scores_module
from reports.answer_sources import Sources, read_sources
from reports.bills import Money, read_money
from reports.contamination_numbers import Matches, read_matches
from reports.examples import Examples, read_examples
from reports.expected_cells import Budgets, Cell
from reports.experiment_view import Experiment, Primary, read_experiment
from reports.found.found_numbers import Found, read_found
from reports.items.paired_items import Compared, PairedItems, read_paired
from reports.lists import answered_twice
from reports.lists.answered_twice import AnsweredTwice
from reports.lists.list_numbers import Lists, read_lists
from reports.reader import AdapterRun, ComparedTask, Reader, TaskAccuracy, TaskConfidence
from reports.scores import ArmKey, ScoreSet
from reports.variant_scores import VariantScores, read_variants

if TYPE_CHECKING:  # this module imports `Results`
    from reports.earlier.changes import Changes


class Results(NamedTuple):
    """All data that the report uses."""

    experiment: Experiment
    experiment_text: str
    tables: dict[tuple[str, str | None], StoredTable]
    rejected: tuple[Rejected, ...]
    budgets: tuple[int, ...]  # ordinary budgets, at most the size of the pool
    ignored_budgets: tuple[int, ...]  # larger than the pool
    pool_n: int | None
    cells: tuple[Cell, ...]
    task_sizes: dict[str, int]  # prompts of the pool by task
    confidence: tuple[TaskConfidence, ...]
    compared: tuple[ComparedTask, ...]  # all compared definitions and sources of confidence
    accuracy: tuple[TaskAccuracy, ...]  # confidence and accuracy by task
    allocations: dict[ArmKey, dict[str, float]]  # prompts by task, mean over selection seeds
    selection_seeds_n: dict[ArmKey, int]  # number of selection seeds
    overlaps: dict[tuple[str, str], float]  # share of prompts in common at `overlap_budget_n`
    overlap_budget_n: int | None
    adapters: tuple[AdapterRun, ...]
    money: Money | None  # None if the experiment has no price
    score_sets: tuple[ScoreSet, ...]
    stale: tuple[str, ...]
    problems: tuple[str, ...]
    examples: Examples
    lists: Lists | None = None  # None for a study with scores, because its page has no lists
    matches: Matches | None = None  # None if the pool was not compared with the benchmarks' items
    found: Found | None = None  # None if no tasks were found
    variants: tuple[VariantScores, ...] = ()  # repetitions of the primary comparison with other settings
    paired: PairedItems | None = None  # None if no two models' answers to the same items are stored
    agreement: AnsweredTwice | None = None  # None if no prompt was answered by two annotators
    changes: "Changes | None" = None  # since the last report; None if they are not looked for
    sources: Sources | None = None  # None if people wrote all answers and no drafts came back

    @property
    def is_scored(self) -> bool:
        """Whether any strategy has scores. Without scores, the page shows the chosen prompts."""
        return _is_scored(self.score_sets)

    def footer_notes(self, asset: str) -> Mapping[str, Any]:
        """Return the notes in the footer of an unpartitioned table; empty if the table is not stored."""
        table = self.tables.get((asset, None))
        return table.footer.notes if table else {}

    @property
    def full_pool(self) -> Cell | None:
        return next((cell for cell in self.cells if cell.is_full_pool), None)


def load(results_dir: str, excluded: Mapping[str, str] | None = None) -> Results:
    """Read the results of one experiment. A table that cannot be read is left out, and a sentence on it is added to `problems`.

    `excluded` has the reason for each table to leave out. A key is `asset` or `asset/key`. `load` itself finds tables whose
    direct inputs have changed, keeps them, and lists them in `stale`; it cannot find changes further upstream.

    Raises:
        FileNotFoundError: experiment.yaml does not exist.
        ValueError: experiment.yaml is not valid.
    """
    experiment, text = read_experiment(files := stored.open_folder(results_dir), results_dir)
    found, excluded = stored.list_tables(files), excluded or {}
    kept = {unit: table for unit, table in found.tables.items() if "/".join(filter(None, unit)) not in excluded}
    reader = Reader(files, found._replace(tables=kept), list(found.problems))
    sizes, pool = reader.task_sizes(), kept.get(("raw_pool", None))
    budgets = expected_cells.read_budgets(reader, experiment, pool.rows_n if pool else (sum(sizes.values()) or None))
    experiment = _with_primary(experiment, sets := _score_sets(reader, experiment, budgets))
    names, ordinary = experiment.strategies, budgets.ordinary
    selections = reader.selections(names, ordinary)
    paired = read_paired(reader, names, ordinary, sets, _compared(experiment, sets))
    examples = read_examples(reader, names, selections.overlap_budget_n, paired)
    lists = _lists(reader, experiment, ordinary, is_scored=_is_scored(sets), has_tasks=len(sizes) > 1)
    variants = read_variants(reader, experiment, excluded, is_published=_is_published(experiment))
    matches, tasks = read_matches(reader, names, ordinary), read_found(reader, names, ordinary)
    others, people = (lists, matches, tasks, variants), answered_twice.read(reader)
    return Results(
        experiment,
        text,
        kept,
        found.rejected,
        ordinary,
        budgets.ignored,
        budgets.pool_n,
        _cells(experiment, budgets, reader.listing, sets, excluded),
        sizes,
        reader.confidence(),
        reader.compared(),
        reader.accuracy(),
        *selections,
        reader.adapters(),
        read_money(reader, experiment, (*ordinary, budgets.full_pool_n)),
        sets,
        tuple(dict.fromkeys([*excluded.values(), *stale_tables(reader.listing)])),
        tuple(reader.problems),
        examples,
        *others,
        paired,
        people,
        sources=read_sources(reader, experiment, names, ordinary),
    )


def _lists(
    reader: Reader, experiment: Experiment, budgets: tuple[int, ...], *, is_scored: bool, has_tasks: bool
) -> Lists | None:
    if is_scored and not experiment.is_campaign:
        return None
    return read_lists(reader, experiment.strategies, budgets, is_scored=is_scored, has_tasks=has_tasks)


def _score_sets(reader: Reader, experiment: Experiment, budgets: Budgets) -> tuple[ScoreSet, ...]:
    wanted = {(strategy, budget) for strategy in experiment.strategies for budget in budgets.ordinary}
    if budgets.pool_n is not None:
        wanted.add((FULL_POOL_STRATEGY, budgets.pool_n))
    tables = judged.with_lengths(reader, reader.score_tables(wanted))
    sets = scores_module.score_sets(tables, [one.name for one in experiment.benchmarks])
    return judged.adjusted(sets, is_published=_is_published(experiment))


def _is_published(experiment: Experiment) -> bool:
    return any(one.instruction_difficulty for one in experiment.benchmarks)


def _cells(
    experiment: Experiment, budgets: Budgets, listing: Listing, sets: tuple[ScoreSet, ...], excluded: Mapping[str, str]
) -> tuple[Cell, ...]:
    """Return the expected cells. If `excluded` has the scores of a cell, the reason in `excluded` replaces the cell's reason."""
    found = expected_cells.cells(experiment, budgets, listing, sets)
    units = [f"benchmark_scores/{cell_key(cell.budget_n, cell.strategy)}" for cell in found]
    return tuple(
        cell._replace(reason=excluded.get(unit) or cell.reason) for cell, unit in zip(found, units, strict=True)
    )


def _is_scored(sets: tuple[ScoreSet, ...]) -> bool:
    return any(arm != scores_module.BASE for one in sets for arm in one.arms)


def _with_primary(experiment: Experiment, sets: tuple[ScoreSet, ...]) -> Experiment:
    """Add the default primary comparison if the file declares none, names at least two strategies, and some scores are stored.

    The reference is `random`, or the first strategy if `random` is missing. The last strategy of the file that is not the
    reference is compared with it, on the first benchmark and metric. The choice does not depend on the values of scores.
    """
    names = experiment.strategies
    if experiment.primary is not None or len(names) < 2 or not sets:
        return experiment
    strategy, reference = compared_strategies(names)
    one = Primary(
        strategy=strategy, reference=reference, benchmark=sets[0].benchmark, metric=sets[0].metric, is_default=True
    )
    return experiment.model_copy(update={"primary": one})


def _compared(experiment: Experiment, sets: tuple[ScoreSet, ...]) -> Compared:
    """Return the two strategies whose outputs are shown: those of the primary comparison if both have scores.

    Otherwise, these are the last and the first strategy with scores; two empty names if there is none.
    """
    one = experiment.primary
    scored = {strategy for found in sets for strategy, _ in found.arms}
    if one is not None and {one.strategy, one.reference} <= scored:
        return Compared(one.strategy, one.reference, one.benchmark, one.metric)
    names = [name for name in experiment.strategies if name in scored] or [""]
    return Compared(names[-1], names[0])


def stale_tables(listing: Listing) -> tuple[str, ...]:
    """Return a sentence for each input whose present identity differs from the one in the footer of the table made from it."""
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
