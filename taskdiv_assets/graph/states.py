"""How a stored result compares with what it should be now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from data_contracts.footer import Footer


class Expectation(NamedTuple):
    """Identity and inputs that a result should have now."""

    identity: str
    inputs: Mapping[str, str]


class State(NamedTuple):
    """Comparison of a stored result with its expectation; `blocked` if one of its inputs is not fresh."""

    status: Literal["fresh", "stale", "missing", "blocked"]
    reason: str


class StaleInputError(ValueError):
    """An input is missing, or was made from something that has changed since."""


def what_changed(footer: Footer, expected: Expectation, code_version: int) -> str:
    """Return in words why a stored result differs from what it should be now."""
    changed = [
        name.partition(".")[0]
        for name in sorted({*footer.inputs, *expected.inputs})
        if footer.inputs.get(name) != expected.inputs.get(name)
    ]
    if changed:
        return f"an older {', '.join(dict.fromkeys(changed))}"
    return "older code" if footer.code_version != code_version else "other settings of the experiment file"
