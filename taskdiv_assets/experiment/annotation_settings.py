"""The section `annotation` of an experiment file: instructions, prices, which answer counts, and models that answer or draft.

`when_answers_differ` can change results if people gave different answers. No identity of a result depends on the other keys,
except that of the report.
"""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from data_contracts import money
from taskdiv_assets.experiment.benchmark_settings import Name
from taskdiv_assets.tuning_settings import Number, PositiveInt, Settings

PRICE_MAX = 1e6  # limit of a price in any currency; a higher price is a typing error
CURRENCY_LENGTH_MAX = 8
NUL_FREE = r"^[^\x00]*$"  # spreadsheet programs cannot store U+0000
Price = Annotated[Number, Field(ge=0, le=PRICE_MAX)]


class ChatModel(Settings):
    """A model at an OpenAI-compatible address. $TASKDIV_ANNOTATOR_URL and $TASKDIV_ANNOTATOR_KEY are never stored.

    Attributes:
        model: name of the model at the endpoint.
        calls: limit of calls in this experiment, repeated ones included.
        max_new_tokens: largest number of tokens of an answer.
        parallel: number of calls at the same time.
        price: price of one reply, in the currency of `annotation`.
        price_per_million_input_tokens: price of a million tokens of questions; the endpoint counts the tokens.
        price_per_million_output_tokens: price of a million tokens of replies.
    """

    model: Name
    calls: PositiveInt
    max_new_tokens: PositiveInt = 1024
    parallel: Annotated[int, Field(gt=0, le=64, strict=True)] = 8
    price: Price | None = None
    price_per_million_input_tokens: Price | None = None
    price_per_million_output_tokens: Price | None = None

    @model_validator(mode="after")
    def _has_one_price(self) -> Self:
        of_tokens = (self.price_per_million_input_tokens, self.price_per_million_output_tokens)
        if self.price is not None and of_tokens != (None, None):
            raise ValueError("expected either `price` (of one reply) or the two prices per million tokens")
        if (of_tokens[0] is None) != (of_tokens[1] is None):
            raise ValueError("expected `price_per_million_input_tokens` and `price_per_million_output_tokens` together")
        return self

    def cost(self, replies_n: int, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the exact cost of replies; None if there is no price. `money.amount` rounds it to the cent."""
        prices = (self.price, self.price_per_million_input_tokens, self.price_per_million_output_tokens)
        return money.cost_of_replies(prices, replies_n, input_tokens, output_tokens)


class Annotator(ChatModel):
    """A model that answers a share of the prompts of each list instead of people.

    Attributes:
        share: the share of the prompts, in (0, 1]. A hash of the prompt decides, so a larger budget keeps every choice.
    """

    share: Annotated[Number, Field(gt=0, le=1)]


class Adjudicator(Settings):
    """The person whose answer counts when annotators gave different answers."""

    adjudicator: Annotated[str, Field(min_length=1, max_length=60)]


class Annotation(Settings):
    """Instructions for annotators, the price of one answer, and the price of an hour of the machine that selects and trains.

    `annotator` is a model that answers prompts, `drafts` a model that writes drafts for `annotations export --drafts endpoint`.
    `when_answers_differ` decides which of two people's answers counts. `both`: adapters are trained on all of them. Without an
    answer of the adjudicator, the newest counts.
    """

    instructions: Annotated[str, Field(pattern=NUL_FREE)] = "Answer the prompt as well as you can."
    price: Annotated[Number, Field(gt=0, le=PRICE_MAX)] | None = None
    price_of_machine_hour: Price | None = None  # in the same currency
    currency: str | None = None
    # The report's identity contains this section, so a file without these keys has to keep its identity.
    annotator: Annotated[Annotator | None, Field(exclude_if=lambda found: found is None)] = None
    drafts: Annotated[ChatModel | None, Field(exclude_if=lambda found: found is None)] = None
    when_answers_differ: Annotated[
        Literal["newest", "both"] | Adjudicator, Field(exclude_if=lambda value: value == "newest")
    ] = "newest"

    @field_validator("currency")
    @classmethod
    def _is_short_text(cls, currency: str | None) -> str | None:
        if currency is not None and not _is_currency(currency):
            raise ValueError(
                f"{currency[:40]!r} is not a currency; expected at most {CURRENCY_LENGTH_MAX} letters, currency signs and "
                "points, without digits, such as EUR, €, US$ or kr."
            )
        return currency

    def cost(self, labels_n: int) -> str:
        """Return the cost of `labels_n` answers, such as `16.00 EUR`; empty if there is no price."""
        return "" if self.price is None else money.amount(labels_n * self.price, self.currency)

    @property
    def adjudicator(self) -> str | None:
        """The person whose answer counts when answers differ; None for the newest."""
        rule = self.when_answers_differ
        return rule.adjudicator if isinstance(rule, Adjudicator) else None

    @property
    def which_counts(self) -> str:
        """End of a sentence about prompts with different answers: which of these counts."""
        if self.adjudicator is not None:
            return f"the answer of {self.adjudicator} counts, or else the newest"
        return "models train on all of them" if self.when_answers_differ == "both" else "the newest counts"

    @property
    def unit_price(self) -> str:
        """Price of one answer with all digits and at least two decimals; empty if there is no price."""
        return "" if self.price is None else money.unit_price(self.price, self.currency)


def _is_currency(text: str) -> bool:
    """Return True for a short text of letters, currency signs, points and inner blanks, with at least one letter or sign."""
    kinds = [unicodedata.category(character) for character in text]
    is_allowed = all(kind[0] in "LM" or kind == "Sc" or text[i] in ". " for i, kind in enumerate(kinds))
    has_sign = any(kind[0] == "L" or kind == "Sc" for kind in kinds)
    return is_allowed and has_sign and text == text.strip() and len(text) <= CURRENCY_LENGTH_MAX
