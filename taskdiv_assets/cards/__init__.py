"""Cards in the format of the Hugging Face hub for adapters and selections.

    facts          the facts of a card
    model_card     facts of an adapter or a fully tuned model → README.md
    data_card      facts of a selection → Markdown
    rendering      the Jinja templates in templates/, with front matter by huggingface_hub
    stored_cards   where facts come from, and when a card is written again

Text that nobody has checked becomes Markdown in `graph.markdown` alone.
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
