"""Compute confidences, estimate the mean confidence of a task from a sample, and show how the sample changes an allocation.

The functions are pure. They read arrays and tables, and need neither torch nor Dagster nor files.
"""
