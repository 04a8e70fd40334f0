"""What is drawn of a soft decision tree is what it computes."""

import numpy as np
import pytest
import torch

from kdops.config.architectures import parse_architecture
from kdops.errors import UsageError
from kdops.models.classifier import build
from kdops.packaging.loading import Loaded
from kdops.packaging.program import check_archive, load_program
from kdops.packaging.program_file import ProgramFile
from kdops.packaging.trees import view_of, way_of
from kdops.reporting.tree_figure import tree_figure
from kdops.utils.random import named_generator

CLASSES = ("none", "one", "two", "three")


def loaded_of(text, shape):
    mean = torch.full(shape[:1], 100.0)
    net = build(parse_architecture(text), shape, len(CLASSES), mean, mean / 2, named_generator("tree")).eval()
    return Loaded(net, False, CLASSES, shape, 0)


@pytest.mark.parametrize(("text", "shape"), [("tree(depth=2)", (1, 4, 4)), ("tree(depth=6)", (3, 5, 4))])
def test_the_way_of_an_image_ends_at_the_leaf_that_classifies_it(text, shape):
    loaded = loaded_of(text, shape)
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    view, answers = view_of(loaded, "m"), loaded.classify(images)
    for image, answer in zip(images, answers, strict=True):
        way = way_of(loaded, "m", image)
        np.testing.assert_allclose(view.leaves[way.leaf], answer, rtol=1e-5)
        turns = [
            right if way.leaf >> (view.depth - 1 - level) & 1 else 1 - right for level, right in enumerate(way.rights)
        ]
        assert np.prod(turns) == pytest.approx(way.probability, rel=1e-5)
        # The filters of pixels move a node's value as the tree's own do.
        other = image.copy()
        other[0, 1, 2] = 255 - image[0, 1, 2]
        odds = [np.log(one.rights[0] / (1 - one.rights[0])) for one in (way_of(loaded, "m", other), way)]
        moved = view.filters[0, 0, 1, 2] * (int(other[0, 1, 2]) - int(image[0, 1, 2]))
        assert odds[0] - odds[1] == pytest.approx(moved, abs=1e-5)
    assert tree_figure("tree", view).axes
    figure = tree_figure("tree", view, way)
    assert f"leaf {way.leaf}, reached with {way.probability:.2f}" in [axes.get_title() for axes in figure.axes]


def test_only_trees_are_drawn():
    with pytest.raises(UsageError, match=r"^model=m: must be of the family tree"):
        view_of(loaded_of("mlp(hidden=4)", (1, 4, 4)), "m")


@pytest.mark.parametrize("predict", ["leaf", "mixture"])
def test_the_stored_program_of_a_tree_is_the_tree(predict, tmp_path):
    net = loaded_of(f"tree(depth=3,predict={predict})", (1, 4, 4)).module
    images = torch.randint(0, 256, (5, 1, 4, 4), generator=named_generator("images"), dtype=torch.uint8)
    program = torch.export.export(net, (images[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, tmp_path / "first.pt2")
    other = loaded_of(f"tree(depth=3,predict={predict})", (1, 4, 4)).module
    with torch.no_grad():
        other.net.filters.weight.mul_(-2.0)
    ProgramFile(tmp_path / "first.pt2").write(tmp_path / "model.pt2", other.state_dict())
    check_archive(tmp_path / "model.pt2")
    with torch.no_grad():
        assert torch.equal(load_program(tmp_path / "model.pt2")(images), other(images))
        assert not torch.equal(other(images), net(images))
