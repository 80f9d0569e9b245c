"""Which columns a list for annotators has: those of every list, the user's own id, and columns that were asked for.

The ledger keeps the layout with the rows, so a list is written again with the same columns. What a file looks like byte by
byte is decided in `formats`; where own ids and further columns come from, in `lists`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Self, TypedDict

OWN_ID = "source_id"  # what the own id is called where its column has no name, or one that a list needs itself
# Columns of every list, those that the import reads, and those by which it knows Label Studio's exports.
RESERVED = frozenset(
    (
        *("prompt_id", "task", "rank", "prompt", "instructions", "response", "annotator"),
        *("annotation_id", "created_at", "updated_at", "was_cancelled"),
    )
)
# Columns of Label Studio's own, which its exports put over ours of the same name.
TAKEN = frozenset(("id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement", "result"))


class Row(TypedDict):
    """One prompt for an annotator.

    `rank` counts from 0 in the order of the cell's seed; of several lists it is the smallest. `own_id` is there if the layout
    has one, `extras` has one value for each of the layout's.
    """

    prompt_id: str
    task: str
    rank: int
    prompt: str
    instructions: str
    own_id: NotRequired[str | None]
    extras: NotRequired[Sequence[str | None]]


@dataclass(frozen=True)
class Layout:
    """The columns of a list. The default is that of lists which earlier versions sent out.

    Attributes:
        own_id: name of the column with the user's own ids; None where the pool has none.
        has_tasks: False where nobody named tasks.
        extras: columns of the user's file that were asked for.
    """

    own_id: str | None = None
    has_tasks: bool = True
    extras: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: Mapping[str, Any] | None) -> Self:
        """Read a layout from an entry of the ledger; entries of earlier versions have none."""
        return cls() if raw is None else cls(raw["own_id"], bool(raw["has_tasks"]), tuple(raw["extras"]))

    def values(self, row: Row) -> dict[str, str | int | None]:
        """Return what a row says in each column, in the order of the columns, without the empty `response`.

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
        }


DEFAULT = Layout()


def folded(name: str) -> str:
    """Return a column's name as the import compares it: without blanks around it, in lower case."""
    return name.strip().lower()


def own_id_column(name: str | None) -> str:
    """Return what the own id's column is called in a list: as in the user's file, unless a list needs the name itself."""
    return OWN_ID if name is None or folded(name) in RESERVED else name


def check_extras(names: Sequence[str], own_id: str | None) -> tuple[str, ...]:
    """Return the further columns of a list, each once; the own id is there already.

    Raises:
        ValueError: a name is one that the list needs itself, or two differ in case alone.
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if not name.strip():
            raise ValueError("--with has an empty name; expected names of columns, such as --with channel,ticket")
        if name == own_id:
            continue
        if folded(name) in RESERVED:
            raise ValueError(
                f"--with {name}: a list has a column {folded(name)!r} of its own, or the import reads one; expected the name "
                "of another column. Rename yours in the file to carry it"
            )
        other = found.setdefault(folded(name), name)
        if other != name or (own_id is not None and folded(name) == folded(own_id)):
            clash = other if other != name else own_id
            raise ValueError(f"--with: {clash!r} and {name!r} differ in case alone; expected one of them")
    return tuple(found.values())
