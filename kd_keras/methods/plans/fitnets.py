"""`FitNets`: train the lower part of the student by a hint, then all of it by soft targets."""

import dataclasses
from typing import Any

from kd_keras.methods.endings import AUTO
from kd_keras.methods.feature import HintStage
from kd_keras.methods.plans.base import Plan
from kd_keras.methods.plans.stages import Roles, Stage
from kd_keras.methods.response import FADING, FitNetsKD
from kd_keras.utils.checks import positive_int


@dataclasses.dataclass(eq=False)
class FitNets(Plan):
    """Hints, then soft targets: two trainings.

    The first trains the student up to its guided layer, and a regressor, to predict the teacher's
    hint, without labels; the regressor is discarded. The second trains the whole student by
    `FitNetsKD` and the labels.

    Args:
        student_tap, teacher_tap: the guided layer and the hint, by meaning or by layer path; both
            from the middle of their networks.
        temperature: of the second stage; positive number, or a schedule over epochs.
        weight: of the second stage; a number of at least 0, or a schedule. The default is the
            authors' on CIFAR: it falls from 4 as the student learns.
        hint_epochs: the epochs of the first stage; None takes as many as the second stage has.
        activation: of the regressor, as in `Hint`.

    Raises:
        ValueError: for knobs out of range.

    Source: Romero et al., *FitNets: Hints for Thin Deep Nets* (2015).

    Example:
        >>> import kd_keras as kd
        >>> roles = kd.methods.Roles(student="a student", teacher="a teacher")
        >>> [(stage.name, stage.alpha) for stage in kd.methods.FitNets().stages(roles)]
        [('hint', 0.0), ('distill', None)]
    """

    student_tap: Any = "stage2"
    teacher_tap: Any = "stage2"
    temperature: Any = 3.0
    weight: Any = FADING
    hint_epochs: int | None = None
    activation: str | None = AUTO

    def __post_init__(self) -> None:
        self._hint()  # raises for bad settings
        if self.hint_epochs is not None:
            positive_int("hint_epochs", self.hint_epochs)
        self.loss = FitNetsKD(self.temperature, self.weight)

    def _hint(self) -> HintStage:
        return HintStage(self.student_tap, self.teacher_tap, self.activation)

    def stages(self, roles: Roles) -> list[Stage]:
        hint = Stage(
            "hint",
            roles.student,
            roles.teacher,
            self._hint(),
            alpha=0.0,
            epochs=self.hint_epochs,
            keep="last",
        )
        return [hint, Stage("distill", roles.student, roles.teacher, self.loss)]
