"""The contract of a training by every loss of the registry, those of plans included."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract import CLASSES, LOSSES, built, made, random_batch

from kd_keras import models
from kd_keras.models.taps import FeatureExtractor
from kd_keras.teachers import LiveTeacher
from kd_keras.training.distiller import Distiller

pytestmark = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture(scope="module")
def two_models():
    """A teacher and a student that no test trains."""
    keras.utils.set_random_seed(0)
    return [
        models.build("cnn", input_shape=(8, 8, 1), classes=CLASSES, width=width)
        for width in (0.25, 0.125)
    ]


@pytest.mark.slow
def test_the_teacher_gets_no_gradient(two_models, name):
    method = made(name)
    teacher, student = two_models
    source = LiveTeacher(teacher, method.teacher_taps)
    view = FeatureExtractor(student, method.student_taps)
    method.build(view.shapes, source.shapes)
    method.built = True
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)).astype("float32")
    known = {"image": images, "label": tf.range(6) % CLASSES, "index": tf.range(6)}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([v.value for v in teacher.trainable_variables])
        loss = method(view(images), source(known), known, training=True)
    ours = tape.gradient(loss, [v.value for v in student.trainable_variables])
    theirs = tape.gradient(loss, [v.value for v in teacher.trainable_variables])
    assert any(gradient is not None for gradient in ours)
    assert theirs == [None] * len(theirs)


@pytest.mark.slow
def test_what_compares_the_examples_of_a_batch_asks_for_two(name):
    """`test_distiller_refusals.py` has the refusal of a batch of one."""
    method = built(name)
    student, teacher, known = random_batch(method)
    among = method(student, teacher, known, training=False)[0]
    first = [{tap: view[:1] for tap, view in views.items()} for views in (student, teacher, known)]
    alone = method(*first, training=False)[0]
    # `crd` draws other negatives, which are of no batch; in `byot` one example has a distance too
    by_itself = name in ("crd", "byot") or np.isclose(among, alone, rtol=1e-4)
    assert method.least_batch == (1 if by_itself else 2)


@pytest.mark.slow
def test_a_distiller_is_saved_and_a_restarted_training_repeats_the_first(name, tmp_path):
    """With its method, and without it in the student; as a sweep restarts one trainer."""
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    labels = np.arange(16) % 10
    keras.utils.set_random_seed(0)
    teacher, student, like = (
        models.build(kind, input_shape=(8, 8, 1), classes=10) for kind in ("cnn", *["lenet5"] * 2)
    )
    paths = [v.path for v in student.weights]
    first, second = made(name), made(name)
    source = LiveTeacher(teacher, first.teacher_taps)
    shapes = (
        FeatureExtractor(student, dict.fromkeys((*first.student_taps, "logits"))).shapes,
        source.shapes,
    )
    for method in (first, second):
        method.adopt(source.behind)
        method.build(*shapes)
        method.built = True
    second.set_weights(first.get_weights())
    student.set_weights(like.get_weights())
    distiller = Distiller(student=student, teacher=source, method=first, before=())
    distiller.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    fit = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0}
    before = distiller.fit(images, labels, **fit).history["loss"]
    trace = distiller.train_function

    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    # not `variables`: of what never draws, the state of drawing is not kept
    for ours, theirs in zip(again.method.weights, distiller.method.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=theirs.path)
    assert [v.path for v in distiller.student.weights] == paths

    # nothing of the method's state stays behind
    distiller.reset(like, second)
    assert distiller.fit(images, labels, **fit).history["loss"] == pytest.approx(before, rel=1e-5)
    assert distiller.train_function is trace
