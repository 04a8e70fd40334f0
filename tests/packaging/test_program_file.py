"""The file of an exported program: what torch itself would write, with other weights."""

import threading
import warnings

import pytest
import torch
from torch import nn

from kdops.config.architectures import parse_architecture
from kdops.models.classifier import Classifier, build
from kdops.packaging.program_file import ProgramFile
from kdops.utils.random import named_generator

SHAPE, STATISTICS = (1, 8, 8), (torch.tensor([50.0]), torch.tensor([60.0]))
IMAGES = torch.arange(5 * 64, dtype=torch.uint8).reshape(5, *SHAPE)


class Tied(nn.Module):
    """Two layers of the same weights, which lie in the file once."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.second.weight = self.first.weight

    def forward(self, images):
        return self.second(self.first(images.flatten(1)))[:, :3]


def exported(net, path):
    """Save a network as torch does, for any number of images."""
    dynamic = {"images": {0: torch.export.Dim("images", min=1)}}
    program = torch.export.export(net.eval(), (IMAGES[:2],), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return path


@pytest.mark.parametrize("architecture", ["mlp(hidden=4,depth=2,dropout=0.1)", "cnn(filters=4,layers=2,dropout=0)"])
def test_the_file_is_the_one_that_torch_writes(architecture, tmp_path):
    """Byte for byte, so nothing that reads such files can tell."""
    nets = [
        build(parse_architecture(architecture), SHAPE, 3, *STATISTICS, named_generator("init", n)) for n in range(2)
    ]
    file = ProgramFile(exported(nets[0], tmp_path / "first.pt2"))
    (tmp_path / "ours").mkdir()
    (tmp_path / "torch").mkdir()
    file.write(tmp_path / "ours" / "model.pt2", nets[1].state_dict())
    program = torch.export.load(tmp_path / "first.pt2")
    with torch.no_grad():
        for name, value in nets[1].state_dict().items():
            program.state_dict[name].copy_(value)
    torch.export.save(program, tmp_path / "torch" / "model.pt2")
    ours, torchs = ((tmp_path / who / "model.pt2").read_bytes() for who in ("ours", "torch"))
    assert ours == torchs
    with torch.no_grad():
        assert torch.equal(torch.export.load(tmp_path / "ours" / "model.pt2").module()(IMAGES), nets[1].eval()(IMAGES))


def test_weights_that_share_their_bytes_are_written_too(tmp_path):
    first, second = Classifier(Tied(), *STATISTICS), Classifier(Tied(), *STATISTICS)
    file = ProgramFile(exported(first, tmp_path / "first.pt2"))
    file.write(tmp_path / "second.pt2", second.state_dict())
    with torch.no_grad():
        given = torch.export.load(tmp_path / "second.pt2").module()(IMAGES)
        assert torch.equal(given, second(IMAGES))
        assert not torch.equal(given, first(IMAGES))


def test_threads_that_write_at_the_same_time_write_each_its_own_weights(tmp_path):
    nets = [Classifier(Tied(), *STATISTICS) for _ in range(8)]
    file, filters = ProgramFile(exported(nets[0], tmp_path / "first.pt2")), list(warnings.filters)
    assert file._places is None
    together = threading.Barrier(len(nets))

    def write(number, net):
        together.wait(30)
        for time in range(2):
            file.write(tmp_path / f"{number}-{time}.pt2", net.state_dict())

    threads = [threading.Thread(target=write, args=given) for given in enumerate(nets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters
    for number, net in enumerate(nets):
        for time in range(2):
            state = torch.export.load(tmp_path / f"{number}-{time}.pt2").state_dict
            assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("net.1.bias"),
        lambda state: state.update({"net.9.bias": torch.zeros(4)}),
        lambda state: state.update({"net.1.bias": torch.zeros(5)}),
        lambda state: state.update({"net.1.bias": torch.zeros(4, dtype=torch.float64)}),
    ],
    ids=["missing", "unknown", "other shape", "other type"],
)
def test_weights_of_another_network_are_refused(change, tmp_path):
    net = build(parse_architecture("mlp(hidden=4,depth=1)"), SHAPE, 3, *STATISTICS, named_generator("init"))
    file = ProgramFile(exported(net, tmp_path / "first.pt2"))
    state = dict(net.state_dict())
    change(state)
    with pytest.raises(ValueError, match=r"net\.\d\.bias"):
        file.write(tmp_path / "second.pt2", state)
    assert not (tmp_path / "second.pt2").exists()
