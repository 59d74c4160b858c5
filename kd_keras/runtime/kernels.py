"""TensorFlow's fused kernels for computations that Keras 3 writes as elementary operations.

They are batch normalisation in training and Adam's update: the formulas are Keras', each in one
pass over memory.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf


def leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a model and of the models nested in it."""
    found: list[keras.layers.Layer] = []
    for layer in model.layers:
        found.extend(leaves(layer) if isinstance(layer, keras.Model) else [layer])
    return found


def nested(model: keras.Model) -> list[keras.Model]:
    """Return the models nested in a model, at any depth."""
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [*inner, *(deeper for layer in inner for deeper in nested(layer))]


def computes_in_float16(model: keras.Model) -> bool:
    """Return whether a layer below `model`, at any depth, computes in float16.

    The policy of a functional model itself does not count: it is the global one at the time when
    the model was made or loaded, and not that of its layers.
    """
    return any(
        layer.compute_dtype == "float16"
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.layers.InputLayer)
        and not (isinstance(layer, keras.Model) and getattr(layer, "outputs", None))
    )


def fusible(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the batch normalisations that the fused kernel can compute, also in nested models."""
    return [layer for layer in leaves(model) if _is_fusible(layer)]


def _is_fusible(layer: keras.layers.Layer) -> bool:
    plain = keras.layers.BatchNormalization
    if not isinstance(layer, plain) or type(layer).call is not plain.call or not layer.built:
        return False
    spec = layer.input_spec
    return (
        spec.ndim == 4
        and layer.axis in (-1, 3)
        and not layer.synchronized
        and not layer.renorm
        and layer.compute_dtype == "float32"
        and layer.variable_dtype == "float32"
    )


def fused_batch_norm(layer: keras.layers.Layer, call: Callable) -> Callable:
    """Return the `call` of a batch normalisation with one kernel; if the layer is frozen or the
    kernel does not fit, it is Keras' own."""

    def fused(inputs, training=None, mask=None):
        ours = training and layer.trainable and mask is None and inputs.dtype == tf.float32
        if not ours:
            return call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones([channels]) if layer.gamma is None else layer.gamma.value,
            offset=tf.zeros([channels]) if layer.beta is None else layer.beta.value,
            mean=tf.constant([]),
            variance=tf.constant([]),
            epsilon=layer.epsilon,
            is_training=True,
        )
        _move(layer, inputs, mean, variance)
        return outputs

    return fused


def _move(layer, inputs, mean, variance) -> None:
    """Update the moving statistics; the kernel's variance divides by n - 1, Keras' by n."""
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
    variance = variance * (tf.maximum(count - 1.0, 1.0) / count)
    for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving.value * layer.momentum + now * (1.0 - layer.momentum))


def has_fused_update(optimizer: Any) -> bool:
    """Return whether an optimizer's update is Adam's (or AdamW's), which has a kernel."""
    adam = keras.optimizers.Adam
    return (
        isinstance(optimizer, adam)
        and type(optimizer).update_step is adam.update_step
        and not optimizer.amsgrad
    )


@contextlib.contextmanager
def fused_update(optimizer: keras.optimizers.Adam) -> Iterator[None]:
    """Replace the optimizer's update of one variable; the rest of Keras' step stays."""
    own = optimizer.update_step

    def update_step(gradient, variable, learning_rate):
        if not isinstance(gradient, tf.Tensor) or variable.dtype not in (tf.float32, "float32"):
            own(gradient, variable, learning_rate)  # sparse, or in another precision
            return
        place = optimizer._get_variable_index(variable)
        step = tf.cast(keras.ops.convert_to_tensor(optimizer.iterations) + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(optimizer._momentums[place]),
            v=_handle(optimizer._velocities[place]),
            beta1_power=tf.pow(tf.constant(optimizer.beta_1, tf.float32), step),
            beta2_power=tf.pow(tf.constant(optimizer.beta_2, tf.float32), step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )

    # bypasses Keras' `__setattr__`, which would track it
    optimizer.__dict__["update_step"] = update_step
    try:
        yield
    finally:
        del optimizer.__dict__["update_step"]


def _handle(variable):
    """Return the handle of TensorFlow's variable, which a Keras variable holds."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
