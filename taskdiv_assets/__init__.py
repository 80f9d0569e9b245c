"""Choose which prompts to have annotated before fine-tuning, and measure afterwards whether the choice was good."""

__version__ = "0.1.0"
