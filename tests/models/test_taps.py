"""Taps: every way to name one, in every kind of model, from a single forward pass."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kd_keras.models import pretrained
from kd_keras.models.taps import FeatureExtractor, input_spec, layer_paths, output_shape

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


def block(name):
    """A nested model, 6 numbers to 5."""
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="inner"), layers.ReLU(name="relu")], name=name
    )


def nested_sequential():
    return keras.Sequential([keras.Input((6,)), block("backbone"), layers.Dense(3, name="logits")])


def nested_functional():
    inputs = keras.Input((6,))
    deep = keras.Sequential([keras.Input((6,)), block("backbone")], name="outer")
    return keras.Model(inputs, layers.Dense(3, name="logits")(deep(inputs)))


class Subclassed(keras.Model):
    """No graph to look at: only running it tells what happens."""

    def __init__(self):
        super().__init__()
        self.backbone = block("backbone")
        self.classify = layers.Dense(3, name="logits")

    def call(self, x):
        return self.classify(self.backbone(x))


def subclassed():
    model = Subclassed()
    model(X)
    return model


KINDS = [
    (nested_sequential, "backbone"),
    (nested_functional, "outer/backbone"),
    (subclassed, "backbone"),
]
every_kind = pytest.mark.parametrize(("make", "path"), KINDS, ids=["seq", "functional", "sub"])


def untouched(model):
    return all("call" not in vars(layer) for layer in model._flatten_layers())


@every_kind
def test_a_path_reaches_into_a_nested_model(make, path):
    model = make()
    view = FeatureExtractor(model, (f"{path}/inner", "logits"))
    backbone = model
    for name in path.split("/"):
        backbone = backbone.get_layer(name)
    got = view(X)
    np.testing.assert_allclose(got[f"{path}/inner"], backbone.get_layer("inner")(X), rtol=1e-6)
    np.testing.assert_allclose(got["logits"], model(X), rtol=1e-6)
    assert view.shapes == {f"{path}/inner": (None, 5), "logits": (None, 3)}


@every_kind
def test_the_embedding_is_what_enters_the_head(make, path):
    model = make()
    view = FeatureExtractor(model, ("embedding", "logits"))
    got = view(X)
    np.testing.assert_allclose(
        got["embedding"],
        np.maximum(FeatureExtractor(model, (f"{path}/inner",))(X)[f"{path}/inner"], 0),
    )
    kernel, bias = (np.asarray(v) for v in model.get_layer("logits").weights)
    np.testing.assert_allclose(
        np.asarray(got["embedding"]) @ kernel + bias, got["logits"], rtol=1e-5
    )
    assert view.shapes["embedding"] == (None, 5)


@every_kind
def test_it_works_in_a_graph_and_leaves_the_layers_as_they_were(make, path):
    model = make()
    view = FeatureExtractor(model, (f"{path}/inner", "embedding", "logits"))
    assert untouched(model)
    graph = tf.function(lambda x: view(x, training=True))
    for tap, tensor in graph(X).items():
        np.testing.assert_allclose(tensor, view(X)[tap], rtol=1e-5)
    assert untouched(model)


@every_kind
def test_paths_are_listed_and_the_nearest_is_named(make, path):
    model = make()
    assert f"{path}/inner" in layer_paths(model)
    assert all(FeatureExtractor(model, (each,)).shapes[each] for each in layer_paths(model))
    with pytest.raises(ValueError, match="has no tap 'inner'") as caught:
        FeatureExtractor(model, ("inner",))
    assert f"Nearest: {path}/inner." in str(caught.value)
    with pytest.raises(ValueError, match="has no tap") as caught:
        FeatureExtractor(model, (f"{path}/iner",))
    assert f"{path}/inner" in str(caught.value)


def test_a_layer_of_a_flat_model_is_named_plainly(mlp):
    model = mlp()
    got = FeatureExtractor(model, ("embedding",))(X)
    assert set(got) == {"embedding"}
    np.testing.assert_array_equal(got["embedding"], model.get_layer("embedding")(X))


def test_a_meaning_is_looked_up_in_the_models_table(built):
    model = built("mobilenetv2")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("float32")
    view = FeatureExtractor(model, ("stage2", "embedding", "logits"))
    got = view(images)
    by_keras = keras.Model(model.input, model.get_layer("block_5_add").output)
    np.testing.assert_allclose(
        got["stage2"], by_keras(images, training=False), rtol=1e-4, atol=1e-5
    )
    assert view.shapes["stage2"] == (None, 12, 12, 32)
    assert view.shapes["embedding"] == (None, 1280)


def test_a_meaning_of_a_nested_backbone_is_reached_by_its_layers_path():
    backbone = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35)
    model = keras.Sequential([keras.Input((32, 32, 3)), backbone])
    path = "mobilenetv2/block_5_add"
    assert FeatureExtractor(model, (path,)).shapes == {path: (None, 4, 4, 16)}


def test_names_that_begin_alike_do_not_hide_each_other():
    outer = keras.Sequential([keras.Input((6,)), block("block"), layers.Dense(3, name="logits")])
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, name="block"), outer])
    path = f"{outer.name}/block/inner"
    assert FeatureExtractor(inner, (path, "block")).shapes == {path: (None, 5), "block": (None, 6)}


class Counting(layers.Layer):
    """Counts how often Python runs its `call`."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def test_all_taps_come_from_one_forward_pass():
    count = Counting(name="count")
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="a"), count, layers.Dense(3, name="logits")]
    )
    view = FeatureExtractor(model, ("a", "count", "embedding", "logits"))
    before = count.calls
    view(X)
    assert count.calls == before + 1


