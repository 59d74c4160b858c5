"""Tails: what of a model lies behind a tap, as a new model with weights of its own."""

import weakref

import keras

from kd_keras.models.taps import output_shape, symbolic

# by model, and by tap: to cut one again would add to the layers' graph
_cuts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def tail(model: keras.Model, tap: str) -> keras.Model:
    """A new, untrained model of `model`'s layers behind a tap.

    Args:
        model: functional. It is left as it is: the layers are made anew.
        tap: by meaning or by layer path, a layer of the model's own, through which everything
            passes from the images to the logits. Where the layer itself is passed by, as by the
            shortcut of a residual block, it counts as part of the tail.

    Returns:
        A model from features to logits, shape `(batch, classes)`.

    Raises:
        ValueError: for a model that is not functional, no such tap, or one that not everything
            passes through.

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> behind = tail(student, "stage2")
        >>> behind.input_shape, behind.output_shape, behind.layers[1].name
        ((None, 4, 4, 16), (None, 10), 'pool2')
    """
    symbolic(model, tap)  # refuses what is not functional
    return _cut(type(model).from_config(model.get_config()), tap)


def behind(model: keras.Model, tap: str) -> keras.Model:
    """What lies behind a tap, made of the model's own layers, with their weights.

    Args:
        model, tap: as in `tail`.

    Returns:
        A model from features to logits; the same one for every call.

    Raises:
        ValueError: as `tail`.
    """
    known = _cuts.setdefault(model, {})
    if tap not in known:
        symbolic(model, tap)  # refuses what is not functional
        known[tap] = _cut(model, tap)
    return known[tap]


def _cut(model: keras.Model, tap: str) -> keras.Model:
    features = symbolic(model, tap)
    layer = features._keras_history.operation
    for start in (features, getattr(layer, "input", None)):
        if isinstance(start, keras.KerasTensor) and _all_pass(start, model):
            return keras.Model(start, model.outputs[0], name=f"{model.name}_behind_{layer.name}")
    raise ValueError(
        f"Tap {tap!r} of {model.name!r} is passed by on the way from {model.input_shape[1:]} to "
        f"{output_shape(model)[1:]}, so that no model can begin there. Name another tap."
    )


def _all_pass(start: keras.KerasTensor, model: keras.Model) -> bool:
    """Whether every way from the images to the logits passes through a tensor behind them."""
    images, seen, waiting = {id(x) for x in model.inputs}, set(), [model.outputs[0]]
    if id(start) in images:
        return False
    while waiting:
        tensor = waiting.pop()
        if tensor is start or id(tensor) in seen:
            continue
        if id(tensor) in images:
            return False
        seen.add(id(tensor))
        layer, node, _ = tensor._keras_history
        waiting += layer._inbound_nodes[node].input_tensors
    return True
