"""The units of a company: one for each of its nets, which hold what the others are, for these decide its weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kdops.config.settings import HARD
from kdops.sweeps.fingerprint import code_digest, fingerprint
from kdops.sweeps.model import COPY_SEEDS
from kdops.sweeps.params import COMPANY, NETS, TARGETS
from kdops.sweeps.unit import Context, Task, Unit, unit_of


def units_of_companies(task: Task, seeds: Iterable[int], temperature: float, context: Context) -> list[Unit]:
    """Return the units of a company for each replicate, seed by seed and net by net.

    Net k has the seed of the replicate and k times ``COPY_SEEDS``. A company is one training: whoever learns from whom,
    two nets of it are never those of another.

    Args:
        task: what they do; it names the networks and the method.
        temperature: at which they learn from each other; 0 for labels alone.
    """
    return [
        _peer(task, seed, place, temperature, _of_net(task, place, context))
        for seed in seeds
        for place in range(len(task.nets))
    ]


def _of_net(task: Task, place: int, context: Context) -> Context:
    """Return a context whose recipe has the architecture of a net."""
    recipes = context.settings.recipes
    own = {**recipes, task.role: recipes[task.role].replace(architecture=task.nets[place])}
    return replace(context, settings=replace(context.settings, recipes=own))


def _peer(task: Task, seed: int, place: int, temperature: float, context: Context) -> Unit:
    unit, company = unit_of(task, seed + COPY_SEEDS * place, temperature, None, None, context), str(task.method)
    families = tuple(sorted({part.spec.place.partition(":")[0] for net in task.nets for part in net.parts}))
    digest = fingerprint(
        of=unit.training,
        company=task.method.full_text,
        nets=[str(net) for net in task.nets],
        net=place,
        code=code_digest((task.method.spec.place.partition(":")[0], *families)),
    )
    targets = "labels" if temperature == HARD else "labels and peers"
    params = {COMPANY: company, NETS: "+".join(map(str, task.nets)), TARGETS: targets}
    return replace(
        unit,
        record=replace(unit.record, params={**unit.record.params, **params}),
        fingerprint=digest,
        training=digest,
    )
