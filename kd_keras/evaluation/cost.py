"""The cost of a model: parameters, operations, bytes, milliseconds."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.evaluation import busy

WIDE = 2.0  # the 95th percentile over the median, from which on a latency is unsure


def parameters(model: keras.Model) -> int:
    """Return the number of weights of `model`, trainable or not."""
    return model.count_params()


def weight_bytes(model: keras.Model) -> int:
    """Return the bytes of the weights in memory, at their own dtype.

    This is not the size of an exported file, which also holds a graph (`file_bytes`).
    """
    return sum(math.prod(w.shape) * tf.as_dtype(w.dtype).size for w in model.weights)


def file_bytes(path: str | Path) -> int:
    """Return the bytes of a file, or of all files in a folder.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
    """
    path = Path(path)
    if path.is_dir():
        return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    return path.stat().st_size


def flops(model: keras.Model, batch: int = 1) -> int:
    """Count the floating-point operations of one inference on `batch` images.

    The operations are counted in the TensorFlow graph of `model(x, training=False)`. Matrix
    products, einsums and convolutions of every kind count two per multiply-add, pooling and
    reductions one per input read, and elementwise arithmetic and activations one per output
    number. Moving, gathering, resizing and casting numbers count nothing. A batch normalisation
    costs two per number, a scale and a shift, besides a few operations per channel that do not
    depend on the image.

    Raises:
        ValueError: if the shape of the model's input, or of a tensor inside, is not known.
        NotImplementedError: if the graph holds a loop or a branch, whose length is not known.

    Example:
        >>> flops(keras.Sequential([keras.Input((3,)), keras.layers.Dense(5)]))
        35
    """
    inputs = [tf.TensorSpec((batch, *shape), dtype) for shape, dtype in _inputs(model)]
    function = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False))
    return _graph_flops(function.get_concrete_function(*inputs).graph)


def latency(
    model: keras.Model,
    batches: Sequence[int] = (1, 32),
    *,
    repeats: int = 200,
    warmup: int = 3,
    seconds: float = 0.5,
) -> dict[int, dict[str, float]]:
    """Measure the milliseconds of one warm inference, by batch size, on the device in use.

    The model is compiled as a `tf.function` for each batch size and runs on random pixels.
    The clock stops when the output has reached the host's memory.

    Args:
        model: a model with one input of known shape.
        batches: the batch sizes.
        repeats: inferences to time, at most.
        warmup: inferences before the clock starts; the first compiles.
        seconds: time after which no further inference starts, once ten are timed.

    Returns:
        `{batch: {"median_ms", "p95_ms"}}`.
    """
    return {batch: _latency(model, batch, repeats, warmup, seconds) for batch in batches}


def describe(model: keras.Model) -> dict[str, Any]:
    """Return all costs of `model`, as plain numbers that JSON can hold.

    Returns:
        `parameters`: number of weights; `flops`: operations on one image, None if they
        cannot be counted; `latency_ms`: `{"1": {"median_ms", "p95_ms"}, "32": ...}`, warm, on
        this machine; `latency_unsure`: why it says little, such as other programs that ran, or
        None; `weight_bytes`: bytes of the weights in memory, not of a file.
    """
    try:
        operations = flops(model)
    except NotImplementedError:
        operations = None
    watch = busy.Watch()
    times = latency(model)
    return {
        "parameters": parameters(model),
        "flops": operations,
        "latency_ms": {str(batch): found for batch, found in times.items()},
        "latency_unsure": doubt(times, watch.others()),
        "weight_bytes": weight_bytes(model),
    }


class Costs:
    """The costs of several models; models of one architecture are measured once.

    They differ in their weights alone, which change no latency: two measurements would differ by
    what else the machine does, and look like a difference of the models.

    Example:
        >>> costs, layers = Costs(), [keras.Input((3,)), keras.layers.Dense(5)]
        >>> one, other = keras.Sequential(layers), keras.Sequential(layers)
        >>> costs.of(one) is costs.of(other)
        True
    """

    def __init__(self) -> None:
        self._known: dict[Any, dict[str, Any]] = {}

    def of(self, model: keras.Model) -> dict[str, Any]:
        """Return what `describe` returns for this model, or for one of the same architecture."""
        architecture = _architecture(model)
        if architecture not in self._known:
            self._known[architecture] = describe(model)
        return self._known[architecture]


def _architecture(model: keras.Model) -> Any:
    """Return a value that is equal for models of equal layers; the model itself if not known."""
    try:
        config = keras.saving.serialize_keras_object(model.get_config())
    except NotImplementedError:  # a subclassed model without a configuration
        return model
    names: dict[str, int] = {}
    return json.dumps(_renamed(_renamed(config, names), names), sort_keys=True)


def _renamed(config: Any, names: dict[str, int]) -> Any:
    """Return a configuration with numbers for the names of layers, which Keras draws anew.

    Args:
        config: a configuration, or a part of it.
        names: the numbers of the names seen so far; names that are found are added.
    """
    if isinstance(config, dict):
        if "name" in config and config.keys() & {"dtype", "layers"}:  # a layer's, or a model's
            names.setdefault(config["name"], len(names))
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, list):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def doubt(times: Mapping[Any, Mapping[str, float]], others: float | None) -> str | None:
    """Return a sentence on why latencies are unsure, or None.

    Args:
        times: as `latency` returns them.
        others: the share of the processors that other programs took; None if not known.

    Example:
        >>> doubt({1: {"median_ms": 2.0, "p95_ms": 6.0}}, others=0.0)
        'the 95th percentile is 3.0 times the median'
    """
    if others is not None and others > busy.FREE:
        return f"other programs took {others:.0%} of the processors while it was measured"
    widest = max(found["p95_ms"] / found["median_ms"] for found in times.values())
    if widest > WIDE:
        return f"the 95th percentile is {widest:.1f} times the median"
    return None


def _latency(
    model: keras.Model, batch: int, repeats: int, warmup: int, seconds: float
) -> dict[str, float]:
    ((shape, dtype),) = _inputs(model)
    signature = [tf.TensorSpec((batch, *shape), dtype)]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    pixels = np.random.default_rng(0).integers(0, 256, size=(batch, *shape))
    images = tf.constant(pixels, dtype)

    def infer() -> float:
        start = time.perf_counter()
        for answer in tf.nest.flatten(function(images)):
            answer.numpy()  # waits for an accelerator to finish
        return time.perf_counter() - start

    for _ in range(warmup):
        infer()
    times: list[float] = []
    while len(times) < repeats and (len(times) < 10 or sum(times) < seconds):
        times.append(infer())
    median, p95 = 1000.0 * np.quantile(times, [0.5, 0.95])
    return {"median_ms": float(median), "p95_ms": float(p95)}


def _inputs(model: keras.Model) -> list[tuple[tuple[int, ...], str]]:
    """Return the shape, without the batch, and the dtype of each input."""
    try:
        inputs = [(tuple(x.shape), x.dtype) for x in model.inputs]
    except (AttributeError, ValueError, TypeError):  # a subclassed model
        config = model.get_build_config() or {}
        inputs = [(tuple(config.get("input_shape") or (None, None)), "float32")]
    if any(size is None for shape, _ in inputs for size in shape[1:]):
        raise ValueError(
            f"`model` must have an input of known height, width and channels. "
            f"Received: {model.name!r} with input shapes {[shape for shape, _ in inputs]}"
        )
    return [(shape[1:], dtype) for shape, dtype in inputs]


# --- operations ---------------------------------------------------------------------------


def _size(tensor: tf.Tensor) -> int:
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            f"The operations of {tensor.op.name!r} ({tensor.op.type}) cannot be counted: "
            f"its shape {tensor.shape} is not known before it runs."
        )
    return tensor.shape.num_elements()


def _elementwise(op: tf.Operation) -> int:
    return _size(op.outputs[0])


def _reduction(op: tf.Operation) -> int:
    return _size(op.inputs[0])


def _pooling(op: tf.Operation) -> int:
    return _size(op.outputs[0]) * math.prod(op.get_attr("ksize"))


def _matmul(op: tf.Operation) -> int:
    transposed = op.type == "MatMul" and op.get_attr("transpose_a")
    transposed = transposed or (op.type != "MatMul" and op.get_attr("adj_x"))
    inner = op.inputs[0].shape[-2 if transposed else -1]
    return 2 * _size(op.outputs[0]) * inner


def _einsum(op: tf.Operation) -> int:
    """Count two per combination of all letters; TensorFlow has expanded `...` if it is static."""
    equation = op.get_attr("equation").decode()
    terms = equation.split("->")[0].split(",")
    if "." in equation:
        raise NotImplementedError(f"Operations of the einsum {equation!r} are not counted.")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, op.inputs, strict=True):
        _size(tensor)
        sizes.update(zip(term, tensor.shape, strict=True))
    return 2 * math.prod(sizes.values())


def _convolution(op: tf.Operation) -> int:
    """Count a kernel without its last axis, the output channels, for each output number."""
    return 2 * _size(op.outputs[0]) * math.prod(op.inputs[1].shape[:-1])


def _depthwise(op: tf.Operation) -> int:
    height, width = op.inputs[1].shape[:2]
    return 2 * _size(op.outputs[0]) * height * width


def _transposed(op: tf.Operation) -> int:
    """Count a kernel without its last axis for each number of the input (argument 2)."""
    return 2 * _size(op.inputs[2]) * math.prod(op.inputs[1].shape[:-1])


# fmt: off
ELEMENTWISE = (
    "Add", "AddV2", "AddN", "BiasAdd", "Sub", "Mul", "RealDiv", "DivNoNan", "Pow", "Square",
    "SquaredDifference", "Neg", "Abs", "Maximum", "Minimum", "Sqrt", "Rsqrt", "Exp", "Log",
    "Log1p", "Erf", "Erfc", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Softplus", "Softsign",
    "Elu", "Selu", "Relu", "Relu6", "LeakyRelu",
)
# fmt: on
COUNTS: dict[str, Callable[[tf.Operation], int]] = {
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matmul),
    "Einsum": _einsum,
    **dict.fromkeys(("Conv2D", "Conv3D"), _convolution),
    "DepthwiseConv2dNative": _depthwise,
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed),
    **dict.fromkeys(("AvgPool", "MaxPool", "AvgPool3D", "MaxPool3D"), _pooling),
    **dict.fromkeys(("Mean", "Sum", "Max", "Min", "Prod"), _reduction),
    **dict.fromkeys(ELEMENTWISE, _elementwise),
}
LOOPS = {"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def _graph_flops(graph: Any) -> int:
    return sum(_operation_flops(op, graph) for op in graph.get_operations())


def _operation_flops(op: tf.Operation, graph: Any) -> int:
    if op.type in LOOPS:
        raise NotImplementedError(f"Operations inside {op.name!r} ({op.type}) are not counted.")
    if op.type in CALLS:
        return _graph_flops(graph._get_function(op.get_attr("f").name).graph)
    if op.type not in COUNTS or not op.outputs[0].dtype.is_floating:
        return 0
    return COUNTS[op.type](op)
