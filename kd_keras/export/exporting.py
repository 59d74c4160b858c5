"""`export`: write a model whole, and only after a new process gave the same predictions."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.evaluation.cost import file_bytes
from kd_keras.export.comparing import Bounds, Comparison, Judge
from kd_keras.export.content import Content, describe, logits_of, types_of
from kd_keras.export.formats import FORMATS, ExportFormat
from kd_keras.export.loaded import Loaded
from kd_keras.export.places import beside, check_beside
from kd_keras.export.quantization import Quantization
from kd_keras.export.stopwatch import Stopwatch
from kd_keras.models.heads import refuse_probabilities
from kd_keras.utils.checks import lookup, within
from kd_keras.utils.files import whole_file, write_json

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Export:
    """An export that was loaded back and compared. `dataclasses.asdict` gives plain JSON values.

    Attributes:
        path: the folder or file.
        format: the name in `FORMATS`.
        quantize: the name in `QUANTIZATIONS`.
        bytes: size of all its files.
        signature: name of the function to call.
        examples: number of images compared.
        sample: `"given"` by the caller, or `"drawn"` at random.
        max_abs_difference, mean_abs_difference: between a logit of the model and of the export.
        agreement: the share of images for which both chose the same class.
        same_predictions: True if that is all of them.
        metric: what `Judge` returns; None if no judge was given.
        latency: what `Stopwatch.time` returns; None if no stopwatch was given.
    """

    path: str
    format: str
    quantize: str
    bytes: int
    signature: str
    examples: int
    sample: str
    max_abs_difference: float
    mean_abs_difference: float
    agreement: float
    same_predictions: bool
    metric: dict[str, Any] | None = None
    latency: dict[str, Any] | None = None


def export(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: str = "saved_model",
    *,
    sample: Any = None,
    class_names: Sequence[str] | None = None,
    quantize: str = "none",
    representative: Any = None,
    about: Mapping[str, Any] | None = None,
    signature: str = "classify",
    tolerance: float | None = None,
    min_agreement: float | None = None,
    logits: Any = None,
    judge: Judge | None = None,
    stopwatch: Stopwatch | None = None,
) -> Export:
    """Write `model` for deployment, load it back in a new process, and compare the two.

    The files are written beside `path`, loaded in a new process by the format's own runtime, and
    compared with the model on the sample; both compute on the CPU, so that an accelerator's
    rounding is not taken for an error. Only then are they moved to `path`. What the file says of
    itself, and what the comparison found, also stand beside it as `NAME.json`.

    Args:
        model: a model of one image that returns logits.
        path: the folder, or the file, which ends in `.tflite` for `litert` and `.onnx` for `onnx`.
            An earlier export there is replaced. Other files in a folder stay.
        format: a name in `FORMATS`.
        sample: images to compare on, shape `(n, height, width, channels)`, raw pixels, any
            number type; by default 16 random images of a fixed seed, which say little about a
            quantised model.
        class_names: stored with the model, one name per class.
        quantize: a name in `QUANTIZATIONS` that the format has.
        representative: images of the training data, of the same shape as the sample, whole numbers
            in 0..255, from which `int8` reads the ranges of activations; a hundred or more.
        about: further facts to store, JSON values by name, such as `threshold` and `metrics`.
        signature: the name of the function to call, in formats that name it.
        tolerance: the largest allowed difference of a logit, as a share of the largest logit or of
            one, whichever is larger, for `quantize="none"`; by default 1e-4, or 2e-2 for a model
            that computes in 16 bits.
        min_agreement: the least share of images for which both choose the same class, in place of
            the quantization's own.
        logits: the model's for the sample, shape `(n, classes)`, as `logits_on_cpu` gives them, if
            several exports are compared with them; computed if not given.
        judge: has labels for the sample; the metric is then computed for both.
        stopwatch: measures the latency of both.

    Raises:
        TypeError: `model` is not a Keras model.
        ValueError: the format or quantization is unknown, needs packages that are not installed,
            or does not have the other; the model does not have one input and one output of shape
            `(batch, classes)`, or ends in softmax; the sample or the representative images have
            another shape or range, or are missing; or the number of class names is wrong.
        FileExistsError: something else is at `path`.
        NotADirectoryError, PermissionError: nothing can be written there.
        OSError: the disk is full; the message names `path`. Nothing is left behind.
        RuntimeError: the export could not be written or loaded, lacks weights, or predicts
            otherwise. Nothing is left behind.

    Example:
        ```python
        made = export(student, "student.tflite", "litert", sample=x_test[:500], quantize="float16")
        made.agreement, made.bytes
        ```
    """
    target = Path(path)
    form, quantization = check_target(target, format, quantize)
    _check_model(model)
    form.check_types(types_of(model))
    images = _checked_sample(model.input_shape, sample)
    if class_names is not None and len(class_names) != model.output_shape[-1]:
        raise ValueError(
            f"`class_names` must name the {model.output_shape[-1]} classes of `model`. "
            f"Received: {list(class_names)!r}"
        )
    if min_agreement is not None:
        within("min_agreement", min_agreement, 0.0, 1.0)
    if quantization.pixels == "uint8":
        images = _as_pixels("sample", images)
    bounds = Bounds.of(
        quantization, min_agreement, _tolerance(model) if tolerance is None else tolerance
    )
    content = Content(
        model,
        signature,
        quantization,
        describe(model, format, quantization, class_names=class_names, about=about),
        _representative(model.input_shape, quantization, representative),
    )
    where = "drawn" if sample is None else "given"
    want = logits_on_cpu(model, images) if logits is None else np.asarray(logits, np.float32)
    return _export(content, form, target, _Trial(images, want, where, bounds, judge, stopwatch))


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What an export goes through before it takes its name."""

    images: np.ndarray
    want: np.ndarray
    sample: str
    bounds: Bounds
    judge: Judge | None
    stopwatch: Stopwatch | None


