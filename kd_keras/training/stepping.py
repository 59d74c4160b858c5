"""Run traced steps: the execution, the stored rows they look up, and the steps per call.

Keras runs a call of several steps to its end, into the next epoch. If the steps of an epoch are
counted, a call stops at the epoch's end.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from kd_keras import cache
from kd_keras.models.taps import FeatureExtractor
from kd_keras.runtime import execution as running


@dataclasses.dataclass(frozen=True)
class Stepping:
    """All that a traced training step holds beside the models; if it changes, the step is retraced.

    Attributes:
        execution: the way to run a step.
        on_disk: rows that memory does not hold, by source; looked up at each step.
        head: the trained part of the student, if the features of its frozen part are stored; None
            if the whole student sees the images.
        left: the remaining steps of the epoch; None if they are not counted.
    """

    execution: running.Execution = running.KERAS
    on_disk: Mapping[str, cache.Stored] = dataclasses.field(default_factory=dict)
    head: FeatureExtractor | None = None
    left: tf.Variable | None = None

    def looks_like(self, other: "Stepping") -> bool:
        """Return whether a step has the same inputs: no rows on disk, and the same trained part."""
        heads = [None if one.head is None else one.head.model for one in (self, other)]
        return not (self.on_disk or other.on_disk) and heads[0] is heads[1]

    def runs_like(self, other: "Stepping") -> bool:
        """Return whether a training step is run in the same way."""
        return self.execution == other.execution and self.left is other.left


def counter(before: tf.Variable | None, *, counted: bool) -> tf.Variable | None:
    """Return a variable for the remaining steps: `before`, if given, as a traced step holds it."""
    if not counted:
        return None
    return tf.Variable(0, trainable=False) if before is None else before


def counted(trainer: Any, left: tf.Variable, function: Callable) -> Callable:
    """Return a training function that runs several steps per call, and stops when `left` is 0.

    Args:
        trainer: a Keras model.
        left: the remaining steps; set when an epoch begins.
        function: the training function for a single batch, as `train_on_batch` uses it.
    """
    several = (_eagerly if trainer.run_eagerly else _compiled)(trainer, left)

    def either(iterator):
        return (several if isinstance(iterator, tf.data.Iterator) else function)(iterator)

    return either


def _eagerly(trainer: Any, left: tf.Variable) -> Callable:
    def several(iterator):
        count = min(int(left), trainer.steps_per_execution)
        left.assign_sub(count)
        return [trainer.train_step(next(iterator)) for _ in range(count)][-1]

    return several


def _compiled(trainer: Any, left: tf.Variable) -> Callable:
    step = tf.function(trainer.train_step, reduce_retracing=True, jit_compile=trainer.jit_compile)

    @tf.function(reduce_retracing=True)
    def several(iterator):
        # traced before the loop, which has to know the structure of a step's logs
        logs = step.get_concrete_function(iterator.element_spec).structured_outputs
        logs = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), logs)
        count = tf.minimum(left, trainer.steps_per_execution)
        left.assign_sub(count)
        _, logs = tf.while_loop(
            lambda i, _: i < count, lambda i, _: (i + 1, step(next(iterator))), (0, logs)
        )
        return logs

    return several
