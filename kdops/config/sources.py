"""The parameter ``source`` as checked text: one model URI or several, with weights or without."""

from __future__ import annotations

import math
import re

from kdops.config.options import Real
from kdops.errors import UsageError

ONE = "must be a model URI such as models:/name/3, models:/name@alias or runs:/id/name"
SEVERAL = "must be model URIs such as models:/name/3,models:/name@alias, all or none weighted as in 0.7*URI,0.3*URI"
_WEIGHT = Real(0, 1_000_000, open_low=True)
_PART = re.compile(r"(?:([^*]*)\*)?\s*((?:models|runs):/\S+)")


def parse_sources(text: str) -> tuple[tuple[float, str], ...]:
    """Return the share and the URI of each source; shares sum to 1.

    Raises:
        UsageError: a part is no model URI, a weight is not above zero, or a source is named twice.
    """
    parts = text.split(",")
    matches = [match for part in parts if (match := _PART.fullmatch(part.strip()))]
    if len(matches) < len(parts) or len({match[1] is None for match in matches}) > 1:
        raise UsageError("source", text, ONE if len(parts) == 1 else SEVERAL)
    weights = [1.0 if match[1] is None else _weight(match[1].strip(), text) for match in matches]
    uris = [match[2] for match in matches]
    if len(set(uris)) < len(uris):
        raise UsageError("source", text, "names a model twice; give it a greater weight instead")
    return tuple((weight / math.fsum(weights), uri) for weight, uri in zip(weights, uris, strict=True))


def _weight(written: str, text: str) -> float:
    try:
        return _WEIGHT.read(written)
    except ValueError:
        advice = f"the weight {written or '(empty)'} must be a number above 0, such as 0.7"
        raise UsageError("source", text, advice) from None
