"""The format `onnx`: one ONNX file, made by tf2onnx and quantised by onnxruntime.

The packages are imported when a file is written: they are an extra.
"""

import functools
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.export.content import Content
from kd_keras.utils.quiet import unlogged

OPSET = 17  # the newest that tf2onnx 1.17 writes for all that Keras' layers use
BATCH = 32  # images of one step of the calibration
DESCRIPTION = "kd_keras"  # the key of the description in the file's metadata
Quantise = Callable[[Path, Path, Content], None]


def _none(source: Path, target: Path, content: Content) -> None:
    source.rename(target)


def _float16(source: Path, target: Path, content: Content) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _dynamic(source: Path, target: Path, content: Content) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # unsigned: onnxruntime has no kernel for signed weights in its dynamic convolution
    quantize_dynamic(_prepared(source), target, weight_type=QuantType.QUInt8)


def _int8(source: Path, target: Path, content: Content) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        _prepared(source),
        target,
        _reader(np.asarray(content.representative)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        # 7 bits of a weight: without VNNI, a processor's sum of two 8-bit products overflows
        reduce_range=True,
    )


def _prepared(source: Path) -> Path:
    """Return a file with known shapes and folded normalisations, which quantizers ask for."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)  # that would want sympy
    return prepared


def _reader(images: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives the calibration its images, in batches."""

        def __init__(self) -> None:
            self._batches = _batches(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    return Reader()


def _batches(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for at in range(0, len(images), BATCH):
        yield {"image": images[at : at + BATCH]}


def _write(quantise: Quantise, content: Content, path: Path) -> None:
    """Convert a model to one file, and store its description in the file's metadata.

    Raises:
        RuntimeError: tf2onnx or onnxruntime cannot convert a part of the model.
    """
    with (
        tempfile.TemporaryDirectory() as scratch,
        unlogged("tf2onnx", logging.ERROR) as said,
        unlogged("tensorflow", logging.ERROR),
    ):
        source = Path(scratch, "whole.onnx")
        try:
            _convert(content, source)
            quantise(source, path, content)
        except Exception as error:  # both raise nearly anything for what they do not know
            reason = said[0].partition(" (fct")[0] if said else f"{type(error).__name__}: {error}"
            raise RuntimeError(
                f"ONNX cannot hold model {content.model.name!r} with quantize="
                f"{content.quantization.name!r}: {reason}"
            ) from error
    _describe(content, path)


def _convert(content: Content, path: Path) -> None:
    import onnx
    import tf2onnx

    function = content.function
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    onnx.save(_with_free_batch(model), path)


def _with_free_batch(model: Any) -> Any:
    """Return the model whose first dimension is called `batch`, where tf2onnx numbers it."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _describe(content: Content, path: Path) -> None:
    import onnx

    model = onnx.load(path)
    said = {DESCRIPTION: json.dumps(content.description, ensure_ascii=False)}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, path)


WRITERS = {
    "none": functools.partial(_write, _none),
    "float16": functools.partial(_write, _float16),
    "dynamic": functools.partial(_write, _dynamic),
    "int8": functools.partial(_write, _int8),
}
"""What writes each quantization."""
