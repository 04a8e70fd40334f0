"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replace_file"]


@contextmanager
def replace_file(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a new file beside ``path``, which takes its place once the block ends; where it fails nothing changes.

    The content is on disk before the name is: after a power failure the file is the old one or the new one.

    Args:
        path: the file that is written.
        suffix: how the name of the new file ends until then.
    """
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}{suffix}")
    # By open, not by tempfile: the mode is that of any other file, so that others may read it.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
