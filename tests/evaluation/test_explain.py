"""Maps of what a model looks at: against the equations, by invariance, and where they are known."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd
from kd_keras.evaluation import explain

SIZE = 6


def images(count=3, channels=2, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, SIZE, SIZE, channels))


def small(seed=0, shift=0.0, classes=3):
    """A convolution with ReLU, a mean over its maps, and logits."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 2))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="stage1")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(5, activation="tanh", name="embedding")(x)
    logits = layers.Dense(classes, name="logits")
    model = keras.Model(inputs, logits(x), name="small")
    logits.bias.assign(logits.bias + shift)
    return model


def enlarged(small, size):
    """Bilinear interpolation between the centres of the pixels, flat beyond the outermost."""
    big = np.zeros((size, size))
    ratio = len(small) / size
    for i in range(size):
        for j in range(size):
            y, x = (min(max((k + 0.5) * ratio - 0.5, 0), len(small) - 1) for k in (i, j))
            top, left = int(y), int(x)
            bottom, right = (min(k + 1, len(small) - 1) for k in (top, left))
            v, u = y - top, x - left
            big[i, j] = (
                small[top, left] * (1 - v) * (1 - u)
                + small[top, right] * (1 - v) * u
                + small[bottom, left] * v * (1 - u)
                + small[bottom, right] * v * u
            )
    return big


def slow_gradcam(model, image, label):
    """Equations 1 and 2 for `small`, with the gradient of its head written out."""
    maps = keras.Model(model.input, model.get_layer("stage1").output)(image[None])[0].numpy()
    kernel, bias = model.get_layer("embedding").get_weights()
    out, _ = model.get_layer("logits").get_weights()
    hidden = np.tanh(maps.reshape(-1) @ kernel + bias)
    gradient = (kernel @ ((1 - hidden**2) * out[:, label])).reshape(maps.shape)
    total = np.zeros(maps.shape[:2])
    for k in range(maps.shape[2]):
        weight = sum(gradient[i, j, k] for i in range(3) for j in range(3)) / 9
        total += weight * maps[..., k]
    big = enlarged(np.maximum(total, 0), SIZE)
    return big / big.max() if big.max() > 0 else big


# --- Grad-CAM ---


def test_gradcam_is_that_of_the_equations():
    model, x = small(), images()
    found = [explain.gradcam(model, x, label) for label in range(3)]
    want = [[slow_gradcam(model, image, label) for image in x] for label in range(3)]
    assert sum(one.max() == 1 for of_class in want for one in of_class) > 3  # not all are zero
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_the_class_is_the_predicted_one_or_the_one_that_is_given():
    model, x = small(), images(8)
    found = explain.explain(model, x)
    logits = model.predict(x, verbose=0)
    np.testing.assert_array_equal(found.classes, logits.argmax(axis=1))
    np.testing.assert_allclose(found.logits, logits, rtol=1e-5)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, shares.max(axis=1), rtol=1e-5)
    each = np.arange(8) % 3
    own = explain.explain(model, x, each)
    np.testing.assert_array_equal(own.classes, each)
    for k in range(3):
        of_class = explain.gradcam(model, x[each == k], k)
        np.testing.assert_allclose(own.maps[each == k], of_class, atol=1e-6)


def test_a_constant_on_the_logits_and_the_size_of_the_batches_change_nothing():
    x = images(5)
    want = explain.gradcam(small(), x)
    np.testing.assert_allclose(explain.gradcam(small(shift=7.0), x), want, atol=1e-5)
    np.testing.assert_allclose(explain.gradcam(small(), x, batch_size=2), want, atol=1e-5)


def spot(wanted):
    """A model whose logit 1 is the mean brightness, but negative for `wanted=-1`."""
    inputs = keras.Input((16, 16, 1))
    conv = layers.Conv2D(1, 1, use_bias=False, name="stage1")
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(conv(inputs)))
    logits = layers.Dense(2, name="logits")
    model = keras.Model(inputs, logits(x))
    conv.set_weights([np.full((1, 1, 1, 1), 1 / 255)])
    logits.set_weights([np.array([[0.0, wanted]]), np.zeros(2)])
    return model


