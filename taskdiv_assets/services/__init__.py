"""Functions that assets call for scoring, training, ordering, judging outputs, and other work of more than a few lines."""
