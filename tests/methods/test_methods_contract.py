"""The contract of every loss of the registry, those of plans included."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract import (
    LOSSES,
    NO_DRAWS,
    build,
    built,
    features_of,
    loss_and_gradients,
    made,
    random_batch,
)

pytestmark = pytest.mark.parametrize("name", LOSSES)


def test_one_float32_number_an_example_that_the_student_can_lower(name):
    method = built(name)
    loss, gradients = loss_and_gradients(method, *random_batch(method))
    assert loss.shape == (8,)
    assert loss.dtype == np.float32
    assert np.isfinite(loss).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert any(gradient.any() for gradient in gradients.values())


@pytest.mark.slow
def test_a_step_is_the_same_compiled_by_xla(name):
    """As it is on a GPU: the loss, its gradients and what training leaves behind."""

    def stepped(compiled):
        method = built(name, **NO_DRAWS.get(name, {}))
        student, teacher, known = random_batch(method)
        known.pop("image")

        def step(student, teacher, known):
            with tf.GradientTape() as tape:
                tape.watch(student)
                loss = method(student, teacher, known, training=True)
            return loss, tape.gradient(loss, student, unconnected_gradients="zero")

        step = tf.function(step, jit_compile=True) if compiled else step
        results = step(student, teacher, known)
        return [np.asarray(x) for x in (*tf.nest.flatten(results), *method.variables)]

    for plain, fused in zip(stepped(False), stepped(True), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-5 * max(1, np.abs(plain).max()))


def test_a_method_comes_back_from_its_configuration(name):
    method = built(name)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    twin = keras.saving.deserialize_keras_object(kept)
    assert type(twin) is LOSSES[name]
    student, teacher, known = random_batch(method)
    build(twin)
    assert json.dumps(twin.get_config()) == json.dumps(method.get_config())
    twin.set_weights(method.get_weights())
    np.testing.assert_array_equal(
        twin(student, teacher, known, training=False),
        method(student, teacher, known, training=False),
    )


def test_outside_training_nothing_changes_and_answers_repeat(name):
    method = built(name)
    batch = random_batch(method)
    before = [np.array(v) for v in method.variables]
    first, second = (np.asarray(method(*batch, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for variable, old in zip(method.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)


def test_the_same_seed_gives_the_same_loss(name):
    losses = [
        np.asarray(method(*random_batch(method), training=True))
        for method in (built(name), built(name))
    ]
    np.testing.assert_array_equal(*losses)


COLLAPSED = {
    "zeros": lambda shape: np.zeros(shape),
    "ones": lambda shape: np.ones(shape),
    "large": lambda shape: np.full(shape, -3e3),
    "confident": lambda shape: 1e4 * np.eye(shape[-1])[np.zeros(shape[:-1], int)],
}


@pytest.mark.slow
def test_collapsed_features_are_finite_in_value_and_gradient(name):
    method = built(name)
    start = [np.array(v) for v in method.variables]
    for n, (kind, value) in itertools.product((1, 8), COLLAPSED.items()):
        for variable, old in zip(method.variables, start, strict=True):
            variable.assign(old)
        _, _, known = random_batch(method, n)
        student, teacher = (
            features_of(method, role, lambda shape, n=n, value=value: value((n, *shape)))
            for role in ("student", "teacher")
        )
        loss, gradients = loss_and_gradients(method, student, teacher, known)
        assert loss.shape == (n,)
        assert np.isfinite(loss).all(), (kind, n)
        assert all(np.isfinite(gradient).all() for gradient in gradients.values()), (kind, n)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_loss_is_float32_under_mixed_precision(name, dtype, mixed_float16):
    method = built(name)
    student, teacher, known = random_batch(method)
    student = {tap: tf.cast(view, dtype) for tap, view in student.items()}
    loss = method(student, teacher, known, training=True)
    assert loss.dtype == tf.float32
    exact = {tap: tf.cast(view, "float32") for tap, view in student.items()}
    twin = built(name)  # training may have changed a state
    np.testing.assert_allclose(loss, twin(exact, teacher, known, training=True), rtol=1e-6)
    assert all(v.dtype == "float32" for v in method.trainable_variables)


def test_the_weight_of_the_labels_outlives_a_configuration(name):
    method = made(name)
    kept = keras.saving.serialize_keras_object(method)
    again = keras.saving.deserialize_keras_object(kept)
    assert method.default_alpha == method.clone().default_alpha == again.default_alpha


@pytest.mark.slow
def test_a_weight_of_zero_takes_an_example_out_of_the_others_losses_too(name):
    method = built(name)
    student, teacher, known = random_batch(method)
    kept = np.array([0, 1, 3, 4, 6])
    weight = np.isin(np.arange(8), kept).astype("float32")
    among = method(student, teacher, {**known, "weight": tf.constant(weight)}, training=False)
    few = [
        {tap: tf.gather(view, kept) for tap, view in views.items()}
        for views in (student, teacher, known)
    ]
    np.testing.assert_allclose(
        np.asarray(among)[kept], method(*few, training=False), rtol=1e-5, atol=1e-6
    )
