"""Check that images are scaled as a model expects."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kd_keras.models.graphs import all_layers

FIRST = 256  # images that are checked: among so many, not all are black
LEAST = 50.0  # a model that divides by this much expects pixels up to 255, not up to 1


def rescales(model: keras.Model) -> bool:
    """Return True if a layer of the model divides pixels, for example by 255 or 127.5.

    Example:
        >>> from kd_keras.models import small
        >>> rescales(small.mlp(input_shape=(8, 8, 1), classes=3))
        True
    """
    layers = all_layers(model, itself=False)
    scales = [layer.scale for layer in layers if isinstance(layer, keras.layers.Rescaling)]
    return any(0 < np.max(np.abs(scale)) <= 1 / LEAST for scale in scales)


def divided_twice(images: Any, models: Mapping[str, keras.Model]) -> str | None:
    """Return a warning if images lie within 0 to 1 and a model will divide them; None otherwise.

    Args:
        images: array or tensor, shape `(n, ...)`; the first `FIRST` of them are checked.
        models: the models that will see them, by role.
    """
    roles = [role for role, model in models.items() if rescales(model)]
    pixels = np.asarray(images[:FIRST]) if roles else np.empty(0)
    if not pixels.size or pixels.dtype.kind not in "biuf":
        return None
    low, high = float(pixels.min()), float(pixels.max())
    if not 0.0 <= low < high <= 1.0:
        return None
    return (
        f"`x` holds images within {low:g} to {high:g}, which look divided by 255 already, but the "
        f"{' and the '.join(roles)} would divide them again. Give raw pixels, 0 to 255."
    )
