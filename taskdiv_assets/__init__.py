"""Selection of the prompts to annotate before fine-tuning, and measurement of the quality of the selection."""

__version__ = "0.1.0"