def test_evidence_at_one_place_is_found_there_and_a_map_without_any_stays_zero():
    x = np.zeros((2, 16, 16, 1))
    x[0, 3, 11], x[1, 12, 2] = 255, 255
    found = explain.explain(spot(1.0), x, 1)
    places = [np.unravel_index(one.argmax(), one.shape) for one in found.maps]
    assert places == [(3, 11), (12, 2)]
    assert not found.empty.any()
    against = explain.explain(spot(-1.0), x, 1)
    assert against.empty.all()
    np.testing.assert_array_equal(against.maps, 0.0)


def test_a_layer_inside_a_nested_backbone_is_found_even_if_it_is_frozen():
    keras.utils.set_random_seed(1)
    backbone = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 2)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, 3, padding="same", activation="relu", name="deep"),
        ],
        name="backbone",
    )
    parts = [keras.Input((SIZE, SIZE, 2)), backbone, layers.GlobalAveragePooling2D()]
    model = keras.Sequential([*parts, layers.Dense(3)])
    model.trainable = False
    x = images()
    found = explain.explain(model, x, 2)
    assert (found.method, found.tap) == (explain.GRADCAM, explain.map_tap(model))
    maps = backbone(x).numpy()  # after global pooling the weights of eq. 1 are those of the head
    small = np.maximum(maps @ model.layers[-1].get_weights()[0][:, 2], 0)
    want = np.stack([enlarged(one, SIZE) for one in small])
    want /= np.maximum(want.max(axis=(1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(found.maps, want, atol=1e-5)
    by_path = explain.gradcam(model, x, 2, tap="backbone/deep")
    np.testing.assert_allclose(by_path, found.maps, atol=1e-6)


class Custom(keras.Model):
    """A subclassed model, whose layers are known when it runs."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(3, 3, padding="same", activation="relu")
        self.head = layers.Dense(3)

    def call(self, images, training=False):
        return {"logits": self.head(keras.ops.mean(self.conv(images), axis=(1, 2)))}


def test_a_subclassed_model_that_returns_a_dict_has_maps_too():
    model, x = Custom(), images()
    model(x)
    small = np.maximum(model.conv(x).numpy() @ model.head.get_weights()[0][:, 1], 0)
    want = small / np.maximum(small.max(axis=(1, 2), keepdims=True), 1e-30)
    np.testing.assert_allclose(explain.gradcam(model, x, 1), want, atol=1e-5)


# --- gradients at the input ---


def linear(channels=2):
    model = keras.Sequential(
        [keras.Input((SIZE, SIZE, channels)), layers.Flatten(), layers.Dense(3)]
    )
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(size=(SIZE * SIZE * channels, 3)), np.zeros(3)])
    return model


def test_input_gradients_of_a_linear_model_are_its_weights():
    model, x = linear(), images()
    found = explain.explain(model, x, 2)
    assert (found.method, found.tap) == (explain.INPUT_GRADIENTS, None)
    assert "no layer of feature maps" in found.reason
    kernel = np.abs(model.get_weights()[0][:, 2]).reshape(SIZE, SIZE, 2).max(axis=-1)
    np.testing.assert_allclose(found.maps, [kernel / kernel.max()] * 3, rtol=1e-5)


def test_maps_can_be_input_gradients_of_a_convolutional_model_too():
    found = explain.explain(small(), images(), method="gradients")
    assert found.reason == "Input gradients: as requested."
    assert found.maps.shape == (3, SIZE, SIZE)


def test_an_ensemble_has_no_last_maps_and_says_so():
    one = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=3)
    joined = kd.models.ensemble([one, kd.models.build("mlp", input_shape=(8, 8, 1), classes=3)])
    found = explain.explain(joined, np.ones((1, 8, 8, 1)))
    assert found.method == explain.INPUT_GRADIENTS
    assert "combine several layers' outputs" in found.reason


def test_bytes_as_the_models_input_are_refused_for_gradients_alone():
    inputs = keras.Input((SIZE, SIZE, 2), dtype="uint8")
    x = layers.Conv2D(3, 3, name="stage1")(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    pixels = images().astype("uint8")
    assert explain.gradcam(model, pixels).shape == (3, SIZE, SIZE)
    with pytest.raises(ValueError, match=r"floating-point images\. Received: .* takes uint8"):
        explain.input_gradients(model, pixels)


# --- refusals ---


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"method": "cam"}, "Unknown method 'cam'"),
        ({"classes": 3}, "`classes` must be one class, or one for each of the 3 images"),
        ({"classes": [0, 1]}, "whole numbers from 0 to 2"),
        ({"classes": 0.5}, "whole numbers"),
        ({"tap": "stage9"}, "has no tap 'stage9'"),
        ({"tap": "embedding"}, "must hold feature maps.*'embedding'.*of shape"),
        ({"batch_size": 0}, "`batch_size` must be a positive whole number"),
        ({"images": np.zeros((3, 4, 4, 2))}, "`images` must be at least one image"),
        ({"images": np.zeros((0, SIZE, SIZE, 2))}, "`images` must be at least one image"),
        ({"images": np.full((1, SIZE, SIZE, 2), np.nan)}, "must be finite"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(how, said):
    with pytest.raises(ValueError, match=said):
        explain.explain(small(), **{"images": images(), **how})


def test_probabilities_and_models_without_maps_are_refused():
    model = small()
    soft = keras.Sequential([model, layers.Softmax()])
    with pytest.raises(ValueError, match="returns probabilities"):
        explain.explain(soft, images())
    with pytest.raises(ValueError, match="Grad-CAM needs a layer of feature maps"):
        explain.gradcam(linear(), images())


# --- numbers about maps ---


def test_correlation_is_pearsons():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 7, 5, 4))
    want = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(explain.correlation(one, other), want)
    np.testing.assert_allclose(explain.correlation(one, one), 1.0)
    np.testing.assert_allclose(explain.correlation(one, 2 - 3 * one), -1.0)


def test_a_constant_map_has_no_correlation_and_is_left_out_of_the_mean():
    maps = np.random.default_rng(0).random((6, 4, 4))
    other = maps.copy()
    other[0], other[1] = 0.0, 0.3
    found = explain.similarity(maps, other)
    assert np.isnan(found["by_image"]).tolist() == [True, True, *[False] * 4]
    assert (found["mean"], found["images"], found["undefined"]) == (pytest.approx(1.0), 4, 2)
    none = explain.similarity(maps, np.zeros_like(maps))
    assert (none["mean"], none["interval"], none["undefined"]) == (None, None, 6)
    with pytest.raises(ValueError, match="maps of the same images"):
        explain.correlation(maps, maps[:3])


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = explain.mean_over_images(values)
    half = 1.96 * values.std() / 20
    want = [values.mean() - half, values.mean() + half]
    np.testing.assert_allclose(found["interval"], want, atol=0.02)
    assert explain.mean_over_images(values) == found
    assert explain.mean_over_images([0.5])["interval"] is None


def test_pointing_counts_ties_by_their_share_and_leaves_out_empty_masks():
    maps = np.zeros((4, 2, 2))
    maps[0, 0, 0] = 1.0
    maps[1, 0] = 1.0  # two maxima, one of them inside
    maps[3, 1, 1] = 1.0  # maps[2] points nowhere
    masks = np.zeros((4, 2, 2), bool)
    masks[:3, 0, 0] = True
    found = explain.pointing(maps, masks)
    np.testing.assert_array_equal(found["by_image"], [1.0, 0.5, 0.0, np.nan])
    assert (found["mean"], found["undefined"], found["chance"]) == (0.5, 1, 0.25)
    with pytest.raises(ValueError, match="`masks` must have the shape of `maps`"):
        explain.pointing(maps, masks[:, :1])


def test_a_drawing_is_what_is_brighter_than_a_share():
    x = np.zeros((1, 2, 2, 3), "uint8")
    x[0, 0, 0, 1], x[0, 1, 1, 2] = 64, 63
    np.testing.assert_array_equal(explain.drawn(x)[0], [[True, False], [False, False]])
    with pytest.raises(ValueError, match="`threshold`"):
        explain.drawn(x, 2.0)
