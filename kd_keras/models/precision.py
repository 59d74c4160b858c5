"""The precision in which models compute: of a teacher's pass, and of models that are built.

Processors with AMX, and GPUs, multiply bfloat16 matrices several times faster than float32 ones.
The weights stay in float32: each layer rounds its operands, and the layer of the logits computes in
float32.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from kd_keras.models.graphs import logits_in
from kd_keras.runtime.kernels import leaves
from kd_keras.utils.checks import lookup

log = logging.getLogger(__name__)

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
TOLERANCE = 0.01  # of a class's probability
GAIN = 1.2  # a smaller speed-up is not worth the rounding
ROUNDS = 3

_lock = threading.RLock()


def check(precision: str) -> str:
    """Return `precision` if it is known; raise `ValueError` otherwise."""
    lookup("precision", PRECISIONS, precision)
    return precision


@contextlib.contextmanager
def computing(model: keras.Model, precision: str) -> Iterator[None]:
    """Set the precision of the forward passes that are traced inside the `with` block.

    Args:
        model: a model of float32 layers; its last layer, and layers with another policy, keep
            theirs.
        precision: `"float32"`, which changes nothing, or `"bfloat16"`.

    Raises:
        ValueError: if the precision is unknown.

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> model = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(16,))
        >>> with computing(model, "bfloat16"):
        ...     str(model.get_layer("embedding")(np.ones((1, 64), "float32")).dtype)
        "<dtype: 'bfloat16'>"
    """
    policy = keras.dtype_policies.get(lookup("precision", PRECISIONS, precision))
    if precision == "float32":
        yield
        return
    with _lock:
        layers = [layer for layer in leaves(model)[:-1] if layer.dtype_policy.name == "float32"]
        kept = [layer.dtype_policy for layer in layers]
        try:
            for layer in layers:
                layer.dtype_policy = policy
            yield
        finally:
            for layer, own in zip(layers, kept, strict=True):
                layer.dtype_policy = own


@contextlib.contextmanager
def building(policy: str) -> Iterator[None]:
    """Set Keras' dtype policy for the layers that are made inside the `with` block.

    Args:
        policy: `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`, or another one of Keras.

    Example:
        >>> with building("mixed_bfloat16"):
        ...     layer = keras.layers.Dense(3)
        >>> layer.compute_dtype, layer.variable_dtype, keras.layers.Dense(3).compute_dtype
        ('bfloat16', 'float32', 'float32')
    """
    with _lock:
        before = keras.config.dtype_policy()
        try:
            keras.config.set_dtype_policy(policy)
            yield
        finally:
            keras.config.set_dtype_policy(before)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The comparison of both precisions on the same images.

    Attributes:
        seconds: the time of a forward pass, by precision; the best of three.
        difference: the largest difference in a class's probability.
        chosen: the precision to use.
    """

    seconds: dict[str, float]
    difference: float
    chosen: str


def measure(model: keras.Model, images) -> Verdict:
    """Run a teacher in both precisions, and choose one.

    bfloat16 is chosen if it is at least 1.2 times faster and no class's probability, at
    temperature 1, changes by more than 0.01.

    Args:
        model: a model that returns logits.
        images: a batch, shape `(n, ...)`.
    """
    images = tf.convert_to_tensor(images)
    answers, runs = {}, {}
    for precision in PRECISIONS:
        runs[precision] = tf.function(
            lambda x: logits_in(model(x, training=False), model), autograph=False
        )
        with computing(model, precision):  # the first call traces
            answers[precision] = tf.nn.softmax(tf.cast(runs[precision](images), tf.float32)).numpy()
    times: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(ROUNDS):  # in turn, so that other load on the machine affects both
        for precision, run in runs.items():
            start = time.perf_counter()
            run(images)
            times[precision].append(time.perf_counter() - start)
    seconds = {precision: min(taken) for precision, taken in times.items()}
    difference = float(np.abs(answers["float32"] - answers["bfloat16"]).max())
    gains = seconds["float32"] / seconds["bfloat16"] >= GAIN and difference <= TOLERANCE
    verdict = Verdict(seconds, difference, "bfloat16" if gains else "float32")
    log.info(
        "%s in %s: bfloat16 runs at %.2f times float32's speed, "
        "probabilities differ by up to %.1e.",
        model.name,
        verdict.chosen,
        seconds["float32"] / seconds["bfloat16"],
        difference,
    )
    return verdict
