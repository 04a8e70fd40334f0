"""The method ``fitnet``: a student first learns a middle layer of its source, then the source's softened outputs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.layers_first import LayersFirst
from kdops.distillation.method import Needs, Shapes, Step
from kdops.errors import UsageError


@dataclass(frozen=True)
class HintDistillation(LayersFirst):
    r"""Two phases within the recipe's epochs, each with an optimizer and a one-cycle schedule of its own.

    *hint*: :math:`\frac12 \|u_h(x) - r(v_g(x))\|^2` (equation 3): the student's layers up to the guided one, and a
    regressor r, are to equal the outputs of the source's hint layer. r is a convolution that brings the guided map to
    the size and channels of the hint, then ReLU, since the hint is the output of a ReLU; for embeddings a dense layer.
    Layers behind the guided one keep their start.
    *task*: ``alpha · T² · CE(source softened, student softened) + (1 - alpha) · CE(labels)``, as ``logits`` has it.

    AdamW's moments are forgotten at the change. The regressor is dropped from what is stored.

    The paper adds up the squares over the map; the public code (RepDistiller) takes their mean, and so has this. That
    code has one phase in which all is learned at once, with batch normalization in r. The paper's second phase lowers
    the weight of the soft term from 4 to 1; here it is constant.

    Reference: Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015.

    Attributes:
        at: tap of the student, the guided layer.
        hint: tap of the source; empty for the same name.
        share: share of the epochs that the first phase has.
        alpha: weight of the soft term in the second.
        t_squared: multiply the soft term by T².
    """

    at: str = "stage2"
    hint: str = ""

    first = "hint"
    vanishes = False

    @property
    def needs(self) -> Needs:
        """One layer of each network."""
        return Needs((self.at,), (self.hint or self.at,))

    def modules(self, student: Shapes, source: Shapes) -> nn.Module:
        """Return the regressor.

        Raises:
            UsageError: the guided map is smaller than the hint, or one of them is no map.
        """
        guided, hint = student.features[self.at], source.features[self.hint or self.at]
        if len(guided) == len(hint) == 1:
            return nn.Sequential(nn.Linear(guided[0], hint[0]), nn.ReLU())
        sides = zip(guided[1:], hint[1:], strict=False)
        if len(guided) != 3 or len(hint) != 3 or any(own < given for own, given in sides):
            raise UsageError(
                "method",
                f"fitnet(at={self.at},hint={self.hint or self.at})",
                f"the student's values are {_dimensions(guided)}, the source's {_dimensions(hint)}; "
                "both must be maps, the student's at least as large, or both vectors",
            )
        kernel = (1 + guided[1] - hint[1], 1 + guided[2] - hint[2])
        return nn.Sequential(nn.Conv2d(guided[0], hint[0], kernel), nn.ReLU())

    def layer_loss(self, step: Step, modules: nn.Module) -> Tensor:
        """Return half the mean squared difference to the hint."""
        found = modules(step.student.features[self.at][0])
        return 0.5 * (found - step.source.features[self.hint or self.at][0]).square().mean()


def _dimensions(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
