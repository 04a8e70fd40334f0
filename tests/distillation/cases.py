"""What the tests of distillation methods share: outputs and labels drawn by seed, and the terms of a loss."""

import copy

import torch

from kdops.config.methods import parse_method
from kdops.distillation.adapters import merged
from kdops.distillation.method import Outputs, Shapes, build_method
from kdops.distillation.objective import Objective
from kdops.distillation.sources import Kept
from kdops.utils.random import as_global_rng, named_generator

TRAINING = 12
"""Training images, of which a batch is some."""


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
    if side == "source":
        features = {tap: reduced(method, own) for tap, own in features.items()}
    return Outputs(values(seed, members, batch, classes, **options), features)


def reduced(method, features):
    """What a method keeps of a source's features ``[M, B, ...]``."""
    return torch.stack([method.reduced(own) for own in features])


def modules_of(method, members, classes=5):
    """What is trained beside each member; empty for a method without modules."""
    if not method.has_modules:
        return []
    whole = outputs(method, "source", 1, TRAINING, classes, side="source").map(lambda own: own[0])
    source, labels = Kept(whole.logits, whole.features), some_labels(1, TRAINING, classes)[0]
    student = Shapes(classes, {tap: shape_of(tap) for tap in method.needs.student})
    found = []
    with as_global_rng(named_generator("modules")):
        for _ in range(members):
            found.append(method.modules(student, source.shapes).double())
            method.prepare(found[-1], source, labels)
    return found


def some_rows(members=2, batch=6):
    """Rows of the images of each member's batch among the training images."""
    return torch.stack([torch.randperm(TRAINING, generator=named_generator("rows"))[:batch]] * members)


def some_labels(members=2, batch=6, classes=5):
    return torch.randint(0, classes, (members, batch), generator=named_generator("labels"))


def terms_of(method, own, source, labels, temperatures=(1.5, 4.0), phase=0, modules=None, rows=None):
    modules = modules_of(method, len(temperatures)) if modules is None else modules
    # Copies: a method may keep a memory there, and is called more than once with the same.
    modules = [copy.deepcopy(own) for own in modules]
    objective = Objective(method, torch.tensor(temperatures), [merged(modules)] if method.needs.joint else modules)
    rows = some_rows(*labels.shape) if rows is None else rows
    return objective.terms(own, labels, source, torch.tensor(0.5), method.phases()[phase], rows)


def leaves(own):
    return own.map(lambda one: one.clone().requires_grad_())


def tensors(own):
    return [own.logits, *own.features.values()]
