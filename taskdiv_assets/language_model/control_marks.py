"""Find the data that contain the text of a model's special tokens.

Earlier versions of this package read such a text as the special token. So the identity of a result from such data has one more
entry, and all other identities are unchanged. `language_model.control` defines how the texts are read now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.language_model.control import names_pattern

if TYPE_CHECKING:
    import pyarrow as pa

MARK = "the text of a control token is text"
SETTING: dict[str, object] = {"control_tokens": "text"}
SIGNS = "signs"  # entry in the footer of raw_pool: for each column, the parts of its texts that `signs_in` returns
SIGNS_MAX_N = 1_000
SIGN_FORMS = (re.compile(r"<[^<>\s]{1,60}>"), re.compile(r"\[[^\[\]\s]{1,60}\]"))


def signs_in(texts: pa.ChunkedArray | pa.Array) -> list[str] | None:
    """Return all different parts `<…>` and `[…]` of the texts, sorted; None if there are more than 1,000 different parts.

    A part has 1 to 60 characters between its brackets, without whitespace and without brackets of the same kind. Nearly all
    special tokens have this form, so the list of these parts can prove that a pool contains no special token (see `rule_out`).

    >>> import pyarrow as pa
    >>> signs_in(pa.array(["a</s>b", "[[INST]] 1 < 2 > 1", None]))
    ['</s>', '[INST]']
    """
    import pyarrow.compute as pc

    found: set[str] = set()
    for form, opening in zip(SIGN_FORMS, "<[", strict=True):
        some = texts.filter(pc.fill_null(pc.match_substring(texts, opening), False))
        for start in range(0, len(some), SIGNS_MAX_N):
            for text in some.slice(start, SIGNS_MAX_N).to_pylist():
                found.update(form.findall(text))
            if len(found) > SIGNS_MAX_N:
                return None
    return sorted(found)


def rule_out(names: Iterable[str], signs: Sequence[str] | None) -> bool:
    """Return True if `signs`, from `signs_in`, prove that no text contains any of the names.

    Nothing can be proved if `signs` is None, or if a name does not have the form of a part of `signs_in`. Then return False.

    >>> rule_out(["</s>"], ["<b>"]), rule_out(["</s>"], ["</s>"]), rule_out(["END"], []), rule_out(["</s>"], None)
    (True, False, False, False)
    """
    return signs is not None and all(
        name not in signs and any(form.fullmatch(name) for form in SIGN_FORMS) for name in names
    )


def holding(texts: pa.ChunkedArray | pa.Array, names: Iterable[str]) -> NDArray[np.bool_]:  # (n,)
    """Return a mask of the texts that contain at least one of the names; False for a missing text.

    >>> import pyarrow as pa
    >>> holding(pa.array(["a</s>b", "ab", None]), ["</s>"]).tolist()
    [True, False, False]
    """
    import pyarrow.compute as pc

    found = np.zeros(len(texts), np.bool_)
    if names := list(names):
        matches = pc.fill_null(pc.match_substring_regex(texts, names_pattern(names)), False)
        found = matches.to_numpy(zero_copy_only=False)
    return found


def held_in(content: object, names: Iterable[str]) -> bool:
    """Return True if `content`, a text or nested lists and mappings of texts, contains one of the names, except in keys."""
    pattern = re.compile(names_pattern(names))

    def holds(value: object) -> bool:
        if isinstance(value, str):
            return pattern.search(value) is not None
        if isinstance(value, Mapping):
            return any(map(holds, value.values()))
        return isinstance(value, Sequence) and not isinstance(value, bytes) and any(map(holds, value))

    return holds(content)


def names_in_files(read: Callable[[str], bytes | None]) -> tuple[str, ...]:  # None: no such file
    """Return the special tokens in a tokenizer's files; raise ValueError if one is damaged. `read` maps file names to bytes."""
    names: set[str] = set()
    for file in ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"):
        try:
            named = _named(json.loads(read(file) or b"{}"))
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"its {file} cannot be read ({error})") from None
        texts = (value.get("content") if isinstance(value, Mapping) else value for value in named)
        names.update(text for text in texts if isinstance(text, str) and text)
    return tuple(sorted(names))


def _named(content: Mapping[str, Any]) -> list[object]:
    named = [value for key, value in content.items() if key.endswith("_token")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more = content.get(key) or []
        named += more.values() if isinstance(more, Mapping) else more
    added = [*(content.get("added_tokens_decoder") or {}).values(), *(content.get("added_tokens") or [])]
    return named + [token for token in added if token.get("special")]
