"""However steps are run, it is the same training; Adam's kernel is Keras' Adam."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import kd_keras as kd
from kd_keras.runtime import execution
from kd_keras.runtime.execution import KERAS, Execution
from kd_keras.training.supervised import Supervised

without_gpu = pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")), reason="on a GPU the choice is Keras'"
)
FUSED = Execution(fused_batch_norm=True, fused_update=True)
WAYS = {
    "xla": Execution(xla=True),
    "xla_at_once": Execution(xla=True, steps_per_execution=16),
    "fused": FUSED,
    "fused_at_once": Execution(fused_batch_norm=True, fused_update=True, steps_per_execution=3),
    "chosen": None,
}


@pytest.fixture
def many():
    """Enough examples of three classes for steps to be taken several at once."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(203, 6)).astype("float32"), np.arange(203) % 3


def small_mobile(seed):
    """As MobileNetV2 does: depthwise convolutions, batch normalisation, a sum of two ways."""
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = way = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9, scale=False)(x)
    x = layers.Add()([x, way])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def train(student, teacher, data, how, **settings):
    distiller = kd.Distiller(student=student, teacher=teacher)
    distiller.compile(optimizers.Adam(0.01), metrics=["accuracy"], execution=how)
    settings = {"batch_size": 8, "epochs": 2, "shuffle": False, **settings}
    history = distiller.fit(*data, verbose=0, **settings).history
    return distiller, history


def same(left, right, rtol=1e-3, atol=1e-4):
    (ours, history), (theirs, want) = left, right
    assert ours.optimizer.iterations == theirs.optimizer.iterations
    assert history == {name: pytest.approx(values, rel=rtol) for name, values in want.items()}
    for mine, yours in zip(ours.student.variables, theirs.student.variables, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=rtol, atol=atol, err_msg=mine.path)


@pytest.mark.slow
def test_every_way_is_the_same_training_of_dense_layers(many, mlp):
    wanted = train(mlp(0), mlp(1), many, KERAS)
    for how in WAYS.values():
        same(train(mlp(0), mlp(1), many, how), wanted)


@pytest.mark.slow
def test_every_way_is_the_same_training_of_convolutions():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(50, 8, 8, 3)).astype("float32"), np.arange(50) % 3
    wanted = train(small_mobile(0), small_mobile(1), data, KERAS)
    for how in WAYS.values():
        same(train(small_mobile(0), small_mobile(1), data, how), wanted, rtol=1e-3, atol=1e-3)


OPTIMIZERS = {
    "plain": lambda: optimizers.Adam(0.05, beta_1=0.8, beta_2=0.95, epsilon=1e-3),
    "decoupled": lambda: optimizers.AdamW(0.05, weight_decay=0.1),
    "clipped": lambda: optimizers.Adam(0.05, global_clipnorm=0.1),
    "scheduled": lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.1, 20)),
    "averaged": lambda: optimizers.Adam(0.05, use_ema=True, ema_overwrite_frequency=7),
    "accumulated": lambda: optimizers.Adam(0.05, gradient_accumulation_steps=3),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.05), initial_scale=8.0),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "nadam": lambda: optimizers.Nadam(0.05),
    "sgd": lambda: optimizers.SGD(0.05),
    "momentum": lambda: optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "descending": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(0.1, 20), momentum=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_fused_update_is_keras_own(many, mlp, make):
    runs = []
    for how in (FUSED, KERAS):
        trainer = Supervised(student=mlp(0))  # which is traced in half the time of a distiller
        trainer.compile(make(), execution=how)
        fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        runs.append((trainer, trainer.fit(*many, **fit).history))
    same(*runs)
    pairs = zip(*(run[0].optimizer.variables for run in runs), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=ours.path)
    assert "update_step" not in vars(runs[0][0].optimizer)


