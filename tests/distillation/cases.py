"""What the tests of distillation methods share: outputs and labels drawn by seed, and the terms of a loss."""

import copy

import torch

from kdops.config.methods import parse_method
from kdops.distillation.adapters import merged
from kdops.distillation.method import Outputs, Shapes, build_method
from kdops.distillation.objective import Objective
from kdops.utils.random import as_global_rng, named_generator

"""Training images, of which a batch is the first few."""


def method_of(name):
    return build_method(parse_method(name))


def values(seed, *shape, spread=2.0, dtype=torch.float64):
    return spread * torch.randn(*shape, generator=named_generator("values", seed), dtype=dtype)


def shape_of(tap):
    """The shape of a tap's values for one image."""
    return (6,) if tap == "embedding" else (5, 4, 4)


def outputs(method, seed, members=2, batch=6, classes=5, side="student", **options):
    taps = getattr(method.needs, side)
    features = {tap: values((seed, tap), members, batch, *shape_of(tap), **options) for tap in taps}
    return Outputs(values(seed, members, batch, classes, **options), features)


def modules_of(method, members, classes=5):
    """What is trained beside each member; empty for a method without modules."""
    if not method.has_modules:
        return []
    needs = method.needs
    shapes = [Shapes(classes, {t: shape_of(t) for t in taps}) for taps in (needs.student, needs.source)]
    with as_global_rng(named_generator("modules")):
        return [method.modules(*shapes).double() for _ in range(members)]


def some_labels(members=2, batch=6, classes=5):
    return torch.randint(0, classes, (members, batch), generator=named_generator("labels"))


def terms_of(method, own, source, labels, temperatures=(1.5, 4.0), phase=0, modules=None):
    modules = modules_of(method, len(temperatures)) if modules is None else modules
    # Copies: a method may keep a memory there, and is called more than once with the same.
    modules = [copy.deepcopy(own) for own in modules]
    objective = Objective(method, torch.tensor(temperatures), [merged(modules)] if method.needs.joint else modules)
    return objective.terms(own, labels, source, torch.tensor(0.5), method.phases()[phase])


def leaves(own):
    return own.map(lambda one: one.clone().requires_grad_())


def tensors(own):
    return [own.logits, *own.features.values()]
