"""Soft targets over subclasses that the teacher finds within the classes, and its own training."""

from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.methods.base import Method, knob_property
from kd_keras.utils.checks import positive, positive_int


@keras.saving.register_keras_serializable("kd_keras")
class SubclassTeacherLoss(keras.losses.Loss):
    """The Keras loss to compile a teacher with subclasses: `losses.subclass_teacher_loss`.

    Args:
        subclasses: how many each class has.
        temperature, weight: of the auxiliary loss that makes the teacher use all subclasses.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2 * 5)
        >>> teacher.compile("adam", SubclassTeacherLoss(subclasses=5))
    """

    def __init__(self, subclasses, temperature=1.0, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.subclasses = positive_int("subclasses", subclasses)
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


class OverSubclasses(Method):
    """Base of methods whose models have logits of subclasses, but are deployed with class logits.

    Args:
        subclasses: how many each class has.
    """

    def __init__(self, subclasses, **kwargs):
        super().__init__(**kwargs)
        self.subclasses = positive_int("subclasses", subclasses)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        logits = student_shape["logits"][-1]
        if logits % self.subclasses or logits == self.subclasses:
            raise ValueError(
                f"`subclasses` must divide the number of logits of student and teacher, and leave "
                f"two classes or more. Received: subclasses={self.subclasses}, and {logits} logits"
            )

    def logits(self, classes):
        return classes * self.subclasses

    def deployed_logits(self, student):
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


@keras.saving.register_keras_serializable("kd_keras")
class SubclassTeacher(OverSubclasses):
    """The auxiliary loss that makes a teacher use all of its subclasses, beside the labels' term.

    The learner has no teacher itself. At alpha 0.5, the whole loss is half of
    `losses.subclass_teacher_loss`.

    Args:
        subclasses: how many each class has.
        temperature, weight: of the auxiliary loss; positive numbers, or schedules over epochs.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> import kd_keras as kd
        >>> model = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2 * 5)
        >>> distiller = kd.Distiller(student=model, teacher=None, method=SubclassTeacher(5))
        >>> distiller.deployed.output_shape
        (None, 2)
    """

    teacher_taps = ()
    least_batch = 2

    def __init__(self, subclasses, temperature=1.0, weight=1.0, **kwargs):
        super().__init__(subclasses, **kwargs)
        self.add_knob("temperature", temperature, positive)
        self.add_knob("weight", weight, positive)

    temperature = knob_property("temperature")
    weight = knob_property("weight")

    def call(self, student, teacher, batch, training=False):
        return self.knob("weight") * losses.subclass_spread(
            student["logits"], temperature=self.knob("temperature"), present=batch.get("weight")
        )


@keras.saving.register_keras_serializable("kd_keras")
class SubclassKD(OverSubclasses):
    """Soft targets over subclasses; the labels and the deployed model's logits are of the classes.

    Teacher and student have `classes * subclasses` logits; those of a class are adjacent.

    Args:
        subclasses: how many each class has; with 1, these are plain soft targets.
        temperature: positive number, or a schedule over epochs.

    Raises:
        ValueError: when built, for logits that cannot be divided among the subclasses.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> SubclassKD(5).logits(2)
        10
    """

    default_alpha = 0.5

    def __init__(self, subclasses=5, temperature=4.0, **kwargs):
        super().__init__(subclasses, **kwargs)
        self.add_knob("temperature", temperature, positive)

    temperature = knob_property("temperature")

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )
