"""kdops: how knowledge moves between neural networks under distillation."""

import os

__version__ = "0.1.0"

PARENT = os.getppid()
"""The process that started this one, noted before anything else is imported: it may be killed meanwhile."""
