"""Measurements of speed, each a ratio of two things measured in turn in one run: ``python -m benchmarks``."""
