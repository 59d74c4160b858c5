"""`SFTN`: train a teacher that the student can follow, then the student."""

import dataclasses
from typing import Any

from kd_keras.methods.base import tap_pairs
from kd_keras.methods.branches import StudentBranches
from kd_keras.methods.plans.base import PlanAround
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.utils.checks import at_least_zero, positive


@dataclasses.dataclass(eq=False)
class SFTN(PlanAround):
    """A student-friendly teacher, trained with branches of the student; then its student.

    The first training is that of a new teacher: branches made of the student's layers are attached
    to its blocks and must be able to continue from its features. The second discards the branches,
    and trains the student by any method with that teacher.

    Args:
        method: of the second training; in `methods.get`, its name. Soft targets if None.
        student_tap, teacher_tap: the pairs of taps at which branches leave the teacher and continue
            as the student; several are joined by commas, from image to logits.
        branch_temperature, divergence_weight, branch_weight, reverse, summed, activation: of the
            first training, as in `StudentBranches`.
        teacher_weight: the weight of the teacher's own cross-entropy in the first training;
            positive.

    Raises:
        ValueError: for knobs out of range, or a method whose logits are not one per class.

    Source: Park et al., *Learning Student-Friendly Teacher Networks* (2021), for the idea; weights
    and directions are choices of this library; see `losses.branch_loss`.

    Example:
        >>> import kd_keras as kd
        >>> student, teacher = (kd.models.build(name, input_shape=(8, 8, 1), classes=10)
        ...                     for name in ("lenet5", "cnn"))
        >>> roles = kd.methods.Roles(
        ...     student, teacher, build_teacher=lambda logits: kd.models.untrained(teacher),
        ...     tail=lambda tap: kd.models.tail(student, tap))
        >>> [(stage.name, stage.alpha) for stage in kd.methods.SFTN().stages(roles)]
        [('teacher', 0.5), ('distill', None)]
    """

    student_tap: Any = "stage1,stage2"
    teacher_tap: Any = "stage1,stage2"
    branch_temperature: float = 1.0
    divergence_weight: float = 3.0
    branch_weight: float = 1.0
    teacher_weight: float = 1.0
    reverse: bool = False
    summed: bool = False
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.logits(2) != 2:
            raise ValueError(
                "`method` must have one logit per class, as the branches and their teacher do. "
                f"Received: {self.inner.name}"
            )
        tap_pairs(self.student_tap, self.teacher_tap)
        positive("teacher_weight", self.teacher_weight)
        positive("branch_temperature", self.branch_temperature)
        at_least_zero("divergence_weight", self.divergence_weight)
        at_least_zero("branch_weight", self.branch_weight)

    def stages(self, roles: Roles) -> list[Stage]:
        teacher = roles.another_teacher()
        taken_from, hung_on = tap_pairs(self.student_tap, self.teacher_tap)
        branches = StudentBranches(
            hung_on,
            [roles.student_tail(tap) for tap in taken_from],
            temperature=self.branch_temperature,
            divergence_weight=self.divergence_weight,
            branch_weight=self.branch_weight,
            reverse=self.reverse,
            summed=self.summed,
            activation=self.activation,
        )
        first = Stage(
            "teacher",
            teacher,
            None,
            branches,
            # teacher_weight * CE + branches, divided by teacher_weight + 1
            alpha=self.teacher_weight / (1.0 + self.teacher_weight),
            epochs=roles.teacher_epochs,
        )
        return [first, *self.inner.stages(dataclasses.replace(roles, teacher=teacher))]
