"""Drawn sections: the same again, in the layout of MHIST, and hard where annotators disagree."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import kd_keras as kd
from kd_keras.data import drawn_tissue
from kd_keras.data.mhist import COLUMNS
from kd_keras.evaluation.metrics import roc_area

pytestmark = pytest.mark.filterwarnings("ignore:.*is not the official MHIST")


@pytest.fixture(scope="module")
def drawings():
    return [drawn_tissue.draw(3, number, serrated=number % 3 == 0) for number in range(60)]


def raggedness(pixels):
    """The squared length of the border over the area, of the open middles of glands."""
    bright = ndimage.gaussian_filter(pixels[..., 1].astype(float), 1.0) > 205
    found, count = ndimage.label(bright)
    values = []
    for part, where in enumerate(ndimage.find_objects(found), start=1):
        mask = np.pad(found[where] == part, 1)
        if mask.sum() > 300:
            border = sum(np.abs(np.diff(mask.astype(int), axis=axis)).sum() for axis in (0, 1))
            values.append(border**2 / mask.sum())
    assert count, "no gland is open"
    return np.mean(values)


def separated(drawings, statistic):
    """The area under the ROC curve of a statistic, which may point either way."""
    positive = np.array([drawing.label == "SSA" for drawing in drawings])
    area = roc_area(positive, np.array([statistic(drawing.pixels) for drawing in drawings]))
    return max(area, 1 - area)


def test_the_same_arguments_draw_the_same_image(drawings):
    again = drawn_tissue.draw(3, 6, serrated=True)
    np.testing.assert_array_equal(again.pixels, drawings[6].pixels)
    assert (again.votes, again.evidence) == (drawings[6].votes, drawings[6].evidence)
    assert again.pixels.shape == (224, 224, 3)
    assert again.pixels.dtype == np.uint8
    for other in (drawn_tissue.draw(4, 6, serrated=True), drawings[9]):
        assert (other.pixels != again.pixels).mean() > 0.5


def test_votes_follow_how_hard_an_image_is(drawings):
    far = np.abs([drawing.evidence for drawing in drawings])
    agreement = np.array([abs(2 * drawing.votes - 7) for drawing in drawings])
    assert agreement[far > 1.2].mean() > agreement[far < 0.6].mean() + 1
    for drawing in drawings:
        if abs(drawing.evidence) > 2:
            assert drawing.votes == (7 if drawing.evidence > 0 else 0)


def test_the_border_tells_the_classes_apart_and_the_colour_does_not(drawings):
    assert separated(drawings, raggedness) > 0.85
    for channel in range(3):
        assert separated(drawings, lambda pixels, at=channel: pixels[..., at].mean()) < 0.7


def test_a_set_loads_as_mhist(tmp_path):
    folder = drawn_tissue.write(tmp_path, train=40, test=16, seed=1)
    assert "not MHIST" in (folder / "README.txt").read_text()
    with (folder / "annotations.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [row[3] for row in rows] == ["train"] * 40 + ["test"] * 16
    task = kd.data.load("mhist", data_dir=folder, image_size=96, soft_labels=True)
    assert [len(split) for split in (task.train, task.validation, task.test)] == [32, 8, 16]
    assert task.image_shape == (96, 96, 3)
    np.testing.assert_array_equal(task.test.labels, [row[1] == "SSA" for row in rows[40:]])
    np.testing.assert_allclose(
        task.test.soft_labels[:, 1], [int(row[2]) / 7 for row in rows[40:]], rtol=1e-6
    )
    assert 0.15 < np.mean([row[1] == "SSA" for row in rows]) < 0.5


def test_a_set_is_drawn_once_and_other_settings_draw_another(tmp_path):
    folder = drawn_tissue.write(tmp_path, train=8, test=8)
    before = (folder / "annotations.csv").stat().st_mtime_ns
    assert drawn_tissue.write(tmp_path, train=8, test=8) == folder
    assert (folder / "annotations.csv").stat().st_mtime_ns == before
    assert drawn_tissue.write(tmp_path, train=8, test=8, seed=1) != folder
    own = drawn_tissue.draw(0, 3, serrated=bool(drawn_tissue._serrated(0, (8, 8))[3]))
    with Image.open(folder / "images" / "DRAWN_00003.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), own.pixels)


def test_too_few_images_are_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"`test` must be at least 8\. Received: test=2"):
        drawn_tissue.write(tmp_path, train=8, test=2)
    assert not any(tmp_path.iterdir())
