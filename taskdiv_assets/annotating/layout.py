"""Columns of a list for annotators: the columns of every list, the user's own id, and further columns that the user requested.

The ledger stores the layout with the rows, so that a list can be written again with the same columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Self, TypedDict

DRAFT = "draft"  # column of the drafts, if the list has any
OWN_ID = "source_id"  # name of the own id column if it has no name in the user's file, or a RESERVED one
# Columns of every list, columns that the import reads, and columns that identify exports of Label Studio.
RESERVED = frozenset(("prompt_id", "task", "rank", "prompt", "instructions", "response", "annotator"))
RESERVED |= {"annotation_id", "created_at", "updated_at", "was_cancelled"}
# Columns of Label Studio. In its exports, they replace our columns of the same name.
TAKEN = frozenset(("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement", "result"))


class Row(TypedDict):
    """One prompt for an annotator."""

    prompt_id: str
    task: str
    rank: int  # position in the order of the list, from 0; the smallest position for a prompt of several lists
    prompt: str
    instructions: str
    own_id: NotRequired[str | None]  # id of the user's own file, if the layout has such a column
    extras: NotRequired[Sequence[str | None]]  # one value for each extra column of the layout
    draft: NotRequired[str]  # text to edit; missing in a list without drafts, and if no text was written for the prompt


@dataclass(frozen=True)
class Layout:
    """Columns of a list. The default values are the layout of lists that earlier versions exported."""

    own_id: str | None = None  # column of the ids of the user's own file; None if the pool has none
    has_tasks: bool = True  # whether the list has the column `task`
    extras: tuple[str, ...] = ()  # further columns of the user's file
    drafts: str | None = None  # who wrote the drafts; None if the list has no column `draft`
    annotator: str | None = None  # value of the column `annotator`, if the file is for one person

    @classmethod
    def parse(cls, raw: Mapping[str, Any] | None) -> Self:
        """Return the layout in the JSON of a ledger entry; the default layout for None, as in entries of earlier versions."""
        return (
            cls()
            if raw is None
            else cls(raw["own_id"], bool(raw["has_tasks"]), tuple(raw["extras"]), raw.get("drafts"))
        )

    def values(self, row: Row) -> dict[str, str | int | None]:
        """Return the values of a row by column, in the order of the columns, without the column `response`.

        >>> row = Row(prompt_id="ab", task="x", rank=0, prompt="Why?", instructions="Briefly.", own_id="T1", extras=["mail"])
        >>> ", ".join(Layout("ticket", False, ("channel",)).values(row))
        'ticket, prompt_id, rank, prompt, channel, instructions'
        """
        return {
            **({} if self.own_id is None else {self.own_id: row.get("own_id")}),
            "prompt_id": row["prompt_id"],
            **({"task": row["task"]} if self.has_tasks else {}),
            "rank": row["rank"],
            "prompt": row["prompt"],
            **dict(zip(self.extras, row.get("extras", ()), strict=True)),
            "instructions": row["instructions"],
            **({DRAFT: row.get("draft")} if self.drafts is not None else {}),
            **({} if self.annotator is None else {"annotator": self.annotator}),
        }


DEFAULT = Layout()


def folded(name: str) -> str:
    """Return a column's name in the form that the import compares: lower case, without surrounding blanks."""
    return name.strip().lower()


def own_id_column(name: str | None) -> str:
    """Return the name of a list's own id column: `name`, as in the user's file; `source_id` if `name` is None or in RESERVED."""
    return OWN_ID if name is None or folded(name) in RESERVED else name


def check_extras(names: Sequence[str], own_id: str | None) -> tuple[str, ...]:
    """Return the further columns of a list, each once, without the own id column.

    Raise ValueError for an empty or reserved name, and for names that differ only in case or surrounding blanks.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if not name.strip():
            raise ValueError("--with has an empty name; expected names of columns, such as --with channel,ticket")
        if name == own_id:
            continue
        if folded(name) in RESERVED:
            raise ValueError(
                f"--with {name}: lists or imports use a column {folded(name)!r} themselves; expected the name of another column. "
                "Rename yours in the file to export it"
            )
        other = found.setdefault(folded(name), name)
        if other != name or (own_id is not None and folded(name) == folded(own_id)):
            clash = other if other != name else own_id
            raise ValueError(f"--with: {clash!r} and {name!r} differ only in case; expected one of them")
    return tuple(found.values())
