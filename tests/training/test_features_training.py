"""Training on the stored features of a frozen part is the ordinary training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.models import freezing
from kd_keras.training.objective import copy_variables
from kd_keras.training.supervised import Supervised

SEEN = {}
ASKED_TWICE = 12  # of the images that are stored: to see that the frozen part repeats itself


@keras.saving.register_keras_serializable("kd_keras_tests")
class Counting(layers.Layer):
    """Counts the images that pass, in the graph; of a backbone, for it has a weight.

    The count is no variable of the layer's: it would be of the fingerprint.
    """

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        SEEN[self.name].assign_add(tf.shape(x)[0])
        return x * self.factor


for own in (Counting, Counting.build, Counting.call):
    own.__module__ = "keras.counting"  # else it might draw random numbers, and nothing were stored


def student(name="count", seed=0, dropout=0.4):
    """A frozen backbone that counts, and a head with dropout."""
    SEEN[name] = tf.Variable(0)
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv")(Counting(name=name)(x))
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(6, activation="tanh", name="hidden")(x)
    x = layers.Dropout(dropout, seed=seed)(x)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(x), name="student")
    for part in (name, "conv", "norm"):
        model.get_layer(part).trainable = False
    SEEN[name].assign(0)
    return model


def teacher():
    keras.utils.set_random_seed(7)
    parts = [layers.Flatten(), layers.Dense(5, name="embedding"), layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 8, 8, 1)).astype("float32"), np.arange(40) % 3


class Hint(kd.methods.KD):
    student_taps = ("logits", "hint")

    def __init__(self, tap="hidden", **kwargs):
        super().__init__(**kwargs)
        self.tap = tap
        self.student_taps = ("logits", tap)

    def call(self, student, teacher, batch, training=False):
        hint = keras.ops.mean(student[self.tap] ** 2, axis=-1)
        return super().call(student, teacher, batch, training=training) + 0.5 * hint


def train(model, mode, data, kind="distiller", **settings):
    method = settings.pop("method", "kd")
    if kind == "distiller":
        trainer = kd.Distiller(student=model, teacher=teacher(), method=method, teacher_cache=mode)
    else:
        trainer = Supervised(student=model, teacher_cache=mode)
    trainer.compile(keras.optimizers.Adam(0.02), metrics=["accuracy"])
    keras.utils.set_random_seed(3)
    settings = {"epochs": 3, "batch_size": 8, "verbose": 0, **settings}
    return trainer, trainer.fit(*data, **settings).history


def same(left, right):
    (ours, history), (theirs, want) = left, right
    assert history == {k: pytest.approx(values, rel=1e-4) for k, values in want.items()}
    for mine, yours in zip(ours.student.weights, theirs.student.weights, strict=True):
        np.testing.assert_allclose(mine, yours, rtol=1e-3, atol=1e-5, err_msg=mine.path)


SETTINGS = {
    "plain": lambda x, y: {},
    "weighted": lambda x, y: {"sample_weight": np.linspace(0.0, 2.0, 40)},
    "held_out": lambda x, y: {"validation_data": (x[:10] + 1.0, y[:10])},
    "held_out_weighted": lambda x, y: {
        "validation_data": (x[:10] + 1.0, y[:10], np.linspace(0.0, 1.0, 10))
    },
    "held_out_dataset": lambda x, y: {
        "validation_data": tf.data.Dataset.from_tensor_slices((x[:10] + 1.0, y[:10])).batch(4)
    },
    "split": lambda x, y: {"validation_split": 0.25, "sample_weight": np.linspace(0.0, 2.0, 40)},
    "by_class": lambda x, y: {"class_weight": {0: 1.0, 1: 0.5, 2: 0.0}},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *(("supervised", name) for name in SETTINGS),
        *(("distiller", name) for name in ("weighted", "held_out", "split")),
    ],
)
def test_stored_and_ordinary_are_the_same_training(data, kind, settings):
    options = SETTINGS[settings](*data)
    runs = [train(student(), mode, data, kind, **options) for mode in ("auto", "off")]
    same(*runs)
    before = student()
    for name, moved in [("conv", False), ("norm", False), ("hidden", True), ("logits", True)]:
        ours, theirs = (m.get_layer(name).weights[0] for m in (runs[0][0].student, before))
        assert (np.abs(np.asarray(ours) - np.asarray(theirs)).max() > 0) == moved


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["distiller", "supervised"])
def test_the_backbone_sees_every_image_once(data, kind):
    x, y = data
    asked = 40 + 10 + 2 * ASKED_TWICE
    held_out = x[:10] + 1.0, y[:10]
    trainer, _ = train(student(), "auto", data, kind, validation_data=held_out)
    assert SEEN["count"].numpy() == asked
    trainer.fit(*data, epochs=2, batch_size=8, verbose=0, validation_data=held_out)
    trainer.fit(*data, epochs=2, batch_size=8, verbose=0, validation_split=0.5)
    assert SEEN["count"].numpy() == asked
    # another trainer of the same model, as in a search over settings
    train(trainer.student, "auto", data, kind)
    assert SEEN["count"].numpy() == asked
    trainer.predict(x, verbose=0)
    trainer.evaluate(x, y, verbose=0)
    assert SEEN["count"].numpy() == asked + 80
    train(student("live"), "off", data, kind)
    assert SEEN["live"].numpy() == 120


@pytest.mark.slow
def test_after_thawing_the_whole_student_is_trained(data):
    runs = []
    for mode in ("auto", "off"):
        trainer, _ = train(student(), mode, data)
        frozen = np.array(trainer.student.get_layer("conv").kernel)
        freezing.unfreeze(trainer.student)
        trainer.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
        keras.utils.set_random_seed(4)
        history = trainer.fit(*data, epochs=2, batch_size=8, verbose=0).history
        assert np.abs(np.array(trainer.student.get_layer("conv").kernel) - frozen).max() > 1e-3
        runs.append((trainer, history))
    same(*runs)


@pytest.mark.slow
def test_frozen_again_after_it_learned_the_features_are_new(data):
    model = student()
    train(model, "auto", data)
    model.get_layer("conv").kernel.assign_add(np.ones((3, 3, 1, 4)))
    twin = student()
    for ours, theirs in zip(twin.weights, model.weights, strict=True):
        ours.assign(theirs)
    copy_variables(model, twin)
    same(train(model, "auto", data), train(twin, "off", data))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tap", "images"),
    [
        ("hidden", 40 + ASKED_TWICE),
        ("embedding", 40 + ASKED_TWICE),
        ("pool", 120),
        ("conv", 120),
    ],
)
def test_a_tap_inside_the_frozen_part_trains_the_ordinary_way(data, tap, images):
    class Deep(Hint):
        def call(self, student, teacher, batch, training=False):
            flat = {**student, tap: layers.Flatten()(student[tap])}
            return super().call(flat, teacher, batch, training=training)

    stored = train(student(), "auto", data, method=Deep(tap))
    assert SEEN["count"].numpy() == images
    same(stored, train(student(), "off", data, method=Deep(tap)))


def test_an_embedding_before_dropout_is_not_taken_for_what_comes_after_it(data):
    """In the head alone, `embedding` would be what enters the last layer."""

    def model():
        keras.utils.set_random_seed(0)
        parts = [layers.Flatten(), layers.Dense(6, name="embedding", trainable=False)]
        parts += [layers.Dropout(0.5, seed=1), layers.Dense(3, name="logits")]
        return keras.Sequential([keras.Input((8, 8, 1)), *parts])

    runs = [train(model(), mode, data, method=Hint("embedding")) for mode in ("auto", "off")]
    same(*runs)


def test_a_dataset_trains_the_ordinary_way(data):
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(8)
    trainer, _ = train(student(), "auto", (dataset,), batch_size=None)
    assert SEEN["count"].numpy() == 120
    # and arrays after it, and a dataset after them
    trainer.fit(*data, batch_size=8, verbose=0)
    assert SEEN["count"].numpy() == 160 + ASKED_TWICE
    trainer.fit(dataset, verbose=0)
    assert SEEN["count"].numpy() == 200 + ASKED_TWICE


def test_a_live_teacher_still_sees_the_images(data):
    """Its logits have no shape that could be stored; the student's features are all the same."""

    class Live(kd.LiveTeacher):
        def __init__(self, model):
            super().__init__(model, ("logits",))
            self.shapes = {"logits": (None, 3), "more": (None, None)}

    runs = []
    for mode in ("auto", "off"):
        trainer = kd.Distiller(student=student(), teacher=Live(teacher()), teacher_cache=mode)
        trainer.compile(keras.optimizers.Adam(0.02))
        keras.utils.set_random_seed(3)
        runs.append((trainer, trainer.fit(*data, epochs=2, batch_size=8, verbose=0).history))
    assert SEEN["count"].numpy() == 80  # of the last, which ran live
    same(*runs)


def test_nothing_is_traced_again_by_a_second_fit(data):
    traces = []

    class Traced(layers.Dense):
        def call(self, x, training=None):
            traces.append(1)
            return super().call(x)

    keras.utils.set_random_seed(0)
    parts = [layers.Conv2D(2, 3, trainable=False), layers.Flatten(), Traced(3, name="logits")]
    trainer = Supervised(student=keras.Sequential([keras.Input((8, 8, 1)), *parts]))
    trainer.compile("sgd")
    settings = {"batch_size": 8, "verbose": 0, "validation_data": data}
    trainer.fit(*data, **settings)
    traces.clear()
    trainer.fit(*data, **settings)
    assert traces == []
