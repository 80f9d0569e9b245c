"""Results that users have stored stay valid: every identity of two stores of an earlier version is unchanged.

`tests/stores` holds the whole miniature, and the demo without weights and without the rows that no identity depends on. An
identity changes only if the result does. Then change `identities.json` in the same commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.checking import check_stored
from taskdiv_assets.experiment import Experiment, experiment_file
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage.store import Store
from tests import golden
from tests.golden import STORES, unpack
from tests.home import MINIATURE

IDENTITIES: dict[str, dict[str, str]] = json.loads((STORES / "identities.json").read_text())
SOURCES = {"demo": "demo", "miniature": str(MINIATURE)}
NEWER = {
    "held_out_items",
    "template_embeddings",
    "sentence_embeddings",
    "round_confidence",
    *golden.NEWER,
}  # assets that later versions added
NEVER_STORED = {
    "tuning_choice",
    "strategy_report",
    *NEWER,
}  # tuning_choice is not used by these experiments; the demo's page is left out


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both stores, unpacked."""
    folder = tmp_path_factory.mktemp("stored")
    for name in SOURCES:
        unpack(name, folder)
    return folder


def look(name: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Experiment, Lineage, list[Unit]]:
    monkeypatch.setenv("TASKDIV_HOME", str(stored))
    experiment = experiment_file.load(SOURCES[name])
    lineage = REGISTRY.look(experiment, Store(name))
    return experiment, lineage, REGISTRY.units(experiment, lineage.store, lineage.pool_size, REGISTRY.order)


@pytest.mark.parametrize("name", SOURCES)
def test_every_identity_is_what_it_was(name: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lineage, units = look(name, stored, monkeypatch)
    left_out = {"strategy_report", *NEWER}
    made = {str(unit): lineage.expect(unit).identity for unit in units if unit.asset not in left_out}
    assert made == IDENTITIES[name]


@pytest.mark.parametrize("name", SOURCES)
def test_what_was_stored_is_up_to_date(name: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, lineage, units = look(name, stored, monkeypatch)
    states = {str(unit): lineage.state(unit) for unit in units if unit.asset not in NEVER_STORED}
    assert {unit: state for unit, state in states.items() if state.status != "fresh"} == {}


@pytest.mark.full  # test_cli checks the tables of one strategy in the fast tests
def test_the_miniatures_tables_keep_their_contracts(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, lineage, _ = look("miniature", stored, monkeypatch)
    checked = [entry for entry in check_stored(experiment, lineage.store) if entry.unit.asset != "strategy_report"]
    assert len(checked) == 41
    assert [entry for entry in checked if any(rule.severity == "error" for rule in entry.failed)] == []
