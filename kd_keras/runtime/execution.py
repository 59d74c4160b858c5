"""Choose how a training step is run on this machine, based on measurements.

On a CPU, TensorFlow's fused kernels run two computations that Keras 3 writes as elementary
operations, each a pass over memory: batch normalisation in training, forward and backward, and
Adam's update. XLA is not chosen there. For convolutions it is several times slower than oneDNN's
kernels. For dense layers it gains a few hundredths over the fused update on an idle machine, and
loses far more than that on a busy one. On a GPU, and with several replicas, the choice is Keras'.
`kd-keras benchmark --explain` measures the alternatives on the machine at hand.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from kd_keras.runtime import machine, patching
from kd_keras.runtime.kernels import (
    computes_in,
    fused_batch_norm,
    fused_update,
    fusible,
    has_fused_update,
    leaves,
    nested,
    picked_first,
    unsafe,
)
from kd_keras.utils.checks import positive_int

LOOP = 16  # steps per call of TensorFlow, if a step is short
SMALL_IMAGE = 32 * 32
# matrix products and element-wise operations: steps are short, and XLA compiles them without loss
DENSE_LAYERS = (
    "Activation",
    "Add",
    "BatchNormalization",
    "Concatenate",
    "Dense",
    "Dropout",
    "Flatten",
    "InputLayer",
    "LayerNormalization",
    "Normalization",
    "ReLU",
    "Rescaling",
    "Reshape",
)
# Keras' own callbacks that lose nothing if several steps are one call
COARSE_CALLBACKS = (keras.callbacks.ProgbarLogger, keras.callbacks.TerminateOnNaN)


@dataclasses.dataclass(frozen=True)
class Execution:
    """A way to run a training step.

    Attributes:
        xla: compile the student's forward and backward pass and the optimizer's update with XLA;
            the teacher, if it runs at all, stays outside.
        fused_batch_norm: use TensorFlow's kernel for batch normalisation in training.
        fused_update: use TensorFlow's kernel for Adam.
        steps_per_execution: training steps per call of TensorFlow.
        reason: the reason for this choice, for the log.
    """

    xla: bool = False
    fused_batch_norm: bool = False
    fused_update: bool = False
    steps_per_execution: int = 1
    reason: str = "as given"

    def __post_init__(self) -> None:
        positive_int("steps_per_execution", self.steps_per_execution)

    def __str__(self) -> str:
        loop = self.steps_per_execution
        return f"{self.reason}; {loop} step{'s' if loop > 1 else ''} per call"

    def compiled(self, step: Callable) -> Callable:
        """Return `step`, compiled by XLA if `xla` is set."""
        return tf.function(step, jit_compile=True) if self.xla else step

    @contextlib.contextmanager
    def running(self, model: keras.Model, optimizer: Any = None) -> Iterator[None]:
        """Run `model` in training, and the optimizer, as chosen while the block runs."""
        layers = fusible(model) if self.fused_batch_norm and not self.xla else []
        with (
            patching.wrapped(layers, fused_batch_norm),
            patching.wrapped(unsafe(model), picked_first),
        ):
            if self.fused_update and not self.xla and has_fused_update(optimizer):
                with fused_update(optimizer):
                    yield
            else:
                yield


KERAS = Execution(reason="as Keras runs it by itself")


def with_options(
    chosen: Execution,
    *,
    steps: int | None,
    jit: bool | str | None,
    all: Execution | None,
    eager: bool = False,
) -> Execution:
    """Return the choice with the user's settings in `compile` applied.

    Args:
        chosen: the result of `choose`.
        steps: `steps_per_execution` as given, or None.
        jit: `jit_compile` as given, or None; if given, Keras compiles the whole step, or nothing.
        all: an `Execution`, which is used unchanged, or None.
        eager: whether steps are run without a graph.
    """
    if all is not None:
        return all
    if eager:
        chosen = Execution(reason="eagerly, as requested")
    elif jit is not None:
        if jit is True:  # Keras compiles the whole step
            chosen = Execution(steps_per_execution=chosen.steps_per_execution)
        chosen = dataclasses.replace(chosen, xla=False, reason=f"jit_compile={jit!r}")
    if steps is not None:
        chosen = dataclasses.replace(chosen, steps_per_execution=steps)
    return chosen


def slow_bfloat16(model: keras.Model) -> str | None:
    """Return a warning if `model` computes in bfloat16 and this machine has to imitate it."""
    if tf.config.list_physical_devices("GPU") or machine.multiplies_bfloat16() is not False:
        return None
    if not computes_in(model, "bfloat16"):
        return None
    return (
        f"{model.name} computes in bfloat16, which this processor does not multiply itself: a step "
        "takes several times as long as in float32. Build the model under the policy 'float32' "
        "(`keras.config.set_dtype_policy`), or train on a processor with AMX or AVX-512 BF16."
    )


def choose(
    model: keras.Model,
    optimizer: Any = None,
    *,
    steps: int | None = None,
    callbacks: Sequence[Any] = (),
    replicas: int = 1,
    one_by_one: bool = False,
) -> Execution:
    """Choose the fastest execution for `model` on this machine.

    Args:
        model: the model that is trained.
        optimizer: its optimizer.
        steps: training steps to come; None if not known.
        callbacks: those of `fit`; if one acts on single batches, each step is a call.
        replicas: the number of replicas of the distribution strategy.
        one_by_one: whether Keras counts the steps, since it does not stop within a call of several.

    Example:
        >>> import kd_keras as kd
        >>> student = kd.models.build("mlp", input_shape=(28, 28, 1), classes=10)
        >>> chosen = choose(student, steps=2_500)  # on a machine without a GPU:
        >>> chosen.xla, chosen.steps_per_execution  # doctest: +SKIP
        (False, 16)
    """
    if replicas > 1 or tf.config.list_physical_devices("GPU"):
        where = "several replicas" if replicas > 1 else "a GPU"
        return Execution(reason=f"Keras' choice, with {where}")
    fused = {"fused_batch_norm": bool(fusible(model)), "fused_update": has_fused_update(optimizer)}
    short = is_dense(model) or _sees_small_images(model)
    few = steps is not None and steps < 2 * LOOP
    if not short or few or one_by_one or _watching(callbacks):
        return Execution(**fused, reason="fused kernels on a CPU")
    return Execution(
        **fused, steps_per_execution=LOOP, reason="fused kernels and short steps on a CPU"
    )


def _sees_small_images(model: keras.Model) -> bool:
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        return False
    _, height, width, _ = shape
    return None not in (height, width) and height * width <= SMALL_IMAGE


def is_dense(model: keras.Model) -> bool:
    """Return whether every layer is a matrix product or element-wise, in float32."""
    if not all(type(x).call.__module__.startswith("keras.") for x in (model, *nested(model))):
        return False  # the user's own code, which XLA may not know how to compile
    return bool(model.layers) and all(
        type(x).__name__ in DENSE_LAYERS
        and type(x).__module__.startswith("keras.")
        and getattr(x, "compute_dtype", "float32") == "float32"
        for x in leaves(model)
    )


def _watching(callbacks: Sequence[Any]) -> bool:
    """Return whether a callback acts on single batches."""
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    return any(
        getattr(callback, hook).__func__ is not getattr(keras.callbacks.Callback, hook)
        if hasattr(getattr(callback, hook), "__func__")
        else True  # a function that was put on the instance
        for callback in callbacks
        if not isinstance(callback, COARSE_CALLBACKS) and not getattr(callback, "coarse", False)
        for hook in hooks
    )
