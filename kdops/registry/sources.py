"""The very model that a run was made from.

A run names its sources by URI. A registered model that was deleted and made again counts its versions from 1 again, so
that a URI may have named another model when the run was written. MLflow keeps the logged models that went into a run:
where a URI could mean another model, these decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlflow import MlflowClient
from mlflow.entities import Run

from kdops.config.uris import ModelUri
from kdops.store.client import experiment_ids, is_quotable, paged
from kdops.sweeps import schema

FEW = 5
"""Up to so many versions of a registered model are asked for one by one; of more, all that names one of them."""


class Sources:
    """Finds the runs of sources, and of what was made from them, in all experiments."""

    def __init__(self, client: MlflowClient):
        self._client = client
        self._experiments = experiment_ids(client)
        self._claims: dict[str, list[Run]] = {}

    def claiming(self, uri: str) -> list[Run]:
        """Return the finished runs that made a version of this URI, the latest first; all but one were deleted."""
        if uri not in self._claims:
            self._claims[uri] = list(self._search(schema.MODEL, f"= '{uri}'")) if is_quotable(uri) else []
        return self._claims[uri]

    def source_of(self, run: Run, uri: str) -> Run | None:
        """Return the run of the model that a run names as its source by this URI; None where it is gone."""
        claims = self.claiming(uri)
        earlier = [claim for claim in claims if claim.info.start_time <= run.info.start_time]
        if len(claims) == len(earlier) <= 1:
            return next(iter(claims), None)
        # A search of runs returns no models among their inputs.
        inputs = self._client.get_run(run.info.run_id).inputs
        seen = {one.model_id for one in (inputs.model_inputs if inputs else ())}
        if seen:
            return next((claim for claim in claims if seen & _logged_models(claim)), None)
        return next(iter(earlier), None)

    def naming(self, uris: Iterable[str]) -> Iterator[Run]:
        """Yield the finished runs whose source may be one of some URIs; some others too, and some twice."""
        names: dict[str, list[str]] = {}
        for uri in filter(is_quotable, uris):
            names.setdefault(ModelUri.parse(uri).name, []).append(uri)
        for name, own in names.items():
            if len(own) > FEW:
                yield from self._search(schema.SOURCE, f"LIKE '%models:/{name}/%'")
                continue
            for uri in own:
                # A single source, and one of several: another one follows, or none.
                for like in (f"= '{uri}'", f"LIKE '%{uri} %'", f"LIKE '% {uri}'"):
                    yield from self._search(schema.SOURCE, like)

    def _search(self, tag: str, condition: str) -> Iterator[Run]:
        where = f"tags.`{schema.MODEL}` != '' and attributes.status = 'FINISHED' and tags.`{tag}` {condition}"
        order = ["attributes.start_time DESC"]
        return paged(self._client.search_runs, self._experiments, where, order_by=order)


def _logged_models(run: Run) -> set[str]:
    return {one.model_id for one in (run.outputs.model_outputs if run.outputs else ())}
