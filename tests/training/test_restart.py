"""A trainer that is started anew is a new one, and nothing is traced again."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import kd_keras as kd
from kd_keras.training.supervised import Supervised

TRACES = []


@keras.saving.register_keras_serializable("kd_keras_tests")
class Traced(layers.Dense):
    """Notes each time that Python runs its `call`: once a trace."""

    def call(self, x, training=None):
        TRACES.append(training)
        return super().call(x)


def student(seed=0, dropout=0.4):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = Traced(5, activation="tanh", name="embedding")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(dropout)(x)
    TRACES.clear()
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def schedule():
    return optimizers.schedules.CosineDecay(0.1, 30)


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: optimizers.Adam(0.02),
    "scheduled": lambda: optimizers.Adam(schedule()),
    "averaged": lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=3),
}


def fit(trainer, examples, **settings):
    keras.utils.set_random_seed(5)
    return trainer.fit(*examples, batch_size=4, epochs=2, verbose=0, **settings).history


def same(ours, theirs):
    for mine, yours in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-5, atol=1e-6, err_msg=mine.path)


@pytest.mark.slow
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_restarted_one_is_a_new_one(examples, make):
    used = Supervised(student=student())
    used.compile(make(), metrics=["accuracy"])
    fit(used, examples)
    used.optimizer.iterations.assign_add(5)
    used.reset(student(seed=2))
    new = Supervised(student=student(seed=2))
    new.compile(make(), metrics=["accuracy"])
    histories = [fit(trainer, examples) for trainer in (used, new)]
    assert histories[0] == {n: pytest.approx(v, rel=1e-5) for n, v in histories[1].items()}
    same(used.student, new.student)
    same(used.optimizer, new.optimizer)


def test_a_restarted_distiller_takes_another_temperature(examples, mlp):
    used = kd.Distiller(student=student(), teacher=mlp(1), method=kd.methods.KD(2.0), alpha=0.3)
    used.compile(optimizers.Adam(0.02))
    fit(used, examples)
    used.reset(student(seed=2), kd.methods.KD(kd.schedules.Linear(9.0, 3.0, epochs=2)))
    used.alpha = 0.6
    new = kd.Distiller(
        student=student(seed=2),
        teacher=mlp(1),
        method=kd.methods.KD(kd.schedules.Linear(9.0, 3.0, epochs=2)),
        alpha=0.6,
    )
    new.compile(optimizers.Adam(0.02))
    histories = [fit(trainer, examples) for trainer in (used, new)]
    assert histories[0] == {n: pytest.approx(v, rel=1e-5) for n, v in histories[1].items()}
    same(used.student, new.student)
    assert used.method.temperature == new.method.temperature == 3.0


@pytest.mark.slow
def test_nothing_is_traced_again(examples, mlp):
    like = student(seed=2)
    trainer = kd.Distiller(student=student(), teacher=mlp(1))
    trainer.compile(optimizers.Adam(0.02), metrics=["accuracy"])
    held_out = {"validation_data": examples}
    fit(trainer, examples, **held_out)
    TRACES.clear()
    for temperature in (1.0, 2.0):
        trainer.reset(like, kd.methods.KD(temperature))
        trainer.alpha = temperature / 4
        fit(trainer, examples, **held_out)
    assert TRACES == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["supervised", "distiller"])
@pytest.mark.parametrize("length", [16, 14])
def test_a_first_fit_is_traced_once(examples, mlp, kind, length):
    """Variables made inside the first step would have it traced twice; also where the last batch
    is of another size."""
    trainer = (
        Supervised(student=student())
        if kind == "supervised"
        else kd.Distiller(student=student(), teacher=mlp(1))
    )
    trainer.compile(optimizers.Adam(0.02), metrics=["accuracy"])
    x, y = examples
    fit(trainer, (x[:length], y[:length]))
    assert TRACES == [True]


def test_a_stopped_training_goes_on_after_a_restart(examples):
    trainer = Supervised(student=student())
    trainer.compile("sgd")
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(trainer, "stop_training", True)
    )
    assert len(fit(trainer, examples, callbacks=[stop])["loss"]) == 1
    trainer.reset(student())
    assert len(fit(trainer, examples)["loss"]) == 2


@pytest.mark.parametrize("compiled", [True, False])
def test_before_the_first_fit_it_is_no_more_than_a_copy(examples, compiled):
    trainer = Supervised(student=student())
    if compiled:
        trainer.compile("sgd")
    trainer.reset(student(seed=2))
    same(trainer.student, student(seed=2))


def test_another_architecture_is_refused(examples, mlp):
    trainer = Supervised(student=student())
    trainer.compile("sgd")
    before = trainer.student.get_weights()
    with pytest.raises(ValueError, match="`like` must have the architecture of"):
        trainer.reset(mlp(0))
    for ours, theirs in zip(trainer.student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# what a method takes over


@keras.saving.register_keras_serializable("kd_keras_tests")
class Projecting(kd.methods.KD):
    """With a setting that is no knob, and a weight that is trained."""

    def __init__(self, temperature=4.0, power=1, **kwargs):
        super().__init__(temperature, **kwargs)
        self.power = power

    def build(self, student_shape, teacher_shape, batch_shape=None):
        self.scale = self.add_weight(shape=(3,), initializer="ones", name="scale")

    def call(self, student, teacher, batch, training=False):
        scaled = {"logits": student["logits"] * self.scale**self.power}
        return super().call(scaled, teacher, batch, training=training)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def built(method):
    shapes = {"logits": (None, 3)}
    method.build(shapes, shapes)
    method.built = True
    return method


def test_a_method_takes_knobs_and_weights():
    ours, theirs = (
        built(Projecting(2.0)),
        built(Projecting(kd.schedules.Linear(8.0, 2.0, epochs=4))),
    )
    theirs.scale.assign([1.0, 2.0, 3.0])
    theirs.on_epoch_begin(2)
    ours.copy_state(theirs)
    np.testing.assert_array_equal(ours.scale, [1.0, 2.0, 3.0])
    assert ours.get_config()["temperature"] == theirs.get_config()["temperature"]
    ours.on_epoch_begin(4)
    assert ours.temperature == 2.0
    assert theirs.temperature != 2.0  # a variable of its own


@pytest.mark.parametrize(
    "other", [lambda: Projecting(power=2), lambda: kd.methods.KD(2.0), lambda: nested(1.0)]
)
def test_other_settings_are_refused(other):
    ours = built(Projecting(2.0))
    with pytest.raises(ValueError, match="`method` may differ only in its knobs") as caught:
        ours.copy_state(built(other()))
    assert "'class': 'Projecting'" in str(caught.value)
    assert ours.temperature == 2.0


def nested(temperature, weight=0.5, power=1):
    parts = {"a": Projecting(temperature, power), "b": kd.methods.KD(2 * temperature)}
    return kd.methods.Sum(parts, weights={"b": weight})


def test_a_sum_takes_the_knobs_and_weights_of_its_parts():
    ours, theirs = built(nested(1.0)), built(nested(3.0))
    theirs.methods["a"].scale.assign([1.0, 2.0, 3.0])
    ours.copy_state(theirs)
    assert [part.temperature for part in ours.methods.values()] == [3.0, 6.0]
    np.testing.assert_array_equal(ours.methods["a"].scale, [1.0, 2.0, 3.0])
    for other in (nested(3.0, weight=0.25), nested(4.0, power=2)):
        with pytest.raises(ValueError, match="may differ only in its knobs"):
            ours.copy_state(built(other))
    assert [part.temperature for part in ours.methods.values()] == [3.0, 6.0]
