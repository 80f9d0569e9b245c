"""The registry: all assets of the graph in order, and facts that follow from their declarations."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.asset import EVERYTHING, Asset
from taskdiv_assets.graph.cells import PoolSize
from taskdiv_assets.graph.cells import expected as expected_cells
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit, ranked_strategies
from taskdiv_assets.storage.store import Store

CELL_SCORES = "benchmark_scores"  # the last asset of a variant
# Key of a variant → the first assets that its change affects. Assets that read them are affected, too.
CHANGED_BY: Mapping[str, tuple[str, ...]] = {
    "tuning": ("adapter",),
    "confidence": ("confidence_table",),
    "prompt_template": ("confidence_table", "prompt_embeddings", "adapter"),
    "chat_template": ("confidence_table", "template_embeddings", "prompt_embeddings", "adapter"),
}


class Registry:
    """All assets of the graph.

    Raises:
        ValueError: two assets have the same name, or an asset comes before an asset that it reads or runs after.
    """

    def __init__(self, assets: Sequence[Asset]) -> None:
        self._assets: dict[str, Asset] = {}
        for asset in assets:
            if asset.name in self._assets:
                raise ValueError(f"two assets are named {asset.name!r}; rename one of them")
            late = [name for name in (*asset.reads, *asset.runs_after) if name not in self._assets]
            if late and asset.reads != EVERYTHING:
                raise ValueError(
                    f"{asset.name} reads {late[0]!r}, which does not come before it; change the order in FILES"
                )
            self._assets[asset.name] = asset

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._assets.values())

    def __getitem__(self, name: str) -> Asset:
        return self._assets[name]

    def __contains__(self, name: object) -> bool:
        return name in self._assets

    def look(self, experiment: Experiment, store: Store) -> Lineage:
        return Lineage(experiment, store, self)

    def reads(self, name: str) -> tuple[str, ...]:
        """Return the names of the assets that an asset reads. `EVERYTHING` is replaced by the names of all other assets."""
        found = self[name].reads
        return tuple(other for other in self._assets if other != name) if found == EVERYTHING else found

    def reads_of(self, unit: Unit, experiment: Experiment) -> tuple[str, ...]:
        """Return the names of the assets that one unit reads; a partition may read fewer assets than its asset."""
        narrowed = self[unit.asset].reads_of
        if narrowed is None:
            return self.reads(unit.asset)
        wanted = narrowed(experiment, unit.key or "")
        return tuple(name for name in self.reads(unit.asset) if name in wanted)

    def inputs_in(self, experiment: Experiment, name: str) -> tuple[str, ...]:
        """Return the names of the assets that an asset reads in an experiment, in any of its partitions."""
        return self.reads_of(Unit(name), experiment) if self[name].partitioned_by == "none" else self.reads(name)

    def ancestors(self, name: str, experiment: Experiment | None = None, used: Collection[str] = ()) -> frozenset[str]:
        """Return the names of an asset and of all its direct and indirect inputs.

        If `experiment` is given, the inputs are those in this experiment, and inputs that are not in `used` are left out, and
        so are inputs that are reached only through them.
        """
        found, waiting = {name}, [name]
        while waiting:
            one = waiting.pop()
            inputs = self.reads(one) if experiment is None else self.inputs_in(experiment, one)
            new = {other for other in inputs if experiment is None or other in used} - found
            found |= new
            waiting += new
        return frozenset(found)

    @cached_property
    def by_cell(self) -> tuple[str, ...]:
        return tuple(asset.name for asset in self if asset.partitioned_by == "cell")

    @cached_property
    def by_strategy(self) -> tuple[str, ...]:
        return tuple(asset.name for asset in self if asset.partitioned_by == "strategy")

    @cached_property
    def last(self) -> tuple[str, ...]:
        """Names of the assets without partitions that are made from assets with partitions, such as the report."""
        partitioned = {*self.by_strategy, *self.by_cell}
        return tuple(one.name for one in self if one.name not in partitioned and self.ancestors(one.name) & partitioned)

    @cached_property
    def first(self) -> tuple[str, ...]:
        """Names of the assets without partitions that are not in `last`, such as the pool."""
        return tuple(one.name for one in self if one.partitioned_by == "none" and one.name not in self.last)

    @cached_property
    def order(self) -> tuple[str, ...]:
        return (*self.first, *self.by_strategy, *self.by_cell, *self.last)

    def used(self, experiment: Experiment, strategies: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the names of the assets that an experiment uses with `strategies` (default: its own), sorted as in `order`.

        A variant uses only the assets between the settings that it changes and its scores. All others are its parent's.
        """
        names = tuple(name for name in self.order if not self._unless(experiment, name, strategies))
        if experiment.variant is None:
            return names
        changes = experiment.variant.parent.robustness[experiment.variant.name].changes
        first = {name for key in changes for name in CHANGED_BY[key]}
        needed = self.ancestors(CELL_SCORES, experiment, names)
        return tuple(name for name in names if name in needed and self.ancestors(name, experiment, names) & first)

    def cell_assets(self, experiment: Experiment) -> tuple[str, ...]:
        used = self.used(experiment)
        return tuple(name for name in self.by_cell if name in used)

    def why_unused(self, experiment: Experiment, name: str, strategies: Sequence[str] = ()) -> str:
        """Return why an experiment does not use an asset, or that there is no such asset; "" if the experiment uses the asset."""
        if name not in self:
            return f"there is no asset {name!r}; expected one of {', '.join(self.order)}"
        chosen = ", ".join(strategies or experiment.strategies)
        return self._unless(experiment, name, strategies).format(
            asset=name, experiment=experiment.name, strategies=chosen
        )

    def _unless(self, experiment: Experiment, name: str, strategies: Sequence[str]) -> str:
        names = strategies or ranked_strategies(experiment)
        needs = frozenset[str]().union(*(experiment.strategy(one).needs for one in names))
        return next((one.reason for one in self[name].unless if one.holds(experiment, needs)), "")

    def units(
        self, experiment: Experiment, store: Store, pool: PoolSize | None, names: Collection[str] | None = None
    ) -> list[Unit]:
        """Return all units of an experiment (the results that it can have). Inputs come before the units that read them.

        `pool` is None if its size is not known. `names` selects assets; the default is all assets that the experiment uses.
        """
        wanted = self.used(experiment) if names is None else names
        cells, strategies = expected_cells(experiment, store, pool), ranked_strategies(experiment)
        return [
            *(Unit(name) for name in self.first if name in wanted),
            *(Unit(name, strategy) for strategy in strategies for name in self.by_strategy if name in wanted),
            *(Unit(name, cell.key) for cell in cells for name in self.by_cell if name in wanted),
            *(Unit(name) for name in self.last if name in wanted),
        ]
