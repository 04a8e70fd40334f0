"""Optuna: what is tried next."""
