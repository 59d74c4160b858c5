"""What an export is made of: a model, its facts, and the functions that formats convert."""

import dataclasses
import functools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras import __version__
from kd_keras.data.reading import RESIZING
from kd_keras.export.quantization import Quantization

KIND = "kd_keras export"  # the mark of a description
SPARE = 0.9  # share of the weights' bytes that the smallest whole file has: a format may fold some


@dataclasses.dataclass(frozen=True)
class Content:
    """A model on its way into a format.

    Attributes:
        model: a model of one image of known size that returns logits.
        signature: the name of its function, in formats that name it.
        quantization: the numbers that the export keeps.
        description: what the file says of itself, JSON values; see `describe`.
        representative: uint8, shape `(n, height, width, channels)`, images from which ranges are
            read; None if the quantization needs none.
    """

    model: keras.Model
    signature: str
    quantization: Quantization
    description: Mapping[str, Any]
    representative: np.ndarray | None = None

    @functools.cached_property
    def function(self) -> Any:
        """A function from `image`, of the quantization's type, to `{"logits"}` in float32."""
        model, pixels = self.model, self.quantization.pixels

        @tf.function(
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), pixels, "image")]
        )
        def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"logits": logits_of(model, tf.cast(image, tf.float32))}

        return classify

    @functools.cached_property
    def variables(self) -> list[Any]:
        """The variables that the function reads."""
        return list(self.function.get_concrete_function().variables)

    @property
    def least_bytes(self) -> int:
        """The bytes below which a file cannot hold the kernels.

        Vectors, such as those of a batch normalisation, are left out: converters fold them.
        """
        kernels = [tuple(v.shape) for v in self.variables if len(v.shape) > 1]
        weights = sum(math.prod(shape) for shape in kernels)
        # a layer that computes in 16 bits may be stored so
        each = min(self.quantization.weight_bytes, 4 if types_of(self.model) == {"float32"} else 2)
        return int(SPARE * weights * each)


def types_of(model: keras.Model) -> set[str]:
    """Return the types in which the layers of a model compute.

    Example:
        >>> types_of(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        {'float32'}
    """
    return {layer.compute_dtype for layer in (model, *model.layers)}


def logits_of(model: keras.Model, image: tf.Tensor) -> tf.Tensor:
    """Return a model's logits in float32, whatever precision it computes in."""
    return tf.cast(model(image, training=False), tf.float32)


def describe(
    model: keras.Model,
    format: str,
    quantization: Quantization,
    *,
    class_names: Sequence[str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what an export says of itself, as JSON values.

    Args:
        model: the exported model.
        format: the name of the format.
        quantization: the numbers that the export keeps.
        class_names: one name per class, or None.
        about: further facts, such as `threshold` and `metrics`, by name.

    Returns:
        `kind`; `version` of this library; `name` of the model; `format` and `quantize`; `input`:
        name, shape, type, range and the rule of resizing; `output`; `class_names`; and the facts
        of `about`.

    Raises:
        ValueError: `about` holds what JSON does not know, or a name that is taken.

    Example:
        >>> from kd_keras.export.quantization import QUANTIZATIONS
        >>> net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
        >>> found = describe(net, "litert", QUANTIZATIONS["int8"], about={"threshold": 0.4})
        >>> found["input"]["shape"], found["input"]["type"], found["threshold"]
        ([None, 8, 8, 1], 'uint8', 0.4)
    """
    shape = list(model.input_shape)
    own = {
        "kind": KIND,
        "version": __version__,
        "name": model.name,
        "format": format,
        "quantize": quantization.name,
        "input": {
            "name": "image",
            "shape": shape,
            "type": quantization.pixels,
            "range": [0, 255],
            "channels": {1: "grey", 3: "RGB"}.get(shape[-1]) if len(shape) == 4 else None,
            "resizing": dict(RESIZING) if len(shape) == 4 else None,
        },
        "output": {"name": "logits", "shape": [None, model.output_shape[-1]], "type": "float32"},
        "class_names": None if class_names is None else [str(name) for name in class_names],
    }
    return {**own, **_further(about or {}, {*own, "export"})}


def _further(about: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """Return further facts, or raise for those that JSON cannot hold or whose names are taken."""
    if twice := sorted(set(about) & set(taken)):
        raise ValueError(f"`about` cannot give {twice[0]!r}, which every export states itself.")
    try:
        return json.loads(json.dumps(dict(about), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`about` must hold values that JSON knows: text, finite numbers, lists. {error}"
        ) from error
