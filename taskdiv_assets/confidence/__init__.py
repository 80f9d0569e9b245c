"""Definitions of `confidence`, the sample that estimates a task's mean, and the sample's effect on an allocation.

Pure numpy over the columns of the confidence table, without torch, Dagster or files.
"""
