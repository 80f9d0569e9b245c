"""Definitions of `confidence`, the sample that estimates a task's mean, and its effect on an allocation.

Pure numpy over the columns of the confidence table, without torch, Dagster or files. `language_model.confidence` computes them.
"""
