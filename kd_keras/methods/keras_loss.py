"""`KerasLoss`: a distillation loss of Keras' own, as a method."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from keras.distillation import DistillationLoss, LogitsDistillation

from kd_keras import schedules
from kd_keras.methods.base import Method

PROBED = 4  # examples on which a loss is tried out; also the size of a side that is not fixed
OF_PROBABILITIES = (
    keras.losses.kl_divergence,
    keras.losses.categorical_crossentropy,
    keras.losses.binary_crossentropy,
)


@keras.saving.register_keras_serializable("kd_keras")
class KerasLoss(Method):
    """Any `keras.distillation.DistillationLoss`; `Distiller` and `Sum` wrap such losses themselves.

    A loss that names layers (`student_layer_name`, `teacher_layer_name`) sees these taps, any other
    the logits. If the loss of a batch is the mean over its examples, which is tested once on random
    numbers, each example gets its own loss. Otherwise, all examples share one number per batch, and
    cannot be weighted.

    Args:
        loss: the loss.

    Raises:
        ValueError: for anything else; for outputs of student and teacher that it cannot compare.

    Example:
        >>> import keras, numpy as np, kd_keras as kd
        >>> divergence = keras.distillation.LogitsDistillation(
        ...     temperature=4.0, loss=keras.losses.KLDivergence())
        >>> method = kd.methods.KerasLoss(divergence)
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> theirs = method({"logits": student}, {"logits": teacher}, {})
        >>> ours = kd.methods.KD(4.0)({"logits": student}, {"logits": teacher}, {})
        >>> bool(abs(theirs - ours) < 1e-4)
        True
    """

    def __init__(self, loss: DistillationLoss, **kwargs):
        super().__init__(**kwargs)
        self._loss: Any = schedules.restored(loss)
        if not isinstance(self._loss, DistillationLoss):
            raise ValueError(
                f"`loss` must be a keras.distillation.DistillationLoss. Received: {loss!r}"
            )
        self.student_taps = (getattr(self._loss, "student_layer_name", None) or "logits",)
        self.teacher_taps = (getattr(self._loss, "teacher_layer_name", None) or "logits",)
        _warn_of_logits(self._loss)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        """Try out the loss, to see if each example has its own."""
        pair = [
            np.random.default_rng(seed).normal(size=_filled(shape[tap])).astype("float32")
            for seed, (shape, (tap,)) in enumerate(
                [(teacher_shape, self.teacher_taps), (student_shape, self.student_taps)]
            )
        ]
        try:
            self._loss.validate_outputs(*pair)
            whole = np.asarray(self._loss.compute_loss(*pair))
            each = [
                np.mean(self._loss.compute_loss(*(x[place : place + 1] for x in pair)))
                for place in range(PROBED)
            ]
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(
                f"{type(self._loss).__name__} cannot compare {self.student_taps[0]!r} of the "
                f"student, shape {tuple(student_shape[self.student_taps[0]])}, with "
                f"{self.teacher_taps[0]!r} of the teacher, shape "
                f"{tuple(teacher_shape[self.teacher_taps[0]])}: {error}"
            ) from error
        self._by_example = whole.shape == (PROBED,)
        self._is_mean = whole.shape == () and np.allclose(whole, np.mean(each), rtol=1e-4)

    def call(self, student, teacher, batch, training=False):
        pair = teacher[self.teacher_taps[0]], student[self.student_taps[0]]
        if self._is_mean:
            return tf.vectorized_map(
                lambda one: self._loss.compute_loss(one[0][None], one[1][None]), pair
            )
        loss = ops.convert_to_tensor(self._loss.compute_loss(*pair))
        if self._by_example:
            return loss
        if "weight" in batch:
            raise ValueError(
                f"{type(self._loss).__name__} returns one number per batch, which is not the mean "
                "over its examples, so they cannot be weighted. Leave out `sample_weight` and "
                "`class_weight`, or let `compute_loss` return shape (batch,)."
            )
        return ops.broadcast_to(ops.mean(loss), (ops.shape(pair[1])[0],))

    def get_config(self):
        kept = keras.saving.serialize_keras_object(self._loss)
        return {**super().get_config(), "loss": kept}


def of_keras(given: Any) -> Any:
    """Wrap a distillation loss of Keras as a method; return anything else as is."""
    return KerasLoss(given) if isinstance(given, DistillationLoss) else given


def _filled(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return (PROBED, *(side or PROBED for side in shape[1:]))


def _warn_of_logits(loss: DistillationLoss) -> None:
    """Warn of logits given to a loss of probabilities: Keras applies softmax only for an instance
    of `KLDivergence`."""
    if not isinstance(loss, LogitsDistillation):
        return
    for inner in keras.tree.flatten(loss.loss):
        wants = getattr(inner, "fn", inner) in OF_PROBABILITIES
        if wants and not isinstance(inner, keras.losses.KLDivergence):
            warnings.warn(
                "This LogitsDistillation passes logits to a loss of probabilities, as its default "
                "does in Keras 3.15: what is learned is not the teacher's distribution. Give "
                "loss=keras.losses.KLDivergence(), or use kd_keras.methods.KD(temperature).",
                stacklevel=4,
            )
