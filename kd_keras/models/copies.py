"""New models with the architecture of an existing one."""

from typing import Any

import keras
import numpy as np

from kd_keras.models import graphs
from kd_keras.models.heads import head


def untrained(model: keras.Model, logits: int | None = None) -> keras.Model:
    """Return a new, untrained model with the architecture of another.

    Args:
        model: a model of any kind; it is not changed. A subclassed one needs a `get_config`, or a
            `call` made of Keras layers and operations; with the latter, the copy is a functional
            model.
        logits: the number of logits of the new model; None keeps the number of `model`.

    Raises:
        ValueError: if the model cannot be rebuilt; or, for another number of logits, if its last
            layer with weights is not a dense layer of its own.

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2)
        >>> untrained(teacher, logits=10).output_shape
        (None, 10)
    """
    if logits is not None and logits != graphs.output_shape(model)[-1]:
        return _with_logits(model, logits)
    if graphs.own_graph(model) is not None:
        return keras.models.clone_model(model)
    return _by_config(model) or keras.models.clone_model(_graph_of(model))


def _by_config(model: keras.Model) -> keras.Model | None:
    """Copy a subclassed model; return None if its configuration does not describe it fully."""
    try:
        copy = type(model).from_config(model.get_config())
    except (NotImplementedError, TypeError):
        return None
    images = keras.tree.map_structure(
        lambda spec: np.zeros([side or 1 for side in spec.shape], spec.dtype.name),
        graphs.input_spec(model),
    )
    copy(images)  # creates its weights
    alike = [v.shape for v in copy.weights] == [v.shape for v in model.weights]
    return copy if alike else None


def _with_logits(model: keras.Model, logits: int) -> keras.Model:
    last, twin = head(model), _graph_of(model)
    if not isinstance(last, keras.layers.Dense) or last not in twin.layers:
        raise ValueError(
            f"A copy of {model.name!r} with {logits} logits needs a dense layer of the model's own "
            f"that computes them. Received: {last.name!r}, a {type(last).__name__}"
        )

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config: dict[str, Any] = layer.get_config()
        config |= {"units": logits} if layer is last else {}
        return type(layer).from_config(config)

    return keras.models.clone_model(twin, clone_function=copied)


def _graph_of(model: keras.Model) -> keras.Model:
    try:
        return graphs.functional(model)
    except graphs.NoGraph as reason:
        raise graphs.NoGraph(
            f"No new model like {model.name!r} can be made. Give its class a `get_config` that "
            f"returns the arguments of its `__init__`. {reason}"
        ) from reason


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights, and the random state of dropout, to a model of the same architecture.

    Raises:
        ValueError: if the architectures differ.
    """
    ours, theirs = ([*m.weights, *_seeds(m)] for m in (target, source))
    if [v.shape for v in ours] != [v.shape for v in theirs]:
        raise ValueError(
            f"`like` must have the architecture of {target.name!r}. "
            f"Received: {source.name!r}, whose weights have other shapes."
        )
    for variable, value in zip(ours, theirs, strict=True):
        variable.assign(value)


def _seeds(model) -> list:
    return [v for v in model.variables if v.name == "seed_generator_state"]
