"""The stages of a model: the meaning of `stage1`, `stage2`, ... if no layer has that name.

A stage is the part of a network that works at one resolution. In a functional or sequential model
it ends with the last layer of that height and width through which everything passes. In a
subclassed model, whose graph is unknown, it ends with the last layer to run at that resolution.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from kd_keras.models.graphs import nodes_of, own_graph
from kd_keras.runtime import patching

# these change nothing outside training: a stage ends before them
_DRAWING = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
)


@dataclasses.dataclass(frozen=True)
class _Step:
    """One call of a layer: its output shape, and whether everything passes through it."""

    layer: Any
    shape: tuple[int | None, ...]
    passed: bool

    @property
    def kernel(self) -> bool:
        """True if the layer computes features, and does not only move or scale them."""
        return any(len(w.shape) > 1 for w in getattr(self.layer, "weights", ()))


def found(model: keras.Model, spec: Callable[[], Any]) -> list[layers.Layer]:
    """Return the layers that end the stages of a model, from input to output.

    The stages of a network of feature maps are the resolutions at which a convolution works. Those
    of a network of vectors are its layers with weights except the last, each with the layers that
    follow it up to the next.

    Args:
        model: a built model.
        spec: returns the spec of the model's input; a model without a graph is traced on it.

    Returns:
        Layers that run once in a forward pass; an empty list if there are no such stages.

    Example:
        >>> import kd_keras as kd
        >>> model = keras.Sequential([
        ...     keras.Input((8, 8, 1)), layers.Conv2D(4, 3, padding="same", name="conv"),
        ...     layers.ReLU(name="relu"), layers.MaxPooling2D(), layers.Flatten(),
        ...     layers.Dense(3)])
        >>> [layer.name for layer in found(model, lambda: None)]
        ['relu']
    """
    steps = _steps(model, spec)
    counted: dict[int, int] = {}
    for step in steps:
        counted[id(step.layer)] = counted.get(id(step.layer), 0) + 1
    once = [step for step in steps if counted[id(step.layer)] == 1]
    return _of_maps(once) or _of_vectors(once)


def gives_vectors(model: keras.Model, layer: layers.Layer, spec: Callable[[], Any]) -> bool:
    """Return True if a layer returns vectors, shape `(batch, size)`; `spec` is as in `found`."""
    shapes = [step.shape for step in _steps(model, spec) if step.layer is layer]
    return bool(shapes) and len(shapes[-1]) == 2


def _steps(model: keras.Model, spec: Callable[[], Any]) -> list[_Step]:
    steps = _in_graph(model)
    return _when_run(model, spec()) if steps is None else steps


def _of_maps(steps: Sequence[_Step]) -> list[layers.Layer]:
    ends: dict[tuple, Any] = {}
    working = set()
    for step in steps:
        if len(step.shape) != 4:
            continue
        size = step.shape[1:3]
        if step.kernel:
            working.add(size)
        if size in working and _ends(step):
            ends[size] = step.layer
    return list(ends.values())


def _of_vectors(steps: Sequence[_Step]) -> list[layers.Layer]:
    ends: list[Any] = []
    for step in steps:
        if len(step.shape) != 2:
            continue
        if step.kernel:
            ends.append(None)
        if ends and _ends(step):
            ends[-1] = step.layer
    return [end for end in ends[:-1] if end is not None]  # the last one computes the logits


def _ends(step: _Step) -> bool:
    """Return True if a stage may end here."""
    layer = isinstance(step.layer, layers.Layer)  # an operation cannot be tapped
    return layer and step.passed and not isinstance(step.layer, _DRAWING)


def _in_graph(model: keras.Model) -> list[_Step] | None:
    """Return the steps of a functional or sequential model, in order; None if it has no graph."""
    graph = own_graph(model)
    if graph is None:
        return None
    nodes = nodes_of(graph)
    waiting: dict[int, int] = {}  # by tensor: the number of reads still to come
    for tensor in (*(x for node in nodes for x in node.input_tensors), *graph.outputs):
        waiting[id(tensor)] = waiting.get(id(tensor), 0) + 1
    steps: list[_Step] = []
    open_now: set[int] = set()
    for node in nodes:
        for tensor in node.input_tensors:
            waiting[id(tensor)] -= 1
            if not waiting[id(tensor)]:
                open_now.discard(id(tensor))
        given = [x for x in node.output_tensors if waiting.get(id(x))]
        open_now.update(id(x) for x in given)
        if node.is_input or len(node.output_tensors) != 1:
            continue
        passed = open_now == {id(x) for x in given}
        steps += _steps_of(node.operation, tuple(node.output_tensors[0].shape), passed)
    return steps


def _steps_of(layer: Any, shape: tuple, passed: bool) -> Iterable[_Step]:
    """Return the step of a layer, or the steps inside a nested model with a graph."""
    inner = _in_graph(layer) if isinstance(layer, keras.Model) else None
    if inner is None:
        return [_Step(layer, shape, passed)]
    return [dataclasses.replace(step, passed=step.passed and passed) for step in inner]


def _when_run(model: keras.Model, spec: Any) -> list[_Step]:
    """Return the steps of a model without a graph, by tracing a forward pass."""
    passed = dict(_listened(model))
    steps: list[_Step] = []

    def watched(layer, call):
        def run(*args, **kwargs):
            answer = call(*args, **kwargs)
            if tf.is_tensor(answer):
                steps.append(_Step(layer, tuple(answer.shape), passed[layer]))
            return answer

        return run

    with patching.wrapped(passed, watched):
        tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    return steps


def _listened(model: keras.Model) -> Iterator[tuple[layers.Layer, bool]]:
    """Yield the layers to watch, each with True if a stage may end there.

    Nested models are replaced by their layers.
    """
    inner = _in_graph(model)
    if inner is not None:
        for step in inner:
            if isinstance(step.layer, layers.Layer):
                yield step.layer, step.passed
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _listened(layer)
        elif not isinstance(layer, layers.InputLayer):
            yield layer, True
