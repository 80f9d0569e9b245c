"""What the function of an asset receives and returns: a view of the store, and a table. Neither knows Dagster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.asset import Asset
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.inputs import UndeclaredInputError
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.states import Expectation, StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model.control import around
from taskdiv_assets.language_model.loading import in_chat_template
from taskdiv_assets.language_model.texts import without_start
from taskdiv_assets.storage.progress import Progress, note
from taskdiv_assets.storage.store import Store


@dataclass(frozen=True)
class Work:
    """Everything that the function of an asset may read, and callbacks for its log and progress."""

    experiment: Experiment
    store: Store
    lineage: Lineage
    unit: Unit
    expected: Expectation
    log: Callable[[str], None]

    @property
    def asset(self) -> Asset:
        return self.lineage.registry[self.unit.asset]

    @property
    def cell(self) -> Cell:
        return Cell.parse(self.unit.key or "")

    def read(self, asset: str, key: str | None = None) -> pa.Table:
        """Return a stored input, compared with what its own inputs are now.

        Raises:
            StaleInputError: it is missing or was made from something that has changed since.
            UndeclaredInputError: the asset's declaration does not list it.
        """
        if asset != self.unit.asset and asset not in self.lineage.registry.reads(self.unit.asset):
            raise UndeclaredInputError(f"{self.unit.asset} reads {asset}; add {asset!r} to `reads` of its declaration")
        expected = self.lineage.fresh(Unit(asset, key))
        stored = self.store.read_table(asset, key)
        if stored.footer.identity != expected.identity:
            raise StaleInputError(f"{Unit(asset, key)} was replaced while {self.unit} was made from it; run it again")
        return stored.table

    def parameters(self) -> Mapping[str, Any]:
        """Return the values of the contract's `$names`."""
        return {} if self.asset.parameters is None else self.asset.parameters(self)

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
