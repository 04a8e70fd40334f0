"""The modifier ``pair``: a method that teaches two networks with the sum of their logits. A control of ``residual``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdops.config.architectures import Architecture
from kdops.config.composed import ASSISTANT
from kdops.distillation.method import Modifier, Needs


@dataclass(frozen=True)
class Pair(Modifier):
    """A method whose student is two networks, which share no weights: the sum of their logits learns, and is deployed.

    :class:`kdops.config.composed.Joined` is what is trained, measured and stored. What ``residual`` gains over this is
    not the gain of deploying two networks.

    Reference: a control of kdops, of Gao, Shen, Li and Loy, "Residual Knowledge Distillation", 2020.

    Attributes:
        assistant: the other network.
    """

    assistant: Architecture = ASSISTANT

    @property
    def needs(self) -> Needs:
        """What the other method asks for, of more than the student."""
        return replace(self.method.needs, more=True)

    @property
    def is_stacked(self) -> bool:
        """No: two networks are no chain of dense layers."""
        return False
