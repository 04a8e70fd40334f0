"""The laws of training on a graphics processor, where there is one: replayed steps are the steps themselves."""

from contextlib import nullcontext

import pytest
import torch

from benchmarks.passes import train
from kdops.config.architectures import parse_architecture
from kdops.config.recipes import Recipe
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.errors import DivergenceError
from kdops.models.classifier import build, digest_of, pixel_statistics
from kdops.training.checkpoint import Checkpoint
from kdops.training.evaluation import compute_logits
from kdops.training.optimizer import Optimizer
from kdops.training.trainer import Group, PassInputs
from kdops.training.training_pass import TrainingPass
from kdops.training.trials import TrialPlan, train_trials
from kdops.utils.random import named_generator
from tests.conftest import PAPER
from tests.toys import quarters

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics processor")

IMAGES, VALIDATION, CLASSES = quarters(300, 0, 8), quarters(40, 1, 8), 4
STATISTICS = pixel_statistics(IMAGES.pixels)
SOURCE = 3 * torch.randn(300, CLASSES, generator=torch.Generator().manual_seed(0))
GROUPS = [Group(seed, (0.0, 1.0, 4.0), Kept(SOURCE)) for seed in (0, 1)]
TEXTS = (
    "mlp(hidden=8)",
    "mlp(hidden=8,depth=2,dropout=0.2)",
    "cnn(filters=8,layers=2,dropout=0.2/0.3)",
    "tree(depth=3)",
)
PLAIN = ("mlp(hidden=8,depth=2)", "cnn(filters=8,layers=2,dropout=0)", "tree(depth=3)")
"""Each device draws its own dropout, so what is compared with the CPU has none."""


def run(text, groups=GROUPS, device="cuda", **options):
    recipe = Recipe(parse_architecture(text), epochs=4, batch_size=64, learning_rate=1e-2)
    inputs = PassInputs("student", IMAGES, VALIDATION, CLASSES, STATISTICS, device)
    return list(train(recipe, groups, inputs, LogitDistillation(), **options))


def without_replay(monkeypatch):
    """Let every step run as it is."""
    monkeypatch.setattr("kdops.training.cuda_graph.EAGER_CALLS", 10**9)


