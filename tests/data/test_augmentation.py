"""Augmentations: pure in (seed, index, view), and right in their geometry."""

import numpy as np
import pytest
import tensorflow as tf

from kd_keras.data.augmentation import AUGMENTATIONS, augmenter

SQUARE = np.arange(1, 26, dtype="uint8").reshape(5, 5, 1)
REAL = [name for name in AUGMENTATIONS if name != "none"]


def many(name, image=SQUARE, count=200, seed=0):
    """The augmentations of `count` views of one example."""
    augment = augmenter(name, seed)
    views = tf.data.Dataset.range(count).map(lambda view: augment(tf.constant(image), 3, view))
    return np.stack(list(views.as_numpy_iterator()))


def distinct(images):
    return {image.tobytes() for image in images}


@pytest.mark.parametrize("name", REAL)
def test_the_same_three_numbers_give_the_same_pixels_and_others_differ(name):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype("uint8"))

    def pixels(seed, index, view):
        return augmenter(name, seed)(image, index, view).numpy()

    np.testing.assert_array_equal(pixels(1, 7, 2), pixels(1, 7, 2))
    in_graph = tf.function(augmenter(name, 1))(image, tf.constant(7), tf.constant(2, tf.int64))
    np.testing.assert_array_equal(in_graph, pixels(1, 7, 2))
    for sweep in (
        [(seed, 0, 0) for seed in range(12)],
        [(0, index, 0) for index in range(12)],
        [(0, 0, view) for view in range(12)],
    ):
        assert len(distinct(pixels(*numbers) for numbers in sweep)) >= 2
    # an index and a view are not interchangeable
    assert any((pixels(0, a, b) != pixels(0, b, a)).any() for a in range(4) for b in range(a))


@pytest.mark.parametrize("name", REAL)
def test_type_and_shape_are_kept(name):
    for dtype in ("uint8", "float32"):
        got = augmenter(name, 0)(tf.constant(np.ones((4, 4, 3), dtype)), 0, 0)
        assert got.dtype == dtype
        assert got.shape == (4, 4, 3)


def test_shift_moves_by_up_to_two_and_zeros_come_in():
    wanted = set()
    for down in range(-2, 3):
        for right in range(-2, 3):
            moved = np.zeros_like(SQUARE)
            to_y, to_x = (slice(max(0, d), 5 + min(0, d)) for d in (down, right))
            from_y, from_x = (slice(max(0, -d), 5 + min(0, -d)) for d in (down, right))
            moved[to_y, to_x] = SQUARE[from_y, from_x]
            wanted.add(moved.tobytes())
    assert len(wanted) == 25
    assert distinct(many("shift", count=400)) == wanted


def test_symmetries_are_the_eight_of_the_square_each_as_likely():
    turned = [np.rot90(x, k) for x in (SQUARE, SQUARE[:, ::-1]) for k in range(4)]
    images = many("symmetries", count=800)
    assert distinct(images) == distinct(turned)
    counts = [sum(np.array_equal(image, want) for image in images) for want in turned]
    # binomial(800, 1/8): mean 100, standard deviation 9.4
    assert min(counts) > 60
    assert max(counts) < 140


def test_symmetries_refuse_images_that_are_not_square():
    with pytest.raises(ValueError, match=r"`symmetries` needs square images.*\(5, 4, 1\)"):
        augmenter("symmetries", 0)(tf.zeros((5, 4, 1)), 0, 0)


def test_mirror_exchanges_left_and_right_or_does_nothing():
    tall = SQUARE[:, :3]
    images = many("mirror", tall)
    assert distinct(images) == distinct([tall, tall[:, ::-1]])
    assert 60 < sum(np.array_equal(image, tall) for image in images) < 140


def test_none_is_no_function_and_an_unknown_name_is_refused():
    assert augmenter("none", 0) is None
    with pytest.raises(ValueError, match=r"Unknown augmentation 'shfit'\. Did you mean 'shift'"):
        augmenter("shfit", 0)
