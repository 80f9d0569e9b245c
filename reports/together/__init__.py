"""The page of several experiments, with one row for each."""
