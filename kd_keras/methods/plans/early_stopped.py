"""`ESKD`: stop the student's distillation early, and optionally its teacher's training."""

import dataclasses
import logging
from typing import Any

from kd_keras.methods.base import Method
from kd_keras.methods.plans.base import Plan
from kd_keras.methods.plans.stages import Choice, Roles, Stage
from kd_keras.methods.response import EarlyStoppedKD
from kd_keras.utils.checks import positive_int

log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class ESKD(Plan):
    """Soft targets, stopped early: from `stop_epoch` on, the student learns from labels alone.

    With `teacher_epochs`, the teacher is stopped early too: another one is trained for that many
    epochs, with its whole schedule shortened. With several numbers of epochs, a student learns from
    each of these teachers and from the run's own, and the best student on validation is taken.

    Args:
        temperature: positive number, or a schedule over epochs.
        stop_epoch: the first epoch, counted from 0, without the teacher; None never stops. Choose
            it on validation: the default suits some tens of epochs.
        teacher_epochs: a positive whole number, or several; None takes the run's teacher.

    Raises:
        ValueError: for epochs that are not whole and positive.

    Source: Cho and Hariharan, *On the Efficacy of Knowledge Distillation* (2019).

    Example:
        >>> import kd_keras as kd
        >>> method = kd.methods.ESKD(stop_epoch=60)
        >>> [method.loss.label_weight(0.1, epoch) for epoch in (59, 60)]
        [0.1, 1.0]
    """

    temperature: Any = 4.0
    stop_epoch: int | None = 8
    teacher_epochs: Any = None

    def __post_init__(self) -> None:
        given = self.teacher_epochs
        several = () if given is None else given if isinstance(given, (list, tuple)) else (given,)
        epochs = tuple(positive_int("teacher_epochs", each) for each in several)
        if len(set(epochs)) < len(epochs):
            raise ValueError(f"`teacher_epochs` must hold different numbers. Received: {given}")
        self.teacher_epochs = epochs or None
        self.loss = EarlyStoppedKD(self.temperature, self.stop_epoch)

    def stages(self, roles: Roles) -> list[Stage]:
        self._warn_of_no_stop(roles.epochs)
        if self.teacher_epochs is None:
            return [Stage("distill", roles.student, roles.teacher, self.loss)]
        if len(self.teacher_epochs) == 1:
            return _with_teacher(self.teacher_epochs[0], roles, "distill", self.loss)
        stages, students = [], {}
        for epochs in (*self.teacher_epochs, None):
            student = roles.another()
            student.set_weights(roles.student.get_weights())  # all begin with equal weights
            name = f"student-{epochs or 'full'}"
            own = dataclasses.replace(roles, student=student)
            stages += _with_teacher(epochs, own, name, self.loss.clone())
            students[name] = student
        best = Choice(students, lambda scores: max(students, key=lambda name: scores[name]))
        return [*stages, Stage("distill", best, None, None, epochs=0)]

    def _warn_of_no_stop(self, epochs: int | None) -> None:
        if self.stop_epoch is not None and epochs is not None and self.stop_epoch >= epochs:
            log.warning(
                "eskd: stop_epoch=%d is not reached within the %d epochs of the run, so that the "
                "distillation is not stopped early.",
                self.stop_epoch,
                epochs,
            )


def _with_teacher(epochs: int | None, roles: Roles, name: str, loss: Method) -> list[Stage]:
    """Return the trainings of a teacher, for `epochs`, and of its student; None takes the run's
    teacher."""
    if epochs is None:
        return [Stage(name, roles.student, roles.teacher, loss)]
    own = f"teacher-{epochs}"
    teacher = roles.another_teacher()
    trained = Stage(own, teacher, None, None, epochs=epochs, shared=own)
    return [trained, Stage(name, roles.student, teacher, loss)]
