"""The figure of a study of ensembles."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from kdops.config.settings import Settings
from kdops.ensembles.evaluation import EnsembleEvaluation
from kdops.reporting.figures import Curve, members_figure


def ensemble_figure(
    settings: Settings, ensemble: EnsembleEvaluation, controls: Mapping[str, EnsembleEvaluation]
) -> Figure:
    """Draw the accuracy over the number of members, of the ensembles and of the controls' (figure 3 of the paper)."""
    return members_figure(
        f"The best N students vote, {settings.dataset}",
        [
            Curve("simple majority", range(1, ensemble.most + 1), ensemble.curves("test")),
            Curve("mean probability", range(1, ensemble.most + 1), ensemble.curves("test_probability")),
            *(
                Curve(f"majority, {name}", range(1, control.most + 1), control.curves("test"))
                for name, control in controls.items()
            ),
        ],
        {"best single member": ensemble.single()},
        ensemble.size(),
        settings.select_on,
    )
