"""Train a small student on a teacher, live or stored, by any method."""

import keras
import numpy as np

import kd_keras as kd
from kd_keras import methods

# where the default is for other models than those of this test
SETTINGS = {"subclass": {"subclasses": 1}, "reviewkd": {"warm_up": 1.0}}


def made(name):
    return methods.as_plan(methods.get(name, **SETTINGS.get(name, {}))).loss


def history(data, x, method, epochs=2, run_eagerly=False, **options):
    """The losses of the epochs, and the student's last predictions."""
    keras.utils.set_random_seed(0)
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
    roles = {"student": student, "teacher": teacher, "method": made(method)}
    distiller = kd.Distiller(**roles, **options, before=())  # of a plan, the last training
    distiller.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=run_eagerly)
    fit = {"epochs": epochs, "shuffle": False, "verbose": 0}
    if callable(data):
        logs = distiller.fit(data(teacher), **fit).history
    else:
        logs = distiller.fit(*data, batch_size=16, **fit).history
    return np.array([logs["loss"], logs["distillation_loss"]]), np.array(student(x))


def examples(count=48):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 8, 8, 1)).astype("uint8"), rng.integers(0, 10, count)


def assert_alike(ours, live, side):
    np.testing.assert_allclose(ours[0], live[0], rtol=1e-5, err_msg=side)
    np.testing.assert_allclose(ours[1], live[1], atol=1e-4, err_msg=side)
