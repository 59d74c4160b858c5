"""`export`: write a model whole, and only after a new process gave the same predictions."""

import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.evaluation.cost import file_bytes
from kd_keras.export.formats import FORMATS
from kd_keras.models.heads import refuse_probabilities
from kd_keras.utils.checks import lookup
from kd_keras.utils.files import whole_folder

BATCH = 64
RELOAD_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class Export:
    """An export that was loaded back and compared. `dataclasses.asdict` gives plain JSON values.

    Attributes:
        path: the folder.
        format: the name in `FORMATS`.
        bytes: size of all its files.
        signature: name of the function to call.
        examples: number of images compared.
        sample: `"given"` by the caller, or `"drawn"` at random.
        max_abs_difference: largest difference between a logit of the model and of the export.
        same_predictions: True if both chose the same class for every image.
    """

    path: str
    format: str
    bytes: int
    signature: str
    examples: int
    sample: str
    max_abs_difference: float
    same_predictions: bool


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str = "saved_model",
    *,
    sample: Any = None,
    class_names: Sequence[str] | None = None,
    signature: str = "classify",
    tolerance: float | None = None,
) -> Export:
    """Write `model` for deployment, load it back in a new process, and compare the two.

    The files are written beside `path`, loaded in a new process by the format's own runtime, and
    compared with the model on the sample; both compute on the CPU, so that an accelerator's
    rounding is not taken for an error. Only then are they moved to `path`.

    Args:
        model: a model of one image that returns logits.
        path: the folder; an earlier export of this format there is replaced. Other files in it
            stay.
        format: a name in `FORMATS`.
        sample: images to compare on, shape `(n, height, width, channels)`, raw pixels, any
            number type; by default 16 random images of a fixed seed.
        class_names: stored with the model, one name per class.
        signature: the name of the function to call, in formats that name it.
        tolerance: the largest allowed difference of a logit, as a share of the largest logit or of
            one, whichever is larger; by default 1e-4, or 2e-2 for a model that computes in 16 bits.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: the format is unknown, the model does not have one input and one output of
            shape `(batch, classes)`, the model ends in softmax, the sample has another shape, or
            the number of class names is wrong.
        FileExistsError: a file, or a folder that holds something else, is at `path`.
        NotADirectoryError, PermissionError: no folder can be made there.
        OSError: the disk is full; the message names `path`. Nothing is left behind.
        RuntimeError: the export could not be loaded, or predicts otherwise. Nothing is left behind.

    Example:
        ```python
        made = export(student, "saved_models/student", sample=x_test[:100])
        loaded = tf.saved_model.load(made.path)
        loaded.signatures["classify"](image=images)["probabilities"]
        ```
    """
    target, form = Path(path), lookup("format", FORMATS, format)
    _check_model(model)
    images = _checked_sample(model.input_shape, sample)
    if class_names is not None and len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"`class_names` must name the {model.output_shape[-1]} classes of `model`. "
            f"Received: {list(class_names)!r}"
        )
    if tolerance is None:
        tolerance = _tolerance(model)
    check_target(target, format)
    with whole_folder(target, ours=form.names) as folder:
        form.write(model, folder, signature, class_names)
        want = _logits_of(model, images)
        got = _logits_of_export(form.load, folder, signature, images)
        difference = _compare(want, got, tolerance)
        size = file_bytes(folder)
    return Export(
        path=str(target),
        format=format,
        bytes=size,
        signature=signature,
        examples=len(images),
        sample="drawn" if sample is None else "given",
        max_abs_difference=difference,
        same_predictions=bool((want.argmax(axis=1) == got.argmax(axis=1)).all()),
    )


