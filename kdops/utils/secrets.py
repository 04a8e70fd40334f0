"""Addresses of stores, and what else the environment keeps secret, as they may be shown: without the secrets."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_IN_ADDRESS = re.compile(r"://[^/@\s]*?:([^/\s]+)@")
_IN_QUERY = re.compile(r"[?&;](?:[a-z_]*(?:password|passwd|token|secret)[a-z_]*|pwd)=([^&;#\s]+)", re.IGNORECASE)
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|ACCESS_KEY|API_KEY|PRIVATE_KEY", re.IGNORECASE)
_ADDRESS_NAME = re.compile(r"_UR[IL]$|^KDOPS_SEARCH_STORAGE$|_PROXY$", re.IGNORECASE)

SHORTEST = 6
"""A secret of the environment with fewer characters is hidden in addresses alone: it may be part of any word."""


def redact_password(text: str, address: str = "") -> str:
    """Return a text without the password of an address, which may be the text itself."""
    return _hidden(text, _secrets_of(address or text))


def redact_secrets(text: str) -> str:
    """Return a text without any secret of the environment: passwords, tokens, keys, and those in addresses.

    Error messages of libraries may quote their arguments, and are written to lines and tags that others read.
    """
    found = _secrets_of(text)
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= SHORTEST:
            found.add(value)
        elif _ADDRESS_NAME.search(name):
            found |= {secret for secret in _secrets_of(value) if len(secret) >= SHORTEST}
    return _hidden(text, found)


def _secrets_of(address: str) -> set[str]:
    found = {match[1] for pattern in (_IN_ADDRESS, _IN_QUERY) for match in pattern.finditer(address)}
    # Libraries show the password as it is meant, or as it is written.
    return found | {unquote(secret) for secret in found}


def _hidden(text: str, secrets: set[str]) -> str:
    # The longest first: one may be part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
