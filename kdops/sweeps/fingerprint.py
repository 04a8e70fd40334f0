"""What decides a model's weights, as one digest: equal fingerprints mean the same training.

It covers the settings that reach the training, the data, the split, the source's weights, the code of the
training parts, the versions and threads that change the last bits, and the fleet that was trained together.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

__all__ = ["code_digest", "digest_code", "fingerprint"]

TRAINING_PARTS = (
    "training/local.py",
    "training/evaluation.py",
    "training/stacked.py",
    "models/python_function.py",
    "distillation/logits.py",
    "models/classifier.py",
    "training/separate.py",
    "utils/hardware.py",
    "utils/random.py",
    "training/cuda_graph.py",
    "training/schedule.py",
    "models/torchvision.py",
    "training/trainer.py",
    "training/training_pass.py",
)
"""The files whose code decides a model's weights and metrics. Changing one makes every model train again."""


@cache
def code_digest() -> str:
    """Return the digest of the training parts' code, see :func:`digest_code`."""
    return digest_code((files("kdops") / name).read_text(encoding="utf-8") for name in TRAINING_PARTS)


def digest_code(sources: Iterable[str]) -> str:
    """Return the SHA-256 of Python code; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [part for part in body if not _is_text(part)]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()


def fingerprint(**what: object) -> str:
    """Return the SHA-256 of named plain values, whatever their order."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
