"""Texts beside the numbers, such as badges, missing results, and captions of figures. Claims are in `sentences`."""

from collections.abc import Sequence

import data_contracts
from data_contracts.table_paths import REPORT_TABLE
from reports import arms_checked, asked, words
from reports.analysis import Comparison, Section
from reports.expected_cells import waits_for_items
from reports.experiment_view import confidence_tables
from reports.lists import list_sentences as lists_sentences
from reports.results import Results
from reports.statistics import EQUIVALENCE_MARGIN, equivalence

FEW_SEEDS_N = 3


def badges(results: Results, found: tuple[Section, ...]) -> list[tuple[str, str]]:
    """Return warnings for the top of the page: pairs of a short text and its reason."""
    shown = []
    if results.experiment.is_lab:
        why = (
            "The pool and the base model are the lab’s: generated so that confidence has a meaning. "
            "They are not evidence about real data."
        )
        shown.append(("designed setting", why))
    seeds_n = [point.mean.seeds_n for one in found for points in one.curves.values() for point in points]
    if seeds_n and min(seeds_n) < FEW_SEEDS_N:
        why = "Fewer than three seeds: intervals are very wide, and with one seed they count items only."
        few_n = sum(n < FEW_SEEDS_N for n in seeds_n)
        of = "" if few_n == len(seeds_n) else f" in {few_n} of {words.count(len(seeds_n), 'mean')}"
        shown.append((f"{words.count(min(seeds_n), 'seed')} only{of}", why))
    open_n = sum(cell.status != "done" for cell in results.cells)
    if open_n and results.is_scored:  # without scores, the page shows its progress elsewhere
        why = "Some expected cells are missing, partial or rejected; see Provenance."
        shown.append((f"{open_n} of {words.count(len(results.cells), 'cell')} not done", why))
    if results.rejected:
        why = "A table broke its contract and was not published; see Data contracts."
        shown.append((words.count(len(results.rejected), "rejected table"), why))
    if results.stale:
        why = "Some tables were made from inputs that have changed since; see Provenance."
        shown.append((f"{words.count(len(results.stale), 'table')} out of date", why))
    return [*shown, *arms_checked.badges(results)]


def missing(results: Results, found: tuple[Section, ...]) -> list[tuple[str, str]]:
    """Return missing results and next steps, each as a sentence and a remedy: a command or a change of the experiment file."""
    name, absent = results.experiment.name, _absent(results)
    notes = lists_sentences.next_steps(results)
    if absent:
        notes.append((f"Not stored: {words.listing(absent)}.", f"taskdiv run {name}"))
    has_no_base = bool(found) and all(section.base is None for section in found)
    if results.is_scored and has_no_base and "base_scores" not in absent:
        text = "The base model's scores share no item with the cells, so no base line is drawn."
        notes.append((text, f"taskdiv run {name}"))
    if results.is_scored and results.full_pool is None:
        notes.append((f"There is no full-pool line: {_why_no_full_pool(results)}.", f"taskdiv plan {name}"))
    return [*notes, *asked.skipped(results)]


def _absent(results: Results) -> list[str]:
    """Return the unpartitioned tables that the experiment surely needs but that are not stored.

    The report does not know which tables the strategies read. So tables of confidence count as needed only if one of them is
    stored, and tables that require embeddings, learning rates, rounds or imported answers never count as needed.
    """
    has = set(results.experiment.has)
    if any((name, None) in results.tables for name in confidence_tables()):
        has.add("confidence")
    return [
        name
        for name in data_contracts.names()
        if data_contracts.partitioned_by(name) == "none"
        and data_contracts.requirements(name) <= has
        and name != REPORT_TABLE
        and not (name == "base_scores" and waits_for_items(results.experiment, results.tables))
        and (name, None) not in results.tables
    ]


def _why_no_full_pool(results: Results) -> str:
    if not results.experiment.full_pool_seeds:
        return "the experiment names no full_pool_seeds"
    if results.pool_n is None:
        return "the pool is not stored yet"
    known = results.footer_notes("raw_pool").get("responses_n")
    if isinstance(known, int) and known < results.pool_n:
        return f"{known:,} of the pool's {results.pool_n:,} answers are known, and tuning on everything needs them all"
    return f"the budget {results.pool_n:,}, the whole pool, is not registered"


