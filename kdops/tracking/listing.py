"""The registered models of a store, as their versions describe them: what ``runs`` and ``candidates`` list.

A run costs three times as much to read as a version. So one run is read for all models that share what versions do not
hold, and every run only of those versions that hold too little: ensembles, and what was registered by others or long
ago.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.entities.model_registry import ModelVersion

from kdops.registry.lookup import uri_of
from kdops.store.client import paged, quoted
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.catalog import Catalog, in_registry, read_aliases
from kdops.tracking.stored_study import experiments

__all__ = ["list_registered"]

PAGE = 1000
SHARED = ("architecture", "transfer", "parameters", "flops")
"""Parameters of runs that are equal wherever architecture, data set and split are."""


def list_registered(client: MlflowClient, role: str = "") -> Catalog:
    """Return the registered models whose run finished, each with the parameters and metrics that a list shows.

    Args:
        client: a client of the store.
        role: models of other roles may be left out; empty for all.
    """
    where = f"name LIKE {quoted(f'kdops-%-{role}')}" if role else "name LIKE 'kdops-%'"
    unfinished, groups = _unfinished(client), defaultdict[tuple[str, ...], list[ModelVersion]](list)
    for version in paged(client.search_model_versions, where, max_results=PAGE):
        if version.run_id not in unfinished:
            groups[_group(version)].append(version)
    unclear = groups.pop((), [])
    examples = {uri_of(own[0]): own[0] for own in groups.values()}
    known = _of_runs(client, [*unclear, *examples.values()])
    # Of a group whose example is not there, because its run was deleted for good, every run is asked for.
    lost = [version for own in groups.values() if uri_of(own[0]) not in known for version in own[1:]]
    known |= _of_runs(client, lost)
    aliases = read_aliases(client)
    found = [(version, known[uri]) for version in (*unclear, *lost) if (uri := uri_of(version)) in known]
    for own in groups.values():
        if (example := known.get(uri_of(own[0]))) is not None:
            found += [(version, _alike(version, example)) for version in own]
    return Catalog(tuple(in_registry(model, version.tags, aliases) for version, model in found), aliases)


def _unfinished(client: MlflowClient) -> set[str]:
    """Return the runs of models that did not finish or were deleted."""
    places = [
        found.experiment_id for found in paged(client.search_experiments, view_type=ViewType.ALL, max_results=PAGE)
    ]
    cut_off = f"tags.`{schema.WEIGHTS}` != '' and attributes.status != 'FINISHED'"
    searches = [(cut_off, ViewType.ACTIVE_ONLY), (f"tags.`{schema.MODEL}` != ''", ViewType.DELETED_ONLY)]
    return {
        run.info.run_id
        for where, view in searches
        for run in paged(client.search_runs, places, where, run_view_type=view, max_results=PAGE)
    }


def _group(version: ModelVersion) -> tuple[str, ...]:
    """Return what versions share whose models are alike in all that their tags lack; empty where that is not known."""
    tags = version.tags
    # A network of the caller's own may have changed since under the same name.
    if not schema.is_own(version) or tags["chain"].endswith(">ensemble") or ":" in tags["architecture"]:
        return ()
    return version.name, tags["chain"], tags["architecture"], *(tags[name] for name in schema.GROUP)


def _of_runs(client: MlflowClient, versions: Iterable[ModelVersion]) -> dict[str, Model]:
    """Return models as their runs describe them, by URI; those whose run finished and has the URI of the version."""
    wanted = {version.run_id: uri_of(version) for version in versions if version.run_id}
    ids, found = sorted(wanted), {}
    for start in range(0, len(ids), PAGE):
        some = ", ".join(map(quoted, ids[start : start + PAGE]))
        where = f"attributes.status = 'FINISHED' and attributes.run_id IN ({some})"
        for run, model in schema.readable(paged(client.search_runs, experiments(client), where, max_results=PAGE)):
            if model.uri == wanted[run.info.run_id]:
                found[model.uri] = model
    return found


def _alike(version: ModelVersion, example: Model) -> Model:
    """Return the model of a version that is like another one in all that the version's tags lack."""
    tagged = schema.from_version(version)
    return replace(
        example,
        seed=int(version.tags["seed"]),
        temperature=float(version.tags["temperature"]),
        source=version.tags["source"],
        uri=tagged.uri,
        run_id=tagged.run_id,
        model_id=tagged.model_id,
        weights="",
        metrics=tagged.metrics,
        params={name: example.params[name] for name in SHARED if name in example.params},
        pass_seeds=(),
        pass_digest="",
    )
