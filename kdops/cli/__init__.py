"""Commands, and the MLflow project behind them."""

import os

PARENT = os.getppid()
"""The process that started this one, noted before anything else is imported: it may be killed meanwhile."""
