"""A model's last layer, and the refusal of models that end in softmax."""

from collections.abc import Sequence

import keras
import numpy as np


def head(model: keras.Model) -> keras.layers.Layer:
    """The layer with weights that makes the logits, found at any depth.

    Raises:
        ValueError: where the model has no layer with weights, or brings several together at its
            end, as an ensemble does.
    """
    layer = last_layer(model)
    if getattr(layer, "weights", None):  # an operation such as `ops.multiply` is no layer
        return layer
    if _joins_at_its_end(model):
        raise ValueError(
            f"The logits of model {model.name!r} are made of several layers' answers: none of them "
            "is its head."
        )
    weighted = [x for x in model._flatten_layers(include_self=False) if x.weights and not x._layers]
    if not weighted:
        raise ValueError(f"Model {model.name!r} has no layer with weights.")
    return weighted[-1]


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """The layer whose output the model returns; the last one made, for a subclassed model."""
    if getattr(model, "outputs", None):
        layer = model.outputs[0]._keras_history.operation
    elif model.layers:
        layer = model.layers[-1]
    else:
        raise ValueError(f"Model {model.name!r} has no layers.")
    return last_layer(layer) if isinstance(layer, keras.Model) else layer


def _joins_at_its_end(model: keras.Model) -> bool:
    """Whether several tensors come together behind the last layer with weights."""
    outputs = getattr(model, "outputs", None)
    tensor = outputs[0] if outputs else None
    while tensor is not None:
        history = tensor._keras_history
        if getattr(history.operation, "weights", None):
            return False
        entering = history.operation._inbound_nodes[history.node_index].input_tensors
        if len(entering) > 1:
            return True
        tensor = entering[0] if entering else None
    return False


def refuse_probabilities(role: str, model: keras.Model) -> None:
    """Raise where `model` ends in softmax or sigmoid: the library works on logits.

    A model is judged by its last layer, and where that has no weights, or the model is subclassed,
    by its answer on two random images.

    Raises:
        ValueError: names the layer and how to mend it.
    """
    layer = last_layer(model)
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", "")
    if isinstance(layer, keras.layers.Softmax) or name in ("softmax", "sigmoid"):
        raise ValueError(_sentence(role, model, f"its last layer {layer.name!r}", layer))
    certain = getattr(model, "outputs", None) and getattr(layer, "weights", None)
    if not certain and _answers_probabilities(model):
        raise ValueError(_sentence(role, model, "its answer on random images", layer))


def refuse_single_logit(role: str, shape: Sequence[int | None]) -> None:
    """Raise where a model answers with anything but one logit for each of two classes or more.

    Softmax over a single logit is always 1: such a student would learn nothing, without a word.
    """
    if len(shape) != 2 or (shape[-1] or 0) < 2:
        raise ValueError(
            f"`{role}` must return one logit for each of two classes or more, shape "
            f"(batch, classes). Received: a {role} that returns {shape}"
        )


def _sentence(role: str, model: keras.Model, where: str, layer: keras.layers.Layer) -> str:
    if not getattr(layer, "weights", None):
        mend = (
            f"leave layer {layer.name!r} out: keras.Model(model.input, <the layer before>.output)"
        )
    else:
        mend = (
            f"set `model.get_layer({layer.name!r}).activation = keras.activations.linear`, "
            "which keeps the weights"
        )
    return (
        f"`{role}` must return logits, but {where} shows that model {model.name!r} returns "
        f"probabilities. To mend it, {mend}."
    )


def _answers_probabilities(model: keras.Model) -> bool:
    from kd_keras.models.taps import input_spec

    def two_images(spec):
        sides = [side or 64 for side in spec.shape[1:]]
        return np.random.default_rng(0).uniform(0, 255, (2, *sides)).astype("float32")

    images = keras.tree.map_structure(two_images, input_spec(model))
    answer = np.asarray(model(images, training=False), "float64")
    sums_to_one = np.allclose(answer.sum(axis=-1), 1.0, atol=1e-2)  # or so, in half precision
    return bool(np.all(answer >= 0) and sums_to_one)
