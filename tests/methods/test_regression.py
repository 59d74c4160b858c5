"""The regressions: the sheet's numbers through the methods, and training without labels."""

import keras
import numpy as np
import pytest

import kd_keras as kd

TEACHER = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]])
STUDENT = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "knobs", "want"),
    [
        ("logit_regression", {}, 1.75),
        ("probability_regression", {}, 0.04923583),
        ("compression", {}, 1.75),
        ("compression", {"targets": "probabilities"}, 0.04923583),
    ],
)
def test_they_give_the_numbers_of_the_sheet(name, knobs, want):
    method = kd.methods.METHODS[name](**knobs, dtype="float64")
    loss = method({"logits": STUDENT}, {"logits": TEACHER}, {})
    np.testing.assert_allclose(np.mean(loss), want, atol=5e-9)
    assert set(knobs) <= set(kd.methods.knobs_of(name))


def test_compression_takes_no_labels_where_nothing_is_said_of_alpha(linear_teacher):
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    made = {
        alpha: kd.Distiller(
            student=student, teacher=linear_teacher(), method="compression", alpha=alpha
        )
        for alpha in (None, 0.5)
    }
    assert (made[None].alpha, made[0.5].alpha) == (0.0, 0.5)
    assert kd.Distiller(student=student, teacher=linear_teacher()).alpha == pytest.approx(0.1)
    again = kd.methods.METHODS["compression"].from_config(made[None].method.get_config())
    assert again.targets == "logits"
    with pytest.raises(ValueError, match=r"Did you mean 'logits'"):
        kd.methods.get("compression", targets="logit")


def test_methods_that_agree_on_alpha_do_so_in_a_sum():
    one, other, labelled = kd.methods.Compression(), kd.methods.Compression(), kd.methods.KD()
    assert kd.methods.Sum({"a": one, "b": other}).default_alpha == 0.0
    assert kd.methods.Sum({"a": one, "b": labelled}).default_alpha == 0.1
    mixed = {"a": kd.methods.FunctionMatching(), "b": kd.methods.FunctionMatching(), "c": labelled}
    assert kd.methods.Sum(mixed).augmentation == "mixup"
    assert kd.methods.Sum({"a": labelled}).augmentation == "none"


def test_a_linear_student_becomes_its_linear_teacher_without_labels(linear_teacher):
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    teacher = linear_teacher()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    distiller = kd.Distiller(student=student, teacher=teacher, method="logit_regression", alpha=0)
    distiller.compile(optimizer=keras.optimizers.Adam(0.05))
    distiller.fit(x, epochs=100, batch_size=32, verbose=0)
    np.testing.assert_allclose(student.get_weights()[0], teacher.kernel, atol=1e-2)