def saved_model(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Export:
    """Write `model` as a TensorFlow SavedModel, which needs neither Keras nor this library.

    Its signature, also available as `"serving_default"`, takes `image`, float32 of shape
    `(n, height, width, channels)`, raw pixels in 0..255. It returns `logits` and `probabilities`,
    both float32 of shape `(n, classes)`, whatever precision the model computes in. Each weight is
    stored once. Class names are stored in `assets.extra/class_names.json`.

    Args:
        model, path: as in `export`.
        options: `sample`, `class_names`, `signature` and `tolerance` of `export`.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: as `export`.
    """
    return export(model, path, "saved_model", **options)


def check_target(target: Path, format: str = "saved_model") -> None:
    """Refuse a target that cannot be written to, or holds other files, before any heavy work.

    Raises:
        ValueError: the format is unknown.
        FileExistsError, NotADirectoryError, PermissionError: as `export`.
    """
    form = lookup("format", FORMATS, format)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"`path` must be a folder to write, but it is a file: {target}")
    form.check(target)
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"`path` lies under a file: {existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"`path` lies in a folder that cannot be written to: {existing}")


def _logits_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    with tf.device("/CPU:0"):
        starts = range(0, len(images), BATCH)
        parts = [model(tf.constant(images[i : i + BATCH]), training=False) for i in starts]
    return np.concatenate([tf.cast(part, tf.float32) for part in parts])


def _logits_of_export(script: Path, folder: Path, signature: str, images: np.ndarray) -> np.ndarray:
    """Compute the logits of the export on the CPU, in a new process."""
    # this process may hold all of an accelerator's memory
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch, "images.npy"), Path(scratch, "logits.npy")
        np.save(inputs, images)
        # -P keeps the script's own folder, this library, out of the import path
        command = [sys.executable, "-P", *map(str, (script, folder, signature, inputs, outputs))]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=RELOAD_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"The export did not finish within {RELOAD_SECONDS:g} s in a new process."
            ) from error
        if done.returncode:
            raise RuntimeError(f"The export failed in a new process:\n{done.stderr[-2000:]}")
        return np.load(outputs)


def _compare(want: np.ndarray, got: np.ndarray, tolerance: float) -> float:
    """Return the largest difference, or raise `RuntimeError` if it is too large."""
    difference = float(np.abs(want - got).max())
    allowed = tolerance * max(1.0, float(np.abs(want).max()))
    if not difference <= allowed:  # so that NaN is refused
        raise RuntimeError(
            "The export's predictions differ from the model's: logits differ by up to "
            f"{difference:g} on {len(want)} images, but only {allowed:g} is allowed. Nothing was "
            "written."
        )
    return difference


def _tolerance(model: keras.Model) -> float:
    """Return the difference that rounding may cause, as a share of the largest logit."""
    in_32_bits = all(layer.compute_dtype == "float32" for layer in (model, *model.layers))
    return 1e-4 if in_32_bits else 2e-2


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a Keras model. Received: {type(model).__name__}")
    shape = getattr(model, "input_shape", None)  # a subclassed model has none
    output = getattr(model, "output_shape", None)
    if not (isinstance(shape, tuple) and len(shape) > 1 and None not in shape[1:]):
        raise ValueError(
            f"`model` must take one image of known size, (batch, height, width, channels). "
            f"Received: input of shape {shape}"
        )
    if not (isinstance(output, tuple) and len(output) == 2):
        raise ValueError(f"`model` must return logits, (batch, classes). Received: {output}")
    refuse_probabilities("model", model)


def _checked_sample(shape: tuple, sample: Any) -> np.ndarray:
    """Return the caller's images, or random ones, as float32."""
    if sample is None:
        drawn = np.random.default_rng(0).integers(0, 256, size=(16, *shape[1:]))
        return drawn.astype(np.float32)
    images = np.asarray(sample, np.float32)
    if images.shape[1:] != shape[1:] or not len(images):
        raise ValueError(
            f"`sample` must have shape (n, {', '.join(map(str, shape[1:]))}), the images of "
            f"`model`, n at least 1. Received: shape {images.shape}"
        )
    return images
