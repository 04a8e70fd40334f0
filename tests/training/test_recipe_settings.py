"""Laws of the settings of a recipe: a new entry of SETTINGS inherits them all.

What is stacked equals what is trained alone, by torch's own optimizer, schedule and loss in the plainest loop there is.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.optim import lr_scheduler

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipe_settings import OPTIMIZERS, SCHEDULES, SETTINGS
from kdops.config.recipes import FIRST, LATER, Recipe, parse_recipes
from kdops.config.roles import BASE_ROLES
from kdops.data.views import Views
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Asked, Kept, KeptViews
from kdops.errors import UsageError
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.training import checkpoint as checkpoint_module
from kdops.training.checkpoint import Checkpoints
from kdops.training.schedule import rates_of
from kdops.training.trainer import Group, PassInputs
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.random import named_generator
from tests.toys import quarters

CLASSES, COUNT, EPOCHS = 4, 40, 3
IMAGES, VALIDATION = quarters(COUNT, 0, 4), quarters(20, 1, 4)
# Classes of unequal size.
IMAGES = replace(IMAGES, labels=torch.where(IMAGES.labels == 3, torch.arange(COUNT) % 3, IMAGES.labels))
STATISTICS = pixel_statistics(IMAGES.pixels)
INPUTS = PassInputs("student", IMAGES, VALIDATION, CLASSES, STATISTICS)
LINEAR = torch.randn(16, CLASSES, generator=named_generator("source")) / 100
RECIPE = Recipe(parse_architecture("mlp(hidden=6,depth=2,dropout=0.2)"), EPOCHS, 16, 1e-2)
METHOD = LogitDistillation(0.5)

CHANGES = {
    "epochs": (2,),
    "batch_size": (13,),
    "learning_rate": (3e-3,),
    "weight_decay": (0.0, 0.3),
    "optimizer": (
        *("adamw(beta1=0.8,beta2=0.9)", "adam", "adam(beta1=0.5)"),
        *("sgd", "sgd(momentum=0)", "sgd(momentum=0.5,nesterov=true)"),
        *("muon", "muon(momentum=0.5)"),
    ),
    "schedule": (
        *("one-cycle(warmup=0.1)", "constant", "constant(warmup=0.4)", "cosine", "cosine(warmup=0.2)"),
        *("step", "step(at=0.3,factor=0.5,warmup=0.2)"),
    ),
    "label_smoothing": (0.1,),
    "train_temperature": (4.0, 0.5),
    "class_weights": ("balanced",),
    "normalize": ("unit", "none", "imagenet"),
    "augment": ("crop=1 flip=true", "shift=1 rotate=20 jitter=0.3 cutout=2", "randaugment=1", "mixup=1"),
    "views": ("1", "2", str(EPOCHS)),
    "init": ("glorot", "he"),
}
"""Other values of each setting."""

AUGMENTED = {"views": {"augment": "crop=1"}}
"""What a setting needs beside it."""


def source(pixels):
    """The logits of a source for some images."""
    return pixels.float().flatten(1) @ LINEAR


def sources_for(recipe):
    """The source's outputs for what the members see."""
    if recipe.augment == "none":
        return Kept(source(IMAGES.pixels))
    if recipe.views == "live":
        return Asked(source)
    views = Views(recipe.augment, IMAGES.pixels, 0)
    found = []
    for view in range(int(recipe.views)):
        views.enter(view)
        found.append(source(views.at(torch.arange(COUNT))))
    return KeptViews(torch.stack(found), views.key)


def recipe_with(name, value):
    return RECIPE.replace(**AUGMENTED.get(name, {}), **{name: value})


EACH = [(name, value) for name, values in CHANGES.items() for value in values]
every_change = pytest.mark.parametrize(("name", "value"), EACH, ids=lambda part: str(part))


def test_every_setting_and_every_name_of_its_table_is_tried():
    assert CHANGES.keys() == SETTINGS.keys()
    for name, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
        assert {text.partition("(")[0] for text in CHANGES[name]} == set(table)
    for name in ("class_weights", "normalize", "init"):
        assert {*CHANGES[name], SETTINGS[name].default} == set(SETTINGS[name].words)


def run(recipe, temperatures=(0.0, 4.0), **options):
    return list(train(recipe, [Group(0, temperatures, sources_for(recipe))], INPUTS, METHOD, **options))


