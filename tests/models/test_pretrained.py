"""Backbones: their arguments; `test_every_model.py` compares them with the stock models."""

import re

import keras
import numpy as np
import pytest

from kd_keras.models import pretrained
from kd_keras.models.backbones import BACKBONES

rng = np.random.default_rng(0)


def stock(name, size=96, **settings):
    return BACKBONES[name].constructor(input_shape=(size, size, 3), pooling="avg", **settings)


def embedding(model):
    return keras.Model(model.input, model.get_layer("embedding").output)


def pixels(size=96, channels=3):
    return rng.integers(0, 256, size=(2, size, size, channels)).astype("float32")


def test_grey_is_repeated_to_three_channels():
    grey = pretrained.mobilenetv2((32, 32, 1), 2, width=0.35)
    colour = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35)
    colour.set_weights(grey.get_weights())
    images = pixels(32, channels=1)
    np.testing.assert_allclose(grey(images), colour(np.repeat(images, 3, axis=-1)), rtol=1e-5)


def test_width_scales_the_backbone():
    half = pretrained.mobilenetv2((32, 32, 3), 2, width=0.5)
    assert embedding(half).count_params() == stock("mobilenetv2", 32, alpha=0.5).count_params()


def test_dropout_lies_between_embedding_and_logits():
    model = pretrained.mobilenetv2((32, 32, 3), 2, width=0.35, dropout=0.3)
    assert model.get_layer("embedding_dropout").rate == 0.3
    assert model.get_layer("logits").input is model.get_layer("embedding_dropout").output


@pytest.mark.parametrize(
    ("name", "shape", "settings", "message"),
    [
        ("mobilenetv2", (31, 32, 3), {}, "mobilenetv2 needs images of at least 32x32 pixels"),
        ("xception", (64, 96, 3), {}, "xception needs images of at least 71x71 pixels"),
        ("resnet50v2", (32, 32, 2), {}, "1 or 3 channels. Received: input_shape=(32, 32, 2)"),
        ("resnet50v2", (32, 32, 3), {"dropout": 1}, "`dropout` must lie in [0, 1)"),
        ("mobilenetv2", (32, 32, 3), {"width": 0}, "`width` must be a positive number"),
        (
            "mobilenetv2",
            (32, 32, 3),
            {"width": 0.6, "weights": "imagenet"},
            "exist for the widths 0.35, 0.5, 0.75, 1.0, 1.3, 1.4. Received: width=0.6",
        ),
    ],
)
def test_wrong_arguments_are_named(name, shape, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(pretrained, name)(shape, 2, **settings)
