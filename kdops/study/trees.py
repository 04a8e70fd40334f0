"""The tree of a study as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kdops.packaging.loading import Loaded
from kdops.packaging.trees import view_of, way_of
from kdops.reporting.tree_figure import tree_figure
from kdops.sweeps.model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdops.study.study import Study


def way_figure(study: Study[Any], model: Model) -> Figure:
    """Draw the filters of a soft decision tree, and the way of the first test image.

    Args:
        study: whose model and image are used.
        model: of the family ``tree``.
    """
    data: Any = study.data
    network: Any = study.network(model)
    loaded = Loaded(network, False, tuple(data.classes), data.shape, 0)
    image = np.array(data.images[study.split.test[0]])
    return tree_figure(f"{model} of {data.name}", view_of(loaded, model.uri), way_of(loaded, model.uri, image))
