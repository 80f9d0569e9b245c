"""Tables of records, such as contract rules, missing cells, times and identities. Tables of results are in `tables`."""

from collections import defaultdict

import data_contracts
from data_contracts import RuleResult
from data_contracts.cell_keys import BUDGET_PATTERN, split_key
from data_contracts.stored import StoredTable
from reports import words
from reports.results import Results
from reports.tables import Table


def rejected(results: Results) -> Table:
    """Return the table of rejected tables. A rejected table broke a rule of severity `error` and was not published."""
    rows = tuple(
        (
            f"{entry.asset} / {entry.key}" if entry.key else entry.asset,
            rule.rule,
            words.count(rule.unexpected_n, "row"),
            rule.observed,
            examples(rule),
            entry.rejected_at or "–",
            entry.run_id or "–",
        )
        for entry in results.rejected
        for rule in entry.rules or (RuleResult(rule="not named in the file", passed=False),)
    )
    head = ("table", "broken rule", "failing", "observed", "examples", "when", "run")
    return Table("rejected", "Rejected tables: not published", head, rows)


def warnings(results: Results) -> Table:
    """Return the table of rules that failed in published tables."""
    rows = tuple(
        (table.name, rule.rule, rule.severity, words.count(rule.unexpected_n, "row"), rule.observed, examples(rule))
        for table in _sorted(results)
        for rule in table.footer.rules
        if not rule.passed
    )
    head = ("table", "rule", "severity", "failing", "observed", "examples")
    return Table("warnings", "Rules that failed in published tables", head, rows)


def rules(results: Results) -> Table:
    """Return the table of all rules by which stored tables were checked, with the number of tables that passed each rule."""
    found: dict[tuple[str, str], list[tuple[StoredTable, RuleResult]]] = defaultdict(list)
    for table in _sorted(results):
        for rule in table.footer.rules:
            found[table.asset, rule.rule].append((table, rule))
    rows = tuple(
        (
            asset,
            name,
            entries[0][1].description,
            entries[0][1].severity,
            f"{sum(rule.passed for _, rule in entries)} of {len(entries)}",
            max((table.footer.finished_at or "" for table, _ in entries)) or "–",
        )
        for (asset, name), entries in found.items()
    )
    head = ("table", "rule", "meaning", "severity", "passed", "last checked")
    return Table("rules", "Contract rules and their last results", head, rows, frozenset({4}))


def examples(rule: RuleResult) -> str:
    """Return at most three failing examples of a rule as one short text; a dash if there are none."""
    texts = [
        ", ".join(f"{key}: {value}" for key, value in one.items()) if isinstance(one, dict) else str(one)
        for one in rule.examples[:3]
    ]
    return words.clean("; ".join(texts), 160) or "–"


def missing_cells(results: Results) -> Table:
    """Return the table of expected cells that are not done."""
    found = [(cell, " (full pool)" if cell.is_full_pool else "") for cell in results.cells if cell.status != "done"]
    rows = tuple(
        (cell.strategy, f"{cell.budget_n:,}{full_pool}", cell.status, cell.reason, cell.command)
        for cell, full_pool in found
    )
    head = ("strategy", "labels", "status", "reason", "command")
    return Table("cells", "Expected cells that are not done", head, rows, frozenset({1}))


def stages(results: Results) -> Table:
    """Return the table of stages (assets): number of tables and rows, total time, first start and last finish."""
    found: dict[str, list[StoredTable]] = defaultdict(list)
    for table in _sorted(results):
        found[table.asset].append(table)
    rows = tuple(
        (
            asset,
            str(len(members)),
            f"{sum(table.rows_n for table in members):,}",
            words.duration(sum(table.footer.wall_s or 0.0 for table in members)),
            min((table.footer.started_at for table in members if table.footer.started_at), default="–"),
            max((table.footer.finished_at for table in members if table.footer.finished_at), default="–"),
        )
        for asset, members in found.items()
    )
    head = ("stage", "tables", "rows", "time", "first started", "last finished")
    return Table("stages", "Time by stage, as recorded when each table was made", head, rows, frozenset({1, 2, 3}))


def identities(results: Results) -> Table:
    """Return the table of identities and runs of all stored tables."""
    rows = tuple(
        (table.name, table.footer.identity or "–", str(table.footer.code_version or "–"), table.footer.run_id or "–")
        for table in _sorted(results)
    )
    return Table("identities", "Identity and run of every table", ("table", "identity", "code version", "run"), rows)


def tuning(results: Results) -> Table:
    """Return the table of fine-tuning by cell: tokens, time, and the loss of the last step, as means over the cell's adapters."""
    found: dict[tuple[str, int], list[tuple[int, float, float]]] = defaultdict(list)
    for run in results.adapters:
        found[run.strategy, run.budget_n].append((run.tokens_n, run.train_s, run.final_loss))
    rows = tuple(
        (
            strategy,
            f"{budget:,}",
            str(len(runs)),
            f"{sum(tokens for tokens, _, _ in runs) / len(runs):,.0f}",
            words.duration(sum(time for _, time, _ in runs) / len(runs)),
            f"{sum(loss for *_, loss in runs) / len(runs):.3f}",
        )
        for (strategy, budget), runs in found.items()
    )
    head = ("strategy", "labels", "adapters", "tokens each", "time each", "last step's loss")
    return Table("tuning", "Fine-tuning by cell, means over seeds", head, rows, frozenset({1, 2, 3, 4, 5}))


def _sorted(results: Results) -> list[StoredTable]:
    """Return the stored tables in data-flow order, then by strategy and budget. Tables without a contract are last."""
    order = {name: place for place, name in enumerate(data_contracts.names())}

    def place(table: StoredTable) -> tuple[int, str, str, int, str]:
        budget, strategy = split_key(table.key or "")
        budget_n = int(budget) if BUDGET_PATTERN.fullmatch(budget) else 0
        return order.get(table.asset, len(order)), table.asset, strategy, budget_n, table.key or ""

    return sorted(results.tables.values(), key=place)
