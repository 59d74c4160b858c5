"""Keras models of any kind as graphs: their inputs, their outputs, and a functional twin.

A functional or sequential model is its own graph. A model of custom code (an overridden `call`)
has none. If that code is made of Keras layers and operations, calling it on a symbolic input gives
one.
"""

import inspect
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

# functional twins of subclassed models, each made once: making one adds nodes to its layers
_twins: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class NoGraph(ValueError):
    """The error raised if no functional twin can be made of a model."""


def own_graph(model: keras.Model) -> Any:
    """Return the functional graph that runs when a model is called; None if custom code runs."""
    if not type(model).call.__module__.startswith("keras."):
        return None
    graph = getattr(model, "_functional", model)
    return graph if hasattr(graph, "_nodes_by_depth") else None


def all_layers(model: keras.layers.Layer, *, itself: bool = True) -> list[keras.layers.Layer]:
    """Return the layers of a model or layer at any depth, itself included or not."""
    return list(model._flatten_layers(include_self=itself))


def nodes_of(graph: Any) -> list[Any]:
    """Return the nodes of a functional graph, from input to output."""
    depths = sorted(graph._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in graph._nodes_by_depth[depth]]


def maker_of(tensor: keras.KerasTensor) -> Any:
    """Return the layer or operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation


def entering(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return the symbolic tensors from which a tensor was made; none for an input."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def input_spec(model: keras.Model):
    """Return the `tf.TensorSpec`s of a model's input, with a free batch size.

    Raises:
        ValueError: if a subclassed model has not been called yet.
    """
    if getattr(model, "inputs", None):
        inputs = model.inputs[0] if len(model.inputs) == 1 else model.input
        return keras.tree.map_structure(
            lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), inputs
        )
    shape = (model.get_build_config() or {}).get("input_shape")
    if not model.built or shape is None:
        raise ValueError(
            f"The input shape of model {model.name!r} is not known. "
            "Call the model once on a batch of images before passing it."
        )
    return tf.TensorSpec((None, *shape[1:]), model.input_dtype)


def new_inputs(model: keras.Model):
    """Create new symbolic inputs like those of a model."""

    def new(spec, name=None):
        return keras.Input(spec.shape[1:], dtype=spec.dtype.name, name=name)

    spec = input_spec(model)
    if isinstance(spec, Mapping):
        return {name: new(each, name) for name, each in spec.items()}
    return keras.tree.map_structure(new, spec)


def answer_spec(model: keras.Model):
    """Return a model's symbolic output: a tensor, or a dict, tuple or list of tensors."""
    if getattr(model, "outputs", None):
        return getattr(model, "_functional", model).output
    symbols = keras.tree.map_structure(
        lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), input_spec(model)
    )
    return model.compute_output_spec(symbols)


def output_shape(model: keras.Model) -> tuple[int | None, ...]:
    """Return the shape of a model's logits, with None for the batch.

    Raises:
        ValueError: as in `logits_in`.
    """
    return (None, *logits_in(answer_spec(model), model).shape[1:])


def logits_in(answer: Any, model: keras.Model) -> Any:
    """Return the logits in a model's output: the tensor itself, or the entry `logits` of a dict.

    Raises:
        ValueError: if there are several tensors, none of them called `logits`; the message lists
            them.
    """
    if isinstance(answer, (list, tuple)) and len(answer) == 1:
        (answer,) = answer
    if isinstance(answer, Mapping) and hasattr(answer.get("logits"), "shape"):
        return answer["logits"]
    if hasattr(answer, "shape"):
        return answer
    named = answer if isinstance(answer, Mapping) else dict(enumerate(answer))
    listed = ", ".join(f"{key!r} of shape {_shapes(value)}" for key, value in named.items())
    kind = "dict" if isinstance(answer, Mapping) else "tuple"
    raise ValueError(
        f"Model {model.name!r} must return its logits alone, or a dict that holds them under "
        f"'logits'. Received: a {kind} of {listed}. Choose the logits: "
        f"`kd_keras.models.output(model, {next(iter(named), None)!r})` is a model of that one alone"
    )


def _shapes(answer: Any):
    if not hasattr(answer, "shape"):
        return keras.tree.map_structure(lambda x: tuple(x.shape), answer)
    return tuple(answer.shape)


def output(model: keras.Model, which: str | int) -> keras.Model:
    """Build a model that returns one of several outputs of another and shares its weights.

    Args:
        model: a built model that returns a dict, a tuple or a list.
        which: the key in the dict, or the position in the tuple or list, counted from 0.

    Raises:
        ValueError: if the model has no such output.

    Example:
        >>> images = keras.Input((8,))
        >>> features = keras.layers.Dense(4, name="features")(images)
        >>> both = keras.Model(images, (features, keras.layers.Dense(3)(features)))
        >>> output(both, 1).output_shape
        (None, 3)
    """
    try:
        twin = functional(model)
    except NoGraph:
        twin = _called(model)
    answers = answer_spec(twin)
    known = answers if isinstance(answers, Mapping) else dict(enumerate(answers))
    if which not in known:
        raise ValueError(
            f"`which` must be an output of model {model.name!r}: {', '.join(map(repr, known))}. "
            f"Received: which={which!r}"
        )
    return keras.Model(entries(twin), known[which], name=model.name)


