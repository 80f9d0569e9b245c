"""Cards in the format of the Hugging Face hub: what an adapter or a selection is, from facts alone.

    markdown      escaping, tables, front matter: the only place where text that nobody has checked becomes Markdown
    facts         what a card is told
    model_card    facts of an adapter, or of a fully tuned model → README.md
    data_card     facts of a selection → Markdown

Pure: no files, no clock. Where the facts come from, and when a card is put anew, is in `assets.cards`.
"""

from taskdiv_assets.cards.data_card import data_card
from taskdiv_assets.cards.facts import (
    BaseFacts,
    MeanScore,
    ModelFacts,
    PoolSource,
    SelectionFacts,
    ServedCell,
    TaskCount,
    TrainingFacts,
    mean_scores,
)
from taskdiv_assets.cards.model_card import model_card

__all__ = [
    "BaseFacts",
    "MeanScore",
    "ModelFacts",
    "PoolSource",
    "SelectionFacts",
    "ServedCell",
    "TaskCount",
    "TrainingFacts",
    "data_card",
    "mean_scores",
    "model_card",
]
