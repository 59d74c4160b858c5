"""Alpha and temperature over time: by hand, by schedule, and without a new trace."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd


def train(student, teacher, examples, *, alpha, method="kd", **settings):
    distiller = kd.Distiller(student=student, teacher=teacher, method=method, alpha=alpha)
    distiller.compile(keras.optimizers.SGD(0.1))
    return distiller.fit(*examples, verbose=0, **settings).history


class Counting(layers.Layer):
    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def test_new_values_of_the_knobs_act_without_a_new_trace(examples, mlp):
    x, y = examples
    count = Counting()
    student = keras.Sequential([keras.Input((6,)), count, layers.Dense(3)])
    distiller = kd.Distiller(student=student, teacher=mlp(1), method=kd.methods.KD(1.0), alpha=0.1)
    distiller.compile(keras.optimizers.SGD(0.0))
    distiller.fit(x, y, batch_size=8, verbose=0)
    traced = count.calls
    rise = kd.schedules.Linear(0.0, 1.0, epochs=2)
    for alpha, temperature in [(0.1, 1.0), (0.7, 1.0), (0.7, 5.0), (rise, 9.0)]:
        distiller.alpha, distiller.method.temperature = alpha, temperature
        logs = {k: v[0] for k, v in distiller.fit(x, y, batch_size=8, verbose=0).history.items()}
        share = 0.0 if callable(alpha) else alpha
        mixed = share * logs["student_loss"] + (1 - share) * logs["distillation_loss"]
        assert logs["loss"] == pytest.approx(mixed, rel=1e-5)
        soft = kd.losses.softened_kl(student(x), mlp(1)(x), temperature=temperature)
        count.calls -= 1  # by hand
        assert logs["distillation_loss"] == pytest.approx(np.mean(soft), rel=1e-5)
    assert count.calls == traced


class Watch(keras.callbacks.Callback):
    """What a user's own callback sees at the start of every epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append((self.model.alpha, self.model.method.temperature))


def test_schedules_give_each_epoch_its_values(examples, mlp):
    alpha, cool = kd.schedules.Steps((0.25, 1.0), (2,)), kd.schedules.Linear(8.0, 2.0, epochs=4)
    watch = Watch()
    history = train(
        mlp(0),
        mlp(1),
        examples,
        method=kd.methods.KD(cool),
        alpha=alpha,
        epochs=4,
        callbacks=[watch],
    )
    assert watch.seen == [(0.25, 8.0), (0.25, 6.0), (1.0, 4.0), (1.0, 2.0)]
    for share, loss, hard, soft in zip(
        [0.25, 0.25, 1.0, 1.0],
        history["loss"],
        history["student_loss"],
        history["distillation_loss"],
        strict=True,
    ):
        assert loss == pytest.approx(share * hard + (1 - share) * soft, rel=1e-5)


def test_schedules_go_by_the_epochs_number_and_not_by_the_fits(examples, mlp):
    watch = Watch()
    train(
        mlp(0),
        mlp(1),
        examples,
        alpha=lambda e: e / 10,
        initial_epoch=3,
        epochs=5,
        callbacks=watch,
    )
    assert [alpha for alpha, _ in watch.seen] == [pytest.approx(0.3), pytest.approx(0.4)]
