"""Tails: the part of a model after a tap, as a model of its own."""

import weakref
from typing import Any

import keras

from kd_keras.models import graphs
from kd_keras.models.tapped import taken_apart
from kd_keras.models.taps import probe_of

# by model and tap: cutting again would add nodes to the layers
_cuts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def tail(model: keras.Model, tap: str) -> keras.Model:
    """Build a new, untrained model of `model`'s layers after a tap.

    Args:
        model: functional, sequential, or subclassed with a `call` made of Keras layers and
            operations. It is not changed: the layers are created anew.
        tap: by meaning or by layer path, a layer through which everything passes from the images
            to the logits. If something bypasses the layer itself, such as the shortcut of a
            residual block, the layer counts as part of the tail.

    Returns:
        A model from features to logits, shape `(batch, classes)`.

    Raises:
        ValueError: if no graph can be made of the model, if there is no such tap, or if not
            everything passes through it.

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> behind = tail(student, "stage2")
        >>> behind.input_shape, behind.output_shape, behind.layers[1].name
        ((None, 4, 4, 16), (None, 10), 'pool2')
    """
    copies: dict[int, Any] = {}

    def copied(layer: Any) -> Any:
        copies[id(layer)] = type(layer).from_config(layer.get_config())
        return copies[id(layer)]

    twin, probe = _graph(model, tap)
    plain = keras.Model(graphs.entries(twin), twin.output, name=twin.name)  # not compiled
    copy = keras.models.clone_model(plain, clone_function=copied)
    return _cut(copy, tap, copies[id(probe.layer)], probe.at_input)


def behind(model: keras.Model, tap: str) -> keras.Model:
    """Return the part of a model after a tap, made of the model's own layers, with their weights.

    Args:
        model, tap: as in `tail`.

    Returns:
        A model from features to logits; the same one in every call.

    Raises:
        ValueError: as in `tail`.
    """
    known = _cuts.setdefault(model, {})
    if tap not in known:
        twin, probe = _graph(model, tap)
        known[tap] = _cut(twin, tap, probe.layer, probe.at_input)
    return known[tap]


def _graph(model: keras.Model, tap: str) -> tuple[keras.Model, Any]:
    """Return a functional model of the layers of another, and the probe of its tap."""
    probe = probe_of(model, tap)
    try:
        return taken_apart(model, (tap,))[0], probe
    except graphs.NoGraph as reason:
        raise graphs.NoGraph(
            f"No model can begin at tap {tap!r} of {model.name!r}, since that requires its "
            f"layers as a graph. {reason}"
        ) from reason


def _cut(model: keras.Model, tap: str, layer: keras.layers.Layer, at_input: bool) -> keras.Model:
    entering, leaving = graphs.tensors_at(model, layer)
    logits = graphs.logits_in(graphs.answer_spec(model), model)
    for start in (entering,) if at_input else (leaving, entering):
        if _all_pass(start, logits, {id(x) for x in model.inputs}):
            return keras.Model(start, logits, name=f"{model.name}_behind_{layer.name}")
    raise ValueError(
        f"Tap {tap!r} of {model.name!r} is bypassed by another path from {model.input_shape[1:]} "
        f"to {tuple(logits.shape[1:])}, so that no model can begin there. Name another tap."
    )


def _all_pass(start: keras.KerasTensor, logits: keras.KerasTensor, images: set[int]) -> bool:
    """Return True if every path to the logits passes through `start`, a tensor after the images."""
    seen, waiting = set(), [logits]
    if id(start) in images:
        return False
    while waiting:
        tensor = waiting.pop()
        if tensor is start or id(tensor) in seen:
            continue
        if id(tensor) in images:
            return False
        seen.add(id(tensor))
        waiting += graphs.entering(tensor)
    return True
