"""Functions of other frameworks as layers of a Keras model.

Such a layer calls the function on NumPy arrays, wherever the model runs: in a graph, in a pipeline
or eagerly. No gradient passes through it, and Keras cannot save it. A model of such layers is used
like any other teacher: its taps are its layers' names, and its predictions are stored.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Function = Callable[[np.ndarray], Any]


class Foreign(keras.layers.Layer):
    """A function from a batch of images to features, as a layer.

    Args:
        function: takes images, `(n, height, width, channels)`, and returns an array, the logits, or
            a dict of arrays by tap; row k belongs to image k.
        shapes: the shape of each tap, without the batch.
        raw: whether the function gets raw pixels as uint8, not float32.
        digest: changes whenever the function's results could change; None if nothing tells.
        complete: whether it answers any image; False if only those of the training split.
    """

    def __init__(
        self,
        function: Function,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        raw: bool,
        digest: str | None,
        complete: bool = True,
        name: str = "foreign",
    ):
        super().__init__(name=name, trainable=False, dtype="float32", autocast=False)
        self._function, self._shapes, self._raw = function, dict(shapes), raw
        self._digest, self.complete = digest, complete

    def call(self, images):
        kinds = [tf.float32] * len(self._shapes)
        found = tf.numpy_function(self._run, [tf.cast(images, tf.float32)], kinds)
        found = found if isinstance(found, (list, tuple)) else [found]
        for tensor, shape in zip(found, self._shapes.values(), strict=True):
            tensor.set_shape((images.shape[0], *shape))
        return dict(zip(self._shapes, found, strict=True))

    def compute_output_spec(self, images):
        return {
            tap: keras.KerasTensor((images.shape[0], *shape), "float32")
            for tap, shape in self._shapes.items()
        }

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        features = as_features(self._function(as_pixels(images) if self._raw else images))
        found = []
        for tap, shape in self._shapes.items():
            rows = features.get(tap)
            if rows is None or rows.shape != (len(images), *shape):
                received = "nothing" if rows is None else f"shape {rows.shape}"
                raise ValueError(
                    f"The teacher must return {tap!r} of shape {(len(images), *shape)} for "
                    f"{len(images)} images. Received: {received}"
                )
            found.append(rows)
        return found

    def get_config(self):
        """Return a configuration that tells functions apart.

        Raises:
            NotImplementedError: if nothing tells when the function changes.
        """
        if self._digest is None:
            raise NotImplementedError(f"{self.name} is a function without a file.")
        return {"name": self.name, "digest": self._digest, "shapes": self._shapes}


class First(keras.layers.Layer):
    """The first of several tensors: the others are taps on the way to it."""

    def call(self, tensors):
        return tensors[0]

    def compute_output_spec(self, tensors):
        return keras.KerasTensor(tensors[0].shape, tensors[0].dtype)


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Return raw pixels as uint8.

    Raises:
        ValueError: for numbers that are not raw pixels.
    """
    pixels = np.clip(images, 0, 255).astype("uint8")
    if (pixels != images).any():
        raise ValueError(
            "This teacher takes raw pixels, whole numbers from 0 to 255. Received: "
            f"numbers from {images.min():g} to {images.max():g}"
        )
    return pixels


def as_features(answer: Any) -> dict[str, np.ndarray]:
    """Return a function's result as a dict of float32 arrays: an array alone is the logits.

    Raises:
        ValueError: for anything that does not become an array of numbers.
    """
    named = answer if isinstance(answer, Mapping) else {"logits": answer}
    found = {}
    for tap, values in named.items():
        detached = values.detach().cpu() if hasattr(values, "detach") else values
        try:
            found[str(tap)] = np.asarray(detached, "float32")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"A teacher must return arrays of numbers. Received: {type(values).__name__} for "
                f"{tap!r} ({error})"
            ) from error
    if not found:
        raise ValueError("A teacher must return logits or features. Received: an empty dict")
    return found


def probed(function: Function, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a function answers on some images, by tap, after a check.

    Args:
        function: as in `Foreign`.
        images: a few, as the function takes them.

    Raises:
        ValueError: if the function fails, returns other than one row per image, or returns
            probabilities in place of logits.
    """
    try:
        answer = function(images)
    except Exception as error:  # another framework's code may raise anything
        raise ValueError(
            f"The teacher fails on {len(images)} images of shape {images.shape[1:]}: "
            f"{type(error).__name__}: {error}. It may need another size or range: teacher_size "
            "(--teacher-size), teacher_scale (--teacher-scale)."
        ) from error
    features = as_features(answer)
    for tap, rows in features.items():
        if rows.ndim < 2 or len(rows) != len(images):
            raise ValueError(
                f"The teacher must return one row per image. Received: {tap!r} of shape "
                f"{rows.shape} for {len(images)} images"
            )
    logits = features.get("logits")
    if logits is not None and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            "The teacher must return logits, and every row that it returns is a distribution: "
            "leave out its softmax, or return its logarithm."
        )
    return features


def is_foreign(model: keras.Model) -> bool:
    """Return whether a model runs a function of another framework, so that Keras cannot save it."""
    return any(isinstance(layer, Foreign) for layer in model.layers)
