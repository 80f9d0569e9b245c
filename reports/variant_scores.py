"""The stored scores of an experiment's variants, beside the scores of the experiment itself.

A variant repeats the primary comparison at one budget with other settings (`robustness` in the experiment file). Its tables are
in the folder `variants/<variant>`. Files that are stored by identity, such as lengths of outputs, are in the experiment's folder.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from data_contracts.cell_keys import cell_key
from data_contracts.experiment_fields import NAME_PATTERN
from data_contracts.stored import Folder, Listing, list_tables
from data_contracts.variant_names import FOLDER
from reports import judged
from reports.experiment_view import Experiment, Primary
from reports.reader import Reader
from reports.scores import COLUMNS, ArmKey, ScoreSet, score_sets

VARIED = " in the variant"  # ending of the names of a variant's arms in a score set; no strategy has such a name
VARIANTS_MAX = 20  # as in the settings of experiment files
ASSET = "benchmark_scores"
OUT_OF_DATE = "its stored scores come from other settings or inputs"  # the section Provenance has the exact reason


class VariantScores(NamedTuple):
    """One variant. Its score set has four arms: both strategies with the settings of the file, and both in the variant."""

    name: str
    changes: Mapping[str, Any]  # the settings that the variant replaces, as in the experiment file
    budget_n: int
    scores: ScoreSet | None  # None if one of the four arms has no usable scores
    why_missing: str  # empty if `scores` is not None


def read_variants(
    reader: Reader, experiment: Experiment, excluded: Mapping[str, str], *, is_published: bool
) -> tuple[VariantScores, ...]:
    """Read the scores of all variants that the experiment file names, in the order of the file.

    `excluded` has the tables to leave out; the key of a variant's table starts with `variants/<variant>/`. `is_published`
    has the same meaning as in `judged.adjusted`. Without a primary comparison, no scores are read.
    """
    found = []
    for name, section in list(experiment.robustness.items())[:VARIANTS_MAX]:
        changes = dict(section) if isinstance(section, Mapping) else {}
        budget = changes.pop("budget", None)
        budget_n = budget if isinstance(budget, int) else max(experiment.budgets, default=0)
        if not re.fullmatch(NAME_PATTERN, name) or experiment.primary is None:
            found.append(VariantScores(name, changes, budget_n, None, "it has no stored scores"))
            continue
        cells = [(one, budget_n) for one in (experiment.primary.strategy, experiment.primary.reference)]
        own = Folder(reader.files.fs, reader.files.join(FOLDER, name))
        scores = None
        reason = _excluded(name, cells, excluded)
        if not reason:
            scores = _scores(reader, own, experiment.primary, cells, is_published=is_published)
            reason = "" if scores else _diverged(reader.files, name, changes, cells) or "it has no stored scores"
        found.append(VariantScores(name, changes, budget_n, scores, reason))
    return tuple(found)


def _excluded(name: str, cells: list[ArmKey], excluded: Mapping[str, str]) -> str:
    units = [f"{FOLDER}/{name}/{ASSET}/{cell_key(budget, strategy)}" for strategy, budget in cells]
    return OUT_OF_DATE if any(unit in excluded for unit in units) else ""


def _scores(
    reader: Reader, own: Folder, primary: Primary, cells: list[ArmKey], *, is_published: bool
) -> ScoreSet | None:
    listing = list_tables(own)
    reader.problems.extend(f"{own.root.rsplit('/', 1)[-1]}: {problem}" for problem in listing.problems)
    tables = [*_tables(reader, cells, ""), *_tables(reader, cells, VARIED, listing)]
    sets = judged.adjusted(score_sets(tables), is_published=is_published)
    wanted = (one for one in sets if (one.benchmark, one.metric) == (primary.benchmark, primary.metric))
    scores = next(wanted, None)
    return scores if scores is not None and len(scores.arms) == 2 * len(cells) else None


def _tables(
    reader: Reader, cells: list[ArmKey], ending: str, listing: Listing | None = None
) -> Iterator[tuple[ArmKey, pa.Table]]:
    """Yield the score tables of some cells, from `listing` or from the reader's own tables. `ending` is added to the names."""
    used = reader if listing is None else reader._replace(listing=listing)
    for (strategy, budget), table in judged.with_lengths(used, used.cells(ASSET, *COLUMNS, wanted=set(cells))):
        yield (f"{strategy}{ending}", budget), table


def _diverged(files: Folder, name: str, changes: Mapping[str, Any], cells: list[ArmKey]) -> str:
    """Return why a training of this variant, with these changes, diverged; empty if no failure is stored."""
    keys = {cell_key(budget, strategy) for strategy, budget in cells}
    for file, is_file in files.children("failures").items():
        try:
            note = json.loads(files.text("failures", file) or "") if is_file and file.endswith(".json") else None
        except (ValueError, RecursionError):
            continue
        if not isinstance(note, Mapping) or note.get("cell") not in keys:
            continue
        if note.get("variant") == {"name": name, "changes": changes}:
            return f"its training diverged: {note.get('message')}"
    return ""
