"""What every formula keeps: dtype, gradient, zero on agreement, and that examples have no order."""

import numpy as np
import pytest
import tensorflow as tf
from formula_cases import CASES, finite_differences, value_and_gradient
from keras import ops

pytestmark = pytest.mark.parametrize("name", CASES)


def prepared(name, n=5, seed=0):
    """The formula with its labels, and random views of `n` examples."""
    case = CASES[name]
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(size=(2, n, *case.shape))
    labels = np.array([0, 1, 1, 0, 2, 2, 0, 1])[:n]

    def call(s, t, labels=labels, **present):
        return case.call(s, t, **({"labels": labels} if case.labelled else {}), **present)

    return case, call, student, teacher, labels


def test_one_number_an_example_in_the_dtype_given(name):
    _, call, student, teacher, _ = prepared(name)
    exact = call(student, teacher)
    assert exact.shape == (5,)
    assert exact.dtype == tf.float64
    single = call(student.astype("float32"), teacher.astype("float32"))
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, exact, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(name, dtype):
    _, call, student, teacher, _ = prepared(name)
    halves = [ops.cast(view, dtype) for view in (student, teacher)]
    got = call(*halves)
    assert got.dtype == tf.float32
    np.testing.assert_array_equal(got, call(*(ops.cast(view, "float32") for view in halves)))


def test_the_gradient_is_that_of_finite_differences(name):
    _, call, student, teacher, _ = prepared(name)
    weights = np.random.default_rng(1).normal(size=5)  # a gradient for each share by itself
    _, gradient = value_and_gradient(lambda s: call(s, teacher) * weights, student)
    want = finite_differences(lambda s: np.asarray(call(s, teacher)) * weights, student)
    np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-7)


def test_agreement_is_zero_and_asks_for_nothing(name):
    case, call, _, teacher, _ = prepared(name)
    value, gradient = value_and_gradient(lambda s: call(s, teacher), teacher)
    if case.zero:
        share = np.mean(value) if case.whole_batch else value  # shares add up to zero
        np.testing.assert_allclose(share, 0.0, atol=1e-12 if case.collapsed else 1e-5)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-5)
    else:
        assert value.all()


def test_examples_have_no_order(name):
    _, call, student, teacher, labels = prepared(name)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(
        call(student[order], teacher[order], labels=labels[order]),
        np.asarray(call(student, teacher))[order],
        rtol=1e-9,
        atol=1e-12,
    )


def test_an_example_that_is_left_out_is_as_if_it_were_not_there(name):
    case, call, student, teacher, labels = prepared(name, n=7)
    present = np.array([1, 1, 0, 1, 1, 0, 1])
    kept = present == 1
    few = np.asarray(call(student[kept], teacher[kept], labels=labels[kept]))
    if not case.whole_batch:  # each example stands for itself
        np.testing.assert_allclose(np.asarray(call(student, teacher))[kept], few, rtol=1e-9)
        return
    left_out = call(student, teacher, present=present)
    np.testing.assert_allclose(np.asarray(left_out)[kept], few, rtol=1e-9, atol=1e-12)
    assert not np.allclose(np.asarray(call(student, teacher))[kept], few, rtol=1e-3, atol=1e-6)
    everybody = call(student, teacher, present=np.ones(7))
    np.testing.assert_allclose(everybody, call(student, teacher), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("sides", ["both", "student", "teacher"])
@pytest.mark.parametrize("fill", [0.0, 1.0, -30.0])
def test_views_that_are_all_alike_are_finite_in_value_and_gradient(name, fill, sides, n, dtype):
    _, call, student, teacher, _ = prepared(name, n)
    student = np.full_like(student, fill) if sides != "teacher" else student
    teacher = np.full_like(teacher, fill) if sides != "student" else teacher
    value, gradient = value_and_gradient(
        lambda s: call(s, teacher.astype(dtype)), student.astype(dtype)
    )
    assert value.shape == (n,)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e4  # nor has it exploded
    if CASES[name].zero and CASES[name].collapsed and sides == "both":
        np.testing.assert_allclose(value, 0.0, atol=1e-6)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
