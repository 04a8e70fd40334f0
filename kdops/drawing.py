"""Draws the members of ensembles before a study opens: what is wrong with them is told before a run is made."""

from __future__ import annotations

from dataclasses import replace

import mlflow

from kdops import data as datasets
from kdops.config import Settings
from kdops.errors import UsageError
from kdops.foreign import load_classifier
from kdops.members import STUDIES, Drawn, draw_members, newest_transfer
from kdops.opened import opened_store
from kdops.parameters import NEWEST
from kdops.registry import registered_name
from kdops.splits import make_split
from kdops.store import store_exists

__all__ = ["draw"]


def draw(settings: Settings) -> tuple[Settings, Drawn]:
    """Draw the members that the settings ask for.

    Args:
        settings: of an ``ensemble`` study; its transfer setting may be that of the newest models.

    Returns:
        The settings with the transfer setting that was found, and the members.

    Raises:
        UsageError: there is nothing to draw, and what to do about it.
        KdopsError: the store cannot be used.
    """
    data = datasets.load(settings.dataset, settings.data_root)
    uri, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    if not store_exists(uri):
        first = f"run `kdops {STUDIES.get(settings.role, 'ensemble')} --dataset {data.name}` first"
        name = settings.model or registered_name(data.name, settings.role)
        raise UsageError("model", name, f"there is no store at {uri} yet; {first}")
    with opened_store(uri, registry) as client:
        if settings.transfer == NEWEST:
            found = newest_transfer(client, data.name, settings.role, data.digest, settings.split_seed)
            settings = replace(settings, transfer=found or "disjoint")
        drawn = draw_members(
            client,
            data,
            make_split(data, settings.transfer, settings.split_seed),
            role=settings.role,
            model=settings.model,
            top=settings.top,
            select_on=settings.select_on,
            temperatures=settings.temperatures,
        )
    for member in drawn.members:
        if not member.own:
            load_classifier(member.uri, data)
    return settings, drawn