class PlainMuon(torch.optim.AdamW):
    """Muon for all matrices but the last, and AdamW for the others, in single precision."""

    def __init__(self, parameters, recipe, momentum):
        self.hidden = [own for own in parameters if own.dim() > 1][:-1]
        self.momentum, self.means = momentum, [torch.zeros_like(own) for own in self.hidden]
        super().__init__(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    @torch.no_grad()
    def step(self):
        (group,), beta = self.param_groups, self.momentum
        for own, mean in zip(self.hidden, self.means, strict=True):
            mean.copy_(beta * mean + (1 - beta) * own.grad)
            step = beta * mean + (1 - beta) * own.grad
            step = step / step.norm()
            for _ in range(5):
                gram = step @ step.t()
                step = 3.4445 * step - 4.775 * gram @ step + 2.0315 * gram @ gram @ step
            own *= 1 - group["lr"] * group["weight_decay"]
            own -= group["lr"] * 0.2 * math.sqrt(max(own.shape)) * step
            own.grad = None
        super().step()


def torchs_optimizer(recipe, parameters):
    name, _, inner = recipe.optimizer.rstrip(")").partition("(")
    given = dict(part.split("=") for part in inner.split(",") if part)
    if name == "muon":
        return PlainMuon([*parameters], recipe, float(given.get("momentum", 0.95)))
    if name == "sgd":
        momentum, nesterov = float(given.get("momentum", 0.9)), given.get("nesterov") == "true"
        kind, options = torch.optim.SGD, {"momentum": momentum, "nesterov": nesterov}
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        options = {"betas": (float(given.get("beta1", 0.9)), float(given.get("beta2", 0.999)))}
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **options)


def torchs_schedule(text, optimizer, steps, rate):
    name, _, inner = text.rstrip(")").partition("(")
    given = dict(part.split("=") for part in inner.split(",") if part)
    warmup = float(given.get("warmup", 0.3 if name == "one-cycle" else 0))
    if name == "one-cycle":
        return lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warmup, cycle_momentum=False)
    rising = round(warmup * steps)
    if name == "cosine":
        later = lr_scheduler.CosineAnnealingLR(optimizer, steps - rising)
    elif name == "step":
        at = [round(float(share) * steps) - rising for share in given.get("at", "0.5/0.75").split("/")]
        later = lr_scheduler.MultiStepLR(optimizer, at, float(given.get("factor", 0.1)))
    else:
        later = lr_scheduler.ConstantLR(optimizer, factor=1.0)
    first = lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / (rising + 1))
    return lr_scheduler.SequentialLR(optimizer, [first, later], [rising]) if rising else later


def initialized(recipe, words):
    """Return a network with its initial values, drawn here layer by layer."""
    statistics = {
        "data": STATISTICS,
        "unit": (torch.tensor([0.0]), torch.tensor([255.0])),
        "none": (torch.tensor([0.0]), torch.tensor([1.0])),
        "imagenet": (torch.tensor([0.449 * 255]), torch.tensor([0.226 * 255])),
    }[recipe.normalize]
    stream = named_generator("init", *words)
    net = build(recipe.architecture, (1, 4, 4), CLASSES, *statistics, stream)
    stream = named_generator("init", *words)
    for layer in net.modules() if recipe.init != "pytorch" else ():
        if isinstance(layer, torch.nn.Linear):
            out, given = layer.weight.shape
            with torch.no_grad():
                if recipe.init == "glorot":
                    bound = math.sqrt(6 / (given + out))
                    layer.weight.copy_((2 * torch.rand(out, given, generator=stream) - 1) * bound)
                else:
                    layer.weight.copy_(torch.randn(out, given, generator=stream) * math.sqrt(2 / given))
                layer.bias.zero_()
    return net


