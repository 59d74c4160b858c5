"""How steps are run: what is chosen, and that the user's words win."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.runtime import execution
from kd_keras.runtime.execution import Execution

without_gpu = pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="on a GPU the choice is Keras'"
)


def build(name, side=28):
    return kd.models.build(name, input_shape=(side, side, 1), classes=10)


class EachBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


class EachEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pass


def coarse():
    callback = EachBatch()
    callback.coarse = True
    return callback


WATCHING = {
    "lambda": (lambda: keras.callbacks.LambdaCallback(on_train_batch_end=print), 1),
    "own": (EachBatch, 1),
    "coarse": (coarse, 16),
    "epochs": (EachEpoch, 16),
    "lambda_of_epochs": (lambda: keras.callbacks.LambdaCallback(on_epoch_end=print), 16),
    "progress": (keras.callbacks.ProgbarLogger, 16),
    "nan": (keras.callbacks.TerminateOnNaN, 16),
    "early": (keras.callbacks.EarlyStopping, 16),
}


@without_gpu
@pytest.mark.parametrize(("make", "loop"), WATCHING.values(), ids=WATCHING)
def test_who_watches_single_batches_sees_each(make, loop):
    chosen = execution.choose(build("mlp"), steps=1000, callbacks=[EachEpoch(), make()])
    assert chosen.steps_per_execution == loop


@without_gpu
@pytest.mark.parametrize(
    ("name", "side", "options", "loop"),
    [
        ("mlp", 28, {}, 16),
        ("mlp", 28, {"steps": 32}, 16),
        ("mlp", 28, {"steps": 31}, 1),
        ("mlp", 28, {"one_by_one": True}, 1),
        ("mlp", 224, {"steps": 1000}, 16),  # dense layers, however large the images
        ("cnn", 28, {"steps": 1000}, 16),
        ("cnn", 64, {"steps": 1000}, 1),
    ],
)
def test_short_steps_are_taken_several_at_once(name, side, options, loop):
    assert execution.choose(build(name, side), **options).steps_per_execution == loop


def test_xla_is_not_chosen_and_with_replicas_the_choice_is_keras_own():
    assert not execution.choose(build("mlp"), keras.optimizers.Adam(), steps=10_000).xla
    chosen = execution.choose(build("mlp"), keras.optimizers.Adam(), steps=10_000, replicas=2)
    assert chosen == Execution(reason=chosen.reason)
    assert "replicas" in chosen.reason


@without_gpu
def test_only_what_is_there_is_fused():
    norm = keras.Sequential([keras.Input((4, 4, 3)), layers.BatchNormalization()])
    assert execution.choose(norm).fused_batch_norm
    assert not execution.choose(build("cnn")).fused_batch_norm
    for optimizer, fused in [
        (keras.optimizers.Adam(), True),
        (keras.optimizers.AdamW(), True),
        (keras.optimizers.Adam(amsgrad=True), False),
        (keras.optimizers.SGD(0.1, momentum=0.9), True),
        (keras.optimizers.RMSprop(), False),
        (None, False),
    ]:
        assert execution.choose(build("mlp"), optimizer).fused_update is fused


def test_dense_is_what_holds_dense_layers_of_keras_alone():
    assert execution.is_dense(build("mlp"))
    assert not execution.is_dense(build("cnn"))
    assert execution.is_dense(keras.Sequential([build("mlp"), layers.Dense(3)]))
    assert not execution.is_dense(keras.Sequential([build("cnn"), layers.Dense(3)]))
    own = type("Dense", (layers.Dense,), {"__module__": "mine"})
    assert not execution.is_dense(keras.Sequential([keras.Input((3,)), own(3)]))


def test_dense_is_float32_and_without_code_of_ones_own(mixed_float16):
    assert not execution.is_dense(build("mlp"))
    keras.config.set_dtype_policy("float32")

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = layers.Dense(3)

        def call(self, x):
            return self.last(x)

    model = Own()
    model(np.ones((1, 2)))
    assert not execution.is_dense(model)


CHOSEN = Execution(True, True, True, 16, "chosen")


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ({}, (True, True, True, 16)),
        ({"jit": True}, (False, False, False, 16)),
        ({"jit": False}, (False, True, True, 16)),
        ({"jit": "auto"}, (False, True, True, 16)),
        ({"steps": 3}, (True, True, True, 3)),
        ({"steps": 3, "jit": True}, (False, False, False, 3)),
        ({"eager": True}, (False, False, False, 1)),
        ({"eager": True, "steps": 3}, (False, False, False, 3)),
        ({"all": execution.KERAS, "steps": 3, "jit": True}, (False, False, False, 1)),
    ],
)
def test_every_word_of_the_users_wins(words, want):
    got = execution.with_options(CHOSEN, **{"steps": None, "jit": None, "all": None, **words})
    kinds = (got.xla, got.fused_batch_norm, got.fused_update, got.steps_per_execution)
    assert kinds == want
