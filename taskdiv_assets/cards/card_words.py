"""Words that both cards have."""

from __future__ import annotations

from taskdiv_assets.cards.facts import PoolSource
from taskdiv_assets.cards.markdown import text
from taskdiv_assets.storage.identity import digest

NAMED_FILES_N = 5


def source_words(source: PoolSource) -> str:
    """Where prompts came from, as Markdown on one line."""
    if source.lab_seed is not None:
        return f"the lab's own, made by a procedure from seed {source.lab_seed}"
    if source.hub:
        return f"{text(source.hub)} at revision {text(source.revision)}, split {text(source.split)}, read as {source.reader}"
    if len(source.sha256) > NAMED_FILES_N:
        return f"read as {source.reader} from {len(source.sha256):,} files; digest of their sha256 `{digest(source.sha256)}`"
    hashes = ", ".join(f"`{value}`" for value in source.sha256)
    return f"read as {source.reader} from files with sha256 {hashes}"