def test_a_fused_update_of_sparse_gradients_and_of_some_weights_alone():
    """An embedding's gradient is sparse; what is frozen shifts the optimizer's numbering."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 9, (64, 4)), np.arange(64) % 3

    def student():
        keras.utils.set_random_seed(0)
        parts = [layers.Embedding(9, 5), layers.Flatten(), layers.Dense(4), layers.Dense(3)]
        model = keras.Sequential([keras.Input((4,), dtype="int32"), *parts])
        model.layers[2].trainable = False
        return model

    runs = []
    for how in (FUSED, KERAS):
        trainer = Supervised(student=student())
        trainer.compile(optimizers.Adam(0.05), execution=how)
        runs.append((trainer, trainer.fit(*data, verbose=0, shuffle=False, epochs=5).history))
    same(*runs)


@without_gpu
def test_what_was_chosen_is_logged_and_what_runs(many, mlp, caplog):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile("adam")
    with caplog.at_level(logging.INFO, "kd_keras"):
        distiller.fit(*many, batch_size=4, verbose=0)
    chosen = execution.choose(distiller.student, distiller.optimizer, steps=51)
    assert chosen.steps_per_execution == distiller.steps_per_execution == execution.LOOP
    assert caplog.text.count(str(chosen)) == 1
    with caplog.at_level(logging.INFO, "kd_keras"):
        distiller.fit(*many, batch_size=4, verbose=0)  # nothing new to be said
    assert caplog.text.count(str(chosen)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps", "jit"),
    [
        ({"steps_per_execution": 3}, 3, None),
        ({"jit_compile": True}, None, True),
        ({"jit_compile": False}, None, False),
        ({"execution": Execution(steps_per_execution=5)}, 5, None),
        ({"run_eagerly": True}, 1, False),
    ],
)
def test_words_to_compile_are_kept(many, mlp, words, steps, jit):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile("sgd", **words)
    distiller.fit(many[0][:80], many[1][:80], batch_size=4, verbose=0)
    assert steps in (None, distiller.steps_per_execution)
    assert jit in (None, distiller.jit_compile)
    assert distiller.optimizer.iterations == 20


def test_a_callback_of_single_batches_is_called_for_every_batch(many, mlp):
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    distiller.compile("sgd")
    distiller.fit(*many, batch_size=4, verbose=0)
    distiller.fit(*many, batch_size=4, verbose=0, callbacks=[watch])
    assert seen == list(range(51))


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True])
def test_lengths_that_are_no_multiple_after_several_steps_at_once(many, mlp, before):
    x, y = many
    trainer = Supervised(student=mlp(0))
    trainer.compile("sgd", metrics=["accuracy"])
    if before:  # then Keras holds functions of single steps
        trainer.predict(x, batch_size=4, verbose=0)
        trainer.evaluate(x, y, batch_size=4, verbose=0)
    trainer.fit(x, y, batch_size=4, epochs=2, validation_data=(x[:30], y[:30]), verbose=0)
    assert trainer.optimizer.iterations == 2 * 51
    plain = trainer.student
    for count in (1, 4, 63, 64, 65, 130, 203):
        logits = trainer.predict(x[:count], batch_size=4, verbose=0)
        np.testing.assert_allclose(logits, plain(x[:count]), rtol=1e-4, atol=1e-5)
        accuracy = trainer.evaluate(x[:count], y[:count], batch_size=4, verbose=0)[1]
        assert accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == y[:count]), rel=1e-5)


def test_as_many_steps_are_taken_as_were_asked_for(many, mlp):
    """Keras alone would run sixteen where three were asked for."""
    x, y = many
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat()
    images = tf.data.Dataset.from_tensor_slices(x).batch(4)
    trainer = Supervised(student=mlp(0))
    trainer.compile("sgd", metrics=["accuracy"])
    trainer.fit(dataset, steps_per_epoch=20, epochs=2, verbose=0)
    assert trainer.optimizer.iterations == 40
    trainer.fit(x, y, batch_size=4, verbose=0)  # several at once
    for _ in range(2):
        by_steps = trainer.evaluate(dataset, steps=3, verbose=0)
        assert by_steps == pytest.approx(trainer.evaluate(x[:12], y[:12], verbose=0), rel=1e-5)
    assert trainer.predict(images, steps=3, verbose=0).shape == (12, 3)
    history = trainer.fit(
        x, y, batch_size=4, epochs=3, validation_data=dataset, validation_steps=3, verbose=0
    ).history
    by_steps = trainer.evaluate(x[:12], y[:12], verbose=0)
    assert [history["val_loss"][-1], history["val_accuracy"][-1]] == pytest.approx(by_steps)


@pytest.mark.slow
def test_two_models_trained_in_turn_do_not_meet(many, mlp):
    """Replaced calls and updates are put back after each step that is traced."""
    alone = train(mlp(0), mlp(1), many, FUSED)
    first, second = (kd.Distiller(student=mlp(0), teacher=mlp(1)) for _ in range(2))
    histories = {}
    for distiller in (first, second):
        distiller.compile(optimizers.Adam(0.01), metrics=["accuracy"], execution=FUSED)
    for epoch in range(2):
        for distiller in (first, second):
            settings = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epoch + 1}
            log = distiller.fit(*many, initial_epoch=epoch, **settings).history
            histories.setdefault(distiller, []).append(log["loss"][0])
    for distiller in (first, second):
        assert histories[distiller] == pytest.approx(alone[1]["loss"], rel=1e-4)


@without_gpu
@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_warned_of_where_the_processor_imitates_it(
    many, mlp, native, monkeypatch, caplog
):
    monkeypatch.setattr(execution.machine, "multiplies_bfloat16", lambda: native)
    student = mlp(0)
    for layer in student.layers:
        layer.dtype_policy = "mixed_bfloat16"
    trainer = Supervised(student=student)
    trainer.compile("sgd")
    trainer.fit(*many, verbose=0)
    warned = [r.getMessage() for r in caplog.records if "computes in bfloat16" in r.getMessage()]
    assert len(warned) == (0 if native else 1)


@pytest.mark.parametrize("how", [KERAS, *WAYS.values()], ids=["keras", *WAYS])
def test_a_limit_on_the_norms_of_weights_holds_however_a_step_runs(how):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (64, 4, 4, 1), dtype=np.uint8), np.arange(64) % 3
    keras.utils.set_random_seed(0)
    student = kd.models.build("mlp", input_shape=(4, 4, 1), classes=3, hidden=(6,), max_norm=0.5)
    trainer = Supervised(student=student)
    trainer.compile(optimizers.SGD(0.5, momentum=0.9), execution=how)
    trainer.fit(*data, batch_size=8, epochs=2, verbose=0)
    norms = np.linalg.norm(student.get_layer("embedding").kernel, axis=0)
    assert norms.max() == pytest.approx(0.5, rel=1e-4)  # reached, and not passed