def test_training_reaches_the_model(forgetful):
    model = forgetful()
    view = FeatureExtractor(model, ("embedding", "logits"))
    mean = np.array(model.layers[1].moving_mean)
    view(X)
    np.testing.assert_array_equal(model.layers[1].moving_mean, mean)
    view(X, training=True)
    assert not np.array_equal(model.layers[1].moving_mean, mean)


def test_gradients_flow_through_a_tap(mlp):
    model = mlp()
    view = FeatureExtractor(model, ("embedding", "logits"))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(view(X)["embedding"])
    kernel = model.get_layer("embedding").kernel
    hidden = np.tanh(X @ np.asarray(kernel))
    np.testing.assert_allclose(
        tape.gradient(total, kernel.value), X.T @ (1 - hidden**2), rtol=1e-4, atol=1e-5
    )


def test_a_layer_that_runs_twice_is_refused():
    inputs = keras.Input((6,))
    twice = layers.Dense(6, name="twice")
    model = keras.Model(inputs, layers.Dense(3, name="logits")(twice(twice(inputs))))
    with pytest.raises(ValueError, match=r"must run exactly once.*it ran 2 times"):
        FeatureExtractor(model, ("twice", "logits"))
    assert untouched(model)


def test_a_layer_that_never_runs_is_refused():
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.idle, self.classify = layers.ReLU(name="idle"), layers.Dense(3, name="logits")

        def call(self, x):
            return self.classify(x)

    model = Lazy()
    model(X)
    with pytest.raises(ValueError, match=r"must run exactly once.*it ran 0 times"):
        FeatureExtractor(model, ("idle",))


def test_a_failing_forward_pass_leaves_the_layers_as_they_were(mlp):
    model = mlp()
    view = FeatureExtractor(model, ("embedding", "logits"))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        view(np.zeros((2, 7), "float32"))
    assert untouched(model)
    assert view(X)["logits"].shape == (4, 3)


def test_threads_that_overlap_see_only_their_own():
    """Replicas trace the same layers at once; a barrier inside the model makes them meet."""
    barrier = threading.Barrier(2, timeout=20)

    class Meet(layers.Layer):
        def call(self, x):
            if armed:
                barrier.wait()
            return x

    armed = False
    model = keras.Sequential(
        [keras.Input((6,)), Meet(), layers.Dense(5, name="a"), Meet(), layers.Dense(3)]
    )
    views = [
        FeatureExtractor(model, ("a", "logits")),
        FeatureExtractor(model, ("a", "embedding", "logits")),
    ]
    inputs = [X, 2 * X]
    wanted = [view(x) for view, x in zip(views, inputs, strict=True)]
    armed, got = True, [None, None]

    def run(k):
        got[k] = views[k](inputs[k])

    threads = [threading.Thread(target=run, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, want in zip(got, wanted, strict=True):
        assert set(result) == set(want)
        for tap in want:
            np.testing.assert_array_equal(result[tap], want[tap])
    assert untouched(model)


def test_several_inputs_keep_their_structure():
    inputs = {"left": keras.Input((6,), name="left"), "right": keras.Input((6,), name="right")}
    both = layers.Concatenate(name="both")([inputs["left"], inputs["right"]])
    model = keras.Model(inputs, layers.Dense(3, name="logits")(both))
    assert set(input_spec(model)) == {"left", "right"}
    view = FeatureExtractor(model, ("both", "embedding", "logits"))
    assert view.shapes == {"both": (None, 12), "embedding": (None, 12), "logits": (None, 3)}
    got = view({"left": X, "right": 2 * X})
    np.testing.assert_array_equal(got["both"], np.concatenate([X, 2 * X], axis=1))


def test_shapes_of_a_model_that_keeps_its_secrets_are_found_by_tracing():
    assert output_shape(subclassed()) == (None, 3)
    assert input_spec(subclassed()).shape.as_list() == [None, 6]


def test_a_model_that_was_never_called_is_refused():
    for model in (keras.Sequential([layers.Dense(3)]), Subclassed()):
        with pytest.raises(ValueError, match="Call the model once on a batch of images"):
            FeatureExtractor(model, ("logits",))
