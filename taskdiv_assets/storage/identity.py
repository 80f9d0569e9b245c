"""Identity: one hash of everything that makes a result.

It is Dagster's data version and the key in the store (STORE.md). What only says how a result was made (device, paths,
workers, library versions) is recorded beside it and never hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def canonical_json(value: object) -> str:
    """JSON that is the same text for the same content: sorted keys, no blanks, floats by `repr`, no NaN.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: object) -> str:
    """First 32 hex digits of sha256 over canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def identity(kind: str, code_version: int, settings: Mapping[str, object], inputs: Mapping[str, str]) -> str:
    """Identity of one result.

    Args:
        kind: what it is, such as `adapter`.
        code_version: raised when the code changes what comes out.
        settings: the experiment's fields that this result depends on, and decisions of the hardware that change numbers.
        inputs: identities of what is read, restricted to what is read.

    Returns: 32 hex digits.
    """
    return digest({"kind": kind, "code_version": code_version, "settings": dict(settings), "inputs": dict(inputs)})
