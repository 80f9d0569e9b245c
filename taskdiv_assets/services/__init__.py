"""The parts of assets that take more than a few lines, such as scoring, training, ordering, and judging outputs."""
