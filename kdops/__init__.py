"""kdops: how knowledge moves between neural networks under distillation."""

__version__ = "0.1.0"
