"""What a stage of the graph is: a function from the store to one table, without Dagster.

`assets/` wraps each stage as a software-defined asset; `produce` there looks results up, validates and publishes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.models import Expectation, StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.control import around
from taskdiv_assets.language_model.loading import in_chat_template
from taskdiv_assets.language_model.texts import without_start
from taskdiv_assets.storage.progress import Progress, note
from taskdiv_assets.storage.store import Store


@dataclass(frozen=True)
class Work:
    """All that a stage may read, and where it tells how far it is."""

    experiment: Experiment
    store: Store
    lineage: Lineage
    unit: Unit
    expected: Expectation
    log: Callable[[str], None]

    @property
    def cell(self) -> Cell:
        """Budget and strategy of a partition `budget|strategy`."""
        return Cell.parse(self.unit.key or "")

    def read(self, asset: str, key: str | None = None) -> pa.Table:
        """A stored input, compared with what its own inputs are now.

        Raises:
            StaleInputError: it is missing or was made from something that has changed since.
        """
        expected = self.lineage.fresh(Unit(asset, key))
        stored = self.store.read_table(asset, key)
        if stored.footer.identity != expected.identity:
            raise StaleInputError(f"{Unit(asset, key)} was replaced while {self.unit} was made from it; run it again")
        return stored.table

    def wait(self, sentence: str) -> None:
        """Say what this step waits for, in Dagster's log and in the terminal."""
        self.log(sentence)
        note(sentence)

    def progress(self, what: str, unit: str = "items") -> Progress:
        """A callable (done, total) that passes progress on."""
        return Progress(f"{self.unit}: {what}", self.log, unit)

    @cached_property
    def template(self) -> str:
        """What stands around a prompt that the base reads, with one {prompt}."""
        return self.template_for(self.lineage.fresh(Unit("base_model")).identity)

    def template_for(self, model: str) -> str:
        """The experiment's template, in the chat template of the model of that identity if the experiment asks for it."""
        if self.experiment.chat_template:
            return in_chat_template(self.store.fetch_folder(model), self.experiment.prompt_template)
        return without_start(self.experiment.prompt_template, self.lineage.models.start)

    def render(self, prompts: Sequence[str], template: str | None = None) -> list[str]:
        """Return prompts as a model reads them, the base unless another's template is given; the template's parts are marked."""
        before, _, after = (self.template if template is None else template).partition("{prompt}")
        return [around(before, prompt, after) for prompt in prompts]


@dataclass(frozen=True)
class Product:
    """What a stage made: a table, what is worth noting in its footer, and files that go out with it once it is valid.

    `parameters` go before those that the stage takes from what is stored, which is then the table before this one.
    """

    table: pa.Table
    notes: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)  # path inside the store → content
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of its contract, that only the work itself knows


@dataclass(frozen=True)
class Stage:
    """One asset of the graph.

    Attributes:
        make: does the work.
        parameters: what the contract has to be told to judge the table (`$name` in its rules), from stored inputs.
        partitions: none, one per strategy, or one per budget and strategy.
        deps: the assets that it reads.
        needs_model: holds the language model, so it takes a slot of the `accelerator` pool.
        picture: draws the table where a look says more than rows; PNG bytes.
        summary: says in Markdown what the notes hold, for the UI.
        prepare: puts into the store what the identity depends on beside stored tables; True if something was put.
        afterwards: puts what is derived from this table and others, once it is stored or was found up to date.
    """

    name: str
    make: Callable[[Work], Product]
    deps: tuple[str, ...]
    description: str
    parameters: Callable[[Work], Mapping[str, Any]] = lambda work: {}
    partitions: Literal["none", "strategy", "cell"] = "none"
    kinds: frozenset[str] = frozenset({"python", "parquet"})
    needs_model: bool = False
    picture: Callable[[pa.Table, Mapping[str, Any]], bytes] | None = None
    summary: Callable[[Mapping[str, Any]], str] | None = None
    prepare: Callable[[Work], bool] = lambda work: False
    afterwards: Callable[[Work], None] = lambda work: None
