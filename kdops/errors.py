"""The errors kdops tells its caller about, each in one line."""

__all__ = ["DivergenceError", "KdopsError", "UsageError"]


class KdopsError(Exception):
    """Something went wrong that one line explains; the command ends with ``exit_code``."""

    exit_code = 1


class UsageError(KdopsError):
    """The caller's mistake: a parameter with a value that is not allowed.

    Args:
        parameter: the parameter as the caller spells it, for example ``temperatures``.
        value: what was given.
        allowed: what is allowed, or what to do instead.
    """

    exit_code = 2

    def __init__(self, parameter: str, value: object, allowed: str):
        self.parameter, self.value, self.allowed = parameter, value, allowed
        super().__init__(f"{parameter}={value!s}: {allowed}".replace("\n", " "))


class DivergenceError(KdopsError):
    """A training loss stopped being finite."""
