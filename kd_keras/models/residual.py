"""Residual networks for photographs of 32x32 pixels, as distillation is compared on CIFAR.

Each takes raw pixels in 0..255, centres and scales them as this field does for CIFAR-100, and
returns logits. Layers are named by meaning: `stage1`, `stage2` and `stage3` end at full, half and
quarter size, and `embedding` is the pooled vector that enters `logits`. The names and widths are
those of the comparison in Tian, Krishnan and Isola, "Contrastive Representation Distillation"
(2020), section 4.1 and appendix.
"""

from collections.abc import Callable, Sequence

import keras
from keras import layers

from kd_keras.models import _arguments as arguments
from kd_keras.models._logits import logits
from kd_keras.utils import checks

# channel means and standard deviations of CIFAR-100's training images, on 0..1
_MEAN, _DEVIATION = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def resnet20(input_shape: Sequence[int], classes: int, *, name: str = "resnet20") -> keras.Model:
    """ResNet-20 for CIFAR (He et al., "Deep Residual Learning", 2015, section 4.2): 0.28 M weights.

    Args:
        input_shape: `(height, width, channels)`, any size; 32x32 is meant.
        classes: number of logits, at least 2.
        name: name of the model.

    Returns:
        A flat functional model, `(batch, height, width, channels)` to `(batch, classes)` float32.

    Raises:
        ValueError: if an argument is out of range; the message names it.

    Example:
        >>> resnet20((32, 32, 3), 100).get_layer("stage3").output.shape
        (None, 8, 8, 64)
    """
    return _resnet(input_shape, classes, blocks=3, widths=(16, 16, 32, 64), name=name)


def resnet8(
    input_shape: Sequence[int], classes: int, *, width: float = 1.0, name: str = "resnet8"
) -> keras.Model:
    """ResNet-8 for CIFAR (He et al. 2015, with one block per stage): 0.08 M weights.

    Other arguments and errors as in `resnet20`.

    Args:
        width: factor on the number of channels, positive.

    Example:
        >>> resnet8((32, 32, 3), 10, width=0.25).get_layer("embedding").output.shape
        (None, 16)
    """
    width = checks.positive("width", width)
    widths = [max(1, round(size * width)) for size in (16, 16, 32, 64)]
    return _resnet(input_shape, classes, blocks=1, widths=widths, name=name)


def resnet56(input_shape: Sequence[int], classes: int, *, name: str = "resnet56") -> keras.Model:
    """ResNet-56 for CIFAR (He et al. 2015): 0.86 M weights. Arguments, errors as in `resnet20`."""
    return _resnet(input_shape, classes, blocks=9, widths=(16, 16, 32, 64), name=name)


def resnet8x4(input_shape: Sequence[int], classes: int, *, name: str = "resnet8x4") -> keras.Model:
    """ResNet-8 of four times the width (Tian et al. 2020): 1.2 M weights. Arguments and errors as
    in `resnet20`."""
    return _resnet(input_shape, classes, blocks=1, widths=(32, 64, 128, 256), name=name)


def resnet32x4(
    input_shape: Sequence[int], classes: int, *, name: str = "resnet32x4"
) -> keras.Model:
    """ResNet-32 of four times the width (Tian et al. 2020): 7.4 M weights. Arguments and errors as
    in `resnet20`."""
    return _resnet(input_shape, classes, blocks=5, widths=(32, 64, 128, 256), name=name)


def wrn_16_2(input_shape: Sequence[int], classes: int, *, name: str = "wrn_16_2") -> keras.Model:
    """Wide ResNet 16-2 (Zagoruyko and Komodakis, "Wide Residual Networks", 2016, section 2): 0.70 M
    weights. Arguments and errors as in `resnet20`."""
    return _wide(input_shape, classes, blocks=2, factor=2, name=name)


def wrn_40_2(input_shape: Sequence[int], classes: int, *, name: str = "wrn_40_2") -> keras.Model:
    """Wide ResNet 40-2 (Zagoruyko and Komodakis 2016): 2.3 M weights. Arguments and errors as in
    `resnet20`."""
    return _wide(input_shape, classes, blocks=6, factor=2, name=name)


