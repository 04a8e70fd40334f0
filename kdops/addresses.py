"""Addresses of stores and databases as they may be shown: without the password that one may carry."""

from __future__ import annotations

import re

__all__ = ["without_password"]


def without_password(text: str, address: str = "") -> str:
    """Give a text without the password of an address, which may be the text itself."""
    secret = re.search(r"://[^/@]*:([^/]+)@", address or text)
    return text.replace(secret[1], "***") if secret else text
