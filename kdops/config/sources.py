"""The parameter ``source`` as checked text: one model URI or several, with weights or without."""

from __future__ import annotations

import math
import re

from kdops.errors import UsageError

__all__ = ["parse_sources"]

ONE = "must be a model URI such as models:/name/3, models:/name@alias or runs:/id/name"
SEVERAL = "must be model URIs such as models:/name/3,models:/name@alias, all or none weighted as in 0.7*URI,0.3*URI"
_PART = re.compile(r"(?:([^*]*)\*)?\s*((?:models|runs):/\S+)")


def parse_sources(text: str) -> tuple[tuple[float, str], ...]:
    """Return the share and the URI of each source; shares sum to 1.

    Raises:
        UsageError: a part is no model URI, a weight is not above zero, or a source is named twice.
    """
    matches = [_PART.fullmatch(part.strip()) for part in text.split(",")]
    if len(matches) == 1 and not matches[0]:
        raise UsageError("source", text, ONE)
    if not all(matches) or len({match[1] is None for match in matches}) > 1:
        raise UsageError("source", text, SEVERAL)
    weights = [1.0 if match[1] is None else _weight(match[1].strip(), text) for match in matches]
    uris = [match[2] for match in matches]
    if len(set(uris)) < len(uris):
        raise UsageError("source", text, "names a model twice; give it a greater weight instead")
    return tuple((weight / math.fsum(weights), uri) for weight, uri in zip(weights, uris, strict=True))


def _weight(written: str, text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}", written) or float(written) == 0:
        raise UsageError("source", text, f"the weight {written or '(empty)'} must be a number above 0, such as 0.7")
    return float(written)
