"""The experiments of the paper, one file an entry point: ``python -m pipelines.transitivity``."""
