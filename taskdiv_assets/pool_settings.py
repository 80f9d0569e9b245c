"""Where prompts and their tasks come from: the sections `pool` and `task_labels` of an experiment file.

What a file holds is read in `pools/`; nothing here opens one.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from taskdiv_assets.settings import PositiveInt, Seed, Settings


class Columns(Settings):
    """Which columns of a user's file hold what."""

    prompt: str
    response: str | None = None
    task: str | None = None
    id: str | None = None


class Pool(Settings):
    """Where the prompts come from. The lab's fields are read by `reader: lab` alone."""

    reader: Literal["lab", "dolly", "t0", "flan", "table"]
    path: str | list[str] | None = None
    hub: str | None = None
    revision: str | None = None
    split: str = "train"
    columns: Columns | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    sample: PositiveInt | None = None
    seed: Seed = 1
    tasks: list[str] | None = None
    largest_n: PositiveInt = 600
    smallest_n: PositiveInt = 24

    @model_validator(mode="after")
    def has_one_source(self) -> Self:
        """The lab makes its pool; every other reader needs a path, or a hub data set with its revision."""
        if self.reader == "lab":
            if self.path or self.hub:
                raise ValueError("reader `lab` makes its own pool: remove `path` and `hub`")
            return self
        if (self.path is None) == (self.hub is None):
            raise ValueError(f"reader `{self.reader}` needs either `path` or `hub` (with `revision`)")
        if self.hub and not self.revision:
            raise ValueError("`hub` needs `revision`: a commit of the data set, so that the pool is the same next year")
        if self.reader == "table" and self.columns is None:
            raise ValueError("reader `table` needs `columns`, at least `columns: {prompt: …}`")
        return self


class TaskLabels(Settings):
    """Where a prompt's task comes from: the source's own column, or a mapping file."""

    source: Literal["column", "mapping"] = Field(alias="from", default="column")
    path: str | None = None

    @model_validator(mode="after")
    def has_path(self) -> Self:
        """A mapping is a file."""
        if (self.source == "mapping") != (self.path is not None):
            raise ValueError("`from: mapping` needs `path`, and `from: column` takes none")
        return self
