"""A model's last layer, and the refusal of models that end in softmax."""

import keras
import numpy as np


def head(model: keras.Model) -> keras.layers.Layer:
    """The layer with weights that makes the logits, found at any depth.

    Raises:
        ValueError: where the model has no layer with weights.
    """
    layer = last_layer(model)
    if layer.weights:
        return layer
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


def refuse_probabilities(role: str, model: keras.Model) -> None:
    """Raise where `model` ends in softmax or sigmoid: the library works on logits.

    Functional and sequential models are judged by their last layer, subclassed ones by their
    answer on two random images.

    Raises:
        ValueError: names the layer and how to mend it.
    """
    layer = last_layer(model)
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", "")
    if isinstance(layer, keras.layers.Softmax) or name in ("softmax", "sigmoid"):
        raise ValueError(_sentence(role, model, f"its last layer {layer.name!r}", layer))
    if not getattr(model, "outputs", None) and _answers_probabilities(model):
        raise ValueError(_sentence(role, model, "its answer on random images", layer))


def _sentence(role: str, model: keras.Model, where: str, layer: keras.layers.Layer) -> str:
    if isinstance(layer, keras.layers.Softmax | keras.layers.Activation):
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

    shape = input_spec(model).shape[1:]
    images = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype("float32")
    answer = np.asarray(model(images, training=False), "float64")
    return bool(np.all(answer >= 0) and np.allclose(answer.sum(axis=-1), 1.0, atol=1e-4))
