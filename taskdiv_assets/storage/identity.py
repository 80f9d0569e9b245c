"""The identity of a result: a hash of the code version, the settings and the inputs that determine the result.

Dagster stores the identity as the data version of the result. If the result is a folder in the store, the identity is also the
folder's name (docs/STORAGE.md). Paths, the number of workers and library versions are not hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def canonical_json(value: object) -> str:
    """Return a value as JSON with sorted keys and no blanks between tokens; raise ValueError for NaN and infinite numbers.

    >>> canonical_json({"b": 0.1, "a": [1, None]})
    '{"a":[1,null],"b":0.1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: object) -> str:
    """Return the first 32 hex digits of the SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def identity(kind: str, code_version: int, settings: Mapping[str, object], inputs: Mapping[str, str]) -> str:
    """Return the identity of one result: 32 hex digits.

    `kind` is the name of the result, such as "scores". `code_version` increases when a change of the code changes the result.
    `settings` are the experiment's fields that determine the result, and choices that depend on the hardware. `inputs` maps the
    name of each input to its identity or hash.
    """
    return digest({"kind": kind, "code_version": code_version, "settings": dict(settings), "inputs": dict(inputs)})
