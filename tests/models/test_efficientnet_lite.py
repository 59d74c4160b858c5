"""EfficientNet-Lite: the published sizes, its weights by name, and the published network's logits."""

import importlib.util
import re

import keras
import numpy as np
import pytest
from state_files import in_a_row, zipped

from kd_keras import models
from kd_keras.models import efficientnet_lite as lite
from kd_keras.models import freezing
from kd_keras.models.backbones import BACKBONES, TAPS

rng = np.random.default_rng(0)

# weights with the head of 1000 classes, without moving statistics: 4.65 M, 5.42 M and 6.09 M in the
# table of the release; and the size of the images that each is made for
PUBLISHED = {
    "efficientnet_lite0": (4_652_008, 224),
    "efficientnet_lite1": (5_416_680, 240),
    "efficientnet_lite2": (6_092_072, 260),
}
# the output channels and repeats of the seven groups, at widths 1.0, 1.0 and 1.1 and depths 1.0, 1.1
# and 1.2, rounded by hand: 1.1 * (16, 24, 40, 80, 112, 192, 320) is 17.6, 26.4, 44, 88, 123.2, 211.2
# and 352, and the repeats 2, 3, 4 become 2.2, 3.3, 4.4 and 2.4, 3.6, 4.8
SCALED = {
    "efficientnet_lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet_lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name[-1] != "0" else ()) for name in SCALED]
)
torch = importlib.util.find_spec("torch")


def package_of(name):
    return BACKBONES[name].url.rsplit("/", 1)[1]


def by_hand(channels, repeats, classes):
    """The number of weights: a convolution has no bias, a batch normalisation gamma and beta.

    A block from a to b channels with a kernel of k*k and c = 6*a channels inside has a*c + 2*c
    weights that expand (the first group has none, and c = a), c*k*k + 2*c in the depthwise
    convolution, and c*b + 2*b that project. The stem is 27*32 + 64, the head 1280*b + 2560, and
    the dense layer 1281*classes.
    """
    count, before = 27 * 32 + 64, 32
    for kernel, width, many in zip((3, 3, 5, 3, 5, 5, 3), channels, repeats, strict=True):
        for _ in range(many):
            first = before == 32 and width == 16
            inside = before if first else 6 * before
            count += 0 if first else before * inside + 2 * inside
            count += inside * kernel**2 + 2 * inside + inside * width + 2 * width
            before = width
    return count + 1280 * before + 2560 + 1281 * classes


@EACH
def test_size_blocks_and_taps_are_as_published(name):
    weights, size = PUBLISHED[name]
    model = models.build(name, input_shape=(size, size, 3), classes=3)
    count = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert count + 997 * 1281 == by_hand(*SCALED[name], 1000) == weights
    letters = [(n, "abcde"[k]) for n, many in enumerate(SCALED[name][1], 1) for k in range(many)]
    blocks = ("stem", *(f"block{n}{letter}" for n, letter in letters), "top")
    assert freezing.blocks(model) == blocks
    for number in (1, 2, 3, 4):  # the last layers of 1/4, 1/8, 1/16 and 1/32 of the size
        layer = model.get_layer(TAPS[name][f"stage{number}"])
        side = -(-size // 2 ** (number + 1))
        assert layer.output.shape[1:3] == (side, side)
        after = model.layers[model.layers.index(layer) + 1 :]
        smaller = [x for x in after if isinstance(x, keras.layers.DepthwiseConv2D)][:1]
        assert all(x.output.shape[1] < side or x.strides == (2, 2) for x in smaller)


def test_it_is_made_of_what_small_devices_run():
    """No squeeze-and-excitation, no swish; ReLU6, and batch normalisation with epsilon 1e-3."""
    model = small(models.build, "efficientnet_lite0", input_shape=(32, 32, 3), classes=2)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert kinds == {
        *("InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "BatchNormalization"),
        *("ReLU", "Add", "GlobalAveragePooling2D", "Dense"),
    }
    for layer in model.layers:
        if isinstance(layer, keras.layers.ReLU):
            assert layer.max_value == 6.0
        if isinstance(layer, keras.layers.BatchNormalization):
            assert layer.epsilon == 1e-3
    images = np.arange(256).reshape(1, 16, 16, 1).repeat(3, -1).astype("float32")
    scaled = model.get_layer("preprocess")(images)
    np.testing.assert_allclose(scaled, (images - 127) / 128, atol=1e-6)


def small(make, *args, **settings):
    return make(*args, **settings)


def narrow():
    """A network of the same code with seven blocks, with random weights and statistics."""
    inputs = keras.Input((32, 32, 3))
    model = lite.backbone(inputs, width=0.25, depth=0.5)
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(rng.normal(size=variable.shape) ** 2)
    return model


def state_of(model):
    """Its weights as PyTorch's network would name and order them."""
    state = {}
    for name, variable in lite._names(model):
        value = np.asarray(variable)
        if value.ndim == 4:  # PyTorch's (out, in, height, width); one in of a depthwise kernel
            depthwise = name.endswith("_depthwise_conv.weight")
            value = np.moveaxis(value, (2, 3), (0, 1) if depthwise else (1, 0))
        state[name] = value
    return state