Block = Callable[[keras.KerasTensor, int, int, str, str], keras.KerasTensor]


def _resnet(input_shape, classes, *, blocks: int, widths: Sequence[int], name: str) -> keras.Model:
    """Build a network whose blocks end in a ReLU."""
    inputs, x = _pixels(input_shape)
    x = _normalised(_convolution(x, widths[0], 3, 1, "stem"), "stem")
    x = _stages(x, widths[1:], blocks, _plain_block)
    return keras.Model(inputs, _head(x, classes), name=name)


def _wide(input_shape, classes, *, blocks: int, factor: int, name: str) -> keras.Model:
    """Build a network whose blocks end in a sum, and that has one more ReLU at its end."""
    inputs, x = _pixels(input_shape)
    x = _convolution(x, 16, 3, 1, "stem")
    x = _stages(x, (16 * factor, 32 * factor, 64 * factor), blocks, _early_block)
    return keras.Model(inputs, _head(_normalised(x, "last"), classes), name=name)


def _stages(x, widths: Sequence[int], blocks: int, block: Block) -> keras.KerasTensor:
    for stage, width in enumerate(widths, start=1):
        for number in range(1, blocks + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            end = f"stage{stage}" if number == blocks else f"stage{stage}_block{number}_out"
            x = block(x, width, stride, f"stage{stage}_block{number}", end)
    return x


def _plain_block(x, width: int, stride: int, name: str, end: str) -> keras.KerasTensor:
    """He et al. 2015, figure 2, with a projection where the shape changes (option B)."""
    y = _normalised(_convolution(x, width, 3, stride, f"{name}_1"), f"{name}_1")
    y = _normalised(_convolution(y, width, 3, 1, f"{name}_2"), f"{name}_2", relu=False)
    if stride != 1 or x.shape[-1] != width:
        x = _projection(x, width, stride, f"{name}_0")
        x = _normalised(x, f"{name}_0", relu=False)
    return layers.ReLU(name=end)(layers.Add(name=f"{name}_add")([x, y]))


def _early_block(x, width: int, stride: int, name: str, end: str) -> keras.KerasTensor:
    """Zagoruyko and Komodakis 2016, figure 1a: normalisation and ReLU come before a convolution."""
    before = _normalised(x, f"{name}_1")
    y = _normalised(_convolution(before, width, 3, stride, f"{name}_1"), f"{name}_2")
    y = _convolution(y, width, 3, 1, f"{name}_2")
    if stride != 1 or x.shape[-1] != width:
        x = _projection(before, width, stride, f"{name}_0")
    return layers.Add(name=end)([x, y])


def _projection(x, filters: int, stride: int, name: str) -> keras.KerasTensor:
    """Return the shortcut's 1x1 convolution, of every `stride`-th pixel.

    The pixels are picked before the convolution, which has the same values: a kernel of TensorFlow
    fails at strided 1x1 convolutions of few channels (`runtime.kernels.unsafe`).
    """
    if stride != 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_pick")(x)
    return _convolution(x, filters, 1, 1, name)


def _convolution(x, filters: int, size: int, stride: int, name: str) -> keras.KerasTensor:
    if stride != 1:
        # PyTorch's padding, on both sides; "same" would pad the right and the bottom alone
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        size,
        stride,
        padding="same" if stride == 1 else "valid",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        name=f"{name}_conv",
    )(x)


def _normalised(x, name: str, relu: bool = True) -> keras.KerasTensor:
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _pixels(input_shape: Sequence[int]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the input, and the input with about zero mean and unit variance."""
    shape = arguments.image_shape(input_shape)
    inputs = keras.Input(shape, name="image")
    mean, deviation = list(_MEAN), list(_DEVIATION)
    if shape[-1] != 3:
        mean, deviation = ([sum(values) / 3] * shape[-1] for values in (mean, deviation))
    scale = [1 / (255 * one) for one in deviation]
    offset = [-average / one for average, one in zip(mean, deviation, strict=True)]
    return inputs, layers.Rescaling(scale, offset, name="preprocess")(inputs)


def _head(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    return logits(layers.GlobalAveragePooling2D(name="embedding")(x), classes)
