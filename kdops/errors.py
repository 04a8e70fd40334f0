"""The errors that kdops reports to its caller, each in one line."""

from __future__ import annotations

VALUE, ALLOWED = 300, 2000
"""The most characters that a message shows of a value, which may be a whole file, and of what is allowed."""


class KdopsError(Exception):
    """Something went wrong that one line explains; the command ends with ``exit_code``."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the line, with the notes of one line that were added to it."""
        notes = [note for note in getattr(self, "__notes__", ()) if "\n" not in note]
        return "; ".join([super().__str__(), *notes])


class MissingStoreError(KdopsError):
    """There is no store to read."""


class UsageError(KdopsError):
    """The caller's mistake: a parameter with a value that is not allowed.

    Args:
        parameter: the parameter as the caller spells it, for example ``temperatures``.
        allowed: what is allowed, or what to do instead.
    """

    exit_code = 2

    def __init__(self, parameter: str, value: object, allowed: str):
        self.parameter, self.value, self.allowed = parameter, value, allowed
        super().__init__(plain_line(f"{parameter}={shortened(str(value), VALUE)}: {shortened(allowed, ALLOWED)}"))

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, object, str]]:
        return type(self), (self.parameter, self.value, self.allowed)


class DivergenceError(KdopsError):
    """A training loss stopped being finite."""


def plain_line(text: str) -> str:
    """Return any text as one line that a terminal shows and never obeys; what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def shortened(text: str, characters: int) -> str:
    """Return a text, or its beginning and how long it is."""
    return text if len(text) <= characters else f"{text[:characters]}... ({len(text):,} characters)"
