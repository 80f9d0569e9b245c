"""Settings of a user's own order: an entry of `strategies` in the experiment file that has fields instead of only a name.

The user's file has a score for each prompt (fields `scores`, `column`, `order`), or lists prompts with the first choice first
(field `order_from`).
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

import data_contracts
from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.selection import STRATEGIES, Strategy
from taskdiv_assets.selection.strata import score_order
from taskdiv_assets.selection.strategies import OWN_ORDER
from taskdiv_assets.tuning_settings import Settings

SCORE = "score"  # the default column of scores
NAME_LENGTH_MAX = 63


class OwnOrder(Settings):
    """A user's own order from a file with one row per prompt.

    Attributes:
        name: name of the strategy.
        scores: path of a file with a score for every prompt.
        column: column of the scores; `score` by default.
        order: the scores that come first. There is no default, since a wrong default would buy the wrong labels.
        order_from: path of a file of prompts, first choice first. The file may have fewer prompts than the pool.
        id: column of prompt ids, or of the ids in the source of the pool; by default, a column with a usual name such as `id`.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH_MAX)]
    scores: str | None = None
    column: str | None = None
    order: Literal["high_first", "low_first"] | None = None
    order_from: str | None = None
    id: str | None = None

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in STRATEGIES:
            raise ValueError(f"{name!r} is the name of a built-in strategy; choose another")
        if name in data_contracts.names():
            raise ValueError(f"{name!r} is the name of an asset; choose another")
        return name

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if (self.scores is None) == (self.order_from is None):
            raise ValueError("expected either `scores: FILE` or `order_from: FILE`")
        if self.scores is not None and self.order is None:
            raise ValueError("`scores` needs `order: high_first` or `order: low_first`")
        if self.order_from is not None and (self.column or self.order):
            raise ValueError("`order_from` uses the order of the rows; remove `column` and `order`")
        return self

    @property
    def path(self) -> str:
        return self.scores or self.order_from or ""

    @property
    def score_column(self) -> str:
        return self.column or SCORE

    @property
    def settings(self) -> dict[str, object]:
        """The settings that enter the identity of the order. The path of the file does not change the identity."""
        if self.order_from is not None:
            return {"form": "order", "id": self.id}
        return {"form": "scores", "id": self.id, "column": self.score_column, "order": self.order}

    @property
    def strategy(self) -> Strategy:
        """The strategy, which sorts prompts by the numbers of the file, and ties by prompt_id."""
        what = "The order" if self.order_from else "The order by scores"
        return Strategy(
            self.name,
            f"{what} of a file of the user's own.",
            score_order(OWN_ORDER, is_high_first=self.order == "high_first"),
            needs=frozenset({OWN_ORDER}),
            score_column=OWN_ORDER,
        )
