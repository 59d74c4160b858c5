"""Offsets of some classes' logits: none of all that there are is better than the chosen one."""

import numpy as np
import pytest

from kd_keras.evaluation import offsets


def drawn(seed=0, n=200, classes=5, *, rounded=False):
    """Logits that know the label, of which class 3 is predicted too rarely."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + 2 * np.eye(classes)[labels]
    logits[:, 3] -= 2.5
    return np.round(logits, 1) if rounded else logits, labels


def right(logits, labels, classes, offset):
    return int((offsets.added(logits, classes, offset).argmax(axis=1) == labels).sum())


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("classes", [(3,), (1, 3), (0, 1, 2, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_no_offset_of_a_fine_grid_is_better(seed, classes, rounded):
    logits, labels = drawn(seed, rounded=rounded)
    chosen = offsets.best(logits, labels, classes)
    most = max(right(logits, labels, classes, each) for each in np.arange(-8.0037, 8, 0.0137))
    assert right(logits, labels, classes, chosen) >= most


def test_an_offset_that_was_subtracted_is_found_again():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 4000)
    logits = rng.normal(size=(4000, 4)) + 3 * np.eye(4)[labels]
    logits[:, [1, 2]] += 5.0  # as of a student that has seen nothing but these two
    assert offsets.best(logits, labels, (1, 2)) == pytest.approx(-5.0, abs=1.0)


def test_a_single_logit_far_apart_moves_to_the_middle_or_just_past_the_last_change():
    assert offsets.best([[3.0, 1.0], [2.0, 1.5]], [0, 1], [1]) == pytest.approx(1.25)
    # all are of class 1: any offset above 2 will do
    assert offsets.best([[3.0, 1.0], [2.0, 1.5]], [1, 1], [1]) == pytest.approx(3.0)
    assert offsets.best([[1.0, 3.0], [1.5, 2.0]], [0, 0], [1]) == pytest.approx(-3.0)


def test_logits_that_need_no_offset_get_none():
    logits, labels = 9.0 * np.eye(4), np.arange(4)
    assert offsets.best(logits, labels, [2]) == 0.0
    # nor if no offset helps, since neither class is right
    assert offsets.best([[1.0, 0.0, -1.0]], [2], [0]) == 0.0


def test_the_logits_that_are_given_stay_as_they_are():
    logits = np.zeros((2, 3), "float32")
    moved = offsets.added(logits, [0, 2], 1.5)
    np.testing.assert_array_equal(moved, [[1.5, 0.0, 1.5]] * 2)
    assert moved.dtype == np.float64
    assert not logits.any()


@pytest.mark.parametrize("classes", [(), (0, 1, 2), (3,), (-1,), (1, 1)])
def test_classes_that_do_not_fit_are_refused(classes):
    logits, labels = np.eye(3), np.arange(3)
    for refuse in (
        lambda: offsets.added(logits, classes, 1.0),
        lambda: offsets.best(logits, labels, classes),
    ):
        with pytest.raises(ValueError, match=r"`classes` must be different numbers from 0 to 2"):
            refuse()


def test_logits_and_labels_are_checked():
    with pytest.raises(ValueError, match="`logits` must be finite"):
        offsets.best([[np.nan, 0.0, 0.0]], [0], [1])
    with pytest.raises(ValueError, match="`labels` must lie in"):
        offsets.best(np.eye(3), [0, 1, 3], [1])
