"""The end of a model: the layer that decides if it returns logits, and code to undo softmax."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kd_keras.models.graphs import answer_spec, entering, input_spec, logits_in, maker_of, own_graph

# Keras and TensorFlow functions, compared by identity, since a name proves nothing
LINEAR = (None, keras.activations.linear, keras.activations.log_softmax)
PROBABILITIES = (
    *(keras.activations.softmax, keras.activations.sigmoid),
    *(keras.activations.hard_sigmoid, keras.activations.sparsemax),
    *(keras.ops.softmax, keras.ops.sigmoid, keras.ops.hard_sigmoid, keras.ops.sparsemax),
    *(tf.nn.softmax, tf.nn.sigmoid),
)
# class names of Keras' own layers and operations
PROBABILITY_STEPS = {"Softmax", "Sigmoid", "HardSigmoid", "Sparsemax"}
# layers whose output may be any number if their activation is linear
MATRIX_LAYERS = (
    *(layers.Dense, layers.EinsumDense, layers.BatchNormalization),
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.SeparableConv2D, layers.DepthwiseConv2D),
)
# layers that pass on what they receive, be it logits or probabilities
PASSING = (
    *(layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
)


def deciding(model: keras.Model) -> list[Any]:
    """Find the layer or operation that decides what kind of numbers a model returns.

    Returns:
        The models that it is nested in, then the layer or operation itself; an empty list if
        custom code decides.
    """
    graph = own_graph(model)
    return [] if graph is None else _deciding_for(logits_in(graph.output, model))


def _deciding_for(tensor: keras.KerasTensor) -> list[Any]:
    step, _, place = tensor._keras_history
    if isinstance(step, keras.Model):
        graph = own_graph(step)
        return [] if graph is None else [step, *_deciding_for(graph.outputs[place])]
    inputs = entering(tensor)
    linear = type(step) is layers.Activation and _is_one_of(step.activation, LINEAR)
    if len(inputs) == 1 and (type(step) in PASSING or linear):
        inner = _deciding_for(inputs[0])
        # nothing is known of a model without a graph, and nothing comes before the input
        return [step] if inner and isinstance(inner[-1], layers.InputLayer) else inner
    return [step]


def gives_logits(step: Any) -> bool:
    return type(step) in MATRIX_LAYERS and _is_one_of(getattr(step, "activation", None), LINEAR)


def gives_probabilities(step: Any) -> bool:
    if not type(step).__module__.startswith("keras."):
        return False
    if type(step).__name__ in PROBABILITY_STEPS:
        return True
    activation = getattr(step, "activation", None)
    if isinstance(activation, layers.Layer):
        return gives_probabilities(activation)
    return _is_one_of(activation, PROBABILITIES)


def _is_one_of(activation: Any, known: Sequence[Any]) -> bool:
    return any(activation is each for each in known)


def kind_of(step: Any) -> str:
    activation = getattr(step, "activation", None)
    if isinstance(activation, layers.Layer):
        return kind_of(activation)
    name = type(step).__name__ if activation is None else activation.__name__
    return "sigmoid" if "sigmoid" in name.lower() else "softmax"


def mend(model: keras.Model, path: list[Any], kind: str, *, certain: bool) -> str:
    """Return the way to fix a model that ends in softmax or sigmoid, as code that can be run.

    Args:
        model: a model that returns probabilities.
        path: the models that its last layer or operation is nested in, then that layer itself.
        kind: `"softmax"` or `"sigmoid"`.
        certain: whether it is known that this layer runs last.
    """
    *outer, step = path
    reached = "model" + "".join(f".get_layer({nested.name!r})" for nested in outer)
    activation = getattr(step, "activation", None)
    foreign = not getattr(activation, "__module__", "").startswith("keras.")
    known = certain and not _is_one_of(activation, LINEAR)
    # the last layer that a subclassed model created need not be the last that runs
    if known or (activation and (foreign or gives_probabilities(step))):
        return (
            f"set `{reached}.get_layer({step.name!r}).activation = keras.activations.linear`, "
            "which keeps the weights"
        )
    if certain and _is_all_that_makes_probabilities(step):
        holder = outer[-1] if outer else model
        if isinstance(holder, keras.Sequential) and holder.layers[-1] is step:
            return f"remove layer {step.name!r}: `{reached}.pop()`, which keeps the weights"
        if not outer and _is_last(model, step):
            return f"remove {step.name!r}: `model = keras.Model(model.input, {_before(step)})`"
    change = "" if certain else f"return the logits from `call`, without the {kind}; or "
    return f"{change}undo it, which keeps the weights: `{_undone(model, kind)}`"


def _is_all_that_makes_probabilities(step: Any) -> bool:
    """Return True if logits enter the last step, as far as is known, so that it can be removed."""
    if getattr(step, "weights", None) or len(step._inbound_nodes) != 1:
        return False
    inputs = step._inbound_nodes[0].input_tensors
    return gives_probabilities(step) or (
        len(inputs) == 1 and any(map(gives_logits, _deciding_for(inputs[0])[-1:]))
    )


def _is_last(model: keras.Model, step: Any) -> bool:
    """Return True if this is the very last step of a functional model."""
    last = maker_of(logits_in(answer_spec(model), model))
    return own_graph(model) is model and last is step


def _before(step: Any) -> str:
    place = f"get_layer({step.name!r})" if isinstance(step, layers.Layer) else "operations[-1]"
    return f"model.{place}.input"


def _undone(model: keras.Model, kind: str) -> str:
    """Return code for a model of logits around another, the inverse of its softmax or sigmoid."""
    spec = input_spec(model)
    if isinstance(spec, Mapping):
        named = [f"{name!r}: {_input_code(each, name)}" for name, each in spec.items()]
        images = f"{{{', '.join(named)}}}"
    elif isinstance(spec, (list, tuple)):
        images = f"[{', '.join(map(_input_code, spec))}]"
    else:
        images = _input_code(spec)
    p = 'model(x)["logits"]' if isinstance(answer_spec(model), Mapping) else "model(x)"
    if kind == "softmax":
        p = f'keras.ops.maximum(keras.ops.cast({p}, "float32"), 1e-30)'
        logits = "keras.ops.log(p)"
    else:
        p = f'keras.ops.clip(keras.ops.cast({p}, "float32"), 1e-7, 1 - 1e-7)'
        logits = "keras.ops.log(p / (1 - p))"
    return f"x = {images}; p = {p}; model = keras.Model(x, {logits})"


def _input_code(spec: tf.TensorSpec, name: str | None = None) -> str:
    kind = "" if spec.dtype == tf.float32 else f", dtype={spec.dtype.name!r}"
    called = "" if name is None else f", name={name!r}"
    return f"keras.Input({tuple(spec.shape[1:])}{kind}{called})"
