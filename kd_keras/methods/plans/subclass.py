"""`Subclass`: a teacher that finds subclasses, then its student; and the baseline for it."""

import dataclasses
from typing import Any

from kd_keras.methods.base import Method
from kd_keras.methods.plans.base import Plan
from kd_keras.methods.plans.stages import Roles, Stage, logits_of
from kd_keras.methods.response import KD
from kd_keras.methods.subclass import SubclassKD, SubclassTeacher
from kd_keras.models.graphs import functional
from kd_keras.utils.checks import positive


@dataclasses.dataclass(eq=False)
class Subclass(Plan):
    """Soft targets over subclasses; the labels and the deployed model's logits are of the classes.

    Teacher and student have `classes * subclasses` logits; those of a class are adjacent. If the
    run's teacher has one logit per class, another teacher is trained first, which finds the
    subclasses.

    Args:
        subclasses: how many each class has; with 1, these are plain soft targets.
        temperature: positive number, or a schedule over epochs.
        spread_temperature, spread_weight: of the auxiliary loss in the teacher's training, as in
            `SubclassTeacher`; positive numbers.

    Raises:
        ValueError: for a number of subclasses that is not whole and positive, or knobs out of
            range; when built, for logits that cannot be divided among the subclasses.

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

    subclasses: int = 5
    temperature: Any = 4.0
    spread_temperature: float = 1.0
    spread_weight: float = 1.0

    def __post_init__(self) -> None:
        positive("spread_temperature", self.spread_temperature)
        positive("spread_weight", self.spread_weight)
        self.loss: Method = SubclassKD(self.subclasses, self.temperature)

    def _teaching(self) -> SubclassTeacher:
        return SubclassTeacher(self.subclasses, self.spread_temperature, self.spread_weight)

    def stages(self, roles: Roles) -> list[Stage]:
        own = Stage("distill", roles.student, roles.teacher, self.loss)
        logits = logits_of(roles.student)
        if logits_of(roles.teacher) == logits:
            return [own]
        first = _teacher_stage(self._teaching(), roles, logits)
        return [first, dataclasses.replace(own, teacher=first.student)]


@dataclasses.dataclass(eq=False)
class SubclassBaseline(Subclass):
    """The baseline for `Subclass`: soft targets over the classes, from the same teacher.

    The teacher has subclasses, and is trained as for `Subclass`. The student has one logit per
    class, and learns the teacher's predictions for the classes.

    Args:
        subclasses, temperature, spread_temperature, spread_weight: as in `Subclass`.

    Raises:
        ValueError: as in `Subclass`.

    Source: the baseline of Mueller, Kornblith and Hinton, *Subclass Distillation* (2020).

    Example:
        >>> SubclassBaseline(subclasses=5).logits(2)
        2
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loss = KD(self.temperature)

    @property
    def default_alpha(self) -> float:
        return 0.5

    def stages(self, roles: Roles) -> list[Stage]:
        teaching = self._teaching()
        first = _teacher_stage(teaching, roles, teaching.logits(logits_of(roles.student)))
        model = functional(first.student)
        classes = teaching.deploy(model, lambda tap: model.outputs[0])
        return [first, Stage("distill", roles.student, classes, self.loss)]


def _teacher_stage(teaching: SubclassTeacher, roles: Roles, logits: int) -> Stage:
    """Return the training of a new teacher with this number of logits, shared by equal requests."""
    spread = f"spread {teaching.weight:g}, tau {teaching.temperature:g}"
    return Stage(
        "teacher",
        roles.another_teacher(logits),
        None,
        teaching,
        alpha=0.5,
        epochs=roles.teacher_epochs,
        shared=f"teacher of {teaching.subclasses} subclasses ({spread})",
    )
