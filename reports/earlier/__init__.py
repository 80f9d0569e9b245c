"""Comparison of a report with the stored reports before it: what changed, and why."""
