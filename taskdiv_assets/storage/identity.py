"""Identity: one hash of everything that determines a result.

It is Dagster's data version and the key in the store (docs/STORAGE.md). Information about how a result was made (device, paths,
workers, library versions) is recorded beside it and never hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def canonical_json(value: object) -> str:
    """Return JSON that is the same text for the same content: sorted keys, no blanks, floats by `repr`, no NaN.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: object) -> str:
    """Return the first 32 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def identity(kind: str, code_version: int, settings: Mapping[str, object], inputs: Mapping[str, str]) -> str:
    """Return the identity of one result, 32 hex digits.

    Args:
        kind: such as `adapter`.
        code_version: increased when a change of the code changes the result.
        settings: the experiment's fields that the result depends on, and decisions of the hardware that change numbers.
        inputs: identities of the results that are read.
    """
    return digest({"kind": kind, "code_version": code_version, "settings": dict(settings), "inputs": dict(inputs)})
