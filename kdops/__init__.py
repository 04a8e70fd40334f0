"""kdops: knowledge distillation experiments, tracked in MLflow, with statistics behind each answer.

The names of ``__all__`` are what kdops offers from Python; everything else is private and may change. They are
imported when they are first asked for, so ``import kdops`` imports neither PyTorch nor MLflow.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "Method",
    "Model",
    "Settings",
    "Study",
    "Sweep",
    "Verdict",
    "__version__",
    "open_study",
]

# __init__.pyi has the same names for type checkers; tests/test_face.py compares the two.
_PLACES = {
    "Claim": "kdops.verdicts.claims",
    "Method": "kdops.distillation.method",
    "Model": "kdops.sweeps.model",
    "Settings": "kdops.config.settings",
    "Study": "kdops.study.study",
    "Sweep": "kdops.sweeps.model",
    "Verdict": "kdops.verdicts.claims",
    "open_study": "kdops.study.open",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'kdops' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
