"""For every method: training on stored answers is training on the teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import cache, methods

# where the default is for other models than those of this test
SETTINGS = {"subclass": {"subclasses": 1}, "reviewkd": {"warm_up": 1.0}}
# of a teacher, in one training: one that teaches itself has no answers to store
ASKING = [
    name
    for name, method in methods.METHODS.items()
    if method.teacher_taps and not method.needs_plan
]


def made(name):
    return methods.get(name, **SETTINGS.get(name, {}))


def history(data, x, method, **options):
    """The losses of three epochs, and the student's last answers."""
    keras.utils.set_random_seed(0)
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
    roles = {"student": student, "teacher": teacher, "method": made(method)}
    distiller = kd.Distiller(**roles, **options, before=())  # of a plan, the last training
    distiller.compile(optimizer=keras.optimizers.Adam(1e-2))
    fit = {"epochs": 3, "shuffle": False, "verbose": 0}
    if callable(data):
        logs = distiller.fit(data(teacher), **fit).history
    else:
        logs = distiller.fit(*data, batch_size=16, **fit).history
    return np.array([logs["loss"], logs["distillation_loss"]]), student.predict(x, verbose=0)


@pytest.mark.parametrize(
    "name",
    ["kd", *(pytest.param(name, marks=pytest.mark.slow) for name in ASKING if name != "kd")],
)
def test_stored_answers_train_as_the_teacher_does(name, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (48, 8, 8, 1)).astype("uint8")
    y = rng.integers(0, 10, 48)
    known = {"image": x, "index": np.arange(48)} if methods.METHODS[name].needs_index else x
    pairs = tf.data.Dataset.from_tensor_slices((known, y))

    live, answers = history((x, y), x, name, teacher_cache="off")
    sides = {
        "in memory": history((x, y), x, name),
        "on disk": history((x, y), x, name, teacher_cache=cache.Cache(tmp_path)),
        "mapped": history((x, y), x, name, teacher_cache=cache.Cache(tmp_path, memory_share=0.0)),
    }
    for side, (losses, ours) in sides.items():
        np.testing.assert_allclose(losses, live, rtol=1e-5, err_msg=side)
        np.testing.assert_allclose(ours, answers, atol=1e-4, err_msg=side)

    # a pipeline in another order: each example must have its own teacher's answer
    def looked_up(teacher):
        ordered = pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)
        return cache.attach(ordered, teacher, taps=made(name).teacher_taps)

    def run_live(teacher):
        return pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)

    np.testing.assert_allclose(
        history(looked_up, x, name)[0], history(run_live, x, name)[0], rtol=1e-5
    )
