"""The registry, and what every model in it must do."""

import re

import keras
import numpy as np
import pytest

from kd_keras import models
from kd_keras.models.backbones import BACKBONES, TAPS

rng = np.random.default_rng(0)


def pixels(model):
    return rng.integers(0, 256, size=(2, *model.input_shape[1:]), dtype=np.uint8)


@pytest.mark.slow
def test_takes_uint8_or_float_pixels_and_gives_logits_of_its_embedding(built, model_name):
    model = built(model_name)
    head = model.get_layer("logits")
    both = keras.Model(model.input, [head.input, head.output])
    images = pixels(model)
    embedding, logits = both(images)
    assert tuple(logits.shape) == (2, 3)
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()
    assert not np.allclose(np.sum(logits, axis=-1), 1.0)
    assert head.activation is keras.activations.linear
    assert head.output is model.output
    kernel, bias = head.get_weights()
    np.testing.assert_allclose(embedding @ kernel + bias, logits, rtol=1e-4, atol=1e-5)
    entering = model.get_layer("embedding").output
    assert head.input is entering or model.get_layer("embedding_dropout").input is entering
    np.testing.assert_array_equal(model(images.astype("float32")), logits)


def test_is_flat_and_carries_its_name(built, model_name):
    model = built(model_name)
    assert model.name == model_name
    assert not [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def test_every_row_of_taps_names_layers(built, backbone_name):
    _check_row_of_taps(built(backbone_name), backbone_name)


@pytest.mark.slow
def test_the_row_of_a_deeper_network_names_layers_too(built):
    _check_row_of_taps(built("resnet101v2"), "resnet101v2")


def _check_row_of_taps(model, backbone_name):
    for layer in TAPS[backbone_name].values():
        assert model.get_layer(layer) in model.layers


@pytest.mark.usefixtures("mixed_float16")
def test_half_precision_gives_float32_logits(model_name):
    shape = (96, 96, 3) if model_name in BACKBONES else (8, 8, 1)
    model = models.build(model_name, input_shape=shape, classes=3)
    logits = model(pixels(model))
    assert logits.dtype == "float32"
    assert model.get_layer("embedding").compute_dtype == "float16"
    assert np.isfinite(logits).all()


def test_names_are_those_of_the_registry():
    assert models.names() == tuple(models.MODELS)
    assert set(BACKBONES) < set(models.MODELS)


MLP = {"dropout": 0.0, "input_dropout": 0.0, "max_norm": None}


def test_knobs_reach_the_model():
    assert models.knobs("mlp") == {"hidden": (784, 784), **MLP}
    assert models.knobs("mobilenetv2") == {"width": 1.0, "dropout": 0.0}
    assert models.knobs("lenet5") == {}
    model = models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=[16])
    assert model.count_params() == 64 * 16 + 16 + 16 * 10 + 10


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mobilnetv2", {}, "Unknown model 'mobilnetv2'. Did you mean 'mobilenetv2'?"),
        ("mlp", {"hiden": (3,)}, "mlp: Unknown knob 'hiden'. Did you mean 'hidden'?"),
        ("mlp", {"width": 2}, "Known: dropout, hidden, input_dropout, max_norm. Received"),
        ("resnet50v2", {"width": 2}, "resnet50v2: Unknown knob 'width'."),
        ("lenet5", {"width": 2}, "lenet5: It has no knobs. Received: width=2"),
        ("cnn", {"weights": "imagenet"}, "cnn has no pretrained weights; those with weights are"),
        ("mlp", {"input_shape": (8, 8)}, "three positive integers. Received: input_shape=(8, 8)"),
        ("mlp", {"input_shape": (8, 8, 0)}, "`input_shape` must be (height, width, channels)"),
        ("mlp", {"input_shape": (None, 8, 1)}, "`input_shape` must be"),
        ("mlp", {"input_shape": 8}, "`input_shape` must be"),
        ("mlp", {"input_shape": (8, 8, True)}, "`input_shape` must be"),
        ("mlp", {"classes": 1}, "at least 2. Received: classes=1"),
        ("mobilenetv2", {"classes": 2.5}, "at least 2. Received: classes=2.5"),
    ],
)
def test_wrong_arguments_are_named(name, settings, message):
    settings = {"input_shape": (32, 32, 3), "classes": 2, **settings}
    with pytest.raises(ValueError, match=re.escape(message)):
        models.build(name, **settings)
