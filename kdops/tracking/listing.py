"""The registered models of a store, as their versions describe them: what ``runs`` and ``candidates`` list.

A run costs three times as much to read as a version. So one run is read for all models that share what versions do not
hold, and every run only of those versions that hold too little: ensembles, and what was registered by others or long
ago.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import chain

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.utils.search_utils import SearchUtils

from kdops.registry.registered import RegisteredVersion
from kdops.store.client import PAGE, among, experiment_ids, paged, paged_versions, quoted
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.sweeps.params import ARCHITECTURE, FLOPS, METHOD, PARAMETERS, SEED, TEMPERATURE, TRANSFER
from kdops.tracking.catalog import Catalog, in_registry, read_aliases

SHARED = (ARCHITECTURE, TRANSFER, PARAMETERS, FLOPS)
"""Parameters of runs that are equal wherever architecture, data set and split are."""


def list_registered(client: MlflowClient, role: str = "") -> Catalog:
    """Return the registered models whose run finished, each with the parameters and metrics that a list shows.

    Args:
        role: models of other roles may be left out; empty for all.
    """
    where = f"name LIKE {quoted(f'kdops-%-{role}')}" if role else "name LIKE 'kdops-%'"
    # Runs are asked for after the versions: what is registered meanwhile has a run that has not finished yet.
    versions = list(map(RegisteredVersion.of, paged_versions(client, where)))
    finished = _finished(client, {version.run_id for version in versions if version.run_id})
    made = Counter(version.run_id for version in versions)
    groups = defaultdict[tuple[str, ...], list[RegisteredVersion]](list)
    for version in versions:
        if version.run_id in finished:
            # Of several versions of one run all but one are copies, which only the run tells apart.
            groups[_group(version) if made[version.run_id] == 1 else ()].append(version)
    del versions
    unclear = groups.pop((), [])
    examples = {own[0].uri: own[0] for own in groups.values()}
    known = _of_runs(client, [*unclear, *examples.values()])
    # Of a group whose example is not what its run made, but a copy, every run is asked for.
    lost = [version for own in groups.values() if own[0].uri not in known for version in own[1:]]
    known |= _of_runs(client, lost)
    aliases = read_aliases(client)
    found = chain(
        ((version, known[uri]) for version in (*unclear, *lost) if (uri := version.uri) in known),
        *(_alike(own, known[uri]) for own in groups.values() if (uri := own[0].uri) in known),
    )
    return Catalog(tuple(in_registry(model, version.tags, aliases) for version, model in found), aliases)


def _finished(client: MlflowClient, run_ids: Set[str]) -> set[str]:
    """Return those runs that finished and are there.

    MLflow returns runs whole. So what did not finish or was deleted is asked for, and then, without reading them,
    whether all others are there, since a run may be gone for good (``mlflow gc``).
    """
    ids, places = sorted(run_ids - _unfinished(client)), experiment_ids(client)
    found = set[str]()
    for start in range(0, len(ids), PAGE):
        some = ids[start : start + PAGE]
        (where,) = _finished_among(some)
        search = partial(client.search_runs, places, where)
        # If all are there, the search has as many results: the last one is there, and the page is not read. MLflow
        # refuses a token of the first result.
        last = SearchUtils.create_page_token(len(some) - 1) if len(some) > 1 else None
        complete = last is not None and search(max_results=1, page_token=last)
        found |= set(some) if complete else {run.info.run_id for run in paged(search)}
    return found


def _finished_among(run_ids: Sequence[str]) -> Iterator[str]:
    return (f"attributes.status = 'FINISHED' and {where}" for where in among("attributes.run_id", run_ids))


def _unfinished(client: MlflowClient) -> set[str]:
    """Return the runs of models that did not finish or were deleted."""
    places = [found.experiment_id for found in paged(client.search_experiments, view_type=ViewType.ALL)]
    cut_off = f"tags.`{schema.WEIGHTS}` != '' and attributes.status != 'FINISHED'"
    searches = [(cut_off, ViewType.ACTIVE_ONLY), (f"tags.`{schema.MODEL}` != ''", ViewType.DELETED_ONLY)]
    return {
        run.info.run_id
        for where, view in searches
        for run in paged(client.search_runs, places, where, run_view_type=view)
    }


def _group(version: RegisteredVersion) -> tuple[str, ...]:
    """Return what versions share whose models are alike in all that their tags lack; empty where that is not known."""
    tags = version.tags
    # A network of the caller's own may have changed since under the same name.
    if not schema.is_own(version) or tags[schema.CHAIN_OF_ROLES].endswith(">ensemble") or ":" in tags[ARCHITECTURE]:
        return ()
    return version.name, tags[schema.CHAIN_OF_ROLES], tags[ARCHITECTURE], *(tags[name] for name in schema.GROUP)


def _of_runs(client: MlflowClient, versions: Iterable[RegisteredVersion]) -> dict[str, Model]:
    """Return models as their runs describe them, by URI; those whose run finished and has the URI of the version."""
    wanted = defaultdict[str, set[str]](set)
    for version in versions:
        if version.run_id:
            wanted[version.run_id].add(version.uri)
    ids, found = sorted(wanted), {}
    for where in _finished_among(ids):
        for run, model in schema.readable(paged(client.search_runs, experiment_ids(client), where)):
            if model.uri in wanted[run.info.run_id]:
                found[model.uri] = model
    return found


def _alike(versions: list[RegisteredVersion], example: Model) -> Iterator[tuple[RegisteredVersion, Model]]:
    """Yield versions with their models, which are like another one in all that the versions' tags lack.

    They are taken out of the list, so that of thousands each is in memory as a version or as a model.
    """
    # Of thousands of models these are the same, and kept once.
    shared = {name: example.params[name] for name in SHARED if name in example.params}
    params = dict[str | None, dict[str, str]]()
    # Of one split; how many images a model was trained on its version does not say.
    images = {part: count for part, count in example.images.items() if part != "train"}
    while versions:
        version = versions.pop()
        tagged, method = schema.from_version(version), version.tags.get(METHOD)
        if method not in params:
            params[method] = shared | ({} if method is None else {METHOD: method})
        model = replace(
            example,
            seed=int(version.tags[SEED]),
            temperature=float(version.tags[TEMPERATURE]),
            source=version.tags[schema.LEARNED_FROM],
            uri=tagged.uri,
            run_id=tagged.run_id,
            model_id=tagged.model_id,
            weights="",
            metrics=tagged.metrics,
            params=params[method],
            pass_seeds=(),
            pass_digest="",
            images=images,
            select_on="test" if schema.is_chosen_on_test(version) else "validation",
        )
        yield version, model
