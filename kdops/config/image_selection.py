"""Which images and labels models learn from, where that is not all of the split as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.parsing import boolean, real, value_or, whole
from kdops.errors import UsageError

ALL_FRAMES = 0
"""As many frames of a track as there are."""


@dataclass(frozen=True)
class Selection:
    """What is changed about the images that models learn from.

    Attributes:
        leave_out: classes without images in the transfer sets, by name.
        frames: how many frames of each track are in the transfer sets; ``ALL_FRAMES`` for all.
        label_noise: share of the labels that are replaced by another class, wherever labels are learned.
        bootstrap: each model learns from a sample of its images, drawn with replacement by its seed.
    """

    leave_out: tuple[str, ...] = ()
    frames: int = ALL_FRAMES
    label_noise: float = 0.0
    bootstrap: bool = False

    @classmethod
    def read(cls, text: Mapping[str, str]) -> Selection:
        """Read the parameters of the same names.

        Raises:
            UsageError: names the parameter, its value and what is allowed.
        """
        named = [part.strip() for part in text["leave_out"].split(",")] if text["leave_out"].strip() else []
        if "" in named:
            raise UsageError("leave_out", text["leave_out"], "must be names of classes with commas between")
        frames = value_or("all", ALL_FRAMES, "frames", text, lambda name, value: whole(name, value, 1, 1_000_000))
        return cls(
            # Sorted, so that one choice of rows has one text.
            tuple(sorted(set(named))),
            frames,
            real("label_noise", text["label_noise"], 0.0, 1.0),
            boolean("bootstrap", text["bootstrap"]),
        )

    def refuse(self, study: str, *names: str) -> None:
        """Refuse parameters that a study does not have. Raises UsageError if one of them is not what it usually is."""
        for name in names:
            if getattr(self, name) != getattr(UNCHANGED, name):
                raise UsageError(name, getattr(self, name), f"is not for {study}; leave it out")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "leave_out": list(self.leave_out)}

    @property
    def words(self) -> str:
        """What is left out of the transfer sets, in words that follow the name of a part; empty where nothing is."""
        words = f" without {', '.join(self.leave_out)}" if self.leave_out else ""
        return words + (f", {self.frames} of each track" if self.frames != ALL_FRAMES else "")

    def of_rows(self) -> dict[str, Any]:
        """Return what the run of a model records of what is left out of its images; nothing where all are there."""
        classes = {"leave_out": ",".join(self.leave_out)} if self.leave_out else {}
        return {**classes, **({"frames": self.frames} if self.frames != ALL_FRAMES else {})}

    def of_training(self) -> dict[str, Any]:
        """Return what decides the weights beside the rows that a model learns from; nothing where all is usual."""
        noise = {"label_noise": self.label_noise} if self.label_noise else {}
        return {**noise, **({"bootstrap": True} if self.bootstrap else {})}


UNCHANGED = Selection()
"""All images and labels as they are."""
