"""The teacher in bfloat16: the same weights, answers within what is stated, nothing left behind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.models import precision


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)).astype("uint8")


def test_layers_compute_in_bfloat16_within_the_block_alone(model, images):
    before = model(images).numpy()
    with precision.computing(model, "bfloat16"):
        assert model.get_layer("embedding").compute_dtype == "bfloat16"
        assert model.get_layer("logits").compute_dtype == "float32"
        rounded = model(images).numpy()
    assert 0 < np.abs(rounded - before).max() < 0.05 * np.ptp(before)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    np.testing.assert_array_equal(model(images).numpy(), before)


def test_float32_changes_nothing(model, images):
    with precision.computing(model, "float32"):
        assert model.get_layer("embedding").compute_dtype == "float32"


def test_the_policies_are_back_after_an_error(model):
    with pytest.raises(RuntimeError, match="inside"), precision.computing(model, "bfloat16"):
        raise RuntimeError("inside")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(ValueError, match=r"Unknown precision .bf16.*bfloat16"):
        kd.LiveTeacher(model, precision="bf16")


def test_a_rounded_teacher_sees_the_weights_as_they_are_now(images):
    model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    source = kd.LiveTeacher(model, precision="bfloat16")
    graph = tf.function(source)
    before = graph({"image": images})["logits"].numpy()
    model.get_layer("logits").bias.assign(np.full(10, 7.0))
    after = graph({"image": images})["logits"].numpy()
    np.testing.assert_allclose(after - before, 7.0, atol=1e-4)


def test_rows_of_the_precisions_are_kept_apart(model, images):
    exact, rounded = kd.LiveTeacher(model), kd.LiveTeacher(model, precision="bfloat16")
    assert exact.fingerprint() != rounded.fingerprint()
    stored = [kd.cache.rows(source, images)["logits"] for source in (exact, rounded)]
    assert 0 < np.abs(stored[0] - stored[1]).max() < 0.05 * np.ptp(stored[0])


def test_a_nested_backbone_is_rounded_too(images):
    inner = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    outer = keras.Sequential([keras.Input((8, 8, 1)), inner, keras.layers.Dense(3, name="out")])
    with precision.computing(outer, "bfloat16"):
        assert inner.get_layer("embedding").compute_dtype == "bfloat16"
        assert outer.layers[-1].compute_dtype == "float32"


def test_what_is_chosen_follows_from_what_was_measured(model, images):
    verdict = precision.measure(model, images)
    gain = verdict.seconds["float32"] / verdict.seconds["bfloat16"]
    good = gain >= precision.GAIN and verdict.difference <= precision.TOLERANCE
    assert verdict.chosen == ("bfloat16" if good else "float32")
    assert 0 < verdict.difference < 0.01
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_probabilities_that_move_too_far_keep_float32(images):
    keras.utils.set_random_seed(0)
    model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10)
    head = model.get_layer("logits")
    head.kernel.assign(head.kernel * 200.0)  # logits so large that rounding shows
    verdict = precision.measure(model, images)
    assert verdict.difference > precision.TOLERANCE
    assert verdict.chosen == "float32"
