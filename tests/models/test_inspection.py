"""Networks of others: torchvision's and the caller's own, built, counted, tried, trained, stored and served."""

import math
import sys

import mlflow
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.passes import train
from kdops.cli.app import main
from kdops.config.architectures import parse_architecture
from kdops.config.datasets import DATASETS
from kdops.distillation.logits import LogitDistillation
from kdops.distillation.sources import Kept
from kdops.errors import UsageError
from kdops.models.classifier import build, digest_of
from kdops.models.inspection import check_networks
from kdops.models.size import network_size
from kdops.training.trainer import Group, Images, PassInputs
from kdops.utils.random import named_generator

SHAPE, CLASSES = (1, 8, 8), 10
LIGHT = "torchvision:shufflenet_v2_x0_5"
SMALL = ("torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small")

CODE = """
import random
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(6 * 16, classes)
        self.register_buffer("scale", torch.tensor(1.0 + random.random() + np.random.rand()))

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        x = nn.functional.dropout(x, 0.1, self.training)
        return self.out(self.drop(x.view(x.shape[0], -1))) * self.scale


def net(channels, height, width, classes):
    return Net(channels, classes)


def dense(channels, height, width, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 4), nn.ReLU(), nn.Linear(4, classes))


def softened(channels, height, width, classes):
    return nn.Sequential(dense(channels, height, width, classes), nn.Softmax(1))


def fails(channels, height, width, classes):
    raise ValueError("no such luck")


def nothing(channels, height, width, classes):
    return 3


def five(channels, height, width, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 5))


class Pair(Net):
    def forward(self, x):
        return super().forward(x), x


def pair(channels, height, width, classes):
    return Pair(channels, classes)


class Noisy(Net):
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 1)


def noisy(channels, height, width, classes):
    return Noisy(channels, classes)


class Hidden(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.shift = torch.randn(classes)

    def forward(self, x):
        return super().forward(x) + self.shift


def hidden(channels, height, width, classes):
    return Hidden(channels, classes)


class Frozen(Net):
    def __init__(self, channels, classes):
        super().__init__(channels, classes)
        self.requires_grad_(False)


def frozen(channels, height, width, classes):
    return Frozen(channels, classes)


def recurrent(channels, height, width, classes):
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows, self.out = nn.GRU(width, 5, batch_first=True), nn.Linear(5, classes)

        def forward(self, x):
            return self.out(self.rows(x.mean(1))[0][:, -1])

    return Rows()


class Counting(Net):
    def forward(self, x):
        return super().forward(x).view(len(x), -1)


def counting(channels, height, width, classes):
    return Counting(channels, classes)


number = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module of the caller's own in the current folder, under a name that no other test has imported."""
    (tmp_path / "mynets.py").write_text(CODE)
    monkeypatch.setenv("KDOPS_CODE_FOLDER", str(tmp_path))
    network_size.cache_clear()
    yield tmp_path / "mynets.py"
    sys.modules.pop("mynets", None)
    network_size.cache_clear()


def make(text, stream=0, shape=SHAPE, classes=CLASSES):
    mean = torch.full((shape[0],), 100.0)
    return build(parse_architecture(text), shape, classes, mean, mean / 2, named_generator("init", stream))


def recipes(text, role="teacher", **changes):
    found = dict(DATASETS["digits"].recipes)
    found[role] = found[role].replace(architecture=parse_architecture(text), **changes)
    return found


def check(text, role="teacher", **changes):
    return check_networks([(role, recipes(text, role, **changes)[role])], SHAPE, CLASSES)


def pictures(count, shape=SHAPE, seed=0):
    pixels = torch.randint(0, 256, (count, *shape), generator=named_generator("pixels", seed)).to(torch.uint8)
    return Images(pixels, torch.randint(0, CLASSES, (count,), generator=named_generator("labels", seed)))


def trained(text, count=20, seed=0, temperatures=(0.0,), source=None, **changes):
    recipe = recipes(text, epochs=1, batch_size=8, **changes)["teacher"]
    statistics = (torch.tensor([128.0]), torch.tensor([64.0]))
    groups = [Group(seed, temperatures, None if source is None else Kept(source))]
    images = pictures(count)
    return list(train(recipe, groups, PassInputs("teacher", images, images, CLASSES, statistics), LogitDistillation()))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" torchvision:resnet18 ", "torchvision:resnet18"),
        ("torchvision:resnet18()", "torchvision:resnet18"),
        ("torchvision:resnet18( weights = none )", "torchvision:resnet18"),
        ("torchvision:resnet18(weights=default)", "torchvision:resnet18(weights=default)"),
        ("package.module:function", "package.module:function"),
    ],
)
def test_networks_of_others_read_back_from_their_own_text(text, canonical):
    architecture = parse_architecture(text)
    assert str(architecture) == canonical
    assert parse_architecture(canonical) == architecture


