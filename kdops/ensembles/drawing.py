"""Draws the members of ensembles before a study opens: what is wrong with them is told before a run is made."""

from __future__ import annotations

from dataclasses import replace
from shlex import quote

from mlflow import MlflowClient

from kdops.config.studies import EnsembleSettings
from kdops.data.dataset import Dataset
from kdops.data.splits import make_split
from kdops.ensembles.members import LAST, STUDIES, Drawn, draw_members, newest_split
from kdops.ensembles.settings import settings_of_members
from kdops.errors import UsageError
from kdops.packaging.external import load_classifier
from kdops.registry.lookup import sources_of
from kdops.registry.versions import registered_name
from kdops.store.database import open_existing, registry_address, store_address, store_exists
from kdops.sweeps import schema

__all__ = ["draw"]


def draw(settings: EnsembleSettings, data: Dataset) -> tuple[EnsembleSettings, Drawn]:
    """Draw the members that the settings ask for.

    Args:
        settings: its split and transfer setting may be those of the newest models, and its replicates all there are.
        data: the data.

    Returns:
        The members, and the settings that they were trained with; see :func:`.settings_of_members`.

    Raises:
        UsageError: there is nothing to draw, and what to do about it.
        KdopsError: the store cannot be used.
    """
    uri, registry = store_address(), registry_address()
    if not store_exists(uri):
        first = f"run `kdops {STUDIES.get(settings.role, 'ensemble')} --dataset {quote(data.given)}` first"
        name = settings.model or registered_name(data.name, settings.role)
        raise UsageError("model", name, f"there is no store at {uri} yet; {first}")
    with open_existing(uri, registry) as client:
        settings = _with_split(client, data, settings)
        drawn = draw_members(
            client,
            data,
            make_split(data, settings.transfer, settings.split_seed),
            role=settings.role,
            model=settings.model,
            top=settings.top,
            select_on=settings.select_on,
            temperatures=settings.temperatures,
            replicates=range(settings.seed, settings.seed + settings.seeds if settings.seeds else LAST + 1),
        )
        sources = sources_of(client, drawn.members).values()
    for member in drawn.members:
        if not member.own:
            load_classifier(member.uri, data)
    trainings = [(run.data.tags.get(schema.ROLE, ""), run.data.params) for run in sources if run is not None]
    return settings_of_members(settings, drawn, trainings)


def _with_split(client: MlflowClient, data: Dataset, settings: EnsembleSettings) -> EnsembleSettings:
    """Settle what the settings leave to the newest models: their transfer setting, the split's seed, or both."""
    if not settings.newest:
        return settings
    known = None if "transfer" in settings.newest else settings.transfer
    seed = None if "split_seed" in settings.newest else settings.split_seed
    found = newest_split(client, data, role=settings.role, model=settings.model, transfer=known, split_seed=seed)
    transfer, split_seed = found or (settings.transfer, settings.split_seed)
    return replace(settings, transfer=transfer, split_seed=split_seed, newest=frozenset())
