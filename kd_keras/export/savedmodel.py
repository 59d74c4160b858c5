"""The format `saved_model`: a TensorFlow SavedModel, which needs neither Keras nor this library."""

import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.export.content import Content, logits_of
from kd_keras.utils.quiet import unlogged

BATCH = 64
# files and folders of a SavedModel
NAMES = (
    *("saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb"),
    *("variables", "assets", "assets.extra"),
)


def write(content: Content, folder: Path) -> None:
    """Write a SavedModel into an empty folder.

    Args:
        content: its function is also available as `serving_default`, and its description is stored
            in `assets.extra/model.json`, with the class names in `assets.extra/class_names.json`.
        folder: an existing, empty folder.

    Raises:
        RuntimeError: the model uses a variable or table that none of its layers holds.
    """
    model = content.model

    @tf.function(input_signature=content.function.input_signature)
    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = logits_of(model, image)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    _save(content, folder, classify, (content.signature, "serving_default"))
    extra = folder / "assets.extra"
    extra.mkdir()
    _write_json(extra / "model.json", dict(content.description))
    if content.description["class_names"] is not None:
        _write_json(extra / "class_names.json", content.description["class_names"])


def save_logits(content: Content, folder: Path) -> None:
    """Write a SavedModel that returns logits alone, for a converter to read.

    Args:
        content: what it holds; its signature is the only one. It takes float32, as a converter
            of integers wants it.
        folder: an existing, empty folder.

    Raises:
        RuntimeError: as `write`.
    """
    model = content.model
    image = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, "image")

    @tf.function(input_signature=[image])
    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": logits_of(model, image)}

    _save(content, folder, classify, (content.signature,))


def _save(content: Content, folder: Path, classify: Any, signatures: tuple[str, ...]) -> None:
    function = classify.get_concrete_function()
    # a module of all that the function uses: Keras' own tracking would store each weight twice
    module = tf.Module()
    module.weights = list(function.variables)
    module.resources = _resources(content.model)
    try:
        # where Python is interactive it names the folder, which has a temporary name
        with unlogged("tensorflow"):
            tf.saved_model.save(module, str(folder), signatures=dict.fromkeys(signatures, function))
    except AssertionError as error:  # from TensorFlow, for an object that is used but not tracked
        raise RuntimeError(
            f"Model {content.model.name!r} uses a variable or a table that none of its layers "
            "holds. Make it an attribute of the layer that uses it, such as `self.table`. "
            f"TensorFlow says: {error}"
        ) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


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


WRITERS = {"none": write}
"""What writes each quantization: a SavedModel keeps float32."""
