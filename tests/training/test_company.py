"""Laws of companies: a new line of COMPANIES inherits them all."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.config.companies import COMPANIES, parse_company
from kdops.config.recipes import Recipe
from kdops.distillation.company import CompanyMethod, Turn, build_company, divergence_from_peers
from kdops.distillation.method import LabelsOnly, Outputs, Step
from kdops.distillation.objective import Objective
from kdops.models.classifier import pixel_statistics
from kdops.sweeps.model import COPY_SEEDS
from kdops.training.checkpoint import Checkpoints
from kdops.training.company import PeerNetworks, train_company
from kdops.training.groups import Group, PassInputs
from kdops.training.history import Meter
from kdops.training.initialization import new_network, streams_of_networks
from kdops.training.training_pass import TrainingPass
from tests.toys import quarters

CLASSES, COUNT, EPOCHS = 4, 50, 3
IMAGES, VALIDATION = quarters(COUNT, 0, 4), quarters(30, 1, 4)
INPUTS = PassInputs("peer", IMAGES, VALIDATION, CLASSES, pixel_statistics(IMAGES.pixels))
RECIPE = Recipe(parse_architecture("mlp"), EPOCHS, 16, 5e-3)
DENSE = ("mlp(hidden=6,dropout=0.1)", "mlp(hidden=6,dropout=0.1)")
MIXED = ("mlp(hidden=6)", "mlp(hidden=5,depth=2)", "tree(depth=2)", "cnn(filters=4,layers=2)")
CONVOLUTIONAL = ("cnn(filters=4,layers=2,dropout=0.1)", "cnn(filters=3,layers=2)")

WAYS = [*COMPANIES, "mutual(order=sequential,temperature=2)", "adversarial(cyclic=false,rate=0.01)"]
every_way = pytest.mark.parametrize("text", WAYS)


def nets_of(text):
    return CONVOLUTIONAL if COMPANIES[text.partition("(")[0]].taps else MIXED


def run(text, nets, seeds=None, recipe=RECIPE, **options):
    chosen = parse_company(text)
    seeds = seeds or [COPY_SEEDS * place for place in range(len(nets))]
    given = [parse_architecture(net) for net in nets], seeds, chosen.temperature
    return train_company(recipe, *given, INPUTS, build_company(chosen), **options)


@cache
def trained(text, nets):
    """A training that several laws look at."""
    return run(text, nets)


def alone(net, seed, recipe=RECIPE):
    """Train one network on hard labels by itself, in the batch order of replicate 0."""
    recipe = recipe.replace(architecture=parse_architecture(net))
    built = new_network(INPUTS, recipe, seed, 0.0)
    given = (INPUTS, [Group(0, (0.0,))], [recipe], [LabelsOnly()], PeerNetworks([built], "cpu", True).each[0])
    return next(TrainingPass(*given, streams_of_networks([built]), 1).run(Meter(None, 0)))


def same(one, other):
    return all(torch.equal(one.state[name], other.state[name]) for name in other.state)


@pytest.mark.parametrize("nets", [DENSE, MIXED, CONVOLUTIONAL])
def test_independent_nets_are_to_the_bit_those_that_are_trained_alone(nets):
    for place, (net, found) in enumerate(zip(nets, trained("independent", nets), strict=True)):
        by_itself = alone(net, COPY_SEEDS * place)
        assert same(found, by_itself)
        assert found.history == by_itself.history


@pytest.mark.parametrize("order", ["simultaneous", "sequential"])
def test_nets_of_a_company_learn_the_labels_of_mixed_images(order):
    recipe, nets = RECIPE.replace(augment="mixup=1"), [parse_architecture(net) for net in MIXED[:2]]
    found = train_company(recipe, nets, [0, COPY_SEEDS], 0.0, INPUTS, Aligned(order))
    for place, (net, mine) in enumerate(zip(MIXED, found, strict=False)):
        by_itself = alone(net, COPY_SEEDS * place, recipe)
        assert same(mine, by_itself)
        assert not same(mine, alone(net, COPY_SEEDS * place))


@every_way
def test_what_a_net_learns_from_the_others_changes_it_unless_it_is_independent(text):
    for mine, plain in zip(trained(text, nets_of(text)), trained("independent", nets_of(text)), strict=True):
        assert same(mine, plain) is (text == "independent")


@every_way
def test_all_companies_see_the_same_batches_also_where_one_image_is_left(text):
    recipe, passed = RECIPE.replace(batch_size=7, epochs=1), {}
    assert COUNT % recipe.batch_size == 1
    for way in ("independent", text):
        seen = passed.setdefault(way, [])
        run(way, CONVOLUTIONAL, recipe=recipe, progress=lambda done, total, seen=seen: seen.append(done))
    assert passed[text] == passed["independent"]


class CutError(Exception):
    """The training is cut off here."""


@every_way
def test_a_company_that_was_cut_off_gives_what_one_that_never_was_gives(text, tmp_path, monkeypatch):
    monkeypatch.setattr("kdops.training.checkpoint.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("kdops.training.checkpoint.SHARE", 1e9)
    nets = nets_of(text)

    def progress(done, total):
        if done > 2 * COUNT * len(nets):
            raise CutError

    with pytest.raises(CutError):
        run(text, nets, progress=progress, checkpoint=Checkpoints(tmp_path).of("one"))
    assert list(tmp_path.iterdir())
    again = run(text, nets, checkpoint=Checkpoints(tmp_path).of("one"))
    for mine, other in zip(again, trained(text, nets), strict=True):
        assert same(mine, other)
        assert mine.history == other.history


@every_way
def test_nets_that_learn_at_once_are_permuted_with_their_starts(text):
    if any(one in text for one in ("sequential", "adversarial", "aligned")):
        pytest.skip("there the sequence is the method, or discriminators start by it")
    nets = nets_of(text)
    # The batch order is that of the first seed, so the first net stays the first.
    nets, order = nets[:1] + nets, [0, *range(len(nets), 0, -1)]
    seeds = [COPY_SEEDS * place for place in range(len(nets))]
    plain = run(text, nets, seeds)
    found = run(text, [nets[place] for place in order], [seeds[place] for place in order])
    for place, mine in zip(order, found, strict=True):
        for name, values in plain[place].state.items():
            torch.testing.assert_close(mine.state[name], values)


def outputs(members, seed):
    stream = torch.Generator().manual_seed(seed)
    return Outputs(torch.randn(members, 6, CLASSES, generator=stream).requires_grad_())


def losses(text, student):
    """Return the loss of each net ``[K]`` in a step of its company."""
    chosen = parse_company(text)
    members = len(student.logits)
    method, temperatures = build_company(chosen), torch.full((members,), chosen.temperature)
    objective = Objective(method, temperatures, [torch.nn.Module()] if method.has_modules else [])
    labels = torch.arange(6).remainder(CLASSES).expand(members, -1)
    return objective(student, labels, student.map(torch.Tensor.detach))


@every_way
def test_no_loss_has_a_gradient_in_another_net(text):
    student = outputs(3, 1)
    for place, loss in enumerate(losses(text, student)):
        (gradient,) = torch.autograd.grad(loss, student.logits, retain_graph=True)
        assert gradient[place].abs().max() > 0
        assert gradient[[other for other in range(3) if other != place]].abs().max() == 0


@every_way
def test_the_losses_are_permuted_with_the_nets(text):
    student, order = outputs(3, 1), [2, 0, 1]
    moved = Outputs(student.logits[order])
    torch.testing.assert_close(losses(text, moved), losses(text, student)[order])


def test_mutual_learning_is_the_mean_divergence_from_the_others_by_hand():
    chosen, student = parse_company("mutual(weight=0.5,temperature=2)"), outputs(3, 1)
    own = torch.log_softmax(student.logits / 2, dim=-1)
    step = Step(student, student.map(torch.Tensor.detach), torch.zeros(3, 6).long(), torch.full((3, 1, 1), 2.0), None)
    found = build_company(chosen).terms(step, torch.nn.Module())["peers"]
    for k in range(3):
        each = [torch.nn.functional.kl_div(own[k], own[j], reduction="batchmean", log_target=True) for j in range(3)]
        assert found[k].item() == pytest.approx(0.5 * 4 * sum(each).item() / 2, rel=1e-5)


def test_in_turn_each_net_learns_from_those_that_stepped_before_it():
    recipe = RECIPE.replace(epochs=2, batch_size=COUNT)
    ways = [run(f"mutual(order={order})", MIXED[:2], recipe=recipe) for order in ("simultaneous", "sequential")]
    first, second = ([way[place].train_loss[0] for way in ways] for place in (0, 1))
    assert first[0] == first[1]
    assert second[0] != second[1]


def adversaries(text, channels, seed=5):
    """Return the method, what is trained beside nets of such maps, and the maps."""
    torch.manual_seed(seed)
    method = build_company(parse_company(text))
    maps = [torch.randn(6, each, 2, 2).relu().requires_grad_() for each in channels]
    return method, method.beside([(each, 2, 2) for each in channels]), maps


@pytest.mark.parametrize("text", ["adversarial", "adversarial(cyclic=false)", "aligned"])
def test_no_loss_of_maps_has_a_gradient_in_another_net(text):
    method, modules, maps = adversaries(text, (3, 4, 3))
    for place, loss in enumerate(method.learned(maps, modules)):
        found = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
        reached = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in found]
        assert reached == [other == place for other in range(3)]
    if text == "aligned":
        return
    judged = method.judged(maps, modules)
    given = [*maps, *modules["transfers"].parameters()]
    assert all(one is None for one in torch.autograd.grad(judged, given, retain_graph=True, allow_unused=True))
    assert all(one.abs().max() > 0 for one in torch.autograd.grad(judged, list(modules["judges"].parameters())))


def test_each_net_has_a_discriminator_or_one_for_each_other_net():
    cyclic, every = (build_company(parse_company(f"adversarial(cyclic={flag})")) for flag in ("true", "false"))
    assert cyclic.pairs(3) == [(0, 2), (1, 0), (2, 1)]
    assert sorted(cyclic.pairs(2)) == sorted(every.pairs(2))
    assert len(every.pairs(3)) == 6
    transfers, judges = cyclic.beside([(each, 2, 2) for each in (3, 4, 4)]).values()
    assert [type(one).__name__ for one in transfers] == ["Conv2d", "Conv2d", "Identity"]
    assert [one[0].in_channels for one in judges] == [4, 3, 4]


def test_the_losses_of_maps_by_hand():
    method, modules, maps = adversaries("adversarial", (3, 3))
    (real, fake), (other_real, other_fake) = (
        [modules["judges"][own](maps[which]).detach() for which in (1 - own, own)] for own in (0, 1)
    )
    by_hand = sum(((1 - one) ** 2).mean() for one in (real, other_real)) + (fake**2).mean() + (other_fake**2).mean()
    assert method.judged(maps, modules).item() == pytest.approx(by_hand.item(), rel=1e-5)
    losses = method.learned(maps, modules).tolist()
    assert losses == pytest.approx([((1 - one) ** 2).mean().item() for one in (fake, other_fake)], rel=1e-5)


def test_the_loss_of_aligned_maps_by_hand():
    method, modules, maps = adversaries("aligned", (3, 3))
    distance = (maps[0] - maps[1]).abs().mean().item()
    assert method.learned(maps, modules).tolist() == pytest.approx([distance, distance], rel=1e-6)


def test_nets_deceive_their_discriminators_by_an_optimizer_of_their_own():
    nets = ("cnn(filters=4,layers=2,dropout=0)",) * 2
    slow, fast = (run(f"adversarial(rate={rate})", nets) for rate in ("1e-8", "0.003"))
    plain = run("mutual(temperature=3)", nets)
    assert not same(slow[0], fast[0])
    # All but at a standstill, it leaves what mutual learning alone does.
    for one, other in zip(slow, plain, strict=True):
        for name, values in other.state.items():
            torch.testing.assert_close(one.state[name], values, atol=1e-4, rtol=1e-4)
    terms = fast[0].terms
    assert set(terms) == {"peers", "labels", "maps", "discriminators"}
    assert terms["peers"][-1] + terms["labels"][-1] == pytest.approx(fast[0].train_loss[-1], rel=1e-4)


@dataclass(frozen=True)
class Aligned(CompanyMethod):
    """Nets whose embeddings, brought to one size by a module each, are to be near their mean: a method of one file."""

    order: str = "sequential"

    def taps(self, nets):
        return ("embedding",) * len(nets)

    def beside(self, shapes):
        return nn.ModuleDict({"into": nn.ModuleList(nn.Linear(size, 3) for (size,) in shapes)})

    times: int = 1

    def turns(self):
        return (Turn("near", self.near, ("into",), nets=True, rate=0.01, decay=0.0),) * self.times

    def near(self, values, modules):
        found = torch.stack([into(own) for into, own in zip(modules["into"], values, strict=True)])
        return (found - found.mean(dim=0).detach()).square().mean(dim=(1, 2))

    def terms(self, step, modules):
        return {"peers": divergence_from_peers(step)}


def test_a_method_brings_modules_and_steps_of_its_own_whatever_its_order_and_the_nets():
    found = {}
    for order in ("simultaneous", "sequential"):
        texts, seeds = (*MIXED,), [COPY_SEEDS * place for place in range(len(MIXED))]
        given = RECIPE, [parse_architecture(net) for net in texts], seeds, 1.0, INPUTS
        one, *others = train_company(*given, Aligned(order))
        assert {"peers", "labels", "near"} <= set(one.terms)
        assert one.terms["near"][-1] < one.terms["near"][0]
        assert (one.beside, len(others)) == (one.beside_bytes // 4, 3)
        found[order] = one
    assert not same(found["simultaneous"], found["sequential"])
    again = train_company(*given, Aligned(times=2))[0]
    # What the log has is the sum of both turns.
    assert again.terms["near"][-1] / 2 < found["sequential"].terms["near"][-1]
    hard = train_company(*given[:-2], 0.0, INPUTS, Aligned("simultaneous"))
    assert all(map(same, hard, trained("independent", MIXED)))


def test_the_table_says_what_the_class_is():
    for name, spec in COMPANIES.items():
        method = build_company(parse_company(name))
        assert method.needs.peers
        assert method.has_modules is spec.has_modules
        assert {option: getattr(method, option) for option in spec.options} == spec.defaults()
        chosen = parse_company(name)
        assert parse_company(str(chosen)) == parse_company(chosen.full_text) == chosen
