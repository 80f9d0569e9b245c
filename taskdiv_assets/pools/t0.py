"""T0 (P3): 55,185 instructions under 283 templates, each template a task.

The file has FLAN's columns (id, task, instruction, output, split), so the conversion is `flan`'s; 1,400 rows
have a blank output, which is read as an answer that is not known.
"""

from taskdiv_assets.pools.flan import choose, to_part

__all__ = ["choose", "to_part"]
