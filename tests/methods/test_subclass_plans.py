"""The plans of `Subclass` and of its baseline: which models they train, with how many logits."""

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras import losses
from kd_keras.methods import Roles, SubclassTeacher

KIND = {"input_shape": (8, 8, 1)}


def roles_of(classes=2, student=10):
    keras.utils.set_random_seed(0)
    learner = kd.models.build("mlp", **KIND, classes=student, hidden=(6,))
    return Roles(
        learner,
        kd.models.build("lenet5", **KIND, classes=classes),
        build_teacher=lambda logits: kd.models.build("lenet5", **KIND, classes=logits),
        teacher_epochs=7,
    )


def test_a_student_has_a_logit_a_subclass_and_the_baselines_one_a_class():
    assert kd.methods.Subclass(5).logits(2) == 10
    assert kd.methods.SubclassBaseline(5).logits(2) == 2
    both = kd.methods.Sum({"a": kd.methods.SubclassKD(3), "b": kd.methods.KD()})
    assert both.logits(2) == 6


def test_a_teacher_without_subclasses_is_replaced_by_one_that_finds_them():
    roles = roles_of()
    method = kd.methods.Subclass(5, spread_temperature=0.5, spread_weight=2.0)
    first, last = method.stages(roles)
    assert (first.teacher, first.alpha, first.epochs) == (None, 0.5, 7)
    assert first.student.output_shape == (None, 10)
    assert isinstance(first.method, SubclassTeacher)
    assert (first.method.temperature, first.method.weight) == (0.5, 2.0)
    assert (last.student, last.teacher, last.method) == (roles.student, first.student, method.loss)


def test_a_teacher_with_subclasses_is_used_as_it_is():
    roles = roles_of(classes=10)
    (stage,) = kd.methods.Subclass(5).stages(roles)
    assert stage.teacher is roles.teacher
    (stage,) = kd.methods.Subclass(1).stages(roles_of(2, student=2))
    assert stage.name == "distill"


def test_the_baseline_learns_the_classes_of_the_same_teacher():
    roles = roles_of(student=2)
    first, last = kd.methods.SubclassBaseline(5, temperature=3.0).stages(roles)
    same, _ = kd.methods.Subclass(5).stages(roles_of())
    assert first.shared == same.shared  # so that a comparison trains it once
    other, _ = kd.methods.Subclass(5, spread_weight=2.0).stages(roles_of())
    assert other.shared != first.shared
    assert first.student.output_shape == (None, 10)
    x = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    want = losses.class_logits(first.student(x), subclasses=5)
    np.testing.assert_allclose(last.teacher(x), want, atol=1e-5)
    assert type(last.method) is kd.methods.KD
    assert last.method.temperature == 3.0
    kd.Distiller(student=last.student, teacher=last.teacher, method=last.method)


def test_the_teachers_training_is_half_of_the_loss_that_it_is_compiled_with_by_hand():
    stage, _ = kd.methods.Subclass(5, spread_weight=2.0).stages(roles_of())
    distiller = kd.Distiller(
        student=stage.student, teacher=None, method=stage.method, alpha=stage.alpha
    )
    distiller.compile(keras.optimizers.SGD(0.0))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (16, 8, 8, 1)).astype("uint8"), np.arange(16) % 2
    loss = distiller.fit(x, y, batch_size=16, verbose=0).history["loss"][0]
    logits = stage.student(x)
    want = kd.methods.SubclassTeacherLoss(5, weight=2.0)(y, logits)
    assert loss == pytest.approx(float(want) / 2, rel=1e-5)


@pytest.mark.parametrize("name", ["spread_temperature", "spread_weight"])
def test_a_spread_is_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be a positive number"):
        kd.methods.Subclass(**{name: 0.0})


def test_digits_in_two_halves():
    whole, halves = kd.data.load("digits"), kd.data.load("digits_halves")
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(halves, name), getattr(whole, name)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels >= 5)
    assert halves.classes == 2
    assert halves.fingerprint != whole.fingerprint
