"""The `taskdiv round` commands: start the next round of an experiment.

A round is recorded in two steps: first the stored experiment file gets the number of bought prompts (section `rounds`), and then
the store gets the new budget. After a kill between both, the same command adds the budget only.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import planning, running
from taskdiv_assets.commands.consoles import out, plain_errors, quietly, say
from taskdiv_assets.commands.next_steps import next_lines
from taskdiv_assets.commands.opening import EXPERIMENT, check_filters, open_experiment, say_ignored
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.experiment.order_settings import BY_MEANS
from taskdiv_assets.experiment.recorded_rounds import with_rounds
from taskdiv_assets.graph.cells import Cell, registered
from taskdiv_assets.graph.units import StaleInputError
from taskdiv_assets.orchestration import instance
from taskdiv_assets.storage.store import Store

round_app = typer.Typer(
    help="Start the next round: buy more labels where the latest adapter is unsure.", no_args_is_help=True
)


@round_app.callback()
def rounds() -> None:
    """Make `next` a command of its own: Typer would drop the name of a single command."""


class Next(NamedTuple):
    """The round to start."""

    strategy: str
    after_n: int  # labels that are bought already
    budget_n: int  # labels after the round
    is_recorded: bool  # True if a killed command has recorded the round, but not its budget


@round_app.command("next")
def round_next(
    experiment: EXPERIMENT,
    add: Annotated[int, typer.Option("--add", metavar="N", min=1, help="Number of labels to add in this round.")],
    strategy: Annotated[
        str | None,
        typer.Option(metavar="S", help="The strategy; can be left out if only one weighs tasks by confidence."),
    ] = None,
) -> None:
    """Start the next round of a strategy that weighs tasks by confidence, such as weighted_task_diversity.

    The answers of the last budget must be there. `taskdiv run` then trains an adapter on them (or finds it stored), measures
    its confidence on the prompts that are not bought, and orders these prompts again. Bought prompts stay first.
    `taskdiv annotations export` then sends only what is new.

    Example: taskdiv round next questions --add 500
    """
    with plain_errors():
        chosen = open_experiment(experiment)
        say_ignored(chosen)
        store = Store(chosen.name)
        one = next_round(chosen, store, add, strategy)
        check_filters(chosen, [str(one.budget_n)], None)
        if not one.is_recorded:
            chosen = record(chosen, store, one)
        quietly()
        with instance.open_instance() as dagster_instance:
            running.register_budgets(chosen, store, dagster_instance, [one.budget_n])
        round_n = chosen.rounds[one.strategy].after.index(one.after_n) + 2
        out.print(
            f"round {round_n} of {one.strategy}: {one.after_n:,} labels are bought, {add:,} more make {one.budget_n:,}"
        )
        found = planning.plan(chosen, store)
        say(*next_lines(chosen.name, "", found.standing))


def next_round(experiment: Experiment, store: Store, add_n: int, strategy: str | None) -> Next:
    """Return the round to start. Raise ValueError if no strategy has rounds, or the last budget has no answers yet."""
    name = chosen_strategy(experiment, strategy)
    lineage = REGISTRY.look(experiment, store)
    if lineage.pool_size is None:
        raise ValueError(
            f"the pool of {experiment.name} has not been read yet; start with `taskdiv run {experiment.name}`"
        )
    budgets = [budget_n for budget_n, kind in registered(experiment, store).items() if kind == "requested"]
    last_n, after = max(budgets), experiment.rounds[name].after if name in experiment.rounds else []
    one = Next(name, last_n, last_n + add_n, is_recorded=bool(after) and after[-1] == last_n)
    if after and after[-1] > last_n:
        raise ValueError(
            f"`rounds` of {experiment.name} names a round after {after[-1]:,} labels, and its largest budget is {last_n:,}; "
            f"add that budget first: `taskdiv budget add {experiment.name} {after[-1]}`"
        )
    if one.is_recorded:
        return one
    try:
        plans = lineage.adapter_plans(Cell(last_n, name))
        if experiment.tuning.candidates is not None and not any(plan.missing_n for plan in plans):
            lineage.chosen_rate  # noqa: B018  # raises StaleInputError if no rate was chosen
    except StaleInputError as error:
        raise ValueError(f"the last budget, {last_n:,}, is not up to date: {error}") from None
    missing_n = max(plan.missing_n for plan in plans)
    if missing_n:
        raise ValueError(
            f"{missing_n:,} of the {last_n:,} prompts of {last_n}|{name} have no answer yet, so no adapter can be trained for "
            f"the next round. Send out what was not sent with `taskdiv annotations export {experiment.name} --budget {last_n} "
            f"--strategy {name}`, and bring the answers back with `taskdiv annotations import {experiment.name} FILE`"
        )
    return one


def chosen_strategy(experiment: Experiment, strategy: str | None) -> str:
    """Return the strategy whose next round starts: `strategy`, or the only one that weighs tasks by confidence."""
    fitting = [name for name in experiment.strategies if in_rounds_possible(experiment, name)]
    if strategy is not None:
        check_filters(experiment, None, [strategy])
        if strategy not in fitting:
            raise ValueError(
                f"{strategy} does not share labels among tasks by confidence alone, so a round would not change its order; "
                f"`taskdiv budget add {experiment.name} N` adds labels"
            )
        return strategy
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(
            f"no strategy of {experiment.name} shares labels among tasks by confidence alone, so a round would not change "
            f"an order; `taskdiv budget add {experiment.name} N` adds labels"
        )
    raise ValueError(
        f"{experiment.name} has several strategies with rounds; choose by --strategy: {', '.join(fitting)}"
    )


def in_rounds_possible(experiment: Experiment, name: str) -> bool:
    return experiment.order_in(name) in BY_MEANS


def record(experiment: Experiment, store: Store, one: Next) -> Experiment:
    """Write the round into the stored experiment file, in one atomic write, and return the new experiment.

    Raise ValueError if the file cannot have this round, or if the experiment is built in.
    """
    if experiment.name in experiment_file.built_in_names():
        raise ValueError(
            f"{experiment.name} is built in, so its file cannot get a round; copy it with "
            f"`taskdiv experiments show {experiment.name} > mine.yaml`, and change its `name:`"
        )
    text = (store.get("experiment.yaml") or b"").decode("utf-8")
    rounds = {name: rounds.model_dump(exclude_none=True) for name, rounds in experiment.rounds.items()}
    before = rounds.get(one.strategy, {"after": []})
    rounds[one.strategy] = {**before, "after": [*before["after"], one.after_n]}
    new = with_rounds(text, rounds)
    found = experiment_file.parse(new, store.locate("experiment.yaml"))
    if store.get("experiment.yaml") != text.encode():
        raise ValueError(f"the stored file of {experiment.name} changed meanwhile; try again")
    store.put(new.encode(), "experiment.yaml")
    return found
