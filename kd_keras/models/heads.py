"""Find a model's last layer, and refuse models that end in probabilities.

A model is accepted if its last layer is one of Keras' own with a linear activation, and refused if
it is known to end in softmax or sigmoid. Any other model is run on random images: probabilities
show in the predictions themselves.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kd_keras.models import endings
from kd_keras.models.graphs import (
    all_layers,
    answer_spec,
    entering,
    input_spec,
    logits_in,
    maker_of,
)

ASKED = 4  # random images
SHIFTS = (10.0, 1e4)  # of the biases


def head(model: keras.Model) -> keras.layers.Layer:
    """Return the layer with weights that computes the logits, found at any depth.

    Raises:
        ValueError: if the model has no layer with weights, or combines several at its end, as an
            ensemble does.
    """
    layer = last_layer(model)
    if getattr(layer, "weights", None):  # an operation such as `ops.multiply` is not a layer
        return layer
    if _joins_at_its_end(model):
        raise ValueError(
            f"The logits of model {model.name!r} combine several layers' outputs: none of these "
            "layers is its head."
        )
    weighted = [x for x in all_layers(model, itself=False) if x.weights and not x._layers]
    if not weighted:
        raise ValueError(f"Model {model.name!r} has no layer with weights.")
    return weighted[-1]


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """Return the layer whose output the model returns; for a subclassed model, the last created."""
    return _last(model)[-1]


def _last(model: keras.Model) -> list[Any]:
    """Return the models that the last layer is nested in, then the layer itself."""
    if getattr(model, "outputs", None):
        layer = maker_of(logits_in(answer_spec(model), model))
    elif model.layers:
        layer = model.layers[-1]
    else:
        raise ValueError(f"Model {model.name!r} has no layers.")
    return [layer, *_last(layer)] if isinstance(layer, keras.Model) else [layer]


def _joins_at_its_end(model: keras.Model) -> bool:
    """Return True if several tensors are combined after the last layer with weights."""
    outputs = getattr(model, "outputs", None)
    tensor = logits_in(answer_spec(model), model) if outputs else None
    while tensor is not None:
        if getattr(maker_of(tensor), "weights", None):
            return False
        inputs = entering(tensor)
        if len(inputs) > 1:
            return True
        tensor = inputs[0] if inputs else None
    return False


def refuse_probabilities(role: str, model: keras.Model) -> None:
    """Raise `ValueError` if `model` ends in softmax or sigmoid: the library works on logits.

    Args:
        role: the model's name in the error message.
        model: a built Keras model of any kind.

    Raises:
        ValueError: if the model returns probabilities, or fails on random images; the message
            says how to fix it.
    """
    steps = endings.deciding(model)
    step = steps[-1] if steps else None
    if step is not None and endings.gives_logits(step):
        return
    kind: str | None
    if step is not None and endings.gives_probabilities(step):
        shown, kind = f"its last layer {step.name!r}", endings.kind_of(step)
    else:
        shown, kind = "its output on random images", _asked(role, model)
    if kind is not None:
        mend = endings.mend(model, steps or _last(model), kind, certain=bool(steps))
        raise ValueError(
            f"`{role}` must return logits, but {shown} shows that model {model.name!r} returns "
            f"probabilities. To fix it, {mend}."
        )


def refuse_single_logit(role: str, shape: Sequence[int | None]) -> None:
    """Raise `ValueError` unless a model returns one logit per class, for two classes or more.

    Softmax over a single logit is always 1: such a student would silently learn nothing.
    """
    if len(shape) != 2 or (shape[-1] or 0) < 2:
        raise ValueError(
            f"`{role}` must return one logit for each of two classes or more, shape "
            f"(batch, classes). Received: a {role} that returns {shape}"
        )


def _asked(role: str, model: keras.Model) -> str | None:
    """Tell from a model's predictions what they are: `"softmax"`, `"sigmoid"`, or None for logits.

    Softmax shows in any predictions: they are not negative and sum to 1. Predictions within 0 and 1
    may be chance. They count as a sigmoid's if, after a large increase of all biases, they have
    changed and still lie within 0 and 1. Predictions that are not finite show nothing.
    """
    images = keras.tree.map_structure(_drawn, input_spec(model))
    try:
        answer = _numbers(model(images, training=False), model)
    except Exception as error:  # custom code may raise anything
        shapes = keras.tree.map_structure(np.shape, images)
        raise ValueError(
            f"`{role}` must run on random images, to check that it returns logits. "
            f"Received: model {model.name!r}, which fails on images of shape {shapes}. Give "
            f"its input a fixed size that works. It raised {error!r:.300}"
        ) from error
    finite = np.isfinite(answer).reshape(len(answer), -1).all(axis=1)
    if not finite.any() or not _within(answer[finite]):
        return None
    if np.allclose(answer[finite].sum(axis=-1), 1.0, atol=1e-2):  # half precision is inexact
        return "softmax"
    moved = [_numbers(_with_biases_moved(model, images, by), model) for by in SHIFTS]
    bounded = all(_within(each) for each in (answer, *moved))
    return "sigmoid" if bounded and not np.allclose(moved, answer, atol=1e-6) else None


def _numbers(answer: Any, model: keras.Model) -> np.ndarray:
    return np.asarray(tf.cast(logits_in(answer, model), tf.float32), "float64")


def _within(answer: np.ndarray) -> bool:
    """Return True if all numbers lie within 0 and 1; numbers that are not finite do not."""
    return bool(np.all((answer >= 0) & (answer <= 1)))


def _drawn(spec: tf.TensorSpec) -> np.ndarray:
    sides = [side or (64 if len(spec.shape) > 2 else 8) for side in spec.shape[1:]]
    rng = np.random.default_rng(0)
    if spec.dtype.is_floating:
        drawn = rng.uniform(0, 255, (ASKED, *sides))
        drawn[::2] /= 255  # an exponential may overflow if logits are large
        return drawn.astype(spec.dtype.as_numpy_dtype)
    if spec.dtype == tf.string:
        return np.full((ASKED, *sides), "", object)
    most = 256 if spec.dtype == tf.uint8 else 2  # other integers may be indices into a table
    return rng.integers(0, most, (ASKED, *sides)).astype(spec.dtype.as_numpy_dtype)


def _with_biases_moved(model: keras.Model, images: Any, by: float) -> Any:
    """Run a model with every bias increased by a different amount; the model is not changed."""
    rng = np.random.default_rng(1)

    def moved(variable):
        value = keras.ops.convert_to_tensor(variable)
        if len(variable.shape) > 1 or not keras.backend.is_float_dtype(variable.dtype):
            return value
        # upwards, since a variance must not become negative
        more = by * rng.uniform(1, 2, variable.shape)
        return value + keras.ops.cast(more, value.dtype)

    with keras.StatelessScope(state_mapping=[(v, moved(v)) for v in model.variables]):
        return model(images, training=False)