@pytest.mark.parametrize(
    "text",
    [
        "torchvision:",
        "torchvision:resnet18(weights=mine)",
        "torchvision:resnet18(hidden=3)",
        "torchvision:Res Net",
        "module:",
        ":function",
        "a b:c",
        "module:function()",
        "resnet18",
    ],
)
def test_what_names_no_network_is_refused(text):
    with pytest.raises(UsageError, match=r"^teacher="):
        parse_architecture(text, "teacher")


@pytest.mark.parametrize("text", [*SMALL, "mynets:net", "mynets:dense"])
def test_sizes_are_those_of_the_network(text, code):
    net, known = make(text).eval(), network_size(parse_architecture(text), SHAPE, CLASSES)
    with FlopCounterMode(display=False) as counter:
        assert net(pictures(3).pixels).shape == (3, CLASSES)
    assert known.parameters == sum(p.numel() for p in net.parameters())
    assert known.flops == counter.get_total_flops() / 3 > 0


def test_a_dense_net_of_the_callers_has_the_sizes_of_the_same_one_of_kdops(code):
    own, theirs = (network_size(parse_architecture(text), SHAPE, CLASSES) for text in ("mlp(hidden=4)", "mynets:dense"))
    assert (own.parameters, own.flops) == (theirs.parameters, theirs.flops)


def test_operations_that_cannot_be_counted_are_unknown_not_zero(code):
    assert network_size(parse_architecture("mynets:recurrent"), SHAPE, CLASSES).flops is None


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 48), (2, 64, 64)], ids=str)
@pytest.mark.parametrize("text", ["torchvision:resnet18", "torchvision:shufflenet_v2_x0_5"])
def test_torchvisions_models_fit_any_images(text, shape):
    net = make(text, shape=shape, classes=7)
    assert net(pictures(3, shape).pixels).shape == (3, 7)


def test_a_resnet_keeps_small_images_and_is_torchvisions_own_on_large_ones():
    from torchvision.models import resnet18

    small = make("torchvision:resnet18").net
    assert small.conv1(torch.zeros(1, 1, 8, 8)).shape[2:] == (8, 8)
    assert small.maxpool(torch.zeros(1, 1, 8, 8)).shape[2:] == (8, 8)
    large = make("torchvision:resnet18", shape=(3, 64, 64), classes=CLASSES).eval()
    own = resnet18(num_classes=CLASSES).eval()
    own.load_state_dict(large.net.state_dict())
    images = pictures(2, (3, 64, 64)).pixels
    torch.testing.assert_close(large(images), own((images.float() - large.mean) / large.std))


@pytest.mark.parametrize("text", [SMALL[0], "mynets:net"])
def test_a_stream_decides_the_weights_and_nothing_global_moves(text, code):
    torch.manual_seed(5)
    before, numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (digest_of(make(text, stream).state_dict()) for stream in (1, 1, 2))
    assert first == again != other
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("text", ["torchvision:mobilenet_v3_small", "mynets:net"])
def test_training_is_reproduced_whatever_the_global_random_state_is(text, code):
    states = []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        (one,) = trained(text)
        states.append(digest_of(one.state))
        assert torch.equal(before, torch.get_rng_state())
    assert states[0] == states[1]
    assert digest_of(trained(text, seed=1)[0].state) != states[0]


def test_dropout_is_drawn_anew_each_step_from_a_stream_of_the_member(code):
    net = make("mynets:net").train()
    images = pictures(4).pixels

    def drawn(word):
        net.stream = named_generator(word)
        return net(images), net(images)

    (first, second), (again, _), (other, _) = drawn("a"), drawn("a"), drawn("b")
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("count", [16, 17, 18])
def test_a_last_batch_of_one_image_joins_the_one_before_it(count, code):
    (one,) = trained("mynets:net", count)
    # Batch normalization counts the batches that it has seen.
    assert one.state["net.norm.num_batches_tracked"] == {16: 2, 17: 2, 18: 3}[count]
    assert all(map(math.isfinite, one.train_loss))


