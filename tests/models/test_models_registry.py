"""The registry; `test_every_model.py` has what every model in it must do."""

import re

import numpy as np
import pytest

from kd_keras import models
from kd_keras.models.backbones import BACKBONES

rng = np.random.default_rng(0)


def pixels(model):
    return rng.integers(0, 256, size=(2, *model.input_shape[1:]), dtype=np.uint8)


# of the large backbones the smaller ones: all have the same head
SMALL = [name for name in models.names() if name not in BACKBONES]


@pytest.mark.usefixtures("mixed_float16")
@pytest.mark.parametrize(
    "name",
    [
        *SMALL,
        *("mobilenetv2", "mobilenetv3small"),
        pytest.param("efficientnet_lite0", marks=pytest.mark.slow),
    ],
)
def test_half_precision_gives_float32_logits(name):
    shape = (32, 32, 3) if name in BACKBONES else (8, 8, 1)
    model = models.build(name, input_shape=shape, classes=3)
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
