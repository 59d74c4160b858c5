"""Split a model into its frozen part, computed once per image, and the rest, which is trained.

In the first phase of transfer learning the backbone is frozen, so its pooled features of an image
never change. They are stored like a teacher's predictions, and only the layers after them run.
"""

import dataclasses
import functools
import types
import weakref

import keras

from kd_keras.models import taps
from kd_keras.models.graphs import all_layers, nodes_of
from kd_keras.models.shared import moves_though_frozen
from kd_keras.teachers import LiveTeacher
from kd_keras.training.batches import FEATURES

# Keras' own layers that run code from elsewhere
FOREIGN = tuple(
    getattr(keras.layers, name)
    for name in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
)
FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)

# by model and by the tensor at the cut: building a half again would add to the layers' graph
_halves: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """A model cut in two where its frozen part ends. Both halves are made of its own layers.

    Attributes:
        trunk: the frozen part, from images to features, shape `(batch, ...)`.
        head: the trained part, from features to logits.
    """

    trunk: keras.Model
    head: keras.Model

    @functools.cached_property
    def source(self) -> "FeatureSource":
        """The trunk as a source of stored features; traced once, even if its weights change."""
        return FeatureSource(self.trunk)


class FeatureSource(LiveTeacher):
    """A trunk as a source of stored features, under one tap, `FEATURES`."""

    def __init__(self, trunk: keras.Model):
        def extract(images, training):
            return {FEATURES: trunk(images, training=training)}

        self._set(trunk, extract, {FEATURES: taps.output_shape(trunk)}, "float32")


def cut(model: keras.Model) -> FrozenPart | None:
    """Cut a model in two if its frozen part ends in a single tensor; else return None.

    A layer belongs to the frozen part if training neither changes it nor its behaviour: it is one
    of Keras' own, its `trainable` is off or it has no weights, it draws no random numbers, and all
    its inputs are frozen. A custom layer never belongs to it, since its behaviour is unknown.

    Args:
        model: functional or sequential, each layer used once; others are not cut.

    Example:
        >>> import kd_keras as kd
        >>> model = kd.models.build("mobilenetv2", input_shape=(32, 32, 3), classes=10)
        >>> cut(model) is None
        True
        >>> from kd_keras.models import freezing
        >>> freezing.freeze(model)
        >>> cut(model).trunk.output_shape
        (None, 1280)
    """
    graph = getattr(model, "_functional", model)
    if graph is None or not hasattr(graph, "_nodes_by_depth"):
        return None
    if len(nodes_of(graph)) != len(graph.operations):
        return None  # a layer that is used twice has no one place
    edge = _edge(graph)
    if edge is None:
        return None
    known = _halves.setdefault(model, {})
    if id(edge) not in known:
        trunk = keras.Model(graph.input, edge, name=f"{model.name}_trunk")
        known[id(edge)] = FrozenPart(trunk, keras.Model(edge, graph.output, name=model.name))
    return known[id(edge)]


def parts_of(student: taps.FeatureExtractor) -> tuple[FeatureSource, taps.FeatureExtractor] | None:
    """Return a student's frozen part as a source of features, and an extractor of the trained rest.

    None if there is no frozen part, or if a requested tap lies in it.
    """
    frozen = cut(student.model)
    if frozen is None:
        return None
    head = student.behind(frozen.head)
    return None if head is None else (frozen.source, head)


def _edge(graph) -> keras.KerasTensor | None:
    """Return the only tensor that leaves the frozen part, if that part has weights."""
    frozen = {id(tensor) for tensor in graph.inputs}
    weighted, leaving = False, {}
    for node in nodes_of(graph):
        if node.is_input:
            continue
        inputs, layer = node.input_tensors, node.operation
        if is_frozen(layer) and all(id(x) in frozen for x in inputs):
            frozen.update(id(x) for x in node.output_tensors)
            weighted = weighted or bool(getattr(layer, "weights", ()))
        else:
            leaving.update({id(x): x for x in inputs if id(x) in frozen})
    if any(id(x) in frozen for x in graph.outputs):
        return None  # a frozen tensor is an output of the model too
    return next(iter(leaving.values())) if weighted and len(leaving) == 1 else None


def is_frozen(layer) -> bool:
    """Return whether training is known to change neither a layer nor its behaviour.

    Custom code, in a layer, a model or an activation, may be random and never counts as frozen.
    """
    if not all(map(_is_known, [layer, *_inside(layer)])):
        return False
    if isinstance(layer, keras.Model):
        inner = [x for x in layer.layers if not isinstance(x, keras.layers.InputLayer)]
        return all(map(is_frozen, inner))
    if not isinstance(layer, keras.layers.Layer):
        return True  # an operation, such as `x + 3`
    random = any("seed_generator" in variable.path for variable in layer.variables)
    regularised = getattr(layer, "activity_regularizer", None) is not None
    if random or regularised or any(map(moves_though_frozen, [layer, *_inside(layer)])):
        return False
    return not layer.weights or not layer.trainable or isinstance(layer, keras.layers.Normalization)


def _inside(layer) -> list[keras.layers.Layer]:
    if not isinstance(layer, keras.layers.Layer):
        return []
    return all_layers(layer, itself=False)


def _is_known(step) -> bool:
    """Return whether a layer or operation runs only Keras' own code."""
    if isinstance(step, FOREIGN) or not type(step).__module__.startswith("keras."):
        return False
    # such as an activation, or the function of `ops.map`
    functions = [value for value in vars(step).values() if isinstance(value, FUNCTIONS)]
    return all(_module(function).startswith(("keras.", "tensorflow.")) for function in functions)


def _module(function) -> str:
    return getattr(function, "__module__", None) or ""