def test_members_of_a_group_are_trained_as_each_alone(code):
    source = torch.randn(20, CLASSES, generator=named_generator("source"))
    together = trained("mynets:dense", temperatures=(1.0, 4.0), source=source)
    alone = [trained("mynets:dense", temperatures=(t,), source=source)[0] for t in (1.0, 4.0)]
    assert [digest_of(one.state) for one in together] == [digest_of(one.state) for one in alone]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("torchvision:resnet", "torchvision has no such classifier; there are alexnet, "),
        ("torchvision:fcn_resnet50", "torchvision has no such classifier"),
        ("nosuchmodule:net", "there is no module nosuchmodule"),
        ("mynets:nosuch", "has no function nosuch"),
        ("mynets:number", "has something that is no function under the name number"),
        ("mynets:fails", "classes = 1, 8, 8, 10 the function failed (ValueError: no such luck)"),
        ("mynets:nothing", "must return a torch.nn.Module, not int"),
        ("mynets:five", "must give float32 [N, 10] of float32 [N, 1, 8, 8], not float32 [3, 5] of 3 images"),
        ("mynets:pair", "not tuple"),
        ("mynets:noisy", "gives something else each time in eval()"),
        ("mynets:hidden", "must be a parameter or a buffer"),
        ("mynets:counting", "cannot be exported by torch.export for batches of any size"),
        ("mynets:frozen", "has no values that can be trained"),
    ],
)
def test_what_is_no_classifier_is_told_in_one_line(text, told, code):
    with pytest.raises(UsageError) as error:
        check(text, "student")
    assert str(error.value).startswith(f"student={text}: ")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_that_normalizes_by_the_batch_is_not_trained_on_single_images(code):
    with pytest.raises(UsageError, match=r"^batch_size=1: must be at least 2"):
        check("mynets:net", batch_size=1)
    check("mynets:dense", batch_size=1)


def test_a_mistake_ends_with_2_and_leaves_no_run(store, code, capsys):
    assert main(["teacher", "--teacher", "mynets:five"]) == 2
    assert capsys.readouterr().err.startswith("kdops: teacher=mynets:five: must give")
    assert not store.client.search_registered_models()
    assert not store.runs()


def served(place, name):
    """Return what a stored model gives over pyfunc, and what its rebuilt network gives."""
    from kdops.packaging.loading import load_stored

    images = pictures(3).pixels
    uri = f"models:/{name}@champion"
    version = place.client.get_model_version_by_alias(name, "champion").version
    loaded = load_stored(place.client, f"models:/{name}/{version}")
    return mlflow.pyfunc.load_model(uri).predict(images.numpy()), loaded.module(images).detach().numpy()


@pytest.mark.slow
def test_a_model_of_torchvision_teaches_a_dense_student(store):
    given = {"seeds": "1", "temperatures": "1,4", "epochs": "teacher=1,student=2", "teacher": LIGHT}
    store.run("students", **given)
    (teacher,) = [run for run in store.children() if run.data.tags["kdops.role"] == "teacher"]
    known = network_size(parse_architecture(LIGHT), SHAPE, CLASSES)
    assert teacher.data.params["architecture"] == LIGHT
    assert (teacher.data.params["parameters"], teacher.data.params["flops"]) == (
        str(known.parameters),
        str(known.flops),
    )
    pyfunc, rebuilt = served(store, "kdops-digits-teacher")
    assert pyfunc.dtype == np.float32
    np.testing.assert_allclose(pyfunc, rebuilt, rtol=1e-4, atol=1e-5)
    students = [run for run in store.children() if run.data.tags["kdops.chain"] == "teacher>student"]
    assert len(students) == 2
    assert all("source_agreement" in run.data.metrics for run in students)
    before = len(store.trained())
    store.run("students", **given)
    assert len(store.trained()) == before, "what is there is reused"


def test_own_code_is_trained_stored_served_and_trained_again_once_it_changes(store, code, tmp_path, capfd):
    given = {"seeds": "1", "temperatures": "1,4", "epochs": "1", "student": "mynets:net"}
    store.run("students", **given)
    told = "mynets:net cannot be trained as one fleet: its models are trained one after another"
    assert capfd.readouterr().err.count(told) == 1
    runs = [run for run in store.children() if run.data.tags["kdops.role"] == "student"]
    assert len(runs) == 3
    pyfunc, rebuilt = served(store, "kdops-digits-student")
    np.testing.assert_allclose(pyfunc, rebuilt, rtol=1e-5, atol=1e-6)
    before = len(store.trained())
    store.run("students", **given)
    assert len(store.trained()) == before
    code.write_text(CODE.replace("nn.Dropout(0.3)", "nn.Dropout(0.5)"))
    sys.modules.pop("mynets")
    network_size.cache_clear()
    store.run("students", **given)
    assert len(store.trained()) == before + 3, "the code decides the weights, so all are trained again"
    code.unlink()
    sys.modules.pop("mynets")
    network_size.cache_clear()
    served(store, "kdops-digits-student")
    assert main(["candidates"]) == 0
    written = str(tmp_path / "net.pt2")
    assert main(["export", "kdops-digits-student@champion", "--format", "pt2", "--output", written]) == 0


def test_a_network_that_ends_in_a_softmax_is_noticed(code):
    (remark,) = check("mynets:softened")
    assert remark.startswith("teacher=mynets:softened gives probabilities")
    assert check("mynets:dense") == []
