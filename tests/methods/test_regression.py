"""The two regressions: the sheet's numbers through the methods, and training without labels."""

import keras
import numpy as np
import pytest

import kd_keras as kd

TEACHER = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
STUDENT = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "want"), [("logit_regression", 1.75), ("probability_regression", 0.04923583)]
)
def test_they_give_the_numbers_of_the_sheet(name, want):
    method = kd.methods.METHODS[name](dtype="float64")
    loss = method({"logits": STUDENT}, {"logits": TEACHER}, {})
    np.testing.assert_allclose(np.mean(loss), want, atol=5e-9)
    assert kd.methods.knobs_of(name) == {}


def test_a_linear_student_becomes_its_linear_teacher_without_labels(linear_teacher):
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    teacher = linear_teacher()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    distiller = kd.Distiller(student=student, teacher=teacher, method="logit_regression", alpha=0)
    distiller.compile(optimizer=keras.optimizers.Adam(0.05))
    distiller.fit(x, epochs=100, batch_size=32, verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], teacher.kernel, atol=1e-2)
