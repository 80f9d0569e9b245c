"""The columns of an answer file that contain the ids, the answer and the annotator.

The names come from `--columns`, from the exported lists and from the file's header. Names are compared in "folded" form: lower
case, without surrounding blanks. An "own id" is an id of the user's own file.
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
    """Folded names of the columns that an import reads."""

    prompt_id: str = "prompt_id"
    response: str = "response"
    annotator: str = "annotator"
    own_ids: tuple[str, ...] = ()  # columns of own ids, as in the exported lists
    given: tuple[tuple[str, str], ...] = ()  # pairs of role and column from `--columns`; these columns must exist

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Self:
        """Parse values of `--columns` such as `response=Antwort,prompt_id=ID`; the text before each `=` is a role.

        Raise ValueError for a value of another form, an unknown role, or a role or column that occurs twice.
        """
        given: dict[str, str] = {}
        for part in (part for text in texts for part in re.split(r",(?=[^,=]*=)", text)):
            role, sign, name = (piece.strip() for piece in part.partition("="))
            if not sign or not name:
                raise ValueError(f"--columns {part.strip()!r}: expected WHAT=COLUMN, such as response=Antwort")
            if role not in ROLES:
                expected = f"expected one of {', '.join(ROLES)} before the ="
                raise ValueError(f"--columns {part.strip()!r}: {expected}, found {role!r}{_hint(role, ROLES)}")
            if role in given or folded(name) in map(folded, given.values()):
                raise ValueError(f"--columns {part.strip()!r}: {role} or {name!r} is named twice; keep one of them")
            given[role] = name
        names = {role: folded(name) for role, name in given.items() if role != "id"}
        own = (folded(given["id"]),) if "id" in given else ()
        return cls(**names, own_ids=own, given=tuple(given.items()))

    def of_lists(self, own_ids: Collection[str]) -> Names:
        """Return a copy whose `own_ids` are the own id columns of exported lists, or self if the user named an own id column."""
        is_named = any(role == "id" for role, _ in self.given)
        return self if is_named else replace(self, own_ids=tuple(dict.fromkeys(map(folded, own_ids))))

    def own_columns(self, present: Collection[str], *, is_label_studio: bool = False) -> list[str]:
        """Return the columns of a row that contain own ids: those columns in `own_ids` that the row has.

        If the row has none of these columns and no prompt_id, the result is the column `source_id` or, without it, the column
        `id`. Otherwise these two columns are ignored unless `own_ids` contains them, because many programs write row numbers
        there. In exports of Label Studio, `id` is always ignored, because it contains the ids of Label Studio.
        """
        wanted = [OWN_ID if is_label_studio and name in TAKEN else name for name in self.own_ids]
        found = [name for name in wanted if name in present]
        if found or self.prompt_id in present:
            return found
        return [name for name in (OWN_ID, "id") if name in present and not (is_label_studio and name in TAKEN)][:1]

    def are_in(self, header: Sequence[str]) -> bool:
        """Return True if a header has the answer column, an id column, and every column that the user named."""
        has_id = self.prompt_id in header or bool(self.own_columns(header))
        return self.response in header and has_id and not self.lacking_complaint(header)

    def complaint(self, shown: str, header: Sequence[str]) -> str:
        """Return an error message for a header that cannot be used. `shown` is the header as it is in the file."""
        ids = " or ".join(dict.fromkeys((self.prompt_id, *self.own_ids)))
        return self.lacking_complaint(header) or (
            f"the first row is {shown!r}; expected a header with the columns {ids} and {self.response}. If they have other "
            "names, use --columns prompt_id=NAME,response=NAME (id=NAME for ids of your own)"
        )

    def lacking_complaint(self, header: Sequence[str]) -> str:
        """Return an error message if a header lacks a column that the user named; otherwise ""."""
        for role, name in self.given:
            if folded(name) not in header:
                there = ", ".join(map(repr, filter(None, header)))
                hint = _hint(folded(name), header)
                return f"there is no column {name!r} (--columns {role}={name}); the columns are {there}{hint}"
        return ""

    def repeated_complaint(self, header: Sequence[str]) -> str:
        """Return an error message if a column that the import reads is in the header twice; otherwise ""."""
        read = {self.prompt_id, self.response, self.annotator, *self.own_ids}
        repeated = sorted(name for name in read if header.count(name) > 1)
        return f"the column {repeated[0]!r} is in the header twice; keep one of them" if repeated else ""


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def folded_header(cells: Sequence[str]) -> list[str]:
    """Return the folded names of a header, without the apostrophes that an export may add."""
    return [folded(cell).removeprefix("'") for cell in cells]


def folded_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with folded names. If two names become equal, the name that was already folded keeps its value."""
    return {**{folded(name): value for name, value in row.items()}, **{n: v for n, v in row.items() if folded(n) == n}}
