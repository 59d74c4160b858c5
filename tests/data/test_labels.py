"""What is a label, a weight, an image: by value, of arrays and in a graph alike."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from kd_keras.data import labels

ONE_HOT = np.eye(3)[[0, 2, 1]]
# the same three labels, as people have them
NUMBERS = (
    [0, 2, 1],
    (0.0, 2.0, 1.0),
    np.array([0, 2, 1], "uint8"),
    np.array([[0], [2], [1]]),
    pd.Series([0, 2, 1], index=[7, 8, 9]),
    pd.Series([0, 2, 1], dtype="Int64"),
    pd.DataFrame({"class": [0, 2, 1]}),
    tf.constant([0.0, 2.0, 1.0], tf.bfloat16),
    [tf.constant(0), tf.constant(2), tf.constant(1)],
)
DISTRIBUTIONS = (
    ONE_HOT.tolist(),
    ONE_HOT.astype(bool),
    ONE_HOT.astype("float16"),
    pd.DataFrame(ONE_HOT.astype(bool)),
    pd.Series(list(ONE_HOT)),
    tf.constant(ONE_HOT),
)
BAD = {
    "outside": (
        [0, 7, 3],
        "from 0 to 2, .*2 of 3 labels that name no class, the first of them 7 a",
    ),
    "negative": (
        [0, 1, -1],
        "1 of 3 labels that name no class, the first of them -1 at position 2",
    ),
    "fraction": ([2.7, 1, 0], "1 of 3 labels that name no class, the first of them 2.7"),
    "nan": ([0, 1, np.nan], "the first of them nan at position 2"),
    "missing": (pd.Series([0, None, 2], dtype="Int64"), "must hold class numbers.*Received: "),
    "sum": (ONE_HOT * 7, r"sums to 1 \(within 0.01\).*3 of 3 rows.*\[7. 0. 0.\], sum 7, at pos"),
    "zeros": (np.diag([1.0, 0.0, 1.0]), "1 of 3 rows that are not dist.*sum 0, at position 1"),
    "below_zero": ([[2, -1, 0], [0, 0, 1]], "1 of 2 rows.*at position 0"),
    "nan_row": ([[np.nan, 1, 0]], "1 of 1 rows that are not distributions"),
    "wide": (np.eye(4), "distributions over 4 classes, but the student has 3"),
    "maps": (np.zeros((2, 4, 3)), "labels of shape \\(2, 4, 3\\)"),
    "words": (["cat", "dog"], "must hold class numbers .*Received: 'cat'"),
    "column": (pd.Series(["cat", "dog"]), "Received: 'cat'"),
    "dict": ({"a": [0]}, r"a dict of \['a'\]"),
    "ragged": ([[0, 1], [1]], "list of unequal rows"),
    "single": (2, "a single number, 2"),
}


def test_equal_labels_are_one_array():
    for given in NUMBERS:
        got = labels.as_labels(given, 3)
        assert got.dtype == "int32"
        np.testing.assert_array_equal(got.ravel(), [0, 2, 1])
    for given in DISTRIBUTIONS:
        got = labels.as_labels(given, 3)
        assert got.dtype == "float32"
        np.testing.assert_array_equal(got, ONE_HOT)


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_label_is_refused_with_the_first_of_them(case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        labels.as_labels(given, 3, "`y` of `validation_data`")
    assert str(caught.value).startswith("`y` of `validation_data` ")


def test_rounding_is_no_mistake():
    soft = np.random.default_rng(0).dirichlet(np.ones(1000), 50)
    for dtype in ("float64", "float32", "float16", tf.bfloat16.as_numpy_dtype):
        labels.as_labels(soft.astype(dtype), 1000)
    labels.as_labels([[0.333, 0.333, 0.333], [1.0, -1e-8, 0.0]], 3)


def test_a_graph_judges_as_the_arrays_are_judged():
    cases = [(given, True) for given in (*NUMBERS, *DISTRIBUTIONS)]
    named = ("outside", "negative", "fraction", "nan", "sum", "zeros", "below_zero", "nan_row")
    cases += [(BAD[case][0], False) for case in named]
    for given, fine in cases:
        array = given if tf.is_tensor(given) else np.asarray(given)
        if array.dtype != "object":
            assert bool(labels.are_fine(tf.convert_to_tensor(array), None, 3)) is fine, given
    for weight, fine in (([0.0, 2.0], True), ([1.0, -1.0], False), ([np.nan, 1.0], False)):
        assert bool(labels.are_fine(None, tf.constant(weight), 3)) is fine
    assert labels.are_fine(tf.constant([255], tf.uint8), None, 300)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_weights_are_finite_and_not_negative(bad):
    with pytest.raises(ValueError, match=f"1 of 3 weights.*first of them {bad:g} at position 1"):
        labels.as_weights([1.0, bad, 2.0])
    with pytest.raises(ValueError, match=f"`class_weight` .*Received: {bad} for class 1"):
        labels.check_class_weight({0: 1.0, 1: bad})
    assert labels.as_weights([[True], [False]]).dtype == "float32"
    with pytest.raises(ValueError, match=r"one number per example. Received: shape \(2, 2\)"):
        labels.as_weights(np.ones((2, 2)))


def test_images_are_finite():
    images = np.zeros((2000, 2), "float32")
    labels.check_finite(images, "`x`")
    images[1500:, 1] = np.inf
    with pytest.raises(ValueError, match=r"`x` must .*500 of 2000 examples.*at position 1500"):
        labels.check_finite(images, "`x`")
