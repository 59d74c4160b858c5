"""Models made of another's layers, from its taps: what is deployed, and what is taken apart."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kd_keras.models import graphs
from kd_keras.models.taps import TapView, probe_of


@keras.saving.register_keras_serializable("kd_keras")
class Tapped(keras.layers.Layer):
    """A model as a layer that gives its taps, `{tap: tensor}`: it may be of any kind.

    Args:
        model: a built Keras model.
        taps: names, as in `TapView`.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> Tapped(model, ["embedding"])(np.zeros((2, 8, 8, 1)))["embedding"].shape
        TensorShape([2, 16])
    """

    def __init__(self, model: keras.Model, taps: Iterable[str], **kwargs: Any):
        super().__init__(**{"name": model.name, "dtype": model.dtype_policy, **kwargs})
        self.autocast = False  # the model's own layers see to it
        self.model, self.taps = model, tuple(taps)
        self._view = TapView(model, self.taps)
        self.built = True

    def call(self, images, training=False):
        return self._view(images, training=bool(training))

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "taps": list(self.taps)}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def symbolic(model: keras.Model, taps: Iterable[str]) -> tuple[keras.Model, dict[str, Any]]:
    """A functional model of a model's own layers, and its taps as symbolic tensors.

    Other models can be made of them, with the same weights. They are made of the layers alone where
    that is possible, and else around a layer that holds the whole model.

    Args:
        model: a built model of any kind.
        taps: names, as in `TapView`.

    Raises:
        ValueError: for a tap that is not there.

    Example:
        >>> import kd_keras as kd
        >>> model = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)
        >>> twin, tensors = symbolic(model, ["stage2", "logits"])
        >>> keras.Model(twin.input, tensors["stage2"]).output_shape
        (None, 4, 4, 16)
    """
    taps = tuple(taps)
    try:
        return taken_apart(model, taps)
    except graphs.NoGraph:
        inputs = graphs.new_inputs(model)
        tensors = Tapped(model, taps)(inputs)
        return keras.Model(inputs, tensors, name=model.name), tensors


def taken_apart(model: keras.Model, taps: Iterable[str]) -> tuple[keras.Model, dict[str, Any]]:
    """As `symbolic`, of the layers alone.

    Raises:
        graphs.NoGraph: that is not possible.
        ValueError: for a tap that is not there.
    """
    probes = {tap: probe_of(model, tap) for tap in taps if tap != "logits"}
    twin = graphs.functional(model, inside=[probe.layer for probe in probes.values()])
    tensors = {
        tap: graphs.tensors_at(twin, probe.layer)[0 if probe.at_input else 1]
        for tap, probe in probes.items()
    }
    return twin, {**tensors, "logits": graphs.logits_in(graphs.answer_spec(twin), twin)}


def answering(model: keras.Model) -> set[int]:
    """The `id`s of the weights that have a say in what a model returns.

    Of a model around a `Tapped` one, not all may: they are found by their gradients.
    """
    if not any(isinstance(layer, Tapped) for layer in model.layers):
        return {id(v) for v in model.weights}
    images = keras.tree.map_structure(
        lambda spec: tf.zeros([side or 1 for side in spec.shape], spec.dtype),
        graphs.input_spec(model),
    )
    with tf.GradientTape() as tape:
        answer = model(images, training=False)
    gradients = tape.gradient(answer, [v.value for v in model.trainable_weights])
    found = zip(model.trainable_weights, gradients, strict=True)
    return {id(v) for v, gradient in found if gradient is not None}
