"""The padding that each family counts, as the probe finds it, is what identities say of its type."""

from __future__ import annotations

import pytest

from taskdiv_assets.language_model.counted import counted_padding, notes_of
from taskdiv_assets.language_model.loading import load, release_memory
from tests.full.architectures import FAMILIES, save

# Padding moves a text over the borders of their chunks and windows. Those of these tiny models are passed by each text, those of
# published models hardly ever, so no identity says it.
BY_WINDOW = {"inkling_text", "llama4", "llama4_text"}
pytestmark = pytest.mark.full


@pytest.mark.parametrize("family", FAMILIES)
def test_notes_of_a_type_are_what_its_probe_finds(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = save(family, tmp_path_factory.mktemp(family))
    try:
        lm = load(folder, dtype="float32", attention="sdpa")
    except ValueError:  # in a sentence that other tests look at
        pytest.skip("refused when it is loaded")
    found, noted = counted_padding(lm)._asdict(), notes_of(lm.model.config)
    del lm
    release_memory()
    noted["left"] |= family in BY_WINDOW
    assert found == {name: noted[name] for name in found}
