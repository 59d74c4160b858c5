"""Taps: intermediate features of a model, requested by meaning or by layer path.

`logits` is the model's output. `embedding`, `stage1` and so on are looked up in the model's table,
then among its layers' names, then in its structure. `"backbone/block_6_expand_relu"` is a path: it
names a layer inside a nested model.

Two more names work for every model. `stages` stands for all its stages, which `FeatureExtractor`
returns as `stage1`, `stage2`, ... from input to output. `last` is the last of them: the last
feature maps or, if a model has none, the input of its last layer. `stages.found` finds stages that
have no names.
"""

import contextlib
import difflib
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from kd_keras.models import signs, stages
from kd_keras.models.backbones import RECTIFIED, TAPS
from kd_keras.models.graphs import all_layers, logits_in
from kd_keras.models.graphs import input_spec as input_spec
from kd_keras.models.graphs import output_shape as output_shape
from kd_keras.models.heads import head
from kd_keras.runtime import patching

STAGES, LAST = "stages", "last"


class FeatureExtractor:
    """One forward pass of a model that returns every requested tap.

    Args:
        model: a built Keras model: functional, sequential or subclassed, nested or flat.
        taps: names, as in `kd_keras.models.taps`.

    Attributes:
        taps: the names of the returned tensors: `stages` is expanded to `stage1`, `stage2`, ...
        shapes: dict from tap to shape, None for the batch.

    Raises:
        ValueError: if a tap is not found (the nearest paths are listed), or if its layer does not
            run exactly once in a forward pass.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> extractor = FeatureExtractor(model, ("embedding", "logits"))
        >>> {tap: tensor.shape for tap, tensor in extractor(np.zeros((2, 8, 8, 1))).items()}
        {'embedding': TensorShape([2, 16]), 'logits': TensorShape([2, 10])}
    """

    def __init__(self, model: keras.Model, taps: Iterable[str]):
        self.model = model
        self.taps = _expanded(model, taps)
        self._probes = {tap: probe_of(model, tap) for tap in self.taps if tap != "logits"}
        self.shapes = self._trace_shapes()

    def behind(self, part: keras.Model) -> "FeatureExtractor | None":
        """Return the same taps on the last part of the model; None if one of them is not in it.

        `part` is made of the model's own layers.
        """
        inside = {id(layer) for layer in all_layers(part)}
        if not all(id(probe.layer) in inside for probe in self._probes.values()):
            return None
        made = object.__new__(FeatureExtractor)
        made.model, made.taps, made.shapes = part, self.taps, self.shapes
        made._probes = self._probes
        return made

    def rectified(self, tap: str) -> bool | None:
        """Return True if the features of a tap have passed a ReLU, so that none is negative.

        False means that some are negative, None that it is not known.
        """
        if tap == "logits":
            return None
        probe = probe_of(self.model, tap)
        known = RECTIFIED.get(self.model.name, {}).get(probe.layer.name)
        if known is not None and not probe.at_input:
            return known
        return signs.rectified(probe.layer, at_input=probe.at_input)

    def __call__(self, images, training: bool = False) -> dict[str, Any]:
        """Return the taps of a batch of images, `{tap: tensor}`."""
        with _recording(self._probes.values()) as seen:
            logits = logits_in(self.model(images, training=training), self.model)
        return {
            tap: logits if tap == "logits" else self._one(tap, seen[self._probes[tap]])
            for tap in self.taps
        }

    def _one(self, tap: str, tensors: list):
        if len(tensors) != 1:
            raise ValueError(
                f"The layer of tap {tap!r} must run exactly once in a forward pass of "
                f"{self.model.name!r}; it ran {len(tensors)} times. Name another layer."
            )
        return tensors[0]

    def _trace_shapes(self) -> dict[str, tuple[int | None, ...]]:
        if not self._probes:  # tracing a large model takes seconds
            return dict.fromkeys(self.taps, output_shape(self.model))
        traced = tf.function(self.__call__).get_concrete_function(input_spec(self.model))
        return {tap: tuple(shape) for tap, shape in traced.output_shapes.items()}


def layer_paths(model: keras.Model) -> list[str]:
    """Return the paths of all layers, nested ones as `outer/inner`."""
    paths = []
    for layer in _children(model):
        paths.append(layer.name)
        if isinstance(layer, keras.Model):
            paths.extend(f"{layer.name}/{inner}" for inner in layer_paths(layer))
    return paths


