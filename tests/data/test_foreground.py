"""Where the object is in an image."""

import numpy as np
import pytest

from kdops.data.dataset import load
from kdops.data.foreground import foreground_boxes, patches_within
from kdops.data.gtsrb import test_boxes as boxes_of_test_images
from kdops.errors import UsageError

HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def table(folder, *lines):
    (folder / "gtsrb").mkdir(exist_ok=True)
    (folder / "gtsrb" / "GT-final_test.csv").write_text("\n".join((HEAD, *lines)))
    return folder


def test_of_gtsrb_it_is_the_box_of_the_sign_as_a_share_of_the_image(tmp_path):
    found = boxes_of_test_images(table(tmp_path, "00000.ppm;50;40;5;10;45;20;16", "00001.ppm;10;10;0;0;10;10;1"))
    assert found == pytest.approx(np.array([[0.1, 0.25, 0.9, 0.5], [0, 0, 1, 1]]))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("00000.ppm;50;40;5;10;45;wide;16", "must have the columns Width"),
        ("00000.ppm;0;40;5;10;45;20;16", "must have the columns Width"),
        ("00000.ppm;50;40;5;10;55;20;16", "a box outside of its image, or an empty one: 00000.ppm"),
        ("00000.ppm;50;40;5;10;5;20;16", "a box outside of its image, or an empty one: 00000.ppm"),
    ],
)
def test_a_table_without_boxes_is_refused(line, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        boxes_of_test_images(table(tmp_path, line))


def test_patches_are_of_the_object_where_their_middle_is():
    (found,) = patches_within(np.array([[0.0, 0.5, 0.3, 1.0]]), 4)
    assert found.nonzero().tolist() == [[2, 0], [3, 0]]


def test_elsewhere_it_is_all_but_a_margin_of_test_images_alone():
    data = load("digits")
    boxes, what = foreground_boxes(data, "", np.flatnonzero(data.test)[:2])
    assert what == "all but a sixth on each side"
    assert patches_within(boxes, 8).sum(dim=(1, 2)).tolist() == [36, 36]
    with pytest.raises(ValueError, match="test images only"):
        foreground_boxes(data, "", np.flatnonzero(~data.test)[:2])
