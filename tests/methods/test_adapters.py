"""Adapters: every pair of shapes comes out as the teacher's, whatever the batch; or is refused."""

import math

import keras
import numpy as np
import pytest

from kd_keras.methods import adapters

rng = np.random.default_rng(0)


def slow_average(features, size):
    n, height, width, channels = features.shape
    found = np.zeros((n, *size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            down = slice(i * height // size[0], math.ceil((i + 1) * height / size[0]))
            across = slice(j * width // size[1], math.ceil((j + 1) * width / size[1]))
            found[:, i, j] = features[:, down, across].mean(axis=(1, 2))
    return found


@pytest.mark.parametrize(
    ("before", "after"), [((4, 4), (2, 2)), ((7, 7), (3, 3)), ((6, 5), (4, 5)), ((3, 3), (1, 1))]
)
def test_maps_are_averaged_down_in_windows(before, after):
    features = rng.normal(size=(2, *before, 3))
    got = adapters.averaged(features, after)
    np.testing.assert_allclose(got, slow_average(features, after), rtol=1e-6)


def test_maps_are_averaged_to_a_vector_and_what_fits_is_left_alone():
    features = rng.normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(adapters.averaged(features, ()), features.mean(axis=(1, 2)))
    assert adapters.averaged(features, (3, 4)) is features
    vector = rng.normal(size=(2, 5))
    assert adapters.averaged(vector, ()) is vector


PAIRS = {
    "same": ((8, 8, 3), (8, 8, 5), (8, 8, 5), (1, 1, 3, 5)),
    "twice": ((8, 8, 3), (4, 4, 5), (4, 4, 5), (3, 3, 3, 5)),
    "half": ((4, 4, 3), (8, 8, 5), (8, 8, 5), (4, 4, 5, 3)),
    "a little larger": ((6, 7, 3), (5, 5, 4), (5, 5, 4), (2, 3, 3, 4)),
    "much larger": ((28, 28, 3), (7, 7, 4), (7, 7, 4), (1, 1, 3, 4)),
    "a little smaller": ((5, 5, 3), (7, 7, 4), (5, 5, 4), (1, 1, 3, 4)),
    "larger and smaller": ((8, 2, 3), (4, 6, 5), (4, 2, 5), (1, 1, 3, 5)),
    "vectors": ((6,), (9,), (9,), (6, 9)),
    "a map to a vector": ((4, 4, 3), (9,), (9,), (3, 9)),
    "a vector to a map": ((6,), (4, 4, 5), (5,), (6, 5)),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_regressor_brings_any_pair_to_one_shape_for_any_batch(pair, normalised):
    student, teacher, common, kernel = PAIRS[pair]
    adapters.checked("a test", (None, *student), (None, *teacher))
    adapter = adapters.regressor((None, *student), (None, *teacher), normalised=normalised)
    assert adapter.adapted_shape == (None, *common)
    assert tuple(adapter.trainable_variables[0].shape) == kernel
    for n in (1, 3):
        views = (rng.normal(size=(n, *shape)).astype("float32") for shape in (student, teacher))
        ours, theirs = adapter(*views)
        assert ours.shape == theirs.shape == (n, *common)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_network_over_channels_brings_any_pair_to_one_shape(pair):
    student, teacher, *_ = PAIRS[pair]
    adapter = adapters.channel_network((None, *student), (None, *teacher), depth=3)
    views = (rng.normal(size=(2, *shape)).astype("float32") for shape in (student, teacher))
    ours, theirs = adapter(*views)
    assert ours.shape == theirs.shape
    assert len(adapter.inner) == 3


def test_a_channel_network_is_dense_layers_with_relu_between_them():
    keras.utils.set_random_seed(0)
    adapter = adapters.channel_network((None, 2, 2, 3), (None, 2, 2, 4), depth=2, use_bias=False)
    x = rng.normal(size=(2, 2, 2, 3)).astype("float32")
    first, second = (np.array(v) for v in adapter.trainable_variables)
    want = np.maximum(x @ first, 0) @ second
    got, teacher = adapter(x, np.zeros((2, 2, 2, 4), "float32"))
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert not np.any(teacher)


def test_a_convolution_of_half_the_size_is_centred():
    """A kernel of ones: the second place is seen by both windows, which begin one before the map.

    Padding at the end alone would show it to the first window only.
    """
    adapter = adapters.regressor(
        (None, 4, 4, 1), (None, 2, 2, 1), normalised=False, kernel_initializer="ones"
    )
    x = np.zeros((1, 4, 4, 1), "float32")
    x[0, 1, 1] = 1.0
    got, _ = adapter(x, np.zeros((1, 2, 2, 1), "float32"))
    np.testing.assert_allclose(got[0, :, :, 0], np.ones((2, 2)))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((None, 7, 3), (None, 5)), ((None, None, None, 3), (None, 4, 4, 3)), ((None, 5), (None,))],
)
def test_what_no_adapter_can_bring_together_is_refused_with_both_shapes(student, teacher):
    with pytest.raises(ValueError, match="Hint on 'a' and 'b' takes vectors") as raised:
        adapters.checked("Hint on 'a' and 'b'", student, teacher)
    assert f"{student} of the student and {teacher} of the teacher" in str(raised.value)


def test_vectors_are_refused_where_maps_are_compared():
    with pytest.raises(ValueError, match=r"takes maps.*\(None, 5\) of the student"):
        adapters.checked("AttentionTransfer on 'a' and 'b'", (None, 5), (None, 4, 4, 3), maps=True)
