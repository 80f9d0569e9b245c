"""Measured comparisons: `make bench` runs them side by side and writes docs/BENCHMARKS.md."""
