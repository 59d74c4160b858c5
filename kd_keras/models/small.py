"""Small networks for small images: a perceptron, LeNet-5 and a convolutional network.

Each takes raw pixels in 0..255 (any dtype, scaled by the model itself) and returns logits,
shape `(batch, classes)`, float32. Layers are named by meaning: `stage1`, `stage2`, ... from
input to output, `embedding` for the vector that (after dropout, if there is any) enters
the last layer, and `logits`.
"""

from collections.abc import Sequence

import keras

from kd_keras.models import _arguments as arguments
from kd_keras.models._logits import logits
from kd_keras.utils import checks


def mlp(
    input_shape: Sequence[int],
    classes: int,
    *,
    hidden: int | Sequence[int] = (784, 784),
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    max_norm: float | None = None,
    name: str = "mlp",
) -> keras.Model:
    """A fully connected network: flatten, then one dense ReLU layer for each number in `hidden`.

    The hidden layers are named `stage1`, `stage2`, ...; the last of them is `embedding`.
    The default is a smaller sibling of the network in section 3 of Hinton, Vinyals and Dean,
    "Distilling the Knowledge in a Neural Network" (2015): `hidden=(800, 800)` is the small net
    there. The large one, `hidden=(1200, 1200)`, was trained with dropout and a limit on the norms
    of its weights, after Hinton et al., "Improving neural networks by preventing co-adaptation of
    feature detectors" (2012), who drop half of the hidden units and a fifth of the pixels.

    Args:
        input_shape: `(height, width, channels)`.
        classes: number of logits, at least 2.
        hidden: units of each hidden layer; a single number for one layer.
        dropout: fraction of units dropped after each hidden layer in training, in [0, 1).
        input_dropout: fraction of pixels dropped in training, in [0, 1).
        max_norm: after each training step, the incoming weights of a hidden unit are scaled down
            to this Euclidean norm if theirs is larger (`keras.constraints.MaxNorm`); None sets no
            limit.
        name: name of the model.

    Returns:
        A flat functional model, `(batch, height, width, channels)` to `(batch, classes)` float32.

    Raises:
        ValueError: if an argument is out of range; the message names it.

    Example:
        >>> mlp((8, 8, 1), 10, hidden=(32, 16)).output_shape
        (None, 10)
    """
    hidden = arguments.layer_sizes("hidden", hidden)
    rate = arguments.dropout_rate("dropout", dropout)
    input_rate = arguments.dropout_rate("input_dropout", input_dropout)
    limit = None if max_norm is None else checks.positive("max_norm", max_norm)
    inputs, x = _pixels(input_shape)
    x = keras.layers.Flatten(name="flatten")(x)
    if input_rate:
        x = keras.layers.Dropout(input_rate, name="input_dropout")(x)
    stages = [f"stage{number}" for number in range(1, len(hidden))]
    for units, stage in zip(hidden, [*stages, "embedding"], strict=True):
        held = None if limit is None else keras.constraints.MaxNorm(limit, axis=0)
        x = keras.layers.Dense(units, activation="relu", kernel_constraint=held, name=stage)(x)
        if rate:
            x = keras.layers.Dropout(rate, name=f"{stage}_dropout")(x)
    return keras.Model(inputs, logits(x, classes), name=name)


def lenet5(input_shape: Sequence[int], classes: int, *, name: str = "lenet5") -> keras.Model:
    """A modernised LeNet-5, after LeCun, Bottou, Bengio and Haffner (1998), section II.B.

    The widths 6, 16, 120 and 84 and the 5x5 kernels are the original ones. ReLU replaces the scaled
    tanh, max pooling the trainable subsampling, and a dense layer of logits the radial basis
    functions; the second convolution connects all maps. Zero padding replaces the 32x32 frame, so
    that any size from 1x1 works.

    Stages: `stage1` and `stage2` are the two convolutions before pooling (full and half size),
    `hidden` is the layer of 120 units, `embedding` that of 84.

    Args:
        input_shape: `(height, width, channels)`.
        classes: number of logits, at least 2.
        name: name of the model.

    Returns:
        A flat functional model, `(batch, height, width, channels)` to `(batch, classes)` float32.

    Raises:
        ValueError: if an argument is out of range; the message names it.

    Example:
        >>> lenet5((28, 28, 1), 10).get_layer("embedding").output.shape
        (None, 84)
    """
    inputs, x = _pixels(input_shape)
    x = keras.layers.Conv2D(6, 5, padding="same", activation="relu", name="stage1")(x)
    x = keras.layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = keras.layers.Conv2D(16, 5, padding="same", activation="relu", name="stage2")(x)
    x = keras.layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(120, activation="relu", name="hidden")(x)
    x = keras.layers.Dense(84, activation="relu", name="embedding")(x)
    return keras.Model(inputs, logits(x, classes), name=name)


def cnn(
    input_shape: Sequence[int], classes: int, *, width: float = 1.0, name: str = "cnn"
) -> keras.Model:
    """A convolutional network with two stages and dropout: the teacher of the MNIST study.

    Its layers are a 3x3 convolution of 32 filters, max pooling, a 3x3 convolution of 64 filters,
    max pooling, dropout 0.25, a dense layer of 128 units, dropout 0.5 and logits; ReLU throughout.
    `stage1` and `stage2` are the convolutions before pooling (full and half size), `embedding` is
    the dense layer.

    Args:
        input_shape: `(height, width, channels)`, any size.
        classes: number of logits, at least 2.
        width: factor on 32, 64 and 128, positive; 0.5 gives 16, 32 and 64.
        name: name of the model.

    Returns:
        A flat functional model, `(batch, height, width, channels)` to `(batch, classes)` float32.

    Raises:
        ValueError: if an argument is out of range; the message names it.

    Example:
        >>> cnn((8, 8, 1), 10, width=0.5).get_layer("embedding").output.shape
        (None, 64)
    """
    width = checks.positive("width", width)
    stage1, stage2, units = (max(1, round(size * width)) for size in (32, 64, 128))
    inputs, x = _pixels(input_shape)
    x = keras.layers.Conv2D(stage1, 3, padding="same", activation="relu", name="stage1")(x)
    x = keras.layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = keras.layers.Conv2D(stage2, 3, padding="same", activation="relu", name="stage2")(x)
    x = keras.layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    x = keras.layers.Dropout(0.25, name="pool2_dropout")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(units, activation="relu", name="embedding")(x)
    x = keras.layers.Dropout(0.5, name="embedding_dropout")(x)
    return keras.Model(inputs, logits(x, classes), name=name)


def _pixels(input_shape: Sequence[int]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Return the input, and the input scaled to 0..1."""
    inputs = keras.Input(arguments.image_shape(input_shape), name="image")
    return inputs, keras.layers.Rescaling(1 / 255, name="preprocess")(inputs)
