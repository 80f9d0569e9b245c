"""Built-in strategies keep the identities of users' stored rankings, even as identities gain optional parts."""

from pathlib import Path

import pytest

from taskdiv_assets.assets import REGISTRY, ranking
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.experiment.declaration import FacilityLocation
from taskdiv_assets.selection import STRATEGIES
from taskdiv_assets.storage.identity import identity

MINIATURE = experiment_file.load(str(Path(__file__).parents[1] / "experiments/miniature.yaml"))
# As the release without own orders and plug-ins made them, for a pool of 500 prompts and one input.
IDENTITIES = {
    "random": "bf00f183e9574fc0f6e3d8e9d7ab990b",
    "least_confidence": "b5ac3f3983eb3e0427265f7c466e07f0",
    "mean_entropy": "c50857f81b19377e9591aa923228b135",
    "mean_margin": "33b94ec383b1142b3a4f9698409bef38",
    "min_margin": "bc7f330e703d929407ec6644ca2363fa",
    "max_token_uncertainty": "5c0d0931b7656ce740b912acfff8cc69",
    "k_center": "9469a1d862b8920eb0c587a11f216952",
    "facility_location": "f67ef5bad9538341f5ac92c703af3c61",
    "dpp": "ae08345d464045c1597163083d738373",
    "task_diversity": "aeecad71affee1e4762336d7d8a44efe",
    "weighted_task_diversity": "2019102ad9b0a3c9460583093abf1b4f",
    "complement_weighted_task_diversity": "e54f74b6a73826cb3d5cb6c19a73cb48",
    "weighted_task_diversity_min_margin": "772e33d311f2b165be5606a4eb667c35",
    "smart": "707f5832f0aee35790020b6db1a830d7",  # of the release that added it
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_settings_of_a_built_in_ranking_name_nothing_new(name: str) -> None:
    depth = ranking.ranking_depth(MINIATURE, name, 500)
    settings = ranking.ranking_settings(MINIATURE, name, depth, 500)
    more = {"neighbours_n": 64, "exact_picks_n": 32} if name == "facility_location" else {}
    assert settings == {"strategy": name, "selection_seeds": [0, 1], "depth": 500, **more}
    settings.pop("exact_picks_n", None)  # the sparse form's first picks are others than those of that release
    made = identity("ranking", REGISTRY["ranking"].code_version, settings, {"raw_pool.prompts": "a"})
    assert made == IDENTITIES[name]


@pytest.mark.parametrize(("pool_n", "is_marked"), [(64, False), (65, True), (20_000, True), (20_001, False)])
def test_only_sparse_facility_location_is_marked_and_only_where_its_picks_are_others(
    pool_n: int, is_marked: bool
) -> None:
    """With as many neighbours as prompts the graph holds everything; above 20,000 prompts the graph alone is used."""
    settings = ranking.ranking_settings(MINIATURE, "facility_location", pool_n, pool_n)
    assert ("exact_picks_n" in settings) == is_marked
    exact = MINIATURE.model_copy(update={"facility_location": FacilityLocation(similarities="all")})
    assert "exact_picks_n" not in ranking.ranking_settings(exact, "facility_location", pool_n, pool_n)