def of_logits(model: keras.Model) -> keras.Model:
    """Return a model that returns logits alone: `model` itself, if it already does."""
    answer = answer_spec(model)
    if hasattr(answer, "shape"):
        return model
    return output(model, "logits" if isinstance(answer, Mapping) else 0)


def entries(twin: keras.Model):
    """Return the symbolic inputs of a functional model, in the structure that it is called with."""
    return twin.inputs[0] if len(twin.inputs) == 1 else twin.input


def functional(model: keras.Model, inside: Iterable[keras.layers.Layer] = ()) -> keras.Model:
    """Return a functional model with the same layers, weights and output.

    It is `model` itself if that is functional and holds the layers `inside`.

    Args:
        model: a built model of any kind.
        inside: layers that must belong to the twin itself, not to a model nested in it.

    Raises:
        NoGraph: if a custom `call` is made of more than Keras layers and operations or differs in
            training, or if two layers have the same name.
    """
    graph = own_graph(model)
    if graph is None:
        twin = _twins.setdefault(model, {}).get("twin")
        if twin is None:
            twin = _twins[model]["twin"] = _by_its_code(model)
        return functional(twin, inside)
    wanted = {id(layer) for layer in inside}
    if not wanted <= {id(op) for op in graph.operations}:
        return _flat(model, graph, wanted)
    return model if graph is model else keras.Model(entries(graph), graph.output, name=model.name)


def tensors_at(twin: keras.Model, layer: keras.layers.Layer) -> tuple[Any, Any]:
    """Return the symbolic tensors that enter and leave a layer in a functional model.

    Raises:
        NoGraph: if the layer is used more than once, or not at all.
    """
    nodes = [node for node in nodes_of(twin) if node.operation is layer]
    if len(nodes) != 1:
        raise NoGraph(
            f"Layer {layer.name!r} must be used exactly once in {twin.name!r}. It is used "
            f"{len(nodes)} times"
        )
    (node,) = nodes
    return node.input_tensors[0], node.output_tensors[0]


def _flat(model: keras.Model, graph: Any, wanted: set[int]) -> keras.Model:
    """Build a functional model that inlines the nested models around the wanted layers."""

    def holds(operations: Any) -> bool:
        return any(
            id(op) in wanted or (_is_graph(op) and holds(own_graph(op).operations))
            for op in operations
        )

    def run(part: Any, inputs: Any) -> Any:
        def step(op):
            if _is_graph(op) and holds(own_graph(op).operations):
                return lambda *args, **_: run(own_graph(op), args[0])
            return op

        return part._run_through_graph(inputs, operation_fn=step)

    inputs = keras.tree.map_structure(
        lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), entries(graph)
    )
    return _model(model, inputs, run(graph, inputs))


def _is_graph(op: Any) -> bool:
    return isinstance(op, keras.Model) and own_graph(op) is not None


def _by_its_code(model: keras.Model) -> keras.Model:
    """Build a functional model by running a custom `call` on symbolic inputs."""
    asks = "training" in inspect.signature(model.call).parameters
    twins = []
    for how in ({"training": True}, {"training": False}) if asks else ({},):
        inputs = new_inputs(model)
        try:
            answers = model.call(inputs, **how)
        except Exception as error:  # custom code may raise anything on a symbolic tensor
            raise NoGraph(
                f"`call` of model {model.name!r} must use only Keras' layers and `keras.ops` to be "
                f"turned into a graph. Received: code that raised {error!r:.200}"
            ) from error
        twins.append(_model(model, inputs, answers))
    ours = {id(layer) for layer in all_layers(model)}
    steps = [
        [id(op) if id(op) in ours else type(op) for op in twin.operations[1:]] for twin in twins
    ]
    if steps[0] != steps[-1]:
        raise NoGraph(
            f"`call` of model {model.name!r} must do the same in training and in inference, apart "
            "from its layers, to be turned into a graph. Received: a branch on `training`"
        )
    held = any(tf.is_tensor(x) for node in nodes_of(twins[-1]) for x in _constants(node))
    if held or {id(v) for v in twins[-1].weights} != {id(v) for v in model.weights}:
        raise NoGraph(
            f"`call` of model {model.name!r} must use only layers to be turned into a graph. "
            "Received: code that also uses weights or tensors of its own"
        )
    return twins[-1]


def _constants(node: Any) -> list[Any]:
    """Return the arguments of an operation that are not symbolic tensors."""
    given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
    return [x for x in given if not isinstance(x, keras.KerasTensor)]


def _model(model: keras.Model, inputs: Any, answers: Any) -> keras.Model:
    twin_inputs = {id(x) for x in keras.tree.flatten(inputs)}
    if any(id(x) in twin_inputs for x in keras.tree.flatten(answers)):
        raise NoGraph(f"Model {model.name!r} returns its input unchanged.")
    try:
        twin = keras.Model(inputs, answers, name=model.name)
    except ValueError as error:  # two layers of the same name, or outputs that are not symbolic
        raise NoGraph(f"No graph can be made of model {model.name!r}: {error}") from error
    twice = [name for name, n in Counter(op.name for op in twin.operations).items() if n > 1]
    if twice:
        raise NoGraph(f"No graph can be made of {model.name!r}: several layers are called {twice}.")
    return twin


def _called(model: keras.Model) -> keras.Model:
    """Build a functional model that calls another as a single layer, possible for every model."""
    inputs = new_inputs(model)
    return keras.Model(inputs, model(inputs), name=f"{model.name}_called")
