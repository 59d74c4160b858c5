"""Where a model is cut: its frozen part, and what is trained."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.models import freezing
from kd_keras.training import features


@keras.saving.register_keras_serializable("kd_keras_tests")
class Noisy(layers.Layer):
    """Without weights, and with a randomness that nobody can see from outside."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class NoisyDense(layers.Dense):
    """A user's own kind of a layer of Keras', with weights."""

    def call(self, x):
        return super().call(x) + keras.random.normal((1,))


class Own(layers.Layer):
    def call(self, x):
        return x

    def compute_output_shape(self, shape):
        return shape


def noisy(x):
    return x + keras.random.normal((1,))


def stack(*parts, shape=(8, 8, 3)):
    """A functional model of layers one after the other, with three logits at its end."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    for part in parts:
        x = part(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x), name="stack")


def conv(name, **settings):
    return layers.Conv2D(4, 3, name=name, **{"trainable": False, **settings})


def pool():
    return layers.GlobalAveragePooling2D(name="pool")


def images(shape=(8, 8, 3), count=5):
    return np.random.default_rng(0).uniform(0, 255, (count, *shape)).astype("float32")


def ends_at(model):
    """The name of the layer whose output leaves the frozen part."""
    halves = features.cut(model)
    return None if halves is None else halves.trunk.outputs[0]._keras_history.operation.name


def check(model):
    """The halves in a row are the model; twice cut gives the same."""
    halves = features.cut(model)
    assert features.cut(model) is halves
    x = images(model.input_shape[1:])
    together = halves.head(halves.trunk(x, training=True), training=False)
    np.testing.assert_allclose(together, model(x, training=False), rtol=1e-5, atol=1e-5)
    assert halves.trunk.trainable_variables == []
    ids = [{id(v) for v in m.trainable_variables} for m in (halves.head, model)]
    assert ids[0] == ids[1]
    return halves


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2", "mobilenetv3small"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_frozen_backbone_ends_in_its_embedding(name, dropout):
    model = kd.models.build(name, input_shape=(32, 32, 3), classes=4, dropout=dropout)
    assert features.cut(model) is None
    freezing.freeze(model)
    halves = check(model)
    assert halves.trunk.output_shape[0] is None
    assert len(halves.trunk.output_shape) == 2
    assert [v.shape for v in halves.head.trainable_variables][-1] == (4,)
    freezing.unfreeze(model, 1)
    assert features.cut(model) is not halves
    freezing.unfreeze(model)
    assert features.cut(model) is None


def test_a_nested_backbone_is_one_layer():
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv("a"), conv("b"), pool()], name="inner")
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), inner])
    model.add(layers.Dense(3, name="logits"))
    inner.trainable = False
    check(model)
    assert ends_at(model) == "inner"
    inner.trainable = True
    assert ends_at(model) is None
    for layer in inner.layers[:-2]:
        layer.trainable = False
    assert ends_at(model) is None  # partly frozen: it is not cut inside


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        (lambda: [conv("a"), conv("b"), pool()], "pool"),
        (lambda: [layers.Rescaling(2.0), conv("a"), conv("b", trainable=True), pool()], "a"),
        (lambda: [conv("a", trainable=True), conv("b"), pool()], None),
        (lambda: [pool()], None),  # nothing frozen has weights
        (lambda: [conv("a"), layers.BatchNormalization(trainable=False), pool()], "pool"),
        (lambda: [conv("a"), layers.BatchNormalization(), pool()], "a"),
        (lambda: [conv("a"), layers.Dropout(0.5), conv("b"), pool()], "a"),
        (lambda: [conv("a"), layers.GaussianNoise(0.5), conv("b"), pool()], "a"),
        (lambda: [layers.RandomFlip(), conv("a"), pool()], None),
        (lambda: [conv("a"), conv("b", activity_regularizer="l2"), pool()], "a"),
        (lambda: [conv("a"), layers.ActivityRegularization(0.1), pool()], "a"),
        (lambda: [conv("a"), Noisy(), pool()], "a"),
        (lambda: [Noisy(), conv("a"), pool()], None),
        (lambda: [conv("a"), layers.Lambda(lambda x: x), pool()], "a"),
        (lambda: [conv("a"), NoisyDense(4, trainable=False), pool()], "a"),
        (lambda: [conv("a"), conv("b", activation=noisy), pool()], "a"),
        (lambda: [conv("a"), conv("b", activation=layers.GaussianNoise(0.5)), pool()], "a"),
        (lambda: [conv("a"), conv("b", activation=keras.activations.relu), pool()], "pool"),
        (lambda: [conv("a"), layers.TimeDistributed(Own()), pool()], "a"),
        (lambda: [conv("a"), layers.SpectralNormalization(conv("b")), pool()], "a"),
        (lambda: [conv("a"), conv("b", kernel_regularizer="l2"), pool()], "pool"),
    ],
)
def test_where_the_frozen_part_ends(parts, place):
    model = stack(*parts())
    assert ends_at(model) == place
    x = images(model.input_shape[1:])
    if place is not None and np.array_equal(model(x), model(x)):  # not random
        check(model)


def test_dropout_inside_a_frozen_nested_part_is_not_frozen():
    inner = keras.Sequential([keras.Input((8, 8, 3)), conv("a"), layers.Dropout(0.5), pool()])
    inner.trainable = False
    assert ends_at(stack(inner)) is None


def test_nothing_is_trained_where_all_is_frozen():
    model = stack(conv("a"), pool())
    model.get_layer("logits").trainable = False
    assert features.cut(model) is None


def test_a_layer_that_is_used_twice_has_no_one_place():
    shared = layers.Dense(4, trainable=False)
    x = inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(shared(shared(x))))
    assert features.cut(model) is None


def test_two_tensors_that_leave_are_not_cut():
    inputs = keras.Input((8, 8, 3))
    a = conv("a", padding="same")(inputs)
    b = conv("b", padding="same")(a)
    sides = [layers.Dense(3)(layers.GlobalAveragePooling2D()(x)) for x in (a, b)]
    two = keras.Model(inputs, layers.Add()(sides))
    assert features.cut(two) is None
    pooled = pool()(b)
    check(keras.Model(inputs, layers.Add()([layers.Dense(3)(pooled) for _ in range(2)])))


def test_operations_of_keras_are_of_the_frozen_part():
    inputs = keras.Input((8, 8, 3))
    pooled = pool()(conv("a")(inputs / 255.0) + 3.0)
    model = keras.Model(inputs, layers.Dense(3, name="logits")(keras.ops.relu(pooled)))
    check(model)


def test_a_subclassed_model_is_not_cut():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.pool, self.logits = conv("a"), pool(), layers.Dense(3)

        def call(self, x):
            return self.logits(self.pool(self.a(x)))

    model = Own()
    model(images())
    assert features.cut(model) is None
    inner = stack(conv("a"), pool())
    inner.trainable = False

    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x) + keras.random.normal((1, 3))

    around = Around()
    around(images())
    assert features.cut(stack(around)) is None  # its code may do anything


def test_a_cut_model_is_saved_loaded_and_exported_as_before(tmp_path):
    model = stack(conv("a"), layers.BatchNormalization(trainable=False), pool())
    x = images()
    want = model(x, training=False)
    size = len(model.to_json())
    for _ in range(2):
        features.cut(model)
    assert len(model.to_json()) == size
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x, training=False), want)
    check(loaded)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(served.serve(x), want, rtol=1e-4, atol=1e-5)


def test_the_halves_go_with_their_model():
    model = stack(conv("a"), pool())
    features.cut(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
