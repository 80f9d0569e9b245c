"""Hashes of the sources of the pool, the task labels, the models and users' orders. The hashes are part of identities.

The footer of a stored table contains the mark (see `remote.mark`) and the hash of each remote source that has a mark. So a worker
with an empty disk can check without a download that such a source has not changed.
"""

from collections.abc import Callable
from pathlib import Path

from data_contracts.footer import Footer
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.benchmark_settings import HeldOutBenchmark
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.graph.models import folder_hash
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.language_model import sentence_embedder
from taskdiv_assets.pools.read import fingerprint
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import digest


class SourceHashes:
    """The hashes of one experiment's sources. `footer` returns the footer of a stored table; None if there is none."""

    def __init__(self, experiment: Experiment, footer: Callable[[Unit], Footer | None]) -> None:
        self.experiment, self._footer = experiment, footer
        self._marks: dict[Unit, dict[str, str]] = {}  # unit → mark of each remote source → SHA-256 of the source

    def raw_pool(self) -> dict[str, str]:
        """Return the values of `pools.read.fingerprint` in reading order; the stored values if a source cannot be read."""
        return self._hashes(Unit("raw_pool"), lambda marks: list(fingerprint(self.experiment.pool, marks).values()))

    def task_labels(self) -> dict[str, str]:
        """Return the hash of the mapping file of `task_labels`; {} if the experiment has no such file."""
        path = self.experiment.task_labels.path
        return {"mapping": remote.sha256_of(path, self._known(Unit("task_labels")))} if path else {}

    def for_held_out(self, benchmark: HeldOutBenchmark) -> dict[str, str]:
        """Return the hash of the file that decides which prompts are held out; {} without such a file.

        This is the file with the items if `benchmark` names one, and otherwise the mapping file of `task_labels`.
        """
        own = {"held_out": benchmark.path} if benchmark.path else {"mapping": self.experiment.task_labels.path}
        known = self._known(Unit("raw_pool"))
        return {name: remote.sha256_of(path, known) for name, path in own.items() if path}

    def base_model(self) -> dict[str, str]:
        """Return the hash of a base model's files (the stored hash if the files cannot be read); {} without a path or URL."""
        path = None if self.experiment.base_model is None else self.experiment.base_model.path
        return self._hashes(Unit("base_model"), lambda marks: [folder_hash(path, marks)]) if path else {}

    def view_file(self) -> dict[str, str]:
        """Return the hash of the file with the user's embeddings; {} if tasks are not found by such a file.

        If the file cannot be read, return the stored hash. If no hash is stored either, raise ValueError.
        """
        path = self.experiment.task_labels.view_file
        if path is None:
            return {}
        try:
            return self._hashes(Unit("task_labels"), lambda marks: [remote.sha256_of(path, marks)])
        except (FileNotFoundError, IsADirectoryError):
            said = f"there is no file {path}; check `view: {{file: …}}` in the experiment file"
            raise ValueError(said) from None

    def sentence_embedder(self) -> dict[str, str]:
        """Return the hash of a sentence embedder's files (the stored hash if the files cannot be read); {} without a path."""
        source = self.experiment.task_labels.embedder
        if source is None or source.path is None:
            return {}
        folder = Path(source.path)
        return self._hashes(Unit("sentence_embeddings"), lambda _: [digest(sentence_embedder.fingerprint(folder))])

    def own_order(self, order: OwnOrder) -> dict[str, str]:
        """Return the hash of a file with the user's order or scores of prompts.

        Raises:
            ValueError: the file does not exist, and the store has no ranking by the strategy `order.name`.
        """
        try:
            return self._hashes(Unit("ranking", order.name), lambda marks: [remote.sha256_of(order.path, marks)])
        except (FileNotFoundError, IsADirectoryError):
            key = "scores" if order.scores else "order_from"
            said = f"there is no file {order.path}; check `{key}` of strategy {order.name!r} in the experiment file"
            raise ValueError(said) from None

    def noted(self, asset: str, key: str | None = None) -> dict[str, dict[str, str]]:
        """Return a note for a table's footer: mark and hash of each remote source that has a mark; {} if there is none."""
        marks = self._marks.get(Unit(asset, key))
        return {"source_marks": marks} if marks else {}

    def _hashes(self, unit: Unit, read: Callable[[dict[str, str]], list[str]]) -> dict[str, str]:
        """Return the hashes of sources. If a source cannot be read, return the hashes in the stored footer.

        If there is no footer, raise the error.
        """
        try:
            return {f"source/{i}": value for i, value in enumerate(read(self._known(unit)))}
        except (ValueError, OSError):
            footer = self._footer(unit)
            if footer is None:
                raise
            return {name: value for name, value in footer.inputs.items() if name.startswith("source/")}

    def _known(self, unit: Unit) -> dict[str, str]:
        """Return the known hashes of a unit's sources by mark. They come from its stored footer; `known_or` adds others."""
        if unit not in self._marks:
            footer = self._footer(unit)
            self._marks[unit] = {**footer.notes.get("source_marks", {})} if footer else {}
        return self._marks[unit]
