"""Other kernels of TensorFlow than those that Keras 3 takes.

Batch normalisation in training and the updates of Adam and SGD, which Keras writes as elementary
operations, have kernels that pass over memory once. Strided 1x1 convolutions have a gradient that
must be avoided. The formulas are Keras'.
"""

import contextlib
import functools
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


def computes_in(model: keras.Model, dtype: str) -> bool:
    """Return whether a layer below `model`, at any depth, computes in `dtype`, such as "float16".

    The policy of a functional model itself does not count: it is the global one at the time when
    the model was made or loaded, and not that of its layers.
    """
    return any(
        layer.compute_dtype == dtype
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
        # the kernel's variance divides by n - 1, Keras' by n
        count = tf.cast(tf.size(inputs) // channels, tf.float32)
        excess = count / tf.maximum(count - 1.0, 1.0)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones([channels]) if layer.gamma is None else layer.gamma.value,
            offset=tf.zeros([channels]) if layer.beta is None else layer.beta.value,
            mean=layer.moving_mean.value,
            variance=layer.moving_variance.value * excess,
            epsilon=layer.epsilon,
            exponential_avg_factor=1.0 - layer.momentum,
            is_training=True,
        )
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance / excess)
        return outputs

    return fused


def unsafe(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the strided 1x1 convolutions of few channels, also in nested models.

    In TensorFlow 2.21 with oneDNN, the gradient of their weights writes past its memory: with 4, 8
    or 12 input channels and maps of 48x48 or more it ends the process, on a processor with AVX-512
    as with `ONEDNN_MAX_CPU_ISA=AVX2`. With 16 channels or more it was not seen.
    """
    return [layer for layer in leaves(model) if _is_unsafe(layer)]


def _is_unsafe(layer: keras.layers.Layer) -> bool:
    plain = keras.layers.Conv2D
    if not isinstance(layer, plain) or type(layer).call is not plain.call or not layer.built:
        return False
    return (
        set(layer.kernel_size) == {1}
        and max(layer.strides) > 1
        and layer.kernel.shape[2] < 16
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )


def picked_first(layer: keras.layers.Layer, call: Callable) -> Callable:
    """Return the `call` of a strided 1x1 convolution that first picks the pixels it looks at."""
    del call
    down, across = layer.strides

    def picked(inputs):
        outputs = keras.ops.conv(inputs[:, ::down, ::across], layer.kernel, 1, "valid")
        if layer.use_bias:
            outputs = outputs + layer.bias
        return outputs if layer.activation is None else layer.activation(outputs)

    return picked


def has_fused_update(optimizer: Any) -> bool:
    """Return whether an optimizer's update has a kernel: that of Adam, AdamW and SGD."""
    return _maker_of(optimizer) is not None


@contextlib.contextmanager
def fused_update(optimizer: Any) -> Iterator[None]:
    """Replace the optimizer's update of one variable; the rest of Keras' step stays."""
    own, maker = optimizer.update_step, _maker_of(optimizer)
    assert maker is not None
    apply = maker(optimizer)

    def update_step(gradient, variable, learning_rate):
        if not isinstance(gradient, tf.Tensor) or variable.dtype not in (tf.float32, "float32"):
            own(gradient, variable, learning_rate)  # sparse, or in another precision
            return
        apply(variable, tf.cast(gradient, tf.float32), tf.cast(learning_rate, tf.float32))

    # bypasses Keras' `__setattr__`, which would track it
    optimizer.__dict__["update_step"] = update_step
    try:
        yield
    finally:
        del optimizer.__dict__["update_step"]


Update = Callable[[Any, tf.Tensor, tf.Tensor], None]  # of a variable, its gradient and the rate


def _maker_of(optimizer: Any) -> Callable[[Any], Update] | None:
    """Return the function that makes the fused update of an optimizer; None if it has none."""
    for kind, maker in ((keras.optimizers.Adam, _adam), (keras.optimizers.SGD, _sgd)):
        if isinstance(optimizer, kind) and type(optimizer).update_step is kind.update_step:
            return None if getattr(optimizer, "amsgrad", False) else maker
    return None


def _adam(optimizer: keras.optimizers.Adam) -> Update:
    @functools.cache  # the same for all variables of a step
    def powers():
        step = tf.cast(keras.ops.convert_to_tensor(optimizer.iterations) + 1, tf.float32)
        return [tf.pow(tf.constant(beta, tf.float32), step)
                for beta in (optimizer.beta_1, optimizer.beta_2)]  # fmt: skip

    def update(variable, gradient, rate):
        place = optimizer._get_variable_index(variable)
        beta1_power, beta2_power = powers()
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(optimizer._momentums[place]),
            v=_handle(optimizer._velocities[place]),
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=rate,
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=gradient,
        )

    return update


def _sgd(optimizer: keras.optimizers.SGD) -> Update:
    def update(variable, gradient, rate):
        if not optimizer.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(
                var=_handle(variable), alpha=rate, delta=gradient
            )
            return
        place = optimizer._get_variable_index(variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(optimizer.momentums[place]),
            lr=rate,
            grad=gradient,
            momentum=optimizer.momentum,
            use_nesterov=optimizer.nesterov,
        )

    return update


def _handle(variable):
    """Return the handle of TensorFlow's variable, which a Keras variable holds."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
