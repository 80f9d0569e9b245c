"""Settings of orders: embeddings, facility location, and rounds (section `rounds`).

In rounds, a strategy orders the prompts that are not bought yet again, after an adapter was trained on the bought ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.experiment.mistakes import Problem
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.selection.facility_location import NEIGHBOURS
from taskdiv_assets.selection.pool import TASK_MEANS
from taskdiv_assets.tuning_settings import PositiveInt, Settings

if TYPE_CHECKING:
    from taskdiv_assets.experiment.declaration import Experiment

ROUNDS_MAX = 20  # limit of the strategies in rounds, and of the rounds of one strategy; each round trains and scores per seed
RoundsName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]


class Embeddings(Settings):
    """The embedding of a prompt: the mean of the last hidden states of all tokens, or the last hidden state of the last token."""

    pooling: Literal["mean", "last"] = "mean"


class FacilityLocation(Settings):
    """The similarities that facility_location uses: those to the nearest `neighbours` of each prompt, or all (slower)."""

    similarities: Literal["nearest", "all"] = "nearest"
    neighbours: PositiveInt = NEIGHBOURS

    @property
    def neighbours_n(self) -> int | None:
        """The argument of `strategies.facility_location`; None for all similarities."""
        return self.neighbours if self.similarities == "nearest" else None


class Rounds(Settings):
    """The rounds of one strategy.

    Attributes:
        of: the strategy that orders the prompts; by default, the strategy with the name of this entry.
        after: numbers of bought prompts after which the order of the others is drawn again, in ascending order. The confidence is
            then that of the adapter that was trained on the bought prompts.
    """

    of: str | None = None
    after: Annotated[list[PositiveInt], Field(min_length=1, max_length=ROUNDS_MAX)]

    @field_validator("after")
    @classmethod
    def _ascends(cls, after: list[int]) -> list[int]:
        if after != sorted(set(after)):
            raise ValueError(f"expected ascending numbers of bought prompts, such as [500, 1000], found {after}")
        return after


def round_problems(experiment: Experiment) -> Iterator[Problem]:
    """Yield the mistakes of the section `rounds` that its settings class does not find."""
    for name, rounds in experiment.rounds.items():
        if message := _problem(experiment, name, rounds):
            yield Problem(("rounds", name), message)


def _problem(experiment: Experiment, name: str, rounds: Rounds) -> str:
    of = rounds.of or name
    own = {order.name for order in experiment.own_orders}
    if name not in experiment.strategies:
        return f"{name!r} is not among the `strategies` of this file; add it there"
    if rounds.of and (name in STRATEGIES or name in own):
        return f"{name!r} is a strategy; leave out `of`, or choose another name for the strategy in rounds"
    if of != name and of in experiment.rounds:
        return f"{of!r} is in rounds itself; `of` is a strategy that orders the pool once"
    if of not in STRATEGIES or of in own:
        return f"unknown strategy {of!r}; expected one of {_listed()}"
    if STRATEGIES[of].needs != {"tasks", TASK_MEANS}:
        return f"{of} does not share labels among tasks by confidence, so rounds change nothing; expected one of {_listed()}"
    if experiment.base_model is None:
        return "rounds train adapters, and this file names no `base_model`"
    compared = (experiment.primary.strategy, experiment.primary.reference) if experiment.primary else experiment.strategies
    if experiment.robustness and name in compared:
        return f"variants (`robustness`) repeat the primary comparison, and cannot repeat rounds; {name} is compared there"
    return ""


def _listed() -> str:
    return ", ".join(name for name, strategy in STRATEGIES.items() if strategy.needs == {"tasks", TASK_MEANS})