class _Probe:
    """The place of a tap: a layer's output, or its input."""

    def __init__(self, layer: keras.layers.Layer, at_input: bool = False):
        self.layer = layer
        self.at_input = at_input


def probe_of(model: keras.Model, tap: str) -> _Probe:
    path = TAPS.get(model.name, {}).get(tap, tap)
    layer = _find(model, path)
    if layer is not None:
        return _Probe(layer)
    if tap == "embedding":
        return _Probe(head(model), at_input=True)
    if tap == LAST:
        return _stages(model)[-1]
    number = re.fullmatch(r"stage([1-9]\d*)", tap)
    if number and len(there := _stages(model)) >= int(number[1]):
        return there[int(number[1]) - 1]
    known = [*TAPS.get(model.name, {}), "logits", "embedding", LAST, *layer_paths(model)]
    near = difflib.get_close_matches(path, known, n=4, cutoff=0.3)
    # a bare name most often means the nested layer of that name
    near = [p for p in known if p.endswith(f"/{path}")][:4] or near
    raise ValueError(
        f"Model {model.name!r} has no tap {tap!r}. Nearest: {', '.join(near) or 'none'}. "
        "`kd_keras.models.taps.layer_paths(model)` lists every path."
    )


def _expanded(model: keras.Model, taps: Iterable[str]) -> tuple[str, ...]:
    """Replace `stages` among the taps by the names of all stages; each name occurs once."""
    names: dict[str, None] = {}
    for tap in taps:
        if tap == STAGES and _find(model, tap) is None:
            names |= dict.fromkeys(f"stage{k}" for k in range(1, len(_stages(model)) + 1))
        else:
            names[tap] = None
    return tuple(names)


def _stages(model: keras.Model) -> list[_Probe]:
    """Return the ends of the stages, by the model's table, its layers' names or its structure."""

    def spec():
        return input_spec(model)

    ends = _named(model) or stages.found(model, spec)
    if not ends:
        return [_Probe(head(model), at_input=True)]
    last = _find(model, "embedding")  # in a network of vectors, a stage like the others
    if last is not None and last not in ends and stages.gives_vectors(model, ends[-1], spec):
        ends = [*ends, last]
    return [_Probe(layer) for layer in ends]


def _named(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers that are called `stage1`, `stage2`, ... by meaning or by name."""
    table = TAPS.get(model.name, {})
    found: list[keras.layers.Layer] = []
    while layer := _find(model, table.get(name := f"stage{len(found) + 1}", name)):
        found.append(layer)
    return found


def _find(model: keras.Model, path: str) -> keras.layers.Layer | None:
    """Return the layer at `path`; names may contain slashes themselves, so try every prefix."""
    for layer in _children(model):
        if layer.name == path:
            return layer
        if path.startswith(f"{layer.name}/") and isinstance(layer, keras.Model):
            found = _find(layer, path[len(layer.name) + 1 :])
            if found is not None:
                return found
    return None


def _children(model: keras.Model) -> list[keras.layers.Layer]:
    return [x for x in model.layers if not isinstance(x, keras.layers.InputLayer)]


# Replicas of a distribution strategy trace the same layers in separate threads: each thread records
# only what it runs itself.
_threads = threading.local()


@contextlib.contextmanager
def _recording(probes: Iterable[_Probe]) -> Iterator[dict[_Probe, list]]:
    seen: dict[_Probe, list] = {probe: [] for probe in probes}
    outer = getattr(_threads, "seen", None)
    _threads.seen = seen
    try:
        with patching.wrapped((probe.layer for probe in seen), _recorded):
            yield seen
    finally:
        _threads.seen = outer


def _recorded(layer: keras.layers.Layer, call: Callable) -> Callable:
    def recorded(*args, **kwargs):
        output = call(*args, **kwargs)
        for probe, tensors in (getattr(_threads, "seen", None) or {}).items():
            if probe.layer is layer:
                tensors.append(_first(args, kwargs) if probe.at_input else output)
        return output

    return recorded


def _first(args: tuple, kwargs: dict):
    return args[0] if args else next(iter(kwargs.values()))