def scores(results: Results, section: Section) -> tuple[str, ...]:
    """Return sentences on how the benchmark was run, and on arms and items that were left out."""
    left_out = section.scores.items_left_out_n
    own = [f"{words.count(left_out, 'item')} left out: not scored in every arm and seed."] if left_out else []
    return (*asked.sentences(results, section), *section.scores.notes, *own)


def curves(section: Section) -> str:
    """Return the caption of the learning curves."""
    last = {name: points[-1] for name, points in section.curves.items() if points}
    ranked = sorted(last.items(), key=lambda pair: (-pair[1].mean.estimate, pair[0]))
    ends = [f"{name} {words.score(point.mean.estimate)} at {point.budget_n:,}" for name, point in ranked]
    means = {name: point.mean for name, points in section.curves.items() for point in points}
    levels = {"base model": section.base, "full pool": section.full_pool}
    alone = [name for name, one in (means | levels).items() if one is not None and not one.has_seed_uncertainty]
    over = "items and seeds" if section.has_intervals_over_seeds else "items only (one seed)"
    but = f", those of {words.listing(alone)} over items only" if alone and section.has_intervals_over_seeds else ""
    hollow = any(section.below_leader(name) for name in section.curves)
    marks = " Hollow marks are shown to be below the leader of that budget; filled ones are not." if hollow else ""
    return (
        f"Mean score by labels; bands are 95% intervals over {over}{but}, small dots are seeds.{marks} "
        f"Ends of the lines: {words.listing(ends) or 'none'}."
    )


def forest(section: Section, areas: Sequence[Comparison]) -> str:
    """Return the caption of the figure of paired differences."""
    every = [*areas, *section.by_budget]
    clear = sum(one.verdict in ("better", "worse") for one in every)
    unsaid_n = sum(one.verdict == "too few seeds to say" for one in every)
    alone = " (the primary one without)" if section.primary else ""
    rest = f"; {unsaid_n} have too few seeds to say" if unsaid_n else "; open marks do not"
    same_n = sum(equivalence(one.difference).is_shown for one in every)
    same = f"{same_n} {'is' if same_n == 1 else 'are'}" if same_n else "none is"
    return (
        f"Paired differences with 95% intervals; {clear} of {words.count(len(every), 'comparison')} separate from 0 "
        f"after Holm’s correction{alone} (filled marks){rest}. The grey band is ±"
        f"{EQUIVALENCE_MARGIN:g}: {same} shown to be equivalent within it (90% interval, not corrected)."
    )


def primary(section: Section) -> str:
    """Return sentences on the primary comparison: which one it is, and whether it was declared; or why there is none."""
    one = section.primary
    if one is None:
        none_named = "No primary comparison is named for this benchmark and metric: all rows are corrected together."
        return section.primary_problem or none_named
    title = section.area_title
    budgets = " on the budgets both have" if title.startswith("area") else ", the only budget in common"
    origin = (
        "The experiment file declares no primary comparison. This is the default, fixed by the order of the file"
        if section.has_default_primary
        else "Named before the run as the one primary comparison"
    )
    return (
        f"{origin}: {one.strategy} against {one.reference} on "
        f"{section.scores.benchmark}, {section.scores.label}, {title}{budgets}. "
        "Its interval decides, without any correction."
    )


def full_pool(section: Section) -> str:
    """Return a sentence on the full pool's gain over the base model.

    If the gain is not known, or its interval is not above 0, the sentence states what the page leaves out.
    """
    gain = section.full_pool_gain
    if section.full_pool is None:
        return "There is no full-pool score, so labels are compared with the reference's largest budget only."
    if gain is None:
        return (
            "Without the base model's scores it is not known whether the full pool gains anything; "
            "the full-pool form is left out."
        )
    amount = f"{words.signed(gain.estimate)} [{words.interval(gain)}]"
    if not gain.low > 0:
        return (
            f"The full pool's gain over the base, {amount}, is not above 0 with its interval: "
            "labels to match it have no meaning and are left out."
        )
    return f"The full pool gains {amount} over the base ({words.basis(gain)})."