def differs(trained, other):
    """Return the largest difference of a weight."""
    return max(
        (one.state[name] - two.state[name]).abs().max()
        for one, two in zip(trained, other, strict=True)
        for name in one.state
    )


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_replayed_is_what_the_steps_themselves_are(text, monkeypatch):
    replays = []

    def counted(graph, real=torch.cuda.CUDAGraph.replay):
        replays.append(graph)
        real(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    replayed = run(text)
    # Of four epochs of four steps and a smaller one all but the first three of each shape.
    assert len(replays) == (16 - 3) + (4 - 3)
    without_replay(monkeypatch)
    assert differs(replayed, run(text)) < 1e-5


@pytest.mark.parametrize("text", TEXTS)
def test_the_same_training_gives_the_same_bits(text):
    first, second = ([digest_of(one.state) for one in run(text)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("text", PLAIN)
def test_a_graphics_processor_learns_what_the_cpu_learns(text):
    for one, two in zip(run(text), run(text, device="cpu"), strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, rel=0.05)


@pytest.mark.parametrize("text", TEXTS)
def test_a_member_is_what_it_is_alone(text, monkeypatch):
    # Rounded to TF32 a sum in another order would differ by as much as the rounding.
    monkeypatch.setattr("kdops.training.training_pass.allow_tf32", lambda device: nullcontext())
    together = run(text)
    for member, seed, temperature in ((1, 0, 1.0), (5, 1, 4.0)):
        assert differs([together[member]], run(text, [Group(seed, (temperature,), Kept(SOURCE))])) < 1e-4


@pytest.mark.parametrize("text", TEXTS)
def test_a_training_that_was_cut_off_gives_what_one_that_never_was_gives(text, tmp_path, monkeypatch):
    monkeypatch.setattr("kdops.training.checkpoint.FIRST_SECONDS", 0.0)
    monkeypatch.setattr("kdops.training.checkpoint.SHARE", float("inf"))
    whole = run(text)

    def checkpoint_of(number):
        return Checkpoint(tmp_path / f"{number}.safetensors", str(number))

    def cut(done, total):
        if done >= 0.6 * total:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(text, checkpoint_of=checkpoint_of, progress=cut)
    assert list(tmp_path.iterdir())
    again = []
    assert (
        differs(whole, run(text, checkpoint_of=checkpoint_of, progress=lambda done, total: again.append(done))) < 1e-5
    )
    # The first word tells of the epochs that were kept; the steps of the others follow.
    assert again[0] > 0
    assert len(again) <= 1 + 5 * 2


@pytest.mark.parametrize("most", [1, 4])
def test_convolutional_nets_are_what_they_are_however_many_share_a_pass(most, monkeypatch):
    together = run(TEXTS[2])
    monkeypatch.setattr("kdops.training.trainer.NETS_A_PASS", most)
    assert differs(together, run(TEXTS[2])) < 1e-4


@pytest.mark.parametrize("text", TEXTS)
def test_a_loss_that_stops_being_finite_names_the_member(text):
    broken = SOURCE.clone()
    broken[3] = float("nan")
    with pytest.raises(DivergenceError, match="student T=1 seed=1"):
        run(text, [GROUPS[0], Group(1, (0.0, 1.0), Kept(broken))])


@pytest.mark.parametrize("text", TEXTS)
def test_no_step_waits_for_the_device(text, monkeypatch):
    steps = []

    def watched(owner, name):
        real = getattr(owner, name)

        def refused(*given):
            torch.cuda.set_sync_debug_mode("error")
            try:
                real(*given)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            steps.append(name)

        monkeypatch.setattr(owner, name, refused)

    # The steps as they are, and what is done between those that are replayed.
    watched(TrainingPass, "_step")
    watched(Optimizer, "set_rate")
    watched(torch.cuda.CUDAGraph, "replay")
    run(text)
    assert {"_step", "set_rate", "replay"} == set(steps)


def test_a_search_learns_what_it_learns_on_the_cpu():
    recipe = Recipe(parse_architecture("mlp(hidden=8)"), epochs=3, batch_size=64, learning_rate=1e-2)
    plans = [TrialPlan(recipe, temperature, LogitDistillation(0.5)) for temperature in (1.0, 4.0)]
    given = ("student", IMAGES, VALIDATION, CLASSES, STATISTICS)
    found = [
        {one.number: one for one in train_trials(plans, 0, [Kept(SOURCE)] * len(plans), PassInputs(*given, device))}
        for device in ("cuda", "cpu")
    ]
    for number in range(len(plans)):
        ours, theirs = (one[number].train_loss for one in found)
        assert ours == pytest.approx(theirs, rel=0.02)


def test_networks_that_are_measured_there_stay_on_the_cpu():
    nets = [build(parse_architecture(TEXTS[2]), (1, 8, 8), CLASSES, *STATISTICS, named_generator(n)) for n in range(2)]
    there, here = (compute_logits(nets, IMAGES.pixels, device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-2)
    assert {values.device.type for net in nets for values in net.state_dict().values()} == {"cpu"}


def test_the_whole_paper_runs_there_and_finds_its_models_again(store):
    parent = store.run("paper", **{**PAPER, "device": "cuda", "controls": "true"})
    assert parent.info.status == "FINISHED"
    trained = len(store.calls)
    assert trained > 5
    store.run("paper", **{**PAPER, "device": "cuda", "controls": "true"})
    assert len(store.calls) == trained


def test_a_search_and_networks_of_others_run_there(store):
    assert store.run("search", device="cuda", trials="3").info.status == "FINISHED"
    teacher = store.run("teacher", device="cuda", teacher="torchvision:resnet18", epochs="1", seeds="1")
    assert teacher.info.status == "FINISHED"