def _export(content: Content, form: ExportFormat, target: Path, trial: _Trial) -> Export:
    with contextlib.ExitStack() as held:
        facts = held.enter_context(whole_file(beside(target)))
        written = held.enter_context(form.place.whole(target))
        form.writers[content.quantization.name](content, written)
        size = _checked_size(content, written)
        with Loaded(form, written, content.signature) as loaded:
            got = loaded.logits(trial.images)
        comparison = Comparison.of(trial.want, got)
        comparison.check(trial.bounds)
        judged = None if trial.judge is None else trial.judge(trial.want, got)
        clocked = (
            None
            if trial.stopwatch is None
            else trial.stopwatch.time(form, written, content.signature)
        )
        made = Export(
            path=str(target),
            format=form.name,
            quantize=content.quantization.name,
            bytes=size,
            signature=content.signature,
            examples=comparison.examples,
            sample=trial.sample,
            max_abs_difference=comparison.max_abs_difference,
            mean_abs_difference=comparison.mean_abs_difference,
            agreement=comparison.agreement,
            same_predictions=comparison.agreement == 1.0,
            metric=judged,
            latency=clocked,
        )
        write_json(facts, {**content.description, "export": dataclasses.asdict(made)})
    return made


def logits_on_cpu(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return a model's logits, float32 of shape `(n, classes)`, computed on the CPU.

    Args:
        model: a model of one image that returns logits.
        images: shape `(n, height, width, channels)`, raw pixels, any number type.

    Example:
        >>> net = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
        >>> logits_on_cpu(net, np.arange(8, dtype="uint8").reshape(2, 2, 2, 1))
        array([[0., 1., 2., 3.],
               [4., 5., 6., 7.]], dtype=float32)
    """
    with tf.device("/CPU:0"):  # layer by layer, not as the graph that is exported
        starts = range(0, len(images), BATCH)
        parts = [logits_of(model, tf.constant(images[i : i + BATCH], tf.float32)) for i in starts]
    return np.concatenate([part.numpy() for part in parts])


def saved_model(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Export:
    """Write `model` as a TensorFlow SavedModel, which needs neither Keras nor this library.

    Its signature, also available as `"serving_default"`, takes `image`, float32 of shape
    `(n, height, width, channels)`, raw pixels in 0..255. It returns `logits` and `probabilities`,
    both float32 of shape `(n, classes)`, whatever precision the model computes in. Each weight is
    stored once. Class names are stored in `assets.extra/class_names.json`, and with all other
    facts in `assets.extra/model.json`.

    Args:
        model, path: as in `export`.
        options: `sample`, `class_names`, `signature`, `tolerance` and others of `export`.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: as `export`.
    """
    return export(model, path, "saved_model", **options)


def check_target(
    target: Path, format: str = "saved_model", quantize: str = "none"
) -> tuple[ExportFormat, Quantization]:
    """Refuse what cannot be written, before any heavy work; return the format and quantization.

    Raises:
        ValueError: the format or the quantization is unknown, the format does not have it or needs
            packages that are not installed, or `target` has the wrong ending.
        FileExistsError, NotADirectoryError, PermissionError: as `export`.
    """
    form = lookup("format", FORMATS, format)
    quantization = form.quantization(quantize)
    if form.needs is not None:
        raise ValueError(form.needs)
    form.place.check(target)
    check_beside(target)
    existing = next(parent for parent in target.absolute().parents if parent.exists())
    if not existing.is_dir():
        raise NotADirectoryError(f"`path` lies under a file: {existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"`path` lies in a folder that cannot be written to: {existing}")
    return form, quantization


def _checked_size(content: Content, written: Path) -> int:
    """Return the bytes of an export, or raise `RuntimeError` if it cannot hold the weights."""
    size, least = file_bytes(written), content.least_bytes
    if size < least:
        raise RuntimeError(
            f"The export has {size} bytes, but the weights of {content.model.name!r} take at least "
            f"{least} with quantize={content.quantization.name!r}: some are missing. Nothing was "
            "written."
        )
    return size


def _tolerance(model: keras.Model) -> float:
    """Return the difference that rounding may cause, as a share of the largest logit."""
    return 1e-4 if types_of(model) == {"float32"} else 2e-2


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
    """Return the caller's images, or random ones."""
    if sample is None:
        return np.random.default_rng(0).integers(0, 256, (16, *shape[1:]), np.uint8)
    return _of_shape("sample", shape, sample)


def _of_shape(name: str, shape: tuple, given: Any) -> np.ndarray:
    images = np.asarray(given)
    if images.dtype != np.uint8:
        images = images.astype(np.float32)
    if images.shape[1:] != shape[1:] or not len(images):
        raise ValueError(
            f"`{name}` must have shape (n, {', '.join(map(str, shape[1:]))}), the images of "
            f"`model`, n at least 1. Received: shape {images.shape}"
        )
    return images


def _as_pixels(name: str, images: np.ndarray) -> np.ndarray:
    pixels = np.clip(images, 0, 255).astype(np.uint8)
    if (pixels != images).any():
        raise ValueError(
            f"`{name}` must hold raw pixels, whole numbers from 0 to 255, which is what int8 "
            f"takes. Received: numbers from {images.min():g} to {images.max():g}"
        )
    return pixels


def _representative(shape: tuple, quantization: Quantization, given: Any) -> np.ndarray | None:
    """Return the images that a quantization reads ranges from; None if it needs none."""
    if not quantization.calibrated:
        return None
    if given is None:
        raise ValueError(
            f"quantize={quantization.name!r} needs `representative`: a hundred or more images of "
            "the training data, from which the ranges of activations are read. On the command "
            "line, name the run folder in place of its model."
        )
    pixels = _as_pixels("representative", _of_shape("representative", shape, given))
    # from 0 to 255, so that the input's scale is 1 and it takes pixels as they are
    ends = pixels[:1].copy()
    ends.flat[0], ends.flat[-1] = 0, 255
    return np.concatenate([ends, pixels])
