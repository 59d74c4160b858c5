"""Find out if the features of a layer have passed a ReLU, so that none of them is negative."""

from typing import Any

import keras
from keras import layers

from kd_keras.models.graphs import maker_of

_RELU = (keras.activations.relu, keras.activations.relu6)
# layers that return no negative number if none enters
_KEEPING = (
    layers.Add,
    layers.AveragePooling2D,
    layers.Concatenate,
    layers.Dropout,
    layers.Flatten,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.MaxPooling2D,
    layers.Maximum,
    layers.Reshape,
    layers.SpatialDropout2D,
    layers.ZeroPadding2D,
)
# layers that return numbers of both signs
_SIGNED = (layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization)


def rectified(layer: layers.Layer, *, at_input: bool = False) -> bool | None:
    """Find out if the features of a layer have passed a ReLU.

    Args:
        layer: a layer of a built model.
        at_input: examine the layer's input instead of its output.

    Returns:
        True if they have, or False if they include negative numbers, as far as the layers tell;
        None for a custom layer, an unknown activation, or if there is no graph to look back in.

    Example:
        >>> x = layers.Conv2D(4, 3)(keras.Input((8, 8, 1)))
        >>> relu = layers.ReLU()
        >>> _ = layers.MaxPooling2D()(relu(x))
        >>> rectified(relu), rectified(x._keras_history.operation)
        (True, False)
    """
    known: dict[int, bool | None] = {}
    return _of_all(_entering(layer), known) if at_input else _of_layer(layer, known)


def _of_layer(layer: Any, known: dict[int, bool | None]) -> bool | None:
    """Examine one layer; `known` holds the results for earlier layers, which many may share."""
    if id(layer) not in known:
        known[id(layer)] = _judged(layer, known)
    return known[id(layer)]


def _judged(layer: Any, known: dict[int, bool | None]) -> bool | None:
    if isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        return _of_layer(maker_of(layer.outputs[0]), known)
    if isinstance(layer, layers.ReLU):
        return True if not layer.negative_slope and layer.threshold >= 0 else None
    if isinstance(layer, _KEEPING):
        return _of_all(_entering(layer), known)
    if isinstance(layer, _SIGNED):
        return False
    activation = getattr(layer, "activation", None)
    if activation in _RELU:
        return True
    if activation is keras.activations.linear and getattr(layer, "weights", None):
        return False
    return None


def _of_all(several: list, known: dict[int, bool | None]) -> bool | None:
    """Combine several layers: True if all are rectified, False if one is known not to be."""
    found = [_of_layer(layer, known) for layer in several]
    if found and all(found):
        return True
    return False if False in found else None


def _entering(layer: Any) -> list:
    """Return the layers whose outputs enter a layer; none if the graph does not say."""
    nodes = getattr(layer, "_inbound_nodes", [])
    if not nodes:
        return []
    return [maker_of(tensor) for tensor in nodes[0].input_tensors]