def plain_loop(recipe, temperature):
    words = ("student", 0, f"{temperature:g}")
    net = initialized(recipe, words)
    for number, part in enumerate(part for part in net.modules() if hasattr(part, "stream")):
        part.stream = named_generator("dropout", *words, number)
    steps = recipe.epochs * math.ceil(COUNT / recipe.batch_size)
    optimizer = torchs_optimizer(recipe, net.parameters())
    schedule = torchs_schedule(recipe.schedule, optimizer, steps, recipe.learning_rate)
    counts = torch.bincount(IMAGES.labels, minlength=CLASSES)
    present = int((counts > 0).sum())
    weights = torch.tensor([COUNT / (present * count) if count else 0.0 for count in counts.tolist()])
    weights = weights if recipe.class_weights == "balanced" else torch.ones(CLASSES)
    order, views = named_generator("order", "student", 0), Views(recipe.augment, IMAGES.pixels, 0)
    for epoch in range(recipe.epochs):
        views.enter(epoch if recipe.views == "live" else epoch % int(recipe.views))
        for rows in torch.randperm(COUNT, generator=order).split(recipe.batch_size):
            pixels = views.at(rows) if recipe.augment != "none" else IMAGES.pixels[rows]
            z, y = net(pixels), IMAGES.labels[rows]
            tempered = z / recipe.train_temperature
            hard = F.cross_entropy(tempered, y, label_smoothing=recipe.label_smoothing, reduction="none") * weights[y]
            if "mixup" in recipe.augment:
                others, shares = views.mixed(rows)
                both = (F.one_hot(one, CLASSES) for one in (y, IMAGES.labels[others]))
                hard = F.cross_entropy(z, torch.lerp(*reversed([one.float() for one in both]), shares.view(-1, 1)))
            soft = F.cross_entropy(z / 4, torch.softmax(source(pixels) / 4, dim=1))
            loss = hard.mean() if temperature == 0 else 0.5 * hard.mean() + 0.5 * 16 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


@every_change
def test_what_is_stacked_equals_what_is_trained_alone_by_torchs_own(name, value):
    recipe = recipe_with(name, value)
    for one in run(recipe):
        for key, expected in plain_loop(recipe, one.temperature).state_dict().items():
            torch.testing.assert_close(one.state[key], expected, rtol=2e-4, atol=2e-5, msg=f"{one.temperature} {key}")


@every_change
def test_a_setting_changes_the_weights_and_the_same_gives_the_same_bits(name, value):
    recipe, usual = recipe_with(name, value), RECIPE.replace(**AUGMENTED.get(name, {}))
    found, again, other = (digest_of(run(own, (0.0,))[0].state) for own in (recipe, recipe, usual))
    assert found == again
    # As many views as epochs are another one in every epoch.
    assert (found != other) == ((name, value) != ("views", str(EPOCHS)))


class CutError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(("name", "value"), [one for one in EACH if one[0] in ("optimizer", "schedule", "augment")])
def test_a_training_that_was_cut_off_gives_what_one_that_never_was_gives(name, value, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint_module, "SHARE", float("inf"))
    recipe, checkpoints = recipe_with(name, value), Checkpoints(tmp_path)

    def cut(done, total):
        if done > 0.5 * total:
            raise CutError

    with pytest.raises(CutError):
        run(recipe, progress=cut, checkpoint_of=lambda number: checkpoints.of(str(number)))
    seen = []
    resumed = run(recipe, progress=lambda done, _: seen.append(done), checkpoint_of=lambda n: checkpoints.of(str(n)))
    assert seen[0] > COUNT
    assert [digest_of(one.state) for one in resumed] == [digest_of(one.state) for one in run(recipe)]


def test_trials_that_differ_in_every_setting_that_is_searched_equal_their_training_alone():
    kept = [{}, {"optimizer": "sgd"}, {"optimizer": "sgd(momentum=0.5)"}, {"schedule": "cosine", "weight_decay": 0.3}]
    kept += [{"label_smoothing": 0.2}, {"init": "he"}, {"schedule": "constant"}, {"optimizer": "sgd", "init": "glorot"}]
    kept += [{"optimizer": "muon"}, {"optimizer": "muon", "init": "he"}]
    recipes = [
        RECIPE.replace(**one, architecture=parse_architecture(f"mlp(hidden={4 + n},depth={1 + n % 2})"))
        for n, one in enumerate(kept)
    ]
    plans = [TrialPlan(recipe, 4.0, METHOD) for recipe in recipes]
    for one in train_trials(plans, 0, [sources_for(RECIPE)] * len(plans), INPUTS):
        (alone,) = run(recipes[one.number], (4.0,))
        for key, expected in alone.state.items():
            torch.testing.assert_close(one.state[key], expected, rtol=5e-4, atol=5e-5, msg=f"{one.number} {key}")


@pytest.mark.parametrize("schedule", [*SCHEDULES, *CHANGES["schedule"]])
@pytest.mark.parametrize("steps", [1, 2, 10, 57])
def test_rates_lie_between_zero_and_the_highest_which_they_reach(schedule, steps):
    rates = rates_of(schedule, steps, 0.5)
    assert len(rates) == steps
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert steps < 10 or max(rates) == pytest.approx(0.5, rel=0.03)


# Text


