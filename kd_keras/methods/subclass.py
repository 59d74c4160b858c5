"""`Subclass`: soft targets over subclasses that the teacher found within the classes."""

import dataclasses
from collections.abc import Callable

import keras
from keras import layers, ops

from kd_keras import losses
from kd_keras.methods.base import Method, knob_property
from kd_keras.methods.response import KD
from kd_keras.methods.stages import Roles, Stage, logits_of
from kd_keras.models.graphs import functional
from kd_keras.utils.checks import positive


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


class OverSubclasses(Method):
    """Base of methods whose models have logits of subclasses, and are deployed with the classes'.

    Args:
        subclasses: how many each class has.
    """

    def __init__(self, subclasses, **kwargs):
        super().__init__(**kwargs)
        self.subclasses = _whole(subclasses)

    def build(self, student_shape, teacher_shape, batch_shape=None):
        logits = student_shape["logits"][-1]
        if logits % self.subclasses or logits == self.subclasses:
            raise ValueError(
                f"`subclasses` must divide the logits of student and teacher, for two classes or "
                f"more. Received: subclasses={self.subclasses}, and {logits} logits"
            )

    def logits(self, classes):
        return classes * self.subclasses

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


@keras.saving.register_keras_serializable("kd_keras")
class SubclassTeacher(OverSubclasses):
    """How a teacher with subclasses is trained, beside its labels: to use all of them.

    There is nobody above it. At alpha 0.5 it is half of `losses.subclass_teacher_loss`.

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

    def training(self, roles: Roles, logits: int) -> Stage:
        """The training of a new teacher with so many logits."""
        spread = f"spread {self.weight:g}, tau {self.temperature:g}"
        return Stage(
            *("teacher", roles.another_teacher(logits), None, self),
            alpha=0.5,
            epochs=roles.teacher_epochs,
            shared=f"teacher of {self.subclasses} subclasses ({spread})",
        )


@keras.saving.register_keras_serializable("kd_keras")
class Subclass(OverSubclasses):
    """Soft targets over subclasses; labels, and what is deployed, are over the classes.

    Teacher and student have `classes * subclasses` logits, a class's own together. Where the
    run's teacher has a logit a class, `plan` first trains another one, which finds the subclasses.

    Args:
        subclasses: how many each class has; with 1 it is plain soft targets.
        temperature: positive number, or a schedule over epochs.
        spread_temperature, spread_weight: of the auxiliary loss in the teacher's training, as in
            `SubclassTeacher`; positive numbers.

    Raises:
        ValueError: for a number of subclasses that is not whole and positive; when built, for
            logits that cannot be divided among them.

    Source: Mueller, Kornblith and Hinton, *Subclass Distillation* (2020); the defaults are those of
    their notebook.

    Example:
        >>> import kd_keras as kd
        >>> teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=2 * 5)
        >>> student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=2 * 5, hidden=(16,))
        >>> distiller = kd.Distiller(student=student, teacher=teacher, method=Subclass(5))
        >>> distiller.deployed.output_shape
        (None, 2)
    """

    default_alpha = 0.5

    def __init__(
        self, subclasses=5, temperature=4.0, spread_temperature=1.0, spread_weight=1.0, **kwargs
    ):
        super().__init__(subclasses, **kwargs)
        self.add_knob("temperature", temperature, positive)
        self.spread_temperature = positive("spread_temperature", spread_temperature)
        self.spread_weight = positive("spread_weight", spread_weight)

    temperature = knob_property("temperature")

    def plan(self, roles: Roles) -> list[Stage]:
        if logits_of(roles.teacher) == logits_of(roles.student):
            return super().plan(roles)
        method = SubclassTeacher(self.subclasses, self.spread_temperature, self.spread_weight)
        first = method.training(roles, logits_of(roles.student))
        return [first, *super().plan(dataclasses.replace(roles, teacher=first.student))]

    def call(self, student, teacher, batch, training=False):
        return losses.softened_kl(
            student["logits"], teacher["logits"], temperature=self.knob("temperature")
        )

    def get_config(self):
        own = {name: getattr(self, name) for name in ("spread_temperature", "spread_weight")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kd_keras")
class SubclassBaseline(KD):
    """What `Subclass` is compared with: soft targets over the classes, from the same teacher.

    The teacher has subclasses, and is trained as for `Subclass`; the student has a logit a class,
    and learns what the teacher says of the classes.

    Args:
        subclasses, temperature, spread_temperature, spread_weight: as in `Subclass`.

    Raises:
        ValueError: as `Subclass`.

    Source: the baseline of Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> SubclassBaseline(subclasses=5).logits(2)
        2
    """

    needs_plan = True
    default_alpha = 0.5

    def __init__(
        self, subclasses=5, temperature=4.0, spread_temperature=1.0, spread_weight=1.0, **kwargs
    ):
        super().__init__(temperature, **kwargs)
        self.teaching = SubclassTeacher(subclasses, spread_temperature, spread_weight)

    def plan(self, roles: Roles) -> list[Stage]:
        own = {k: v for k, v in self.get_config().items() if k in ("temperature", "dtype")}
        teaching = self.teaching.clone()
        first = teaching.training(roles, teaching.logits(logits_of(roles.student)))
        model = functional(first.student)
        classes = teaching.deploy(model, lambda tap: model.outputs[0])
        return [first, Stage("distill", roles.student, classes, KD.from_config(own))]

    def get_config(self):
        return {
            **super().get_config(),
            "subclasses": self.teaching.subclasses,
            "spread_temperature": self.teaching.temperature,
            "spread_weight": self.teaching.weight,
        }
