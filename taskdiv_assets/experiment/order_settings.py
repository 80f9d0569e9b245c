"""Settings of orders: embeddings, facility location, and rounds (section `rounds`).

In rounds, a strategy orders the prompts that are not bought yet again, after an adapter was trained on the bought ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.selection.facility_location import NEIGHBOURS
from taskdiv_assets.selection.pool import TASK_MEANS
from taskdiv_assets.tuning_settings import PositiveInt, Settings

# Strategies that read nothing but the mean confidence of tasks, so a round can draw their order again.
BY_MEANS = tuple(name for name, strategy in STRATEGIES.items() if strategy.needs == {"tasks", TASK_MEANS})
ROUNDS_MAX = (
    20  # limit of the strategies in rounds, and of the rounds of one strategy; each round trains and scores per seed
)
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
