"""`Subclass`: soft targets over subclasses that the teacher found within the classes."""

from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.checks import positive
from kd_keras.methods.base import Method, knob_property


@keras.saving.register_keras_serializable("kd_keras")
class SubclassTeacherLoss(keras.losses.Loss):
    """What a teacher with subclasses is compiled with: `losses.subclass_teacher_loss`.

    Args:
        subclasses: how many each class has.
        temperature, weight: of the auxiliary loss that makes the teacher use them.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2 * 5)
        >>> teacher.compile("adam", SubclassTeacherLoss(subclasses=5))
    """

    def __init__(self, subclasses, temperature=1.0, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.subclasses = _whole(subclasses)
        self.temperature = positive("temperature", temperature)
        self.weight = positive("weight", weight)

    def call(self, y_true, y_pred):
        return losses.subclass_teacher_loss(
            y_true,
            y_pred,
            subclasses=self.subclasses,
            temperature=self.temperature,
            weight=self.weight,
        )

    def get_config(self):
        own = {name: getattr(self, name) for name in ("subclasses", "temperature", "weight")}
        return {**super().get_config(), **own}


def _whole(subclasses) -> int:
    if type(subclasses) is not int or subclasses < 1:
        raise ValueError(
            f"`subclasses` must be a positive whole number. Received: subclasses={subclasses!r}"
        )
    return subclasses


@keras.saving.register_keras_serializable("kd_keras")
class Subclass(Method):
    """Soft targets over subclasses; labels, and what is deployed, are over the classes.

    Teacher and student have `classes * subclasses` logits, a class's own together. The teacher is
    trained with `SubclassTeacherLoss`, which makes it use them.

    Args:
        subclasses: how many each class has; with 1 it is plain soft targets.
        temperature: positive number, or a schedule over epochs.

    Raises:
        ValueError: for a number of subclasses that is not whole and positive; when built, for
            logits that cannot be divided among them.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2 * 5)
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=2 * 5, hidden=(16,))
        >>> distiller = kd.Distiller(student=student, teacher=teacher, method=Subclass(5))
        >>> distiller.deployed.output_shape
        (None, 2)
    """

    def __init__(self, subclasses=1, temperature=4.0, **kwargs):
        super().__init__(**kwargs)
        self.subclasses = _whole(subclasses)
        self.add_knob("temperature", temperature, positive)

    temperature = knob_property("temperature")

    def build(self, student_shape, teacher_shape, batch_shape=None):
        logits = student_shape["logits"][-1]
        if logits % self.subclasses or logits == self.subclasses:
            raise ValueError(
                f"`subclasses` must divide the logits of student and teacher, for two classes or "
                f"more. Received: subclasses={self.subclasses}, and {logits} logits"
            )

    def logits(self, classes):
        return classes * self.subclasses

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )

    def answer(self, student):
        return losses.class_logits(student["logits"], subclasses=self.subclasses)

    def deploy(self, student: keras.Model, tensor_of: Callable) -> keras.Model:
        logits = tensor_of("logits")
        by_class = layers.Reshape(
            (logits.shape[-1] // self.subclasses, self.subclasses), name="by_class", dtype="float32"
        )
        answer = ops.logsumexp(by_class(logits), axis=-1)
        return keras.Model(student.input, answer, name=student.name)

    def get_config(self):
        return {**super().get_config(), "subclasses": self.subclasses}
