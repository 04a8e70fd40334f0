"""The relatives of a model: all that it came from, and all that was made from it. It only reads, and only those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from kdops.config.uris import check_model
from kdops.errors import UsageError
from kdops.registry.lookup import find_version, uri_of, versions_of_runs
from kdops.registry.sources import Sources
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.catalog import Catalog, find_registered, in_registry, is_of_others, made_by_run, read_aliases


@dataclass(frozen=True)
class Relatives:
    """A model and its relatives.

    Attributes:
        model: the model.
        sources: what each model came from, by its run: models, and the URIs of what is no model of the store.
        made: what was made from each model, by its run.
    """

    model: Model
    sources: Mapping[str, tuple[Model | str, ...]]
    made: Mapping[str, tuple[Model, ...]]


def read_relatives(client: MlflowClient, text: str) -> Relatives:
    """Read a model that the caller named, and its relatives; also those whose version was deleted since.

    Raises:
        UsageError: there is no such model, or its run cannot be read.
    """
    aliases, sources = read_aliases(client), Sources(client)
    if not (given := check_model(text)).alias or str(given) in aliases or given.name.startswith("kdops-"):
        first = _named(client, sources, Catalog((), aliases).resolve(text))
    else:
        first = None
    if first is None:
        version = find_version(client, str(given))
        if is_of_others(version) and made_by_run(client, version) is None:
            return _of_others(client, sources, version, aliases)
        # Raises, unless the model was finished at this moment.
        first = client.get_run(find_registered(client, text).run_id)
    up, down = _up(sources, first), _down(sources, first)
    known = [run for own in up.values() for run in own if isinstance(run, Run)]
    known += [run for own in down.values() for run in own]
    models = _models(client, [first, *known], aliases)
    if first.info.run_id not in models:
        raise UsageError("model", text, f"its run {first.info.run_id} cannot be read")

    def shown(runs: Iterable[Run | str]) -> Iterator[Model | str]:
        for run in runs:
            # What cannot be read is left out, with a line in the log.
            if isinstance(run, str) or run.info.run_id in models:
                yield run if isinstance(run, str) else models[run.info.run_id]

    made = {run_id: [one for one in shown(own) if isinstance(one, Model)] for run_id, own in down.items()}
    return Relatives(
        models[first.info.run_id],
        {run_id: tuple(shown(own)) for run_id, own in up.items()},
        {run_id: tuple(sorted(own, key=lambda model: model.place)) for run_id, own in made.items()},
    )


def _of_others(client: MlflowClient, sources: Sources, version: ModelVersion, aliases: Mapping[str, str]) -> Relatives:
    """Return what was made from a model that kdops did not; what that came from is not known."""
    uri = uri_of(version)
    first = replace(schema.from_version(version), run_id=uri)
    given = {run.info.run_id: run for run, model in schema.readable(sources.naming([uri])) if uri in model.sources}
    below: dict[str, list[Run]] = {uri: list(given.values())}
    for run in given.values():
        below |= _down(sources, run)
    models = _models(client, [run for runs in below.values() for run in runs], aliases)
    made = {key: [models[run.info.run_id] for run in runs if run.info.run_id in models] for key, runs in below.items()}
    return Relatives(first, {}, {key: tuple(sorted(own, key=lambda one: one.place)) for key, own in made.items()})


def made_from(client: MlflowClient, uri: str) -> set[str]:
    """Return the runs of what was made from a model, which need not be one of this store."""
    sources = Sources(client)
    first = _named(client, sources, uri)
    named = [run for run, model in schema.readable(sources.naming([uri])) if uri in model.sources]
    made = {run.info.run_id: sources.source_of(run, uri) for run in named}
    # Of what is no model of the store the URI alone is known.
    return {
        run_id
        for run_id, source in made.items()
        if first is None or (source and source.info.run_id == first.info.run_id)
    }


def _named(client: MlflowClient, sources: Sources, uri: str) -> Run | None:
    """Return the run of the version that has this URI now, else of the latest that had it; None without one."""
    claims = sources.claiming(uri)
    versions = versions_of_runs(client, [run.info.run_id for run in claims])
    there = {version.run_id for version in versions if uri_of(version) == uri}
    return next((run for run in claims if run.info.run_id in there), next(iter(claims), None))


def _up(sources: Sources, first: Run) -> dict[str, list[Run | str]]:
    """Return what a run came from, and what that came from in turn, by run."""
    found: dict[str, list[Run | str]] = {}
    left = [first]
    while left:
        run = left.pop()
        own = [(uri, sources.source_of(run, uri)) for _, model in schema.readable([run]) for uri in model.sources]
        found[run.info.run_id] = [source or uri for uri, source in own]
        left += [source for _, source in own if source and source.info.run_id not in found]
    return found


def _down(sources: Sources, first: Run) -> dict[str, list[Run]]:
    """Return what was made from a run, and what was made from that in turn, by run."""
    found = defaultdict[str, list[Run]](list)
    seen, level = {first.info.run_id}, [first]
    while level:
        uris = {run.data.tags[schema.MODEL] for run in level}
        ids = {run.info.run_id for run in level}
        candidates = {run.info.run_id: (run, model) for run, model in schema.readable(sources.naming(uris))}
        following = {}
        for run, model in candidates.values():
            for source in (sources.source_of(run, uri) for uri in model.sources if uri in uris):
                if source is not None and source.info.run_id in ids:
                    found[source.info.run_id].append(run)
                    following[run.info.run_id] = run
        level = [run for run_id, run in following.items() if run_id not in seen]
        seen |= following.keys()
    return found


def _models(client: MlflowClient, runs: Iterable[Run], aliases: Mapping[str, str]) -> dict[str, Model]:
    """Return the models of runs by run, as they are in the registry; those that can be read."""
    unique = {run.info.run_id: run for run in runs}
    versions = {(version.run_id, uri_of(version)): version.tags for version in versions_of_runs(client, list(unique))}
    return {
        model.run_id: model
        if (tags := versions.get((model.run_id, model.uri))) is None
        else in_registry(model, tags, aliases)
        for _, model in schema.readable(unique.values())
    }
