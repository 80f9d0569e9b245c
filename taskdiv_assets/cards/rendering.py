"""The templates of both kinds of cards, the placeholder for a licence, and the description of a pool's source."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from taskdiv_assets.cards.facts import PoolSource
from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.markdown import text
from taskdiv_assets.storage.identity import digest

if TYPE_CHECKING:
    from huggingface_hub import CardData
    from jinja2 import Template

NAMED_FILES_N = 5
# The hub's value for a licence that is not in its list. The user has to choose a licence.
UNCHOSEN_LICENSE = {"license": "other", "license_name": "to-be-chosen"}


def render(template: str, data: CardData, **values: object) -> str:
    """Render a card: the front matter by huggingface_hub, then the text by a template.

    `ModelCard.from_template` would parse the card a second time and drop the comments of the front matter.
    """
    return _template(template).render(card_data=data.to_yaml(), **values)


@lru_cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals |= {one: getattr(markdown, one) for one in ("text", "table", "block", "literal")}
    return environment.get_template(name)


def source_words(source: PoolSource) -> str:
    """Describe the source of a pool's prompts in one line of Markdown."""
    if source.lab_seed is not None:
        return f"the lab's own, made by a procedure from seed {source.lab_seed}"
    if source.hub:
        return f"{text(source.hub)} at revision {text(source.revision)}, split {text(source.split)}, read as {source.reader}"
    if len(source.sha256) > NAMED_FILES_N:
        return f"read as {source.reader} from {len(source.sha256):,} files; digest of their sha256 `{digest(source.sha256)}`"
    hashes = ", ".join(f"`{value}`" for value in source.sha256)
    return f"read as {source.reader} from files with sha256 {hashes}"
