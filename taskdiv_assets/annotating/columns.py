"""Which columns of an answer file hold the ids, the answer and the annotator, and what the user said of them.

In: `--columns`, the names that lists were sent out with, and a header. Out: names, compared without case and without blanks
around them. Reading the cells is the business of `sheets` and `answer_files`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from taskdiv_assets.annotating.layout import OWN_ID, TAKEN, folded

ROLES = ("prompt_id", "id", "response", "annotator")


@dataclass(frozen=True)
class Names:
    """Names of the columns that an import reads, folded.

    Attributes:
        own_ids: columns of the user's own ids that lists were sent out with.
        given: role and name of those that the user named; they have to be there.
    """

    prompt_id: str = "prompt_id"
    response: str = "response"
    annotator: str = "annotator"
    own_ids: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """Read `response=Antwort,prompt_id=ID`.

        Raises:
            ValueError: a part has another shape, an unknown role, or a role or a column stands there twice.
        """
        given: dict[str, str] = {}
        for part in (part for text in texts for part in re.split(r",(?=[^,=]*=)", text)):
            role, sign, name = (piece.strip() for piece in part.partition("="))
            if not sign or not name:
                raise ValueError(f"--columns {part.strip()!r}: expected WHAT=COLUMN, such as response=Antwort")
            if role not in ROLES:
                near = difflib.get_close_matches(role, ROLES, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                expected = f"expected one of {', '.join(ROLES)} before the ="
                raise ValueError(f"--columns {part.strip()!r}: {expected}, found {role!r}{hint}")
            if role in given or folded(name) in map(folded, given.values()):
                raise ValueError(f"--columns {part.strip()!r}: {role} or {name!r} is named twice; keep one of them")
            given[role] = name
        names = {role: folded(name) for role, name in given.items() if role != "id"}
        own = (folded(given["id"]),) if "id" in given else ()
        return cls(**names, own_ids=own, given=tuple(given.items()))

    def of_lists(self, own_ids: Collection[str]) -> Names:
        """Return these names with the own ids of an experiment's lists, unless the user named the column."""
        is_named = any(role == "id" for role, _ in self.given)
        return self if is_named else replace(self, own_ids=tuple(dict.fromkeys(map(folded, own_ids))))

    def own_columns(self, present: Collection[str], *, is_label_studio: bool = False) -> list[str]:
        """Return the columns of a row that hold own ids.

        `source_id` and `id` are taken for them only where no other id is there: many programs number rows so. Label Studio
        has an `id` of its own.
        """
        wanted = [OWN_ID if is_label_studio and name in TAKEN else name for name in self.own_ids]
        found = [name for name in wanted if name in present]
        if found or self.prompt_id in present:
            return found
        return [name for name in (OWN_ID, "id") if name in present and not (is_label_studio and name in TAKEN)][:1]

    def are_in(self, header: Collection[str]) -> bool:
        """True if a header has an answer and an id."""
        has_id = self.prompt_id in header or bool(self.own_columns(header))
        return self.response in header and has_id and not self.lacking(header)

    def read_of(self, header: Sequence[str]) -> set[str]:
        """Names of a header that are read."""
        return {name for name in header if name in {self.prompt_id, self.response, self.annotator, *self.own_ids}}

    def lacking(self, header: Collection[str]) -> list[tuple[str, str]]:
        """Role and name of what the user named and a header does not have."""
        return [(role, name) for role, name in self.given if folded(name) not in header]

    def complaint(self, shown: str, header: Sequence[str]) -> str:
        """Say why a header does not do.

        Args:
            shown: the row as it stands in the file.
            header: its names.
        """
        lacking = self.lacking(header)
        if lacking:
            return self.lacking_complaint(lacking[0], header)
        ids = " or ".join(dict.fromkeys((self.prompt_id, *self.own_ids)))
        return (
            f"the first row is {shown!r}; expected a header with the columns {ids} and {self.response}. If they have other "
            "names, say --columns prompt_id=NAME,response=NAME (id=NAME for ids of your own)"
        )

    def lacking_complaint(self, lacking: tuple[str, str], header: Sequence[str]) -> str:
        """Say that a column which the user named is not there, with the near miss."""
        role, name = lacking
        near = difflib.get_close_matches(folded(name), header, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        there = ", ".join(map(repr, filter(None, header)))
        return f"there is no column {name!r} (--columns {role}={name}); the columns are {there}{hint}"


def folded_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of JSON with its names as they are compared; a name that is spelled so already wins."""
    return {**{folded(name): value for name, value in row.items()}, **{n: v for n, v in row.items() if folded(n) == n}}
