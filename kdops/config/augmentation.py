"""How training images are augmented, as text: ``crop=4 flip=true``. No PyTorch is imported here."""

from __future__ import annotations

from collections.abc import Mapping

from kdops.config.options import Flag, Integer, Option, Real

NONE, LIVE = "none", "live"
MIXUP = "mixup"

AUGMENTATIONS: Mapping[str, Option] = {
    "crop": Integer(1, 64, default=4),
    "shift": Integer(1, 64, default=2),
    "flip": Flag(default=True),
    "rotate": Real(0, 180, default=10, open_low=True),
    "jitter": Real(0, 1, default=0.2, open_low=True),
    "randaugment": Integer(1, 10, default=2),
    "cutout": Integer(1, 1024, default=8),
    MIXUP: Real(0, 100, default=0.2, open_low=True),
}
"""What may be done to an image, in the order in which it is done, see :mod:`kdops.data.views`."""


def parse_augment(text: str) -> dict[str, float]:
    """Return the value of each augmentation of a text, in the order of the table; none for ``none``.

    They are parted by blanks, or by ``+`` where a blank ends the entry of a list.

    Raises:
        ValueError: the message is what is allowed.
    """
    known = ", ".join(f"{name}={option.write(option.default)}" for name, option in AUGMENTATIONS.items())
    given: dict[str, float] = {}
    parts = text.replace("+", " ").split()
    for part in parts if text != NONE else ():
        name, sign, value = part.partition("=")
        if name not in AUGMENTATIONS or name in given:
            raise ValueError(f"{NONE}, or some of {known}, each once and parted by blanks")
        try:
            given[name] = AUGMENTATIONS[name].read(value) if sign else AUGMENTATIONS[name].default
        except ValueError as error:
            raise ValueError(f"{NONE}, or some of {known}; {name} is {error}") from None
    if not parts:
        raise ValueError(f"{NONE}, or some of {known}, each once and parted by blanks")
    return {name: given[name] for name in AUGMENTATIONS if given.get(name)}


class Augment(Option[str]):
    """Augmentations as canonical text, or ``none``."""

    default = NONE

    def read(self, text: str) -> str:
        """Read the augmentations."""
        given = parse_augment(text)
        return " ".join(f"{name}={AUGMENTATIONS[name].write(value)}" for name, value in given.items()) or NONE

    def allowed(self) -> str:
        """Return the augmentations."""
        return f"{NONE}, or some of {', '.join(AUGMENTATIONS)}"


class ViewCount(Option[str]):
    """How many views there are of each image, or ``live`` for another one in every epoch."""

    default = LIVE

    def read(self, text: str) -> str:
        """Read the number."""
        try:
            return LIVE if text == LIVE else str(Integer(1, 1000).read(text))
        except ValueError:
            raise ValueError(self.allowed()) from None

    def allowed(self) -> str:
        """Return the bounds."""
        return f"{LIVE}, or a whole number from 1 to 1000"
