"""The format `litert`: one LiteRT (TensorFlow Lite) file, converted from our own SavedModel.

The converter reads a SavedModel whose module holds the function's variables. From a `tf.Module`
that holds the Keras model it makes a file without weights, and reports no error.
"""

import functools
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras.export import savedmodel
from kd_keras.export.content import Content
from kd_keras.utils.quiet import without_chatter

DESCRIPTION = "model.json"  # in the file: JSON, as `content.describe` gives it
LABELS = "labels.txt"  # in the file: a class name per line, where LiteRT's tools look for it
Prepare = Callable[[Any, Content], None]


def _float16(converter: Any, content: Content) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(converter: Any, content: Content) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _int8(converter: Any, content: Content) -> None:
    images = np.asarray(content.representative, np.float32)

    def each() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[np.newaxis]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = each
    # an operation without an integer kernel is an error, not a float one in its place
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8


def _write(prepare: Prepare, content: Content, path: Path) -> None:
    """Convert a model to one file, and store its description inside.

    Raises:
        RuntimeError: LiteRT has no kernel for a part of the model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        savedmodel.save_logits(content, Path(scratch))
        path.write_bytes(_converted(prepare, content, scratch))
    _describe(content, path)


def _converted(prepare: Prepare, content: Content, folder: str) -> bytes:
    """Return the LiteRT file of a SavedModel."""
    with without_chatter():
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[content.signature]
        )
        prepare(converter, content)
        try:
            return converter.convert()
        except Exception as error:  # the converter raises types of its own, and bare exceptions
            raise RuntimeError(
                f"LiteRT cannot hold model {content.model.name!r} with quantize="
                f"{content.quantization.name!r}: {_reason(str(error))}"
            ) from error


def _reason(said: str) -> str:
    r"""Return the line of the converter's error that a person can use: the missing kernels.

    Example:
        >>> _reason("error: loc(...)\nTF Select ops: Conv2D, Mul\nDetails:")
        'it has no kernel for Conv2D, Mul.'
    """
    missing = re.search(r"^(?:TF Select|Custom) ops: (.+)$", said, re.MULTILINE)
    if missing:
        return f"it has no kernel for {missing[1].strip()}."
    return next((line.strip() for line in said.splitlines() if line.strip()), "it gives no reason.")


def _describe(content: Content, path: Path) -> None:
    """Append the description, and the class names, as LiteRT's metadata tools append files."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(DESCRIPTION, json.dumps(content.description, ensure_ascii=False))
        if content.description["class_names"] is not None:
            archive.writestr(LABELS, "\n".join(content.description["class_names"]) + "\n")


WRITERS = {
    "none": functools.partial(_write, lambda converter, content: None),
    "float16": functools.partial(_write, _float16),
    "dynamic": functools.partial(_write, _dynamic),
    "int8": functools.partial(_write, _int8),
}
"""What writes each quantization."""
