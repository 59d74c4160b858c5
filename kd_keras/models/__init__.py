"""Models to distil from and into: raw pixels in 0..255 in, logits out, layers named by meaning.

    from kd_keras import models
    student = models.build("mobilenetv2", input_shape=(96, 96, 3), classes=2, width=0.5)

A new model is a function `f(input_shape, classes, *, name=..., **knobs)` and a line in `MODELS`.
A backbone with pretrained weights also needs a row in `backbones.BACKBONES`.
"""

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras.models import outside, pretrained, residual, small
from kd_keras.models.backbones import BACKBONES
from kd_keras.models.copies import untrained
from kd_keras.models.graphs import output
from kd_keras.models.several import ensemble as ensemble
from kd_keras.models.tails import tail
from kd_keras.utils import checks

MODELS: dict[str, Callable[..., keras.Model]] = {
    "mlp": small.mlp,
    "lenet5": small.lenet5,
    "cnn": small.cnn,
    "resnet8": residual.resnet8,
    "resnet20": residual.resnet20,
    "resnet56": residual.resnet56,
    "resnet8x4": residual.resnet8x4,
    "resnet32x4": residual.resnet32x4,
    "wrn_16_2": residual.wrn_16_2,
    "wrn_40_2": residual.wrn_40_2,
    "resnet50v2": pretrained.resnet50v2,
    "resnet101v2": pretrained.resnet101v2,
    "mobilenetv2": pretrained.mobilenetv2,
    "mobilenetv3small": pretrained.mobilenetv3small,
    "efficientnetv2b0": pretrained.efficientnetv2b0,
    "efficientnet_lite0": pretrained.efficientnet_lite0,
    "efficientnet_lite1": pretrained.efficientnet_lite1,
    "efficientnet_lite2": pretrained.efficientnet_lite2,
    "densenet121": pretrained.densenet121,
    "xception": pretrained.xception,
}


def names() -> tuple[str, ...]:
    """Return the names that `build` accepts."""
    return tuple(MODELS)


def knobs(name: str) -> dict[str, Any]:
    """Return the knobs of a model with their defaults.

    Raises:
        ValueError: if the name is unknown; the message lists the known ones and the nearest.

    Example:
        >>> knobs("cnn")
        {'width': 1.0}
    """
    if name not in MODELS and outside.maker(name) is not None:
        return outside.knobs(name)
    shared = ("name", "weights")
    parameters = inspect.signature(checks.lookup("model", MODELS, name)).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in shared
    }


def build(
    name: str,
    *,
    input_shape: Sequence[int],
    classes: int,
    weights: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> keras.Model:
    """Build a new model by name.

    Args:
        name: one of `names()`; or any constructor of `keras.applications`; or a function of your
            own, as `FILE.py:FUNCTION` or `MODULE:FUNCTION`, which is called with `input_shape` and
            `classes` and returns a Keras model.
        input_shape: `(height, width, channels)`, three positive integers.
        classes: number of logits, at least 2.
        weights: for pretrained models, None, "imagenet" or a weights file.
        **settings: knobs of that model, see `knobs(name)`.

    Returns:
        A flat functional model from raw pixels in 0..255, shape `(batch, height, width, channels)`,
        to logits, shape `(batch, classes)`, float32, with layers `embedding` and `logits`.

    Raises:
        ValueError: if the name or a knob is unknown, if weights are given for a model that has
            none, or if an argument is out of range; the message says what is accepted.
        FileNotFoundError, ConnectionError: if the weights cannot be found or downloaded.

    Example:
        >>> build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,)).count_params()
        1210
    """
    own = None if name in MODELS else outside.maker(name)
    model = checks.lookup("model", MODELS, name) if own is None else own
    known = knobs(name)
    for knob in settings:
        if knob not in known:
            listed = checks.unknown("knob", knob, known) if known else "It has no knobs."
            raise ValueError(f"{name}: {listed} Received: {knob}={settings[knob]!r}")
    if name in BACKBONES or (own is not None and not outside.is_function(name)):
        settings["weights"] = weights
    elif weights is not None:
        raise ValueError(
            f"{name} has no pretrained weights; those with weights are "
            f"{', '.join(BACKBONES)} and those of keras.applications. Received: "
            f"weights={weights!r}"
        )
    return model(input_shape, classes, **settings)


__all__ = [
    "BACKBONES",
    "MODELS",
    "build",
    "knobs",
    "names",
    "outside",
    "output",
    "pretrained",
    "small",
    "tail",
    "untrained",
]
