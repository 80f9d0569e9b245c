"""The argument and the result of an asset's `make`: `Work` and `Product`. Neither depends on Dagster."""

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
from taskdiv_assets.graph.units import Expectation, StaleInputError, Unit
from taskdiv_assets.language_model.control import around
from taskdiv_assets.language_model.loading import in_chat_template
from taskdiv_assets.language_model.texts import without_start
from taskdiv_assets.storage.progress import Progress, note
from taskdiv_assets.storage.store import Store


@dataclass(frozen=True)
class Work:
    """The argument of an asset's `make`: the experiment, its stored inputs, and methods for log and progress."""

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
        """Return a stored table. Raise StaleInputError if the table is not fresh.

        Raise UndeclaredInputError if `asset` is neither `self.asset` nor in `reads` of `self.asset`.
        """
        if asset != self.unit.asset and asset not in self.lineage.registry.reads(self.unit.asset):
            raise UndeclaredInputError(f"{self.unit.asset} reads {asset}; add {asset!r} to `reads` of its declaration")
        expected = self.lineage.fresh(Unit(asset, key))
        stored = self.store.read_table(asset, key)
        if stored.footer.identity != expected.identity:
            raise StaleInputError(f"{Unit(asset, key)} was replaced while {self.unit} was made from it; run it again")
        return stored.table

    def parameters(self) -> Mapping[str, Any]:
        return {} if self.asset.parameters is None else self.asset.parameters(self)

    def wait(self, sentence: str) -> None:
        """Write a sentence, such as the reason why this step waits, to Dagster's log and to the terminal."""
        self.log(sentence)
        note(sentence)

    def progress(self, what: str, unit: str = "items") -> Progress:
        """Return a reporter of progress, which is a callback (done, total) and a context manager."""
        return Progress(f"{self.unit}: {what}", self.log, unit)

    @cached_property
    def template(self) -> str:
        """Template of the text that the base model reads. It contains `{prompt}` once.

        Raises StaleInputError if the base model is not fresh, and the errors of `template_for`.
        """
        return self.template_for(self.lineage.fresh(Unit("base_model")).identity)

    def template_for(self, model: str) -> str:
        """Return the template for a model, given its identity.

        If the experiment uses chat templates, the prompt template is inserted into the chat template of this model. Otherwise, a
        start token that the base model's tokenizer adds anyway is removed from the prompt template.

        Raise ValueError if the model's chat template cannot be used (see `in_chat_template`).
        """
        if self.experiment.chat_template:
            return in_chat_template(self.store.fetch_folder(model), self.experiment.prompt_template)
        return without_start(self.experiment.prompt_template, self.lineage.models.start)

    def render(self, prompts: Sequence[str], template: str | None = None) -> list[str]:
        """Insert each prompt into a template (default: `self.template`).

        The results contain marks around the text of the template, so that it can be separated from the prompt (see
        `language_model.control`).
        """
        before, _, after = (self.template if template is None else template).partition("{prompt}")
        return [around(before, prompt, after) for prompt in prompts]


@dataclass(frozen=True)
class Product:
    """The result of an asset's `make`.

    `notes` (facts about the result) and `parts` (name of a part of the table -> hash of this part) are stored in the footer.
    `files` (path inside the store -> content) are stored with the table if the table is valid. `parameters` override the values
    of `Asset.parameters`, which may have been computed from an older table.
    """

    table: pa.Table
    notes: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
