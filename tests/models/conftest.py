"""Models that several tests share, built when a test first asks for them."""

import functools

import keras
import numpy as np
import pytest

from kd_keras import models
from kd_keras.models.backbones import BACKBONES

SLOW = {
    *("resnet50v2", "resnet101v2", "densenet121", "xception"),
    *("efficientnetv2b0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
}
# the deeper ones of a family are the same code, and tell no more
DEEPER = {"resnet101v2", "efficientnet_lite1", "efficientnet_lite2"}
APPLICATIONS = [name for name in BACKBONES if not name.startswith("efficientnet_lite")]


def by_name(names):
    """The names as test parameters; those that take seconds to build are marked slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else (), id=name)
        for name in names
    ]


def pytest_generate_tests(metafunc):
    if "model_name" in metafunc.fixturenames:
        names = [name for name in models.names() if name not in DEEPER]
        metafunc.parametrize("model_name", by_name(names), scope="module")
    if "backbone_name" in metafunc.fixturenames:
        # what holds for one EfficientNet-Lite holds for all; test_efficientnet_lite.py has the rest
        names = [name for name in BACKBONES if name not in DEEPER]
        metafunc.parametrize("backbone_name", by_name(names), scope="module")
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "application_name" in metafunc.fixturenames and "application_name" not in given:
        metafunc.parametrize("application_name", by_name(APPLICATIONS), scope="module")


def fresh(name):
    """A new model with three classes, on 96x96 colour images or 8x8 grey ones."""
    shape = (96, 96, 3) if name in BACKBONES else (8, 8, 1)
    keras.utils.set_random_seed(0)
    return settled(models.build(name, input_shape=shape, classes=3))


def settled(model):
    """The model with the batch statistics of random images, as if it had been trained.

    With the statistics of a new model the signal fades on its way: 1e-11 is left at the end
    of MobileNetV2, and a comparison there would say little.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    images = np.random.default_rng(1).integers(0, 256, (8, *model.input_shape[1:]))
    model(images.astype("float32"), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    return model


@pytest.fixture(scope="session")
def built():
    """`built(name)`: the shared model of that name, not to be changed."""
    return functools.cache(fresh)


@pytest.fixture(name="settled")
def settled_fixture():
    return settled
