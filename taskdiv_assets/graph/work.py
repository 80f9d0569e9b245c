"""The argument and the result of an asset's `make`: a view of the store, and a table. Neither knows Dagster."""

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
    """Everything that `make` of an asset may read, and callbacks for its log and progress."""

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
        """Return a stored input that is up to date.

        Raises:
            StaleInputError: it is missing, or its own inputs have changed since it was made.
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
        """Return a callback (done, total) for progress; it is also a context manager."""
        return Progress(f"{self.unit}: {what}", self.log, unit)

    @cached_property
    def template(self) -> str:
        """Text around a prompt that the base model reads, with one `{prompt}`."""
        return self.template_for(self.lineage.fresh(Unit("base_model")).identity)

    def template_for(self, model: str) -> str:
        """Return the experiment's template, inside the chat template of the model with this identity if it uses one."""
        if self.experiment.chat_template:
            return in_chat_template(self.store.fetch_folder(model), self.experiment.prompt_template)
        return without_start(self.experiment.prompt_template, self.lineage.models.start)

    def render(self, prompts: Sequence[str], template: str | None = None) -> list[str]:
        """Return prompts as a model reads them, with the template's own parts marked; `template` None is the base model's."""
        before, _, after = (self.template if template is None else template).partition("{prompt}")
        return [around(before, prompt, after) for prompt in prompts]


@dataclass(frozen=True)
class Product:
    """The result of `make`: a table, notes for its footer, and files that are stored with it once it is valid.

    Attributes:
        files: path inside the store -> content.
        parameters: values of the contract's `$names` that `make` alone knows. They override those of the asset, which come from
            the stored table before this one.
    """

    table: pa.Table
    notes: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
