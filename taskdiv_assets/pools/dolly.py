"""databricks-dolly-15k: 15,011 instructions by people, in eight categories.

The prompt is the instruction and, where there is one, the context after a blank line; the category is the
task. Source: the published databricks-dolly-15k.jsonl (instruction, context, response, category), from a file
or from the hub.
"""

from collections.abc import Sequence

from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.sources import Source, require
from taskdiv_assets.pools.visible import is_blank

COLUMNS = ("instruction", "context", "response", "category")


def choose(names: tuple[str, ...], place: str) -> Sequence[str]:
    """The four columns of Dolly; ValueError if one is missing."""
    require(names, COLUMNS, place)
    return COLUMNS


def to_part(source: Source) -> Part:
    """Rows of Dolly in the order of the file; it has no ids of its own."""
    instructions, contexts, responses, categories = (source.columns[name] for name in COLUMNS)
    return Part(
        name=source.name,
        prompts=[_prompt(*row) for row in zip(instructions, contexts, strict=True)],
        responses=responses,
        source_tasks=categories,
        source_ids=None,
        rows=range(1, source.rows_n + 1),
        rows_read_n=source.rows_n,
        drops={},
    )


def _prompt(instruction: str | None, context: str | None) -> str | None:
    """None for a blank instruction, even where there is a context: nothing is asked."""
    if is_blank(instruction):
        return None
    return f"{instruction}\n\n{context}" if context and not is_blank(context) else instruction
