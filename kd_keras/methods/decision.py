"""`DeiT`: the teacher's decision as a second label, for a head of its own if there is one."""

from collections.abc import Callable

import keras
from keras import layers

from kd_keras import losses
from kd_keras.methods.base import Method


@keras.saving.register_keras_serializable("kd_keras")
class DeiT(Method):
    """Hard-label distillation: cross-entropy against the class that the teacher predicts for the
    same images that the student sees.

    A student with one head learns both kinds of labels with it. A student with two heads, such as a
    transformer with a distillation token, learns the true labels with the first and the teacher's
    with the second; the deployed model returns the mean of both heads' logits.

    Args:
        class_tap: the logits that learn the true labels, by layer path; for a student with one
            head, its output, `logits`.
        distillation_tap: the logits that learn the teacher's decisions; None for a student with one
            head. A student with two heads returns one output, the mean of both:
            `keras.layers.Average()([first, second])`.

    Raises:
        ValueError: if both taps have one name; when built, if a head's shape differs from that of
            the logits; when a Distiller is made, for two heads of a student that is not functional,
            or for heads within a nested model.

    Source: Touvron et al., *Training data-efficient image transformers & distillation through
    attention* (2021).

    Example:
        >>> import numpy as np, kd_keras as kd
        >>> teacher, student = np.array([[4.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0]])
        >>> loss = kd.methods.DeiT()({"logits": student}, {"logits": teacher}, {})
        >>> round(float(loss[0]), 4)
        0.4076
    """

    default_alpha = 0.5  # the paper's

    def __init__(self, class_tap="logits", distillation_tap=None, **kwargs):
        super().__init__(**kwargs)
        for name, tap in (("class_tap", class_tap), ("distillation_tap", distillation_tap)):
            if tap is not None and not (isinstance(tap, str) and tap):
                raise ValueError(f"`{name}` must be the name of a tap. Received: {tap!r}")
        if class_tap == distillation_tap or (class_tap != "logits" and distillation_tap is None):
            raise ValueError(
                "`class_tap` and `distillation_tap` must name the two heads of a student; "
                "for a student with one head, give neither. "
                f"Received: class_tap={class_tap!r}, distillation_tap={distillation_tap!r}"
            )
        self.class_tap, self.distillation_tap = class_tap, distillation_tap
        heads = (class_tap, distillation_tap) if self.changes_deployed else ()
        self.student_taps = tuple(dict.fromkeys((*heads, "logits")))

    def build(self, student_shape, teacher_shape, batch_shape=None):
        for tap in self.student_taps:
            if tuple(student_shape[tap]) != tuple(student_shape["logits"]):
                raise ValueError(
                    f"A head of the student must return logits, {tuple(student_shape['logits'])}. "
                    f"Received: tap {tap!r}, of shape {tuple(student_shape[tap])}"
                )

    def call(self, student, teacher, batch, training=False):
        logits = student[self.distillation_tap or "logits"]
        return losses.decision_cross_entropy(logits, teacher["logits"])

    def labelled(self, student):
        return student[self.class_tap]

    @property
    def changes_deployed(self):
        return self.distillation_tap is not None

    def deployed_logits(self, student):
        if self.distillation_tap is None:
            return student["logits"]
        return (student[self.class_tap] + student[self.distillation_tap]) / 2

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        if self.distillation_tap is None:
            return student
        heads = [tensor_of(tap) for tap in (self.class_tap, self.distillation_tap)]
        mean = layers.Average(name="mean_of_heads", dtype="float32")(heads)
        return keras.Model(student.input, mean, name=student.name)

    def get_config(self):
        taps = {"class_tap": self.class_tap, "distillation_tap": self.distillation_tap}
        return {**super().get_config(), **taps}
