"""The format `saved_model`: a TensorFlow SavedModel, which needs neither Keras nor this library."""

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BATCH = 64
# files and folders of a SavedModel
NAMES = (
    *("saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb"),
    *("variables", "assets", "assets.extra"),
)


def write(
    model: keras.Model, folder: Path, signature: str, class_names: Sequence[str] | None
) -> None:
    """Write a SavedModel into an empty folder.

    Args:
        model: a model of one image of known size that returns logits.
        folder: an existing, empty folder.
        signature: the name of the function, which is also available as `serving_default`.
        class_names: stored in `assets.extra/class_names.json`, or None.

    Raises:
        RuntimeError: the model uses a variable or table that none of its layers holds.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), name="image")])
    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.cast(model(image, training=False), tf.float32)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    function = classify.get_concrete_function()
    # a module of all that the function uses: Keras' own tracking would store each weight twice
    module = tf.Module()
    module.weights = list(function.variables)
    module.resources = _resources(model)
    signatures = {signature: function, "serving_default": function}
    try:
        with _no_word_of_the_folder():
            tf.saved_model.save(module, str(folder), signatures=signatures)
    except AssertionError as error:  # from TensorFlow, for an object that is used but not tracked
        raise RuntimeError(
            f"Model {model.name!r} uses a variable or a table that none of its layers holds. Make "
            f"it an attribute of the layer that uses it, such as `self.table`. TensorFlow says: "
            f"{error}"
        ) from error
    if class_names is not None:
        extra = folder / "assets.extra"
        extra.mkdir()
        names = [str(name) for name in class_names]
        (extra / "class_names.json").write_text(json.dumps(names, ensure_ascii=False), "utf-8")


@contextlib.contextmanager
def _no_word_of_the_folder() -> Iterator[None]:
    """Keep TensorFlow from naming the folder, which has a temporary name.

    It does so where Python is interactive, as in a notebook.
    """
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


def _resources(model: keras.Model) -> list[Any]:
    """Return what a model's layers hold besides variables, such as lookup tables, at any depth."""
    resource = tf.saved_model.experimental.TrackableResource
    return [held for held in _Held(model).descendants() if isinstance(held, resource)]


class _Held(tf.train.TrackableView):
    """A view of a model's objects for a SavedModel. TensorFlow's own view is for a checkpoint."""

    @classmethod
    def children(cls, obj, save_type="savedmodel", **kwargs):
        return super().children(obj, save_type, **kwargs)


def predict(path: str | os.PathLike[str], images: Any) -> dict[str, np.ndarray]:
    """Compute the predictions of an exported SavedModel.

    Args:
        path: the folder.
        images: shape `(n, height, width, channels)`, raw pixels in 0..255.

    Returns:
        `{"logits", "probabilities"}`, float32 of shape `(n, classes)`.
    """
    loaded = tf.saved_model.load(os.fspath(path))
    function = loaded.signatures["serving_default"]
    images = np.asarray(images, np.float32)
    starts = range(0, len(images), BATCH)
    parts = [function(image=tf.constant(images[i : i + BATCH])) for i in starts]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def check(target: Path) -> None:
    """Raise `FileExistsError` for a folder that holds something other than a SavedModel."""
    seen = target.exists() and any(not path.name.startswith(".") for path in target.iterdir())
    if seen and not (target / "saved_model.pb").exists():
        raise FileExistsError(f"`path` is a folder that holds something else: {target}")
