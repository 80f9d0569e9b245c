"""Metadata of stored tables: the footer in a Parquet file, and the note about a table that broke its contract.

Readers validate the stored JSON. They ignore unknown fields, and fill missing fields that have a default. So they can read
files that older and newer versions of this package wrote.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

FOOTER_KEY = b"taskdiv"  # in the metadata of a Parquet file
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class RuleResult:
    """The result of one rule of a contract."""

    rule: str
    severity: str = "error"  # or "warning"
    passed: bool = True
    unexpected_n: int = 0  # failing rows of the rule's view
    examples: tuple[Any, ...] = ()  # at most 5 failing rows: keys and wrong values
    description: str = ""
    observed: str = ""


@dataclass(frozen=True)
class Footer:
    """The footer of a stored table. It is in the same Parquet file as the rows, and records how the table was made."""

    asset: str
    key: str | None = None
    identity: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # identity by input
    code_version: int | None = None
    run_id: str | None = None
    started_at: str = ""  # ISO 8601
    finished_at: str = ""
    wall_s: float = 0.0
    rules: tuple[RuleResult, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)  # identity by part of the table, for readers of one part
    environment: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Self | None:
        """Return the footer in the metadata of a Parquet file; None if there is none. Raise ValueError if it is not valid."""
        text = (metadata or {}).get(FOOTER_KEY)
        return None if text is None else _validated(cls, text)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, default=str)


@dataclass(frozen=True)
class Rejected:
    """The note about a table that broke its contract and was not published."""

    asset: str
    key: str | None = None
    identity: str = ""
    run_id: str | None = None
    rejected_at: str | None = None
    rules: tuple[RuleResult, ...] = ()  # the broken rules

    @classmethod
    def from_json(cls, text: bytes, asset: str, key: str | None) -> Self:
        """Return the note in a JSON text. Raise ValueError if the note is not valid.

        `asset` and `key` come from the path and are used if the text lacks them.
        """
        return _validated(cls, text, asset=asset, key=key)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1, default=str)


def _validated(kind: type[_Kind], text: bytes, **defaults: object) -> _Kind:
    try:
        raw = json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(raw, dict):
        raise ValueError(f"expected an object, found {type(raw).__name__}")
    try:
        found: _Kind = _adapter(kind).validate_python({**defaults, **raw})  # type: ignore[arg-type]  # every class is hashable
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