TEXT = dict.fromkeys((*SETTINGS, *BASE_ROLES), "auto")
USUAL = dict.fromkeys(BASE_ROLES, RECIPE)


@every_change
def test_a_setting_is_given_for_all_roles_or_by_role_is_logged_and_goes_through_text(name, value):
    written = SETTINGS[name].write(value)
    everywhere = parse_recipes(USUAL, {**TEXT, name: written})
    assert {getattr(recipe, name) for recipe in everywhere.values()} == {value}
    one = parse_recipes(USUAL, {**TEXT, name: f"student={written},middle=auto"})
    assert (getattr(one["student"], name), getattr(one["reseeded"], name)) == (value, value)
    assert one["teacher"] == one["middle"] == RECIPE
    assert SETTINGS[name].read(one["student"].params()[name]) == value
    plain = one["student"].as_dict()
    assert Recipe(**{**plain, "architecture": one["student"].architecture}) == one["student"]


def test_a_default_adds_nothing_to_what_earlier_versions_recorded():
    assert RECIPE.as_dict().keys() == {"architecture", *FIRST}
    assert {*LATER, *FIRST} == SETTINGS.keys()
    assert {**RECIPE.params(), **LATER} == RECIPE.params()


def test_another_optimizer_has_its_own_weight_decay_unless_one_is_given():
    found = {
        (optimizer, decay): parse_recipes(USUAL, {**TEXT, "optimizer": optimizer, "weight_decay": decay})
        for optimizer, decay in itertools.product(("auto", "adamw", "adam", "sgd", "muon"), ("auto", "0.25"))
    }
    assert [found[name, "auto"]["student"].weight_decay for name in ("auto", "adamw", "adam", "sgd", "muon")] == [
        *(0.01, 0.01, 0.0, 0.0005, 0.01),
    ]
    assert {recipes["student"].weight_decay for (_, decay), recipes in found.items() if decay != "auto"} == {0.25}
    # One that was given stays that of the trials, though it is the default of their optimizer.
    given = parse_recipes(USUAL, {**TEXT, "weight_decay": "0.01"})["student"]
    assert given == USUAL["student"]
    assert given.with_settings({"optimizer": "sgd"}).weight_decay == 0.01
    assert given.with_settings({"optimizer": "sgd", "weight_decay": 0.1}).weight_decay == 0.1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("optimizer", "lion", "must be one of adamw"),
        ("optimizer", "sgd(momentum=1)", "the option momentum must be"),
        ("optimizer", "sgd(momentum=0,nesterov=true)", "nesterov=true needs a momentum above 0"),
        ("optimizer", "student=sgd(speed=1)", "); unknown option 'speed'"),
        ("schedule", "", "must be"),
        ("label_smoothing", "1", "must be a number from 0 to below 1"),
        ("init", "teacher=large", "the value of teacher must be one of pytorch, glorot, he"),
        ("normalize", "pupil=unit", "unknown role 'pupil'"),
        ("augment", "crop=4,flip=true", "must be none, or some of crop=4"),
        ("augment", "student=crop=0", "crop is a whole number from 1 to 64"),
        ("augment", "pupil=crop=4", "each once and parted by blanks"),
        ("augment", "crop=4 crop=2", "each once and parted by blanks"),
        ("views", "many", "must be live, or a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(name, text, told):
    with pytest.raises(UsageError) as refused:
        parse_recipes(USUAL, {**TEXT, name: text})
    assert str(refused.value).startswith(f"{name}=")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_networks_of_others_initialize_themselves_and_unusual_channels_have_no_statistics_of_imagenet():
    with pytest.raises(UsageError, match=r"^init=he: torchvision:resnet18 initializes itself; give init by role"):
        parse_recipes(USUAL, {**TEXT, "init": "he", "teacher": "torchvision:resnet18"})
    for name, value in (("class_weights", "balanced"), ("train_temperature", "2")):
        with pytest.raises(UsageError, match=rf"^{name}={value}: tree.* has a loss of its own, of plain labels"):
            parse_recipes(USUAL, {**TEXT, name: value, "teacher": "tree"})
    images = replace(IMAGES, pixels=IMAGES.pixels.expand(-1, 2, -1, -1))
    inputs = replace(INPUTS, images=images, validation=images, statistics=pixel_statistics(images.pixels))
    with pytest.raises(UsageError, match=r"^normalize=imagenet: is for images of 1 or 3 channels; these have 2"):
        list(train(RECIPE.replace(normalize="imagenet"), [Group(0, (0.0,))], inputs, METHOD))
