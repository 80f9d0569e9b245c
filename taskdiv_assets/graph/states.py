"""Types for the comparison of a stored result with the result that the present inputs and settings would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from data_contracts.footer import Footer


class Expectation(NamedTuple):
    """The identity and the inputs that a result should have now."""

    identity: str
    inputs: Mapping[str, str]


class State(NamedTuple):
    """The status of a result, with a reason. `blocked` means that an input is not fresh, so the result cannot be made now."""

    status: Literal["fresh", "stale", "missing", "blocked"]
    reason: str


class StaleInputError(ValueError):
    """Error for an input that is missing, stale or unusable."""


def what_changed(footer: Footer, expected: Expectation, code_version: int) -> str:
    """Return the difference between a stored result and its expectation as text, such as "an older raw_pool"."""
    changed = [
        name.partition(".")[0]
        for name in sorted({*footer.inputs, *expected.inputs})
        if footer.inputs.get(name) != expected.inputs.get(name)
    ]
    if changed:
        return f"an older {', '.join(dict.fromkeys(changed))}"
    return "older code" if footer.code_version != code_version else "other settings of the experiment file"
