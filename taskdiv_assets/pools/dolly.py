"""Reader of databricks-dolly-15k, as a file or from the hub: 15,011 instructions written by people, in eight categories.

The prompt is the instruction, followed by the context after a blank line if there is one. The category is the task.
"""

from collections.abc import Sequence

from taskdiv_assets.pools.frame import Part
from taskdiv_assets.pools.values import Source, require
from taskdiv_assets.pools.visible import is_blank

COLUMNS = ("instruction", "context", "response", "category")


def choose(names: tuple[str, ...], place: str) -> Sequence[str]:
    """Return the names of the four columns of Dolly; raise ValueError if a column is missing."""
    require(names, COLUMNS, place)
    return COLUMNS


def to_part(source: Source) -> Part:
    """Return the rows of Dolly in file order. The rows have no own ids."""
    instructions, contexts, responses, categories = (source.columns[name] for name in COLUMNS)
    prompts = [_prompt(*row) for row in zip(instructions, contexts, strict=True)]
    return Part.whole(source.name, prompts, responses, categories)


def _prompt(instruction: str | None, context: str | None) -> str | None:
    if is_blank(instruction):
        return None  # a context without an instruction is not a prompt
    return f"{instruction}\n\n{context}" if context and not is_blank(context) else instruction
