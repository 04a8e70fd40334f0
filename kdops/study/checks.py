"""What can be found wrong with a study before it has a run. It imports PyTorch only where it must build a network."""

from __future__ import annotations

from kdops.config.settings import Settings
from kdops.data.dataset import Dataset
from kdops.data.selection import select
from kdops.data.splits import make_split


def check_study(settings: Settings, data: Dataset) -> None:
    """Refuse external networks that do not fit the data, data that cannot be split, and images that they do not have.

    Raises:
        UsageError: names the parameter and what is wrong.
    """
    check_networks(settings, data)
    split = make_split(data, settings.transfer, settings.split_seed, settings.hops())
    select(data, split.hop(0), settings.selection)


def check_networks(settings: Settings, data: Dataset) -> None:
    """Refuse external networks that do not take the images of the data, or return other classes.

    Raises:
        UsageError: names the parameter and what is wrong.
    """
    if networks := settings.external_networks():
        from kdops.models import inspection

        inspection.check_networks(networks, data.shape, len(data.classes))
