"""The results table of a comparison of systems: the rows and columns of the report's table (docs/RESULTS.md), without budgets."""

import pyarrow as pa

from reports import numbers
from reports.compare.common_items import ARM_N
from reports.compare.versus import Versus
from reports.statistics import Arm, verdict

NAMES = {"strategy": "system", "training_seed": "run", "seeds_n": "runs_n"}
LEFT_OUT = ("benchmark", "budget_n")


def results_table(found: Versus) -> pa.Table:
    """Return scores by run and task, means, differences from the reference, and differences from the leader."""
    joined = found.joined
    arms = {(name, ARM_N): Arm(arm.scores, joined.runs[name]) for name, arm in joined.arms.items()}
    scores = joined.scores._replace(arms=arms)
    rows = [*numbers.seed_scores(scores), *numbers.task_scores(scores)]
    rows += [numbers.of_difference("mean", scores, name, "", ARM_N, mean) for name, mean in found.means.items()]
    for one in found.comparisons:
        made = numbers.of_difference("difference", scores, one.strategy, one.reference, ARM_N, one.difference)
        rows.append(numbers.compared(made, one.difference, one.verdict, one.p_adjusted, "reference"))
        if one.verdict == "not separable from noise":
            made = made._replace(quantity="detectable_difference", estimate=one.detectable)
            rows.append(made._replace(low=None, high=None, standard_error=None, df=None))
    for other, gap, p_adjusted in found.leader.pairs:
        made = numbers.of_difference("pair", scores, found.leader.name, other, ARM_N, gap)
        rows.append(numbers.compared(made, gap, verdict(gap, p_adjusted), p_adjusted, "leader"))
    return renamed(numbers.as_table(rows))


def renamed(table: pa.Table) -> pa.Table:
    """Return the report's table with the columns of a comparison."""
    table = table.drop_columns(list(LEFT_OUT))
    return table.rename_columns([NAMES.get(name, name) for name in table.column_names])
