"""The section `robustness` of an experiment file: variants, which are repetitions of the primary comparison with other settings.

`variants` turns a variant into an experiment of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_contracts.experiment_fields import NAME_PATTERN
from taskdiv_assets.confidence.measures import Definition
from taskdiv_assets.tuning_settings import Number, PositiveInt, Settings, Switch

FACTOR_PATTERN = r"^x(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?$"
VARIANTS_MAX = 20  # limit of the number of variants; each costs two cells
NAME_LENGTH_MAX = 30
VariantName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH_MAX)]
Factor = Annotated[str, Field(pattern=FACTOR_PATTERN)]


def with_prompt(template: str) -> str:
    """Return a prompt template. Raise ValueError if it does not contain `{prompt}` exactly once."""
    if template.count("{prompt}") != 1:
        raise ValueError("expected exactly one {prompt} in the template")
    return template


def _is_none(value: object) -> bool:
    return value is None


def _optional(**limits: Any) -> Any:
    return Field(default=None, exclude_if=_is_none, **limits)


class TuningChange(Settings):
    """Settings of fine-tuning that a variant replaces.

    Attributes:
        learning_rate: another rate, or a factor such as `x0.5`, which multiplies the experiment's rate. If the experiment chooses
            its rate among candidates, the factor multiplies the chosen rate.
        tokens: number of tokens that every adapter is trained on, instead of a number of epochs. Strategies choose prompts and
            answers of different lengths, so an equal number of prompts is an unequal number of tokens.
    """

    learning_rate: Annotated[Number, Field(gt=0)] | Factor | None = _optional()
    epochs: PositiveInt | None = _optional()
    batch_size: PositiveInt | None = _optional()
    rank: PositiveInt | None = _optional()
    alpha: PositiveInt | None = _optional()
    tokens: PositiveInt | None = _optional()

    @property
    def factor(self) -> float | None:
        """The factor of the learning rate; None if the variant sets a rate or keeps the experiment's rate."""
        return float(self.learning_rate[1:]) if isinstance(self.learning_rate, str) else None

    @model_validator(mode="after")
    def _has_one_length(self) -> Self:
        if self.tokens is not None and self.epochs is not None:
            raise ValueError("`tokens` replaces `epochs`; keep one of them")
        return self

    @model_validator(mode="after")
    def _has_positive_factor(self) -> Self:
        if self.factor == 0:
            raise ValueError("`learning_rate` has the factor 0; expected a positive one, such as x0.5")
        return self


class ConfidenceChange(Settings):
    """Settings of confidence that a variant replaces."""

    column: Definition | None = _optional()
    of: Literal["continuation", "prompt"] | None = _optional()
    max_new_tokens: PositiveInt | None = _optional()


class Variant(Settings):
    """A repetition of the primary comparison at one budget, with the same seeds and other settings.

    Attributes:
        budget: one of the experiment's budgets; by default the largest.
        tuning: other settings of fine-tuning.
        prompt_template: another template, for confidence and for fine-tuning.
        chat_template: whether the model's own chat template is used.
        confidence: another definition of confidence.
    """

    budget: PositiveInt | None = _optional()
    tuning: TuningChange | None = _optional()
    prompt_template: str | None = _optional()
    chat_template: Switch | None = _optional()
    confidence: ConfidenceChange | None = _optional()

    @field_validator("prompt_template")
    @classmethod
    def _has_prompt(cls, template: str | None) -> str | None:
        return None if template is None else with_prompt(template)

    @property
    def changes(self) -> Mapping[str, Any]:
        """The sections and keys of the experiment file that this variant replaces, with their new values."""
        found: dict[str, Any] = self.model_dump(exclude={"budget"})
        return {key: value for key, value in found.items() if value != {}}

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.changes:
            keys = ", ".join(name for name in type(self).model_fields if name != "budget")
            raise ValueError(f"a variant changes at least one of {keys}; this one changes nothing")
        return self
