"""For every method: training on stored answers is training on the teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache, methods

# where the default is for other models than those of this test
SETTINGS = {"subclass": {"subclasses": 1}, "reviewkd": {"warm_up": 1.0}}


def made(name):
    return methods.as_plan(methods.get(name, **SETTINGS.get(name, {}))).loss


KINDS = [type(made(name)) for name in methods.METHODS]
# each loss once; one that has no teacher has no predictions to store
ASKING = [
    name
    for place, (name, kind) in enumerate(zip(methods.METHODS, KINDS, strict=True))
    if kind.teacher_taps and KINDS.index(kind) == place
]


def history(data, x, method, **options):
    """The losses of two epochs, and the student's last predictions."""
    keras.utils.set_random_seed(0)
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
    roles = {"student": student, "teacher": teacher, "method": made(method)}
    distiller = kd.Distiller(**roles, **options, before=())  # of a plan, the last training
    distiller.compile(optimizer=keras.optimizers.Adam(1e-2))
    fit = {"epochs": 2, "shuffle": False, "verbose": 0}
    if callable(data):
        logs = distiller.fit(data(teacher), **fit).history
    else:
        logs = distiller.fit(*data, batch_size=16, **fit).history
    return np.array([logs["loss"], logs["distillation_loss"]]), student.predict(x, verbose=0)


def examples():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (48, 8, 8, 1)).astype("uint8"), rng.integers(0, 10, 48)


def assert_alike(ours, live, side):
    np.testing.assert_allclose(ours[0], live[0], rtol=1e-5, err_msg=side)
    np.testing.assert_allclose(ours[1], live[1], atol=1e-4, err_msg=side)


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKING)
def test_stored_predictions_train_as_the_teacher_does(name):
    """A method that asked for another tap, or kept a batch's order, would train another loss."""
    x, y = examples()
    live = history((x, y), x, name, teacher_cache="off")
    assert_alike(history((x, y), x, name), live, "in memory")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kd", pytest.param("crd", marks=pytest.mark.slow)])
def test_wherever_they_are_stored(name, tmp_path):
    """Where rows lie is of no account to a method: one without and one with an index stand here."""
    x, y = examples()
    known = {"image": x, "index": np.arange(48)} if made(name).needs_index else x
    pairs = tf.data.Dataset.from_tensor_slices((known, y))

    live = history((x, y), x, name, teacher_cache="off")
    on_disk = history((x, y), x, name, teacher_cache=cache.Cache(tmp_path))
    assert_alike(on_disk, live, "on disk")
    mapped = history((x, y), x, name, teacher_cache=cache.Cache(tmp_path, memory_share=0.0))
    assert_alike(mapped, live, "mapped")

    # a pipeline in another order: each example must have its own teacher's predictions
    def looked_up(teacher):
        ordered = pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)
        return cache.attach(ordered, teacher, taps=made(name).teacher_taps)

    def run_live(teacher):
        return pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)

    np.testing.assert_allclose(
        history(looked_up, x, name)[0], history(run_live, x, name)[0], rtol=1e-5
    )
