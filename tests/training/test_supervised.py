"""`Supervised` is what Keras' own `fit` of the student is; restarts; what a file holds of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import kd_keras as kd
from kd_keras.training.supervised import Supervised

LOSS = keras.losses.SparseCategoricalCrossentropy


def train(student, data, optimizer=None, **settings):
    trainer = Supervised(student=student)
    trainer.compile(optimizer or optimizers.Adam(0.02), metrics=["accuracy"])
    return trainer, trainer.fit(*data, verbose=0, **settings).history


SETTINGS = {
    "plain": {"batch_size": 5, "epochs": 3},
    "weighted": {"batch_size": 5, "epochs": 3, "sample_weight": np.linspace(0.0, 2.0, 16)},
    "by_class": {"batch_size": 5, "class_weight": {0: 1.0, 1: 0.5, 2: 0.0}},
    "split": {"batch_size": 5, "epochs": 3, "validation_split": 0.25},
    "large_batch": {"epochs": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_is_keras_own_fit_of_the_student(examples, forgetful, settings):
    """With dropout and batch normalisation, and a last batch that is smaller than the others.

    By SGD: the bias before a normalisation has no gradient but rounding, which Adam makes large.
    """
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    ours, history = train(forgetful(0), examples, optimizer, shuffle=False, **settings)
    plain = forgetful(0)
    plain.compile(optimizers.SGD(0.1, momentum=0.9), LOSS(from_logits=True), metrics=["accuracy"])
    want = plain.fit(*examples, verbose=0, shuffle=False, **settings).history
    assert history == {name: pytest.approx(values, rel=1e-4) for name, values in want.items()}
    for mine, yours in zip(ours.student.variables, plain.variables, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-3, atol=1e-5, err_msg=mine.path)
    evaluated = plain.evaluate(*examples, verbose=0)
    assert ours.evaluate(*examples, verbose=0) == pytest.approx(evaluated, rel=1e-4)
    np.testing.assert_allclose(
        ours.predict(examples[0], verbose=0), plain.predict(examples[0], verbose=0), rtol=1e-3
    )


def test_regularisation_is_added_as_keras_adds_it(examples):
    def student():
        keras.utils.set_random_seed(0)
        dense = layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")
        return keras.Sequential([keras.Input((6,)), dense])

    ours, history = train(student(), examples, shuffle=False, epochs=2)
    plain = student()
    plain.compile(optimizers.Adam(0.02), LOSS(from_logits=True), metrics=["accuracy"])
    want = plain.fit(*examples, verbose=0, shuffle=False, epochs=2).history
    assert history["loss"] == pytest.approx(want["loss"], rel=1e-4)
    np.testing.assert_allclose(ours.student.get_weights()[0], plain.get_weights()[0], rtol=1e-4)


def test_it_logs_its_loss_and_the_compiled_metrics(examples, mlp):
    _, history = train(mlp(0), examples, validation_data=examples)
    assert sorted(history) == ["accuracy", "loss", "val_accuracy", "val_loss"]


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (lambda mlp: "mlp", "`student` must be a Keras model. Received: str"),
        (lambda mlp: mlp(0, activation="softmax"), "`student` must return logits"),
        (lambda mlp: mlp(0, classes=1), "one logit for each of two classes"),
    ],
)
def test_what_is_no_student_is_refused(mlp, student, message):
    with pytest.raises(ValueError, match=message):
        Supervised(student=student(mlp))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: (x,), "needs labels. Received: y=None"),
        (lambda x, y: (x, y + 1), "class numbers from 0 to 2"),
        (lambda x, y: (x, y[:5]), "the same length"),
        (lambda x, y: (x[:, :4], y), "size the student takes"),
        (lambda x, y: (x[:0], y[:0]), "must hold images"),
        (lambda x, y: (tf.data.Dataset.from_tensor_slices(x).batch(4),), "needs labels"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(examples, mlp, data, message):
    student = mlp(0)
    before = student.get_weights()
    with pytest.raises(ValueError, match=message):
        train(student, data(*examples))
    for mine, yours in zip(student.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, yours)


def test_a_wholly_frozen_student_and_a_loss_on_probabilities_are_refused(examples, mlp):
    student = mlp(0)
    with pytest.raises(ValueError, match="expects probabilities"):
        Supervised(student=student).compile(loss="sparse_categorical_crossentropy")
    student.trainable = False
    with pytest.raises(ValueError, match="no trainable weights: every layer is frozen"):
        train(student, examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        {},
        {"steps_per_execution": 2},
        {"jit_compile": False, "loss": LOSS(from_logits=True)},
        {"optimizer": "sgd", "metrics": ["accuracy"], "run_eagerly": True},
    ],
)
@pytest.mark.parametrize("kind", ["supervised", "distiller"])
def test_it_comes_back_from_a_file(examples, mlp, words, kind, tmp_path):
    if kind == "supervised":
        trainer = Supervised(student=mlp(0), teacher_cache="off", name="mine")
    else:
        trainer = kd.Distiller(student=mlp(0), teacher=mlp(1), teacher_cache="off", name="mine")
    trainer.compile(**words)
    trainer.fit(*examples, verbose=0, batch_size=4)
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    assert type(loaded) is type(trainer)
    assert (loaded.name, loaded.teacher_cache) == ("mine", "off")
    assert loaded.get_compile_config() == trainer.get_compile_config()
    config = loaded.get_compile_config()
    assert config["steps_per_execution"] == words.get("steps_per_execution")
    assert config["jit_compile"] == words.get("jit_compile")
    assert loaded.compilation.execution_options() == trainer.compilation.execution_options()
    assert loaded.run_eagerly == words.get("run_eagerly", False)
    for ours, theirs in zip(loaded.variables, trainer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    if kind == "distiller":
        loaded.teacher = mlp(1)
    runs = [t.fit(*examples, verbose=0, batch_size=4, shuffle=False) for t in (trainer, loaded)]
    assert runs[0].history == {n: pytest.approx(v, rel=1e-5) for n, v in runs[1].history.items()}


def test_one_that_was_not_compiled_comes_back_too(mlp, examples, tmp_path):
    trainer = Supervised(student=mlp(0))
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    np.testing.assert_array_equal(loaded(examples[0]), trainer(examples[0]))


def test_teacher_cache_may_be_changed_later(examples):
    keras.utils.set_random_seed(0)
    parts = [layers.Dense(4, trainable=False), layers.Dense(3)]
    trainer = Supervised(student=keras.Sequential([keras.Input((6,)), *parts]))
    trainer.compile("sgd")
    for mode, stored in [("auto", True), ("off", False), ("auto", True)]:
        trainer.teacher_cache = mode
        trainer.fit(*examples, verbose=0)
        assert (trainer.inputs.joined.head is not None) is stored
