"""Models that a caller names by URI, whoever made them; :mod:`kdops.packaging.external` loads them."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.models import get_model_info

from kdops.config.uris import ModelUri
from kdops.errors import UsageError
from kdops.registry.lookup import find_version, uri_of
from kdops.sweeps import schema
from kdops.sweeps.model import FOREIGN


@dataclass(frozen=True)
class NamedModel:
    """A model that a caller named.

    Attributes:
        uri: its URI, an alias resolved to the version it stands for now.
        chain: the roles it came through; of a model that kdops did not train ``FOREIGN``.
        is_own: kdops trained and registered it.
        select_on: what it was chosen on, where it was: ``validation`` or ``test``.
    """

    uri: str
    chain: str = FOREIGN
    is_own: bool = False
    select_on: str = "validation"

    @property
    def model_id(self) -> str:
        """Its logged model, if it has one."""
        return get_model_info(self.uri).model_id or ""

    @property
    def votes(self) -> bool:
        """Whether it is an ensemble of kdops."""
        return self.chain.endswith(">ensemble")

    @property
    def hops(self) -> int:
        """How many distillations it came through; a vote is none."""
        return self.chain.removesuffix(">ensemble").count(">")


def find_model(uri: str) -> NamedModel:
    """Look a model up.

    Raises:
        UsageError: it is a version or an alias that is not there, or the alias of one that was chosen on test.
    """
    if not ModelUri.fits(uri):
        return NamedModel(uri)
    version = find_version(MlflowClient(), uri, "source")
    select_on = "test" if schema.is_chosen_on_test(version) else "validation"
    if select_on == "test" and ModelUri.parse(uri).alias:
        problem = f"is {uri_of(version)}, which was chosen on the test images; name it so to take it anyhow"
        raise UsageError("source", uri, problem)
    return NamedModel(
        uri_of(version), version.tags.get(schema.CHAIN_OF_ROLES, FOREIGN), schema.is_own(version), select_on
    )
