"""Build models from the layers and taps of another model."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kd_keras.models import graphs
from kd_keras.models.taps import FeatureExtractor, probe_of


@keras.saving.register_keras_serializable("kd_keras")
class Tapped(keras.layers.Layer):
    """A model of any kind as a layer that returns its taps, `{tap: tensor}`.

    Args:
        model: a built Keras model.
        taps: names, as in `FeatureExtractor`.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> Tapped(model, ["embedding"])(np.zeros((2, 8, 8, 1)))["embedding"].shape
        TensorShape([2, 16])
    """

    def __init__(self, model: keras.Model, taps: Iterable[str], **kwargs: Any):
        super().__init__(**{"name": model.name, "dtype": model.dtype_policy, **kwargs})
        self.autocast = False  # the model's own layers cast
        self.model, self.taps = model, tuple(taps)
        self._extractor = FeatureExtractor(model, self.taps)
        self.built = True

    def call(self, images, training=False):
        return self._extractor(images, training=bool(training))

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model, "taps": list(self.taps)}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})


def symbolic(model: keras.Model, taps: Iterable[str]) -> tuple[keras.Model, dict[str, Any]]:
    """Return a functional model of a model's own layers, and its taps as symbolic tensors.

    Other models with the same weights can be built from them. The functional model is made of the
    layers alone if possible, and otherwise of one layer that holds the whole model.

    Args:
        model: a built model of any kind.
        taps: names, as in `FeatureExtractor`.

    Raises:
        ValueError: if there is no such tap.

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
    """Do the same as `symbolic`, with the layers alone.

    Raises:
        graphs.NoGraph: if that is not possible.
        ValueError: if there is no such tap.
    """
    probes = {tap: probe_of(model, tap) for tap in taps if tap != "logits"}
    twin = graphs.functional(model, inside=[probe.layer for probe in probes.values()])
    tensors = {
        tap: graphs.tensors_at(twin, probe.layer)[0 if probe.at_input else 1]
        for tap, probe in probes.items()
    }
    return twin, {**tensors, "logits": graphs.logits_in(graphs.answer_spec(twin), twin)}


def answering(model: keras.Model) -> set[int]:
    """Return the `id`s of the weights that a model's output depends on.

    If a model contains a `Tapped` layer, its output may not depend on all of them; those that
    matter are found by their gradients.
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
